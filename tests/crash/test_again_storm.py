"""Twenty ids enqueued again and again, locks held, under kills of whole consumers: a pair of id and token never comes twice, no
acknowledged enqueue is lost, and no two runs of one id live at the same time."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from huey import Huey, RedisHuey, SqliteHuey
from huey.exceptions import TaskLockedException
from huey.task.task import Task
from tests.crash.tools import KILLS
from tests.support.helpers import wait_until
from tests.support.history import Journal, lines
from tests.support.redis_server import ALWAYS, Server

IDS = [f"id{n}" for n in range(20)]


@pytest.fixture(params=["sqlite", "redis"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Huey]]:
    if request.param == "sqlite":
        yield lambda: SqliteHuey("storm", filename=tmp_path / "storm.db")
        return
    with Server(None, *ALWAYS) as server:
        yield lambda: RedisHuey("storm", port=server.port)


@pytest.mark.timeout(180)
def test_ids_that_come_again_outlive_kills(make: Callable[[], Huey], tmp_path: Path) -> None:
    storm(make, tmp_path / "journal", seconds=3, kills=7)


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_ids_that_come_again_outlive_many_kills(make: Callable[[], Huey], tmp_path: Path) -> None:
    storm(make, tmp_path / "journal", seconds=KILLS / 2, kills=KILLS)


def storm(make: Callable[[], Huey], path: Path, seconds: float, kills: int) -> None:
    journal = Journal(path)
    children = [consumer(make, path) for _ in range(2)]
    huey, work = application(make, journal)
    until, rng = time.monotonic() + seconds, random.Random(1)
    keys: set[str] = set()

    def produce() -> None:
        own = random.Random(threading.get_ident())
        while time.monotonic() < until:
            task = work.task_class((own.random() / 100,), id=own.choice(IDS))
            if huey.enqueue(task).task is task:
                # It was put in: no other one was held.
                keys.add(task.key)

    threads = [threading.Thread(target=produce) for _ in range(2)]
    for thread in threads:
        thread.start()
    dead: dict[str, int] = {}
    for _ in range(kills):
        time.sleep(seconds / kills * rng.random() * 1.5)
        victim = children.pop(0)
        dead[str(victim)] = kill(victim)
        children.append(consumer(make, path))
    for thread in threads:
        thread.join()
    try:
        wait_until(lambda: huey.storage.counts()[:3] == (0, 0, 0), timeout=60)
    finally:
        for child in children:
            kill(child)
        huey.close()
    judge(path, keys, dead)
    assert len(keys) > 5 * len(IDS)


def application(make: Callable[[], Huey], journal: Journal) -> tuple[Huey, Any]:
    huey = make()

    @huey.task(include_task=True, name="work", retries=3)
    def work(takes: float, task: Task) -> None:
        about = {"id": task.id, "token": task.token, "key": task.key}
        journal.note("start", **about)
        with contextlib.suppress(TaskLockedException), huey.lock_task(f"lock {task.id}"):
            time.sleep(takes)
        journal.note("end", **about)

    return huey, work


def consumer(make: Callable[[], Huey], path: Path) -> int:
    child = os.fork()
    if child:
        return child
    with contextlib.suppress(BaseException):
        huey, _ = application(make, Journal(path))
        huey.create_consumer(workers=3).start()
        signal.pause()
    os._exit(1)


def kill(child: int) -> int:
    # Taken before: others may notice the death, and go on, before this process has its turn again.
    at = time.monotonic_ns() // 1000
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return at


def judge(path: Path, keys: set[str], dead: dict[str, int]) -> None:
    starts = defaultdict[str, list[dict[str, Any]]](list)
    finished: dict[tuple[str, int], int] = {}
    for line in lines(path):
        if line["op"] == "start":
            starts[line["id"]].append(line)
        else:
            finished[line["id"], line["token"]] = line["t_call"]
    runs = [(line["id"], line["token"]) for story in starts.values() for line in story]
    assert len(runs) == len(set(runs)), "a pair of id and token came twice"
    assert keys - {line["key"] for story in starts.values() for line in story} == set(), "an acknowledged enqueue never ran"
    for story in starts.values():
        story.sort(key=lambda line: line["t_call"])
        for earlier, later in pairwise(story):
            over = finished.get((earlier["id"], earlier["token"]), dead.get(earlier["node"], 2**62))
            assert over <= later["t_call"], f"two live runs: {earlier} and {later}"

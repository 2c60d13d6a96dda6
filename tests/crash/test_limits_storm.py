"""A storm of time limits and revocations that strike while tasks enqueue, lock and store: work never stands still, nothing is lost."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from huey import Huey, MemoryHuey, RedisHuey, SqliteHuey
from huey.exceptions import TaskLockedException
from tests.crash.tools import KILLS
from tests.support.helpers import Project, running, wait_until
from tests.support.redis_server import shared_server

LIMIT = 0.25
"""Seconds that a task of the storm may take."""
STANDSTILL = 10.0
"""Seconds within which a task in front of all others has to run."""
BACKLOG = 3_000
SEED = 20


class Storm:
    """Tasks that never end by themselves and use all of huey meanwhile, and those that they put in."""

    def __init__(self, huey: Huey) -> None:
        self.huey = huey
        self.rng = random.Random(SEED)
        self.numbers = itertools.count()
        self.acknowledged: set[int] = set()
        self.ran: set[int] = set()
        self.is_over = threading.Event()
        self.leaf = huey.task(name="leaf", priority=-5)(self.ran.add)
        self.front = huey.task(name="front", priority=9)(lambda n: n)
        self.late = huey.task(name="late", timeout=LIMIT)(self.work)
        self.unwanted = huey.task(name="unwanted", priority=1)(self.work)

    def work(self) -> None:
        acts: list[Callable[[], Any]] = [self._enqueue, self._enqueue, self._batch, self._lock, self._store, self._wait]
        for act in itertools.cycle(acts):
            if self.is_over.is_set():
                return
            act()

    def _enqueue(self) -> None:
        number = next(self.numbers)
        self.leaf(number)
        self.acknowledged.add(number)
        if not number % 200 and self.huey.pending_count() > BACKLOG:
            time.sleep(0.05)

    def _batch(self) -> None:
        numbers = [next(self.numbers) for _ in range(3)]
        with self.huey.batch():
            for number in numbers:
                self.leaf(number)
        self.acknowledged.update(numbers)

    def _lock(self) -> None:
        with suppress(TaskLockedException), self.huey.lock_task(f"lock {self.rng.randrange(3)}"):
            self.huey.put("key", 1)

    def _store(self) -> None:
        self.huey.put("other", self.rng.random())
        self.huey.get("other", peek=True)

    def _wait(self) -> None:
        self.front(0).get(blocking=True, timeout=1)

    def blow(self, seconds: float) -> float:
        """Let it blow for so long; the longest time that a task in front had to wait."""
        longest, end, round = 0.0, time.monotonic() + seconds, 0
        while time.monotonic() < end:
            for _ in range(3):
                self.late()
            unwanted = [self.unwanted() for _ in range(2)]
            began = time.monotonic()
            assert self.front(round).get(blocking=True, timeout=STANDSTILL) == round
            longest, round = max(longest, time.monotonic() - began), round + 1
            self.is_over.wait(self.rng.random() * LIMIT)
            for result in unwanted:
                result.revoke()
            self.is_over.wait(LIMIT)
        return longest


def blow(huey: Huey, seconds: float) -> None:
    storm = Storm(huey)
    with running(huey, workers=6):
        longest = storm.blow(seconds)
        storm.is_over.set()
        wait_until(
            lambda: not huey.storage.counts().ready + huey.storage.counts().running, timeout=120, told=lambda: str(huey.storage.counts())
        )
    assert storm.acknowledged
    assert storm.acknowledged <= storm.ran
    assert not any(huey.is_locked(f"lock {number}") for number in range(3))
    print(f"{len(storm.acknowledged):,} acknowledged, 0 lost, the longest wait in front {longest:.2f} s")


def on_sqlite(tmp_path: Path) -> Huey:
    return SqliteHuey(filename=tmp_path / "huey.db")


STORES: dict[str, Callable[[Path], Huey]] = {
    "sqlite": on_sqlite,
    "memory": lambda tmp_path: MemoryHuey("storm"),
    "redis": lambda tmp_path: RedisHuey("limits-storm", port=shared_server().port),
}


@pytest.mark.parametrize("store", list(STORES))
def test_limits_and_revocations_at_any_moment_stop_nothing(tmp_path: Path, store: str) -> None:
    huey = STORES[store](tmp_path)
    try:
        blow(huey, 7 if store == "sqlite" else 3)
    finally:
        huey.flush()
        huey.close()


@pytest.mark.chaos
@pytest.mark.parametrize(("store", "seconds"), [("sqlite", KILLS * 2), ("redis", KILLS * 0.4)])
def test_a_long_storm_of_limits_and_revocations_stops_nothing(tmp_path: Path, store: str, seconds: float) -> None:
    huey = STORES[store](tmp_path)
    try:
        blow(huey, seconds)
    finally:
        huey.flush()
        huey.close()


APP = """
import itertools, os, random
from pathlib import Path

HERE = Path(__file__).parent


def note(name, number):
    with open(HERE / name, "ab", buffering=0) as file:
        file.write(b"%d\\n" % number)


@huey.task(name="leaf", priority=-5)
def leaf(number):
    note("ran", number)


@huey.task(name="front", priority=9)
def front(number):
    return number


def work():
    while not (HERE / "over").exists():
        number = random.getrandbits(60)
        leaf(number)
        note("acknowledged", number)
        with huey.batch():
            leaf(0)
        huey.put("key", number)


late = huey.task(name="late", timeout=0.25)(work)
unwanted = huey.task(name="unwanted", priority=1)(work)
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    yield project
    project.close()


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_a_command_goes_on_in_a_storm_of_limits(project: Project, kind: str) -> None:
    project.write(APP)
    late, unwanted, front = (project.task(name, **options) for name, options in TASKS.items())
    command = project.start("main.huey", "-k", kind, "-w", "3")
    end, number = time.monotonic() + 4, 0

    while time.monotonic() < end:
        late()
        result = unwanted()
        number += 1
        assert front(number).get(blocking=True, timeout=3 * STANDSTILL) == number
        result.revoke()
    (project.home / "over").touch()

    wait_until(lambda: not project.huey.storage.counts().ready + project.huey.storage.counts().running, timeout=120)
    ran, acknowledged = (set((project.home / name).read_text().split()) for name in ("ran", "acknowledged"))
    assert acknowledged
    assert acknowledged <= ran
    assert command.is_running
    assert "has stalled" not in command.log


TASKS: dict[str, dict[str, Any]] = {"late": {"timeout": LIMIT}, "unwanted": {"priority": 1}, "front": {"priority": 9}}

"""A long queue and a crowded second: memory does not depend on them, what is due starts in order, nobody holds the lock for long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from huey import SqliteHuey
from tests.crash.commands import ROOT, pss
from tests.crash.commands import children as children_of
from tests.support.helpers import wait_until
from tests.support.mortals import mortal

MOST_MEMORY = 150 * 2**20
LONGEST_TRANSACTION = 0.1
"""Seconds: the bar for 99 of 100 waits, for what `make chaos` finds. The others also wait for other programs and their disk."""
FROZEN = 1.0
"""What must not happen on a machine however busy."""


@pytest.mark.timeout(120)
def test_a_long_queue_and_a_crowded_second(tmp_path: Path, show: Any) -> None:
    figures = crowd(tmp_path, waiting=100_000, due=10_000, show=show)

    assert figures["worst"] < FROZEN


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_million_waiting_and_a_hundred_thousand_due_at_once(tmp_path: Path, show: Any) -> None:
    figures = crowd(tmp_path, waiting=1_000_000, due=100_000, show=show)

    assert figures["p99"] < LONGEST_TRANSACTION
    assert figures["worst"] < FROZEN


def crowd(folder: Any, *, waiting: Any, due: Any, show: Any) -> Any:
    """Fill the queue, let a command of one worker start all that is due, look at it meanwhile."""
    huey = SqliteHuey("load", filename=folder / "queue.db")
    begun = time.monotonic()
    second = fill(huey, waiting, due)
    filled = time.monotonic() - begun
    with command(folder) as process, probe(folder / "queue.db") as lock:
        most = 0

        def is_done() -> Any:
            nonlocal most
            most = max(most, pss(process.pid) + sum(map(pss, children_of(process.pid))))
            return process.poll() is not None or count_lines(folder / "due") >= due

        wait_until(is_done, "what is due has started", timeout=300, every=0.25)
        took = time.time() - second
        process.terminate()
        assert process.wait(30) == 0, (folder / "command.log").read_text("utf-8")[-4000:]
    started = [*map(int, (folder / "due").read_text("ascii").split())]
    huey.close()
    show(
        f"{waiting:,} waiting and {due:,} due: filled in {filled:.0f} s, all due started {took:.1f} s after their second; "
        f"most memory {most / 2**20:.0f} MB; {lock['count']} waits for the write lock, p99 {lock['p99'] * 1e3:.1f} ms, "
        f"worst {lock['worst'] * 1e3:.1f} ms"
    )
    assert started == [*range(due)]
    assert most <= MOST_MEMORY
    return lock


def fill(huey: Any, waiting: Any, due: Any) -> Any:
    """The second at which all are due. One instant before it, one consumer has nothing of them to do."""
    later = huey.task(name="tests.crash.loaded.waiting")(lambda n: None)
    soon = huey.task(name="tests.crash.loaded.due", priority=1)(lambda n: None)
    huey.enqueue_many(later.task_class((n,)) for n in range(waiting))
    second = int(time.time()) + 4 + due // 40_000
    eta = datetime.fromtimestamp(second, UTC)
    # Spread over the one second, in order.
    huey.enqueue_many(soon.task_class((n,), eta=eta + timedelta(seconds=1) * n / due) for n in range(due))
    return second


def count_lines(path: Any) -> Any:
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


@contextmanager
def command(folder: Any) -> Iterator[Any]:
    words = [
        sys.executable,
        "-m",
        "huey.cli.consumer",
        "tests.crash.loaded.huey",
        "-n",
        "-w",
        "1",
        "-k",
        "thread",
    ]
    environment = {**os.environ, "CHAOS_PLACE": str(folder), "PYTHONPATH": str(ROOT)}
    with open(folder / "command.log", "wb") as log:
        process = mortal(subprocess.Popen(words, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def probe(file: Any) -> Iterator[Any]:
    """Another writer; what it found is in the dict that it gives, once the block is over."""
    words = [sys.executable, "-m", "tests.crash.lock_probe", str(file)]
    process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = {}
    try:
        yield found
        found.update(json.loads(process.communicate("end\n", timeout=30)[0]))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()

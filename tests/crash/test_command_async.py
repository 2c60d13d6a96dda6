"""The consumer command with ``-k async``: nothing that a coroutine does costs another task more than time."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huey.consumer.worker_pool import MAX_QUARANTINE_WORKERS
from tests.crash.commands import children
from tests.support.helpers import Project, wait_until

pytestmark = pytest.mark.timeout(60)

APP = """
import asyncio, os, time

@huey.task()
async def pid():
    return os.getpid()

@huey.task()
async def sleep(seconds):
    await asyncio.sleep(seconds)
    return seconds

@huey.task(timeout=0.3)
async def stubborn():
    while True:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            pass

@huey.task(timeout=0.3)
async def never_yields():
    while True:
        time.sleep(0.01)

@huey.task()
async def block(seconds):
    time.sleep(seconds)
    return 'blocked'

@huey.task()
async def clean_up(folder):
    '''The second run ends at once.'''
    if os.path.exists(folder + '/left'):
        return 'again'
    open(folder + '/begun', 'w').close()
    try:
        await asyncio.sleep(100)
    finally:
        open(folder + '/left', 'w').close()
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Any]:
    project = Project(tmp_path)
    project.write(APP)
    yield project
    project.close()


def start(project: Any, *flags: str) -> tuple[Any, int]:
    """The command, and the pid of its worker."""
    command = project.start("main.huey", "-k", "async", "-w", "100", *flags)
    return command, project.task("main.pid")().get(blocking=True, timeout=20)


def test_running_coroutines_end_before_a_stop(project: Any) -> None:
    command, _ = start(project)
    sleep = project.task("main.sleep")
    handles = [sleep(0.5) for _ in range(50)]
    wait_until(lambda: project.huey.storage.counts().running == 50)

    assert command.stop() == 0

    assert [handle.get() for handle in handles] == [0.5] * 50


def test_at_the_end_of_its_patience_a_stop_cancels_them(project: Any) -> None:
    """They clean up, and run again without a try."""
    command, _ = start(project, "-t", "0.3")
    handle = project.task("main.clean_up")(str(project.folder))
    wait_until((project.folder / "begun").exists)

    assert command.stop() == 0
    assert (project.folder / "left").exists()
    row = project.huey.storage.get(handle.id)
    assert (row.state, row.attempt, row.solo_crashes) == ("queued", 0, 0)

    start(project)
    assert handle.get(blocking=True, timeout=20) == "again"


@pytest.mark.parametrize("kind", ["stubborn", "never_yields"])
def test_one_that_ignores_its_limit_dies_with_its_worker(project: Any, kind: str) -> None:
    command, worker = start(project)

    neighbour = project.task("main.sleep")(0.1 if kind == "stubborn" else 8)
    handle = project.task(f"main.{kind}")()
    wait_until(lambda: project.huey.storage.find("failed"), "it has failed", timeout=40)

    (row,) = project.huey.storage.find("failed")
    assert (handle.id, "timeout") == (row.id, row.reason)
    assert neighbour.get(blocking=True, timeout=20)
    assert worker != project.task("main.pid")().get(blocking=True, timeout=20)
    assert command.stop() == 0


@pytest.mark.parametrize("hold", [2, pytest.param(20, marks=pytest.mark.chaos)])
def test_one_that_blocks_the_loop_delays_the_others(project: Any, hold: int) -> None:
    command, worker = start(project)
    blocked, others = project.task("main.block")(hold), [project.task("main.sleep")(0.1) for _ in range(20)]

    assert blocked.get(blocking=True, timeout=40) == "blocked"
    assert [handle.get(blocking=True, timeout=20) for handle in others] == [0.1] * 20
    assert worker == project.task("main.pid")().get(blocking=True, timeout=20)
    assert command.stop() == 0
    assert "holds the event loop" in command.log
    assert "main.py:" in command.log


def test_the_tasks_of_a_killed_worker_run_again(project: Any) -> None:
    command, worker = start(project)
    sleep = project.task("main.sleep")
    handles = [sleep(0.5) for _ in range(40)]
    wait_until(lambda: project.huey.storage.counts().running == 40)

    os.kill(worker, signal.SIGKILL)

    seen: list[int] = []
    wait_until(lambda: seen.append(len(children(command.process.pid))) or project.huey.storage.counts().results == 40)
    assert [handle.get(blocking=True, timeout=40) for handle in handles] == [0.5] * 40
    assert max(seen) <= 1 + MAX_QUARANTINE_WORKERS
    assert command.stop() == 0

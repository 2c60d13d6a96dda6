"""The supervisor's watchdog: whom it replaces, whom never, and what it says."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from huey.consumer import watchdog as room
from huey.consumer.process_table import Child
from huey.consumer.watchdog import Watchdog
from huey.engine.scoreboard import Scoreboard
from huey.engine.stamps import ENGINE, MAIN, SCHEDULER, TIME_LIMITS, Stamp
from huey.runtime import host
from huey.storage.rows import Worker
from huey.testing.clock import FakeClock

SECONDS = 30


class WatchedSupervisor:
    """A supervisor that notes whom it is to replace."""

    def __init__(self) -> None:
        self.replaced: list[tuple[str, bool]] = []
        self.reaches = True
        self.count = 1

    def replace(self, child: Child, at_once: bool) -> None:
        self.replaced.append((child.worker.id, at_once))

    def reaches_storage(self, child: Child) -> bool:
        return self.reaches

    def worker_count(self, child: Child) -> int:
        return self.count

    def task_name(self, child: Child, id: str) -> str:
        return "app.hold"


class Bench:
    """Workers whose threads go on until the test says otherwise."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.supervisor = WatchedSupervisor()
        self.watchdog = Watchdog(self.supervisor, self.clock, SECONDS)
        self.children: list[Child] = []
        self.frozen: set[tuple[str, int]] = set()
        self.silent: set[str] = set()
        self.is_away = False

    def worker(self, id: str, kind: str = "thread", *, is_ready: bool = True) -> Child:
        scoreboard = Scoreboard(2)
        child = Child(Worker(id, "here", 1, "boot", 1, kind, ""), scoreboard, 0, "app")
        self.watchdog.watch(child)
        self.children.append(child)
        if is_ready:
            scoreboard.set_ready()
        self.stamp(child)
        return child

    def stamp(self, child: Child) -> None:
        for thread in (MAIN, ENGINE, TIME_LIMITS, SCHEDULER):
            if (child.worker.id, thread) not in self.frozen:
                Stamp(child.scoreboard, thread, self.clock).show()

    def look(self, times: int = 1) -> list[tuple[str, bool]]:
        for _ in range(times):
            for child in self.children:
                self.stamp(child)
                if child.worker.id not in self.silent:
                    child.scoreboard.set_pulse(False)
            self.clock.forward(1)
            self.watchdog.check(self.children, self.is_away)
        return self.supervisor.replaced


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    for child in bench.children:
        child.scoreboard.close()


@pytest.mark.parametrize(("thread", "at_once"), [(ENGINE, True), (MAIN, True), (SCHEDULER, False), (TIME_LIMITS, False)])
def test_a_worker_of_which_a_thread_stands_still_is_replaced(
    bench: Bench, caplog: pytest.LogCaptureFixture, thread: int, at_once: bool
) -> None:
    """What it runs may end first, if its engine can write that."""
    bench.worker("a")
    bench.worker("b")
    bench.look(3)
    bench.frozen.add(("a", thread))

    assert bench.look(SECONDS - 1) == []
    assert bench.look() == [("a", at_once)]
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]


def test_no_more_than_one_of_a_place_and_minute(bench: Bench) -> None:
    for id in "abc":
        bench.worker(id)
    bench.look(3)
    bench.frozen.update((id, ENGINE) for id in "abc")

    assert len(bench.look(SECONDS + 20)) == 1
    assert len(bench.look(41)) == 2


def test_each_of_several_places_has_its_own(bench: Bench) -> None:
    bench.supervisor.count = 2
    for id in "abc":
        bench.worker(id, "process")
    bench.look(3)
    bench.frozen.update((id, ENGINE) for id in "abc")

    assert len(bench.look(SECONDS + 20)) == 2


def test_one_that_is_not_ready_is_left_alone(bench: Bench) -> None:
    """An import may take as long as it likes."""
    bench.worker("a", is_ready=False)
    bench.frozen.update(("a", thread) for thread in (MAIN, ENGINE, TIME_LIMITS, SCHEDULER))

    assert bench.look(4 * SECONDS) == []


def test_while_the_storage_is_away_nobody_is_replaced(bench: Bench) -> None:
    bench.worker("a")
    bench.look(3)
    bench.frozen.add(("a", ENGINE))
    bench.is_away = True

    assert bench.look(4 * SECONDS) == []
    bench.is_away = False
    assert bench.look(SECONDS) == []
    assert bench.look(2) == [("a", True)]


def test_before_a_replacement_the_storage_is_tried(bench: Bench) -> None:
    """A commit of the worker may be on its way to a slow disk, and keep all others out."""
    bench.worker("a")
    bench.look(3)
    bench.frozen.add(("a", ENGINE))
    bench.supervisor.reaches = False

    assert bench.look(4 * SECONDS) == []


@pytest.mark.parametrize("held", ["is_stopped", "is_traced", "sleepers"])
def test_one_that_is_held_from_outside_is_left_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch, held: str) -> None:
    """By SIGSTOP, a debugger, a device: the same sleep at one look and the next."""
    bench.worker("a")
    bench.look(3)
    bench.frozen.add(("a", ENGINE))
    monkeypatch.setattr(room.host, held, lambda pid: {("7", "12")} if held == "sleepers" else True)  # type: ignore[attr-defined]

    assert bench.look(4 * SECONDS) == []
    monkeypatch.undo()
    assert bench.look(SECONDS - 2) == []
    assert bench.look(4) == [("a", True)]


def test_one_that_is_busy_with_its_disk_is_not_held_by_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look finds a thread that waits for a device, and each time it is another wait."""
    bench.worker("a")
    bench.look(3)
    bench.frozen.add(("a", SCHEDULER))
    numbers = iter(range(10_000))
    monkeypatch.setattr(room.host, "sleepers", lambda pid: {("7", str(next(numbers)))})  # type: ignore[attr-defined]

    assert bench.look(SECONDS + 1) == [("a", False)]


def test_one_that_waits_for_the_disk_is_left_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    child = bench.worker("a")
    bench.look(3)
    bench.frozen.add(("a", ENGINE))
    monkeypatch.setattr(Scoreboard, "is_at_disk", True)

    assert bench.look(4 * SECONDS) == []
    assert child.scoreboard.is_at_disk


def test_a_worker_without_a_pulse_is_left_and_named_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    child = bench.worker("a")
    child.scoreboard.set_running(0, "7", 1, 0, 0)
    bench.look(3)
    bench.silent.add("a")
    bench.frozen.update(("a", thread) for thread in (MAIN, ENGINE, TIME_LIMITS, SCHEDULER))

    assert bench.look(4 * SECONDS) == []
    (record,) = caplog.records
    assert (record.levelno, record.getMessage().endswith("Running tasks: app.hold 7")) == (logging.WARNING, True)


def test_of_one_that_stops_only_the_engine_is_watched(bench: Bench) -> None:
    """The others it stops one after the other."""
    child = bench.worker("a")
    child.is_stopping = True
    bench.look(3)
    bench.frozen.update(("a", thread) for thread in (MAIN, SCHEDULER))

    assert bench.look(3 * SECONDS) == []
    bench.frozen.add(("a", ENGINE))
    assert bench.look(SECONDS + 1) == [("a", True)]


def test_what_the_kernel_says_of_this_process_is_nothing_special() -> None:
    import os

    assert not host.is_traced(os.getpid())
    assert not host.is_stopped(os.getpid())
    assert not host.is_traced(2**22 + 1)
    assert host.sleepers(2**22 + 1) == set()
    assert host.sleepers(os.getpid()) == set()

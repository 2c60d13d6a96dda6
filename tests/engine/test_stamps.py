"""Successive looks at the stamps of a worker's own threads: which of them stand still."""

from __future__ import annotations

import pytest

from huey.engine.scoreboard import Scoreboard
from huey.engine.stamps import ENGINE, MAIN, OWN_THREADS, SCHEDULER, LocalBoard, Stamp, Standstill
from huey.runtime.clock import SECOND
from huey.testing.clock import FakeClock

WATCHDOG = 30


class Bench:
    """A board with all threads on it, and looks at it once a second. ``goes_on``: those that stamp between two looks."""

    def __init__(self, seconds: float = WATCHDOG) -> None:
        self.clock = FakeClock()
        self.board = LocalBoard()
        self.stamps = [Stamp(self.board, thread, self.clock) for thread in range(len(OWN_THREADS))]
        self.standstill = Standstill(seconds)
        self.pulse = 0
        self.has_pulse = True
        self.goes_on = set(range(len(OWN_THREADS)))

    def look(self, times: int = 1, every: float = 1.0) -> list[int]:
        found: list[int] = []
        for _ in range(times):
            for thread in self.goes_on:
                self.stamps[thread].show()
            self.pulse += self.has_pulse
            self.clock.forward(every)
            found = self.standstill.check(self.clock.monotonic(), self.board.stamps(), self.pulse)
        return found

    def looks_until_found(self, most: int = 100) -> int:
        return next(number for number in range(1, most) if self.look())


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.look(5)
    return bench


@pytest.mark.parametrize("thread", [ENGINE, MAIN, SCHEDULER])
def test_a_thread_that_stands_still_is_found_after_so_many_looks(bench: Bench, thread: int) -> None:
    bench.goes_on.remove(thread)

    assert bench.look(WATCHDOG - 1) == []
    assert bench.look() == [thread]


def test_one_look_at_which_it_went_on_starts_the_count_again(bench: Bench) -> None:
    bench.goes_on.remove(ENGINE)
    bench.look(WATCHDOG - 1)
    bench.stamps[ENGINE].show()
    bench.look()

    assert bench.look(WATCHDOG - 1) == []
    assert bench.look() == [ENGINE]


def test_who_waits_until_then_does_not_stand_still(bench: Bench) -> None:
    """A scheduler looks once a minute."""
    bench.goes_on.remove(SCHEDULER)
    bench.stamps[SCHEDULER].show(60)

    assert bench.look(60 + WATCHDOG - 1) == []
    assert bench.look(2) == [SCHEDULER]


def test_who_is_not_there_does_not_stand_still(bench: Bench) -> None:
    bench.goes_on.remove(SCHEDULER)
    bench.stamps[SCHEDULER].leave()

    assert bench.look(3 * WATCHDOG) == []


def test_a_gap_in_the_looking_starts_the_count_again(bench: Bench) -> None:
    """Whoever looks was stopped itself, such as with the whole tree."""
    bench.goes_on.remove(ENGINE)
    bench.look(WATCHDOG - 1)

    assert bench.look(every=60) == []
    assert bench.look(WATCHDOG - 1) == []
    assert bench.look() == [ENGINE]


def test_without_a_pulse_nobody_stands_still(bench: Bench) -> None:
    """A task holds the GIL: none of the threads can go on. It is noticed once."""
    bench.goes_on.clear()
    bench.has_pulse = False
    told = []
    for _ in range(4 * WATCHDOG):
        assert bench.look() == []
        told.append(bench.standstill.is_pulseless)

    assert told.count(True) == 1
    assert told.index(True) == WATCHDOG - 1


def test_after_the_pulse_came_back_the_count_starts_again(bench: Bench) -> None:
    bench.goes_on.remove(ENGINE)
    bench.look(WATCHDOG - 1)
    bench.has_pulse = False
    bench.look(5)
    bench.has_pulse = True

    assert bench.look(WATCHDOG - 1) == []


def test_a_pulse_that_comes_a_little_late_changes_nothing(bench: Bench) -> None:
    """Pulse and look are each once a second: now and then a look finds none, and the next one two."""
    bench.goes_on.remove(ENGINE)
    for number in range(WATCHDOG):
        bench.has_pulse = number % 3 != 0
        found = bench.look()

    assert found == [ENGINE]


def test_forgetting_starts_the_count_again(bench: Bench) -> None:
    bench.goes_on.remove(ENGINE)
    bench.look(WATCHDOG - 1)
    bench.standstill.forget()

    assert bench.looks_until_found() >= WATCHDOG


def test_zero_seconds_find_nobody() -> None:
    bench = Bench(0)
    bench.look()
    bench.goes_on.clear()

    assert bench.look(1000) == []
    bench.has_pulse = False
    bench.look(1000)
    assert not bench.standstill.is_pulseless


def test_the_page_is_a_board() -> None:
    page = Scoreboard(1)
    clock = FakeClock()

    Stamp(page, ENGINE, clock).show(2.0)
    page.set_pulse(True)
    page.count_check()

    assert page.stamps()[ENGINE] == clock.monotonic() + 2 * SECOND
    assert sum(page.stamps()) == page.stamps()[ENGINE]
    assert (page.pulse, page.is_at_disk, page.checks, page.held, page.is_blameless) == (1, True, 1, None, False)
    page.set_held(0)
    page.set_blameless()
    page.set_pulse(False)
    assert (page.pulse, page.is_at_disk, page.held, page.is_blameless) == (2, False, 0, True)
    assert page.running() == []
    page.close()

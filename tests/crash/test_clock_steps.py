"""The wall clock is set while consumers work: nothing is lost, nothing runs twice, leases do not care (C7, C8)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from huey.cron import MINUTE
from huey.runtime.clock import SECOND, system_clock
from tests.crash import app as application
from tests.crash.tools import most_common_problems, ticks_of
from tests.support.helpers import never, wait_until

RESUMES = 5.0
"""Seconds within which a clock that was set must be noticed; a tick may take a look's pause more."""


@pytest.fixture
def place(make_place: Any) -> Any:
    place = make_place(stepped=True)
    place.clock = application.SteppedClock(place.folder / "clock")
    return place


@pytest.fixture
def off_to_a_minute(place: Any) -> Any:
    """Sets the clock to some seconds after a full minute, so that a step crosses no other one by chance; how far it is off then."""
    off = (MINUTE - place.clock.now() % MINUTE) / SECOND + 5
    place.clock.step(off)
    return off


def verdict_of(place: Any) -> Any:
    verdict = place.verdict()
    assert not verdict.problems, most_common_problems(verdict.problems) + "\n" + place.log()
    return verdict


def test_a_clock_set_back_delays_only_what_is_scheduled(place: Any) -> None:
    consumers = [place.start(workers=2, periodic=False) for _ in range(2)]
    wait_until(lambda: all(it.is_known for it in consumers), "they live")
    held = place.gated(1)
    wait_until(lambda: place.started(held), "a task runs")
    scheduled = place.work(2, delay=1.5)

    place.clock.step(-180)
    direct = [place.work(3), place.flaky(4, failures=0)]

    wait_until(lambda: all(place.started(id) for id in direct), "what is due now runs now")
    assert never(lambda: place.started(scheduled), within=2.0), "its time has not come yet"
    place.clock.step(0)
    wait_until(lambda: place.started(scheduled), "the clock has caught up", timeout=RESUMES)
    place.open_gate()
    wait_until(place.is_done, "all is done")
    assert [it.stop() for it in consumers] == [0, 0]
    assert verdict_of(place).reruns == 0
    assert "died" not in place.log(), "no lease was lost"


def test_a_clock_that_is_set_ahead_runs_what_is_due_once(place: Any) -> None:
    consumers = [place.start(workers=2, periodic=False) for _ in range(2)]
    wait_until(lambda: all(it.is_known for it in consumers), "they live")
    held = place.gated(1)
    wait_until(lambda: place.started(held), "a task runs")
    soon, later = [place.work(n, delay=400) for n in range(5)], place.work(7, delay=2000)

    place.clock.step(600)

    wait_until(lambda: all(place.started(id) for id in soon), "they are due now", timeout=RESUMES)
    assert never(lambda: place.started(later), within=0.5)
    place.clock.step(2500)
    wait_until(lambda: place.started(later), "this one too", timeout=RESUMES)
    place.open_gate()
    wait_until(place.is_done, "all is done")
    assert [it.stop() for it in consumers] == [0, 0]
    assert verdict_of(place).reruns == 0
    assert len(place.runs()) == 7
    assert "died" not in place.log(), "no lease was lost"


def test_retries_follow_a_clock_that_is_set_ahead(place: Any) -> None:
    """A retry that waits is a task that is scheduled."""
    consumer = place.start(workers=1, periodic=False)
    place.flaky(1, failures=3)

    wait_until(place.runs, "it fails")
    place.clock.step(600)

    wait_until(place.is_done, "it is tried again", timeout=RESUMES)
    assert consumer.stop() == 0
    verdict_of(place)


def test_ticks_are_missed_and_made_up_for_by_the_rule(place: Any, off_to_a_minute: Any) -> None:
    """Ten minutes ahead: the newest minute fires, soon. Back again: none fires until the clock has passed it."""
    consumers = [place.start(workers=1, periodic=True) for _ in range(3)]
    wait_until(lambda: len(ticks_of(place.runs())) == 3, "each fired for the minute that runs")

    place.clock.step(off_to_a_minute + 600)
    wait_until(lambda: len(ticks_of(place.runs())) == 6, "each fired for the newest minute", timeout=RESUMES + 1)
    place.clock.step(off_to_a_minute - 180)
    assert never(lambda: len(place.runs()) > 6, within=1.5)
    place.clock.step(off_to_a_minute + 660)
    wait_until(lambda: len(ticks_of(place.runs())) == 9, "the next minute", timeout=RESUMES + 1)

    wait_until(place.is_done, "all is done")
    assert [it.stop() for it in consumers] == [0, 0, 0]
    minutes = sorted({minute for _, minute in ticks_of(place.runs())})
    assert [minute - minutes[0] for minute in minutes] == [0, 10, 11]
    assert len(place.runs()) == 9
    verdict_of(place)


@pytest.mark.chaos
@pytest.mark.timeout(120)
def test_three_consumers_twenty_restarts_and_a_clock_that_jumps(make_place: Any, show: Any) -> None:
    """Real processes on a clock that runs a minute in a second, and is set 3 minutes back and 10 ahead meanwhile."""
    fast = [60, system_clock.now(), system_clock.monotonic()]
    place = make_place(stepped=True, fast=fast)
    clock = application.SteppedClock(place.folder / "clock", fast)
    crew = [place.start(workers=2) for _ in range(3)]
    wait_until(lambda: place.runs(), "ticks fire")
    new: list[int] = []
    """Minutes that the clock showed for the first time, and that no earlier one was later than."""
    off = 0.0
    for restart in range(20):
        deadline = time.monotonic() + 1.7
        while time.monotonic() < deadline:
            minute = clock.now() // MINUTE
            if not new or minute > new[-1]:
                new.append(minute)
            time.sleep(0.05)
        victim = restart % 3
        crew[victim].kill() if restart % 2 else crew[victim].stop()
        crew[victim] = place.start(workers=2)
        if restart % 5 == 3:
            off += -180 if restart % 10 == 3 else 600
            clock.step(off)
    wait_until(lambda: all(it.is_known for it in crew), "the last ones live")
    assert [it.stop() for it in crew] == [0, 0, 0]
    place.finish()

    verdict = verdict_of(place)
    fired = {minute for name, minute in ticks_of(place.runs()) if name == "tick-1"}
    missed = [minute for minute in new[1:-1] if minute not in fired]
    assert len(missed) <= len(new) // 10, f"{missed} of {new}"
    show(f"{verdict.kills} kills of 20 restarts, {len(new)} new minutes, {len(fired)} of them fired, {verdict.ticks} ticks each once")

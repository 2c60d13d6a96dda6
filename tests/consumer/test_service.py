"""A loop in a thread: again and again, whatever happens, until it is stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from huey.consumer.service import Service
from huey.engine.outage import Outage
from huey.exceptions import StorageUnavailable
from huey.runtime.clock import system_clock
from huey.testing.contract.tools import Call
from tests.support.helpers import wait_until

Make = Callable[..., Service]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes services that end with the test."""
    made: list[Service] = []

    def make_one(act: Callable[[], float | None], every: float = 3600.0) -> Service:
        made.append(Service("Loop", act, every))
        return made[-1]

    yield make_one
    for service in made:
        service.stop()


class Act:
    """Notes each call; returns a pause, or raises."""

    def __init__(self, pause: float | None = 0.0) -> None:
        self.pause = pause
        self.calls = 0
        self.error: Exception | None = None

    def __call__(self) -> float | None:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.pause


def loops() -> int:
    return sum(thread.name == "Loop" for thread in threading.enumerate())


def test_it_acts_at_once(make: Make) -> None:
    act = Act(3600.0)

    make(act).start()

    wait_until(lambda: act.calls == 1)


def test_it_acts_again_after_the_pause_that_the_act_returned(make: Make) -> None:
    act = Act(0.0)

    make(act, every=3600.0).start()

    wait_until(lambda: act.calls > 20)


def test_an_act_that_returns_nothing_comes_again_as_usual(make: Make) -> None:
    often, seldom = Act(None), Act(None)

    make(often, every=0.001).start()
    make(seldom, every=3600.0).start()

    wait_until(lambda: often.calls > 20)
    assert seldom.calls == 1


def test_an_error_does_not_end_the_loop(make: Make) -> None:
    act = Act()
    act.error = ValueError("broken")

    make(act, every=0.001).start()

    wait_until(lambda: act.calls > 20)


def test_an_outage_is_told_when_it_begins_and_when_it_ends(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    act = Act()
    act.error = ValueError("broken")
    with caplog.at_level(logging.INFO):
        make(act, every=0.001).start()
        wait_until(lambda: act.calls > 20)

        act.error = None
        wait_until(lambda: len(caplog.records) == 2)

    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("ERROR", "Loop failed; retrying"),
        ("INFO", "Loop has recovered"),
    ]
    assert caplog.records[0].exc_info is not None


def test_a_storage_that_is_away_is_told_once_for_all_loops(caplog: pytest.LogCaptureFixture) -> None:
    """And without a traceback: it is no fault of the program."""
    outage, acts = Outage(system_clock), [Act(0.001), Act(0.001), Act(0.001)]
    loops = [Service(f"Loop {n}", act, 0.001, outage) for n, act in enumerate(acts)]
    for act in acts:
        act.error = StorageUnavailable("away")
    with caplog.at_level(logging.INFO):
        for loop in loops:
            loop.start()
        wait_until(lambda: all(act.calls > 20 for act in acts))
        for act in acts:
            act.error = None
        wait_until(lambda: "storage is back" in caplog.text)
        for loop in loops:
            loop.stop()

    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert caplog.records[0].message.endswith("running tasks continue: away")
    assert caplog.records[0].exc_info is None


def test_a_loop_that_failed_looks_again_within_a_second(make: Make) -> None:
    """However long its usual pause is: what was away is found again soon."""
    act = Act(3600.0)
    act.error = StorageUnavailable("away")
    make(act, every=3600.0).start()

    wait_until(lambda: act.calls >= 2, timeout=5)


def test_after_a_stop_it_acts_no_more(make: Make) -> None:
    act = Act()
    service = make(act)
    service.start()
    wait_until(lambda: act.calls)

    service.stop()
    calls = act.calls

    assert loops() == 0, "no thread is left that could act"
    assert act.calls == calls


def test_a_stop_does_not_wait_for_the_pause_to_pass(make: Make) -> None:
    act = Act(3600.0)
    service = make(act)
    service.start()
    wait_until(lambda: act.calls)

    service.stop(timeout=None)

    assert loops() == 0


def test_a_stop_waits_for_the_act_it_is_in(make: Make) -> None:
    started, gate = threading.Event(), threading.Event()

    def act() -> float:
        started.set()
        gate.wait()
        return 0.0

    service = make(act)
    service.start()
    assert started.wait(10)

    had_ended: list[bool] = []
    stopping = Call(lambda: (service.stop(timeout=None), had_ended.append(gate.is_set())))
    assert loops() == 1
    gate.set()

    stopping.answer()
    assert had_ended == [True]
    assert loops() == 0


def test_an_act_may_stop_its_own_service(make: Make) -> None:
    calls = []

    def act() -> float:
        calls.append(1)
        service.stop()
        return 0.0

    service = make(act)
    service.start()

    wait_until(lambda: loops() == 0)
    assert calls == [1]


def test_start_and_stop_are_harmless_in_any_order(make: Make) -> None:
    act = Act(3600.0)
    service = make(act)

    service.stop()
    service.start()
    service.start()
    wait_until(lambda: act.calls)
    assert (loops(), act.calls) == (1, 1)
    service.stop()
    service.stop()
    assert loops() == 0

    service.start()
    wait_until(lambda: act.calls == 2)


def test_a_stopped_loop_stays_stopped_at_the_next_start(make: Make) -> None:
    gate, calls = threading.Event(), []

    def act() -> float:
        calls.append(threading.current_thread())
        if len(calls) == 1:
            gate.wait()
        return 0.001

    service = make(act)
    service.start()
    wait_until(lambda: calls)
    service.stop(timeout=0.0)

    service.start()
    gate.set()

    wait_until(lambda: len(calls) > 20)
    assert calls.count(calls[0]) == 1

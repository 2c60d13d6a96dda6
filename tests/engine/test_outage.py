"""A storage that is away is told once, though several parts and several processes notice it."""

from __future__ import annotations

import pytest

from huey.engine.outage import SUPERVISOR_GRACE, Outage
from huey.engine.scoreboard import REACHES, REPORTS, UNCHECKED, Scoreboard
from huey.testing.clock import FakeClock

AWAY = "storage unavailable; claiming stops until it is back, running tasks continue: no answer"


@pytest.fixture
def clock(caplog: pytest.LogCaptureFixture) -> FakeClock:
    caplog.set_level("INFO", "huey.consumer")
    return FakeClock()


@pytest.fixture
def page() -> Scoreboard:
    return Scoreboard(1)


def test_without_a_supervisor_one_part_tells_an_outage(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage(clock)

    for part in ("engine", "heartbeat", "engine"):
        outage.begins(part, "no answer")
    clock.forward(2)
    outage.ends("heartbeat")
    outage.ends("engine", 3)

    assert caplog.messages == [AWAY, "storage is back after 2.0 s: 3 finished tasks written"]


def test_a_worker_leaves_it_to_a_supervisor_that_is_away_too(clock: FakeClock, page: Scoreboard, caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage(clock, page)

    outage.begins("engine", "no answer")
    assert page.is_in_outage
    page.set_supervisor_state(REPORTS)
    outage.begins("engine", "no answer")
    page.set_supervisor_state(REACHES)
    clock.forward(2 * SUPERVISOR_GRACE)
    outage.begins("engine", "no answer")
    outage.ends("engine", 3)

    assert not page.is_in_outage
    assert caplog.messages == ["wrote 3 finished tasks that were waiting for the storage"]


def test_a_worker_that_is_cut_off_alone_tells_it(clock: FakeClock, page: Scoreboard, caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage(clock, page)

    outage.begins("engine", "no answer")
    page.set_supervisor_state(REACHES)
    outage.begins("engine", "no answer")
    outage.begins("engine", "no answer")
    outage.ends("engine")

    assert caplog.messages == [AWAY, "storage is back after 0.0 s"]


def test_a_worker_tells_if_its_supervisor_does_not_look(clock: FakeClock, page: Scoreboard, caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage(clock, page)
    assert page.supervisor_state == UNCHECKED

    outage.begins("engine", "no answer")
    clock.forward(SUPERVISOR_GRACE + 1)
    outage.begins("engine", "no answer")

    assert caplog.messages == [AWAY]

"""Section F, first half: the decorator ``periodic_task`` (S64 to S69)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

import pytest

from huey import Huey, crontab
from huey.testing.clock import FakeClock
from tests.support.helpers import never, running, wait_until

MakeHuey = Callable[..., Huey]

NOON = datetime(2025, 6, 16, 12, 0)
"""Where the clock of these tests stands, UTC."""


@pytest.fixture
def huey(make_huey: MakeHuey, clock: FakeClock) -> Huey:
    return make_huey(clock=clock)


def ticking(huey: Huey, **options: Any) -> AbstractContextManager[Any]:
    """A consumer that looks at the crontabs all the time."""
    return running(huey, periodic=True, periodic_task_interval=0.01, **options)


def shown(clock: FakeClock) -> datetime:
    """What the clock shows, as naive UTC."""
    return datetime.fromtimestamp(clock.now() // 1_000_000, UTC).replace(tzinfo=None)


def test_S64_a_periodic_function_runs_when_its_crontab_says(huey: Huey, clock: FakeClock) -> None:
    ticks, tocks = [], []

    @huey.periodic_task(crontab(minute="*/5"))
    def tick() -> None:
        ticks.append(shown(clock).minute)

    @huey.periodic_task(crontab())
    def tock() -> None:
        tocks.append(shown(clock).minute)

    with ticking(huey):
        wait_until(lambda: tocks == [0])
        for minute in range(1, 12):
            clock.forward(60)
            wait_until(lambda minute=minute: tocks[-1] == minute)  # type: ignore[misc]

    assert ticks == [0, 5, 10]
    assert tocks == list(range(12))


def test_S64_a_crontab_for_the_other_decorator_is_refused(huey: Huey) -> None:
    with pytest.raises(ValueError, match="periodic_task"):
        huey.task(crontab(minute="*/5"))


def test_S65_any_callable_of_a_datetime_is_accepted(huey: Huey) -> None:
    asked, ran = [], []

    def is_due(dt: datetime) -> bool:
        asked.append(dt)
        return True

    @huey.periodic_task(is_due)
    def tick() -> None:
        ran.append("tick")

    with ticking(huey):
        wait_until(lambda: ran)

    assert {type(dt) for dt in asked} == {datetime}
    assert max(dt.replace(tzinfo=None) for dt in asked) == NOON


def test_S65_what_the_callable_refuses_does_not_run(huey: Huey) -> None:
    ran = []
    huey.periodic_task(lambda dt: False, name="refused")(lambda: ran.append("refused"))
    huey.periodic_task(lambda dt: True, name="accepted")(lambda: ran.append("accepted"))

    with ticking(huey):
        wait_until(lambda: ran)
        assert never(lambda: ran != ["accepted"])


def test_S66_a_call_runs_the_function_in_the_caller(huey: Huey) -> None:
    tick = huey.periodic_task(crontab())(lambda: "x")

    assert tick() == "x"
    assert len(huey) == 0


def test_S66_the_first_direct_call_says_so(huey: Huey, caplog: pytest.LogCaptureFixture) -> None:
    """C10."""
    tick = huey.periodic_task(crontab(), name="app.tick")(lambda: "x")

    with caplog.at_level(logging.INFO, logger="huey"):
        tick()
        tick()

    told = [record for record in caplog.records if "app.tick" in record.getMessage()]
    assert [record.levelname for record in told] == ["INFO"]


def test_S66_one_run_may_be_enqueued(huey: Huey) -> None:
    """C10."""
    ran = []
    tick = huey.periodic_task(lambda dt: False, name="app.tick")(lambda: ran.append("tick"))

    tick.schedule()
    huey.enqueue(tick.s())

    assert (len(huey), ran) == (2, [])
    with ticking(huey):
        wait_until(lambda: ran == ["tick", "tick"])


def test_S67_what_a_periodic_function_returns_is_not_stored(make_huey: MakeHuey, clock: FakeClock) -> None:
    huey = make_huey(clock=clock, store_none=True)
    huey.periodic_task(crontab(), name="app.tick")(lambda: "x")
    huey.periodic_task(crontab(), name="app.tock")(lambda: None)
    sentinel = huey.task()(lambda: "y")

    with ticking(huey):
        wait_until(lambda: len(huey.storage.ticks()) == 2)
        after = sentinel()
        assert after.get(blocking=True) == "y"

    assert len(huey) == 0
    assert huey.storage.items("result") == {}


@pytest.mark.parametrize("member", ["revoke", "is_revoked", "restore", "task_class"])
def test_S68_a_periodic_function_gains_helpers(huey: Huey, member: str) -> None:
    @huey.periodic_task(crontab())
    def tick() -> None:
        """Tick."""

    assert hasattr(tick, member)
    assert tick.task_class.__name__ == "queuecmd_tick"


def test_S69_a_minute_enqueues_at_most_once(huey: Huey, clock: FakeClock) -> None:
    ran = []

    @huey.periodic_task(crontab())
    def tick() -> None:
        ran.append(shown(clock).minute)

    with ticking(huey):
        wait_until(lambda: ran)
        # The consumer looks many times meanwhile.
        assert never(lambda: len(ran) > 1, within=0.1)
        clock.forward(59)
        assert never(lambda: len(ran) > 1, within=0.1)
        clock.forward(1)
        wait_until(lambda: len(ran) > 1)
        assert never(lambda: len(ran) > 2, within=0.1)

    assert ran == [0, 1]


def test_S69_a_restarted_consumer_does_not_run_the_minute_again(huey: Huey, clock: FakeClock) -> None:
    ran = []

    @huey.periodic_task(crontab())
    def tick() -> None:
        ran.append(shown(clock).minute)

    with ticking(huey):
        wait_until(lambda: ran)
    with ticking(huey):
        assert never(lambda: len(ran) > 1)
        clock.forward(60)
        wait_until(lambda: len(ran) > 1)

    assert ran == [0, 1]


def test_S69_the_first_look_is_at_the_start(huey: Huey) -> None:
    ran = []
    huey.periodic_task(crontab(), name="app.tick")(lambda: ran.append("tick"))

    with running(huey, periodic=True):
        wait_until(lambda: ran)

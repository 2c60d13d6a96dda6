"""Section E: revoking and restoring tasks, scheduled tasks and periodic functions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from huey import Huey
from huey.exceptions import QueueException
from huey.testing.clock import FakeClock
from tests.support.helpers import never, noting, read_until, running, statuses, wait_until

MakeHuey = Callable[..., Huey]

NOON = datetime(2025, 6, 16, 12, 0)
"""Where the clock of these tests stands: UTC, as the consumer by default."""
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def add(a: int, b: int) -> int:
    return a + b


class Minutes(NamedTuple):
    """A function ``tick`` that is due each minute, and beside it ``tock``, which shows that a minute was looked at."""

    huey: Huey
    clock: FakeClock
    tick: Any
    ticked: list[datetime]
    tocked: list[datetime]
    passed: list[datetime]
    """The minutes that the test has let pass."""


@pytest.fixture
def minutes(make_huey: MakeHuey, clock: FakeClock) -> Minutes:
    huey = make_huey(clock=clock)
    ticked: list[datetime] = []
    tocked: list[datetime] = []

    # tick stands first: in each minute it is in the queue before tock.
    @huey.periodic_task(lambda dt: True)
    def tick() -> None:
        ticked.append(shown(clock))

    @huey.periodic_task(lambda dt: True)
    def tock() -> None:
        tocked.append(shown(clock))

    return Minutes(huey, clock, tick, ticked, tocked, [])


def ticking(minutes: Minutes) -> AbstractContextManager[Any]:
    """A consumer that looks at the crontabs all the time."""
    return running(minutes.huey, periodic=True, periodic_task_interval=0.01)


def pass_by(minutes: Minutes, count: int) -> None:
    """Let *count* minutes be looked at: first the one that the clock shows, if it was not yet."""
    for _ in range(count):
        if minutes.passed:
            minutes.clock.forward(60)
        minutes.passed.append(shown(minutes.clock))
        wait_until(lambda: minutes.tocked == minutes.passed, told=lambda: f"looked at: {minutes.tocked}")


def shown(clock: FakeClock) -> datetime:
    """What the clock shows, as naive UTC."""
    return datetime.fromtimestamp(clock.now() // 1_000_000, UTC).replace(tzinfo=None)


# What can be revoked


def test_S54_a_normal_task_can_be_revoked(huey: Huey) -> None:
    ran: list[str] = []
    note, sentinel = noting(huey, ran), huey.task()(add)
    handle = note("a")

    huey.revoke(handle.task)

    assert huey.is_revoked(handle.task) is True
    with running(huey):
        assert sentinel(1, 2).get(blocking=True, timeout=10) == 3
    assert ran == []


def test_S54_a_scheduled_task_can_be_revoked(huey: Huey) -> None:
    ran: list[str] = []
    note = noting(huey, ran)
    events = huey.events(timeout=10)
    handle = note.schedule(args=("a",), delay=0.1)

    handle.revoke()

    with running(huey):
        read_until(events, "revoked", handle.id)
    assert ran == []
    assert len(huey) == 0


def test_S54_a_periodic_function_can_be_revoked(minutes: Minutes) -> None:
    minutes.tick.revoke()

    with ticking(minutes):
        pass_by(minutes, 3)
    assert minutes.ticked == []


def test_S54_all_calls_of_a_normal_function_can_be_revoked(huey: Huey) -> None:
    ran: list[str] = []
    note, sentinel = noting(huey, ran), huey.task()(add)
    note("a")

    note.revoke()
    note("b")

    with running(huey):
        assert sentinel(1, 2).get(blocking=True, timeout=10) == 3
    assert ran == []


def test_S55_revoking_needs_a_result_store(make_huey: MakeHuey) -> None:
    huey = make_huey(results=False)
    task = huey.task()(add)
    call = task.s(1, 2)
    huey.enqueue(call)

    with pytest.raises(QueueException):
        huey.revoke(call)
    assert huey.is_revoked(call) is False


def test_S56_a_scheduled_task_can_be_revoked_and_restored(huey: Huey) -> None:
    handle = huey.task()(add).schedule(args=(1, 2), delay=0.2)

    handle.revoke()
    assert handle.is_revoked() is True
    handle.restore()
    assert handle.is_revoked() is False

    with running(huey):
        assert handle.get(blocking=True, timeout=10) == 3


def test_S56_what_was_skipped_cannot_be_restored(huey: Huey) -> None:
    ran: list[str] = []
    note, sentinel = noting(huey, ran), huey.task()(add)
    handle = note("a")
    handle.revoke()

    with running(huey):
        assert sentinel(1, 2).get(blocking=True, timeout=10) == 3
        handle.restore()
        assert sentinel(3, 4).get(blocking=True, timeout=10) == 7

    assert ran == []


# Periodic functions


def test_S57_a_revoked_periodic_function_says_so(minutes: Minutes) -> None:
    assert minutes.tick.is_revoked() is False

    minutes.tick.revoke()

    assert minutes.tick.is_revoked() is True


def test_S57_revoking_takes_its_options_by_keyword_and_position(minutes: Minutes) -> None:
    minutes.tick.revoke(revoke_until=NOON + HOUR, revoke_once=False)
    assert minutes.tick.is_revoked() is True

    minutes.tick.revoke(NOON - HOUR, False)
    assert minutes.tick.is_revoked() is False


def test_S58_revoked_once_means_one_run(minutes: Minutes) -> None:
    minutes.tick.revoke(revoke_once=True)
    # A look does not use it up.
    assert [minutes.tick.is_revoked(), minutes.tick.is_revoked()] == [True, True]

    with ticking(minutes):
        pass_by(minutes, 3)

    assert minutes.ticked == [NOON + MINUTE, NOON + 2 * MINUTE]
    assert minutes.tick.is_revoked() is False


def test_S59_revoked_until_means_strictly_before(minutes: Minutes) -> None:
    until = NOON + timedelta(days=1)

    minutes.tick.revoke(revoke_until=until)

    assert minutes.tick.is_revoked(until - HOUR) is True
    assert minutes.tick.is_revoked(until) is False
    assert minutes.tick.is_revoked(until + HOUR) is False


def test_S59_the_limit_may_be_positional(minutes: Minutes) -> None:
    minutes.tick.revoke(NOON + HOUR)

    assert minutes.tick.is_revoked(NOON) is True
    assert minutes.tick.is_revoked(NOON + HOUR) is False


def test_S59_a_function_revoked_until_a_time_runs_from_then_on(minutes: Minutes) -> None:
    minutes.tick.revoke(revoke_until=NOON + 2 * MINUTE)

    with ticking(minutes):
        pass_by(minutes, 4)

    assert minutes.ticked == [NOON + 2 * MINUTE, NOON + 3 * MINUTE]


def test_S59_a_naive_limit_is_on_the_clock_of_the_consumer(minutes: Minutes, set_zone: Callable[[str], None]) -> None:
    set_zone("EST5")

    minutes.tick.revoke(revoke_until=NOON + MINUTE)

    assert minutes.tick.is_revoked() is True
    minutes.clock.forward(60)
    assert minutes.tick.is_revoked() is False


def test_S59_an_aware_limit_is_exact(minutes: Minutes, set_zone: Callable[[str], None]) -> None:
    """C7."""
    set_zone("EST5")
    until = (NOON + MINUTE).replace(tzinfo=UTC).astimezone()

    minutes.tick.revoke(revoke_until=until)

    assert minutes.tick.is_revoked() is True
    assert minutes.tick.is_revoked(until - MINUTE) is True
    assert minutes.tick.is_revoked(until) is False
    minutes.clock.forward(60)
    assert minutes.tick.is_revoked() is False


def test_S60_each_revoke_overwrites_the_former(minutes: Minutes) -> None:
    minutes.tick.revoke()
    minutes.tick.revoke(revoke_until=NOON - MINUTE)
    assert minutes.tick.is_revoked(NOON) is False

    minutes.tick.revoke(revoke_until=NOON - MINUTE)
    minutes.tick.revoke()
    assert minutes.tick.is_revoked(NOON) is True


def test_S60_once_is_overwritten_too(minutes: Minutes) -> None:
    minutes.tick.revoke(revoke_once=True)
    minutes.tick.revoke()

    with ticking(minutes):
        pass_by(minutes, 3)

    assert minutes.ticked == []


def test_S61_is_revoked_takes_a_time(minutes: Minutes) -> None:
    minutes.tick.revoke(revoke_until=NOON + HOUR)

    assert minutes.tick.is_revoked(NOON) is True
    assert minutes.tick.is_revoked(dt=NOON + HOUR) is False
    assert minutes.tick.is_revoked(timestamp=NOON + HOUR) is False
    assert minutes.tick.is_revoked(timestamp=NOON) is True


def test_S61_without_a_time_it_means_now(minutes: Minutes) -> None:
    minutes.tick.revoke(revoke_until=NOON + HOUR)

    assert minutes.tick.is_revoked() is True
    assert minutes.tick.is_revoked(None) is True
    minutes.clock.forward(3600)
    assert minutes.tick.is_revoked() is False
    assert minutes.tick.is_revoked(dt=None) is False


@pytest.mark.parametrize("limits", [{}, {"revoke_once": True}, {"revoke_until": NOON + HOUR}])
def test_S62_restore_clears_any_revocation(minutes: Minutes, limits: dict[str, Any]) -> None:
    minutes.tick.revoke(**limits)

    assert minutes.tick.restore() is True

    assert minutes.tick.is_revoked() is False
    with ticking(minutes):
        pass_by(minutes, 1)
    assert minutes.ticked == [NOON]
    assert minutes.tick.restore() is False


def test_S62_a_restored_function_resumes(minutes: Minutes) -> None:
    minutes.tick.revoke()

    with ticking(minutes):
        pass_by(minutes, 2)
        minutes.tick.restore()
        pass_by(minutes, 1)

    assert minutes.ticked == [NOON + 2 * MINUTE]


def test_S63_a_revoked_message_is_dropped(huey: Huey) -> None:
    ran: list[str] = []
    note, sentinel = noting(huey, ran, retries=3), huey.task()(add)
    events = huey.events(timeout=10)
    handle, after = note("a"), sentinel(1, 2)
    handle.revoke()

    with running(huey):
        told = read_until(events, "finished", after.id)
        assert never(lambda: ran)

    assert "revoked" in statuses(told, handle.id)
    assert not {"started", "finished", "error", "retrying", "scheduled"} & set(statuses(told, handle.id))
    assert len(huey) == 0

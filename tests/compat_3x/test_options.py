"""Sections 2 to 4 and 11 of 3.x: options of a task and of a call, and what they mean for its runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from huey import Huey
from huey.exceptions import ResultTimeout, TaskException, TaskTimeout, UnknownTask
from huey.runtime.clock import SECOND
from huey.task.lifecycle import Raised, decide
from huey.task.record import Lease
from huey.task.record_options import read_policy, write_policy
from huey.testing.clock import NOON, FakeClock
from tests.support.helpers import for_queue, running, wait_until

MakeHuey = Callable[..., Huey]


def failed(lease: Lease, attempt: int) -> float:
    """Seconds that a task waits after its failure number *attempt* + 1."""
    due = decide(lease._replace(attempt=attempt), Raised({}), NOON).due
    return 0.0 if due is None else (due - NOON) / SECOND


def lease(retries: int = 9, retry_delay: float = 10.0, **asked: Any) -> Lease:
    return Lease("a", 1, "app.f", b"", 0, 0, None, retries, retry_delay, 0, 0, 0, None, write_policy(**asked))


# Backoff


def test_the_wait_between_tries_grows_by_the_backoff() -> None:
    assert [failed(lease(backoff=2), n) for n in range(4)] == [10, 20, 40, 80]


def test_without_a_backoff_it_stays() -> None:
    assert [failed(lease(), n) for n in range(3)] == [10, 10, 10]


def test_the_backoff_grows_up_to_its_cap() -> None:
    assert [failed(lease(backoff=2, cap=30), n) for n in range(4)] == [10, 20, 30, 30]
    assert failed(lease(backoff=1e300), 8) == 2**31 - 1


def test_jitter_adds_up_to_its_share_and_differs_by_task_and_try() -> None:
    one = lease(jitter=0.5)
    waits = [failed(one._replace(id=id), n) for id in "abcdefgh" for n in range(4)]

    assert all(10 <= wait <= 15 for wait in waits)
    assert len(set(waits)) > 20
    assert failed(one, 0) == failed(one, 0)


def test_no_delay_stays_no_delay() -> None:
    assert failed(lease(retry_delay=0, backoff=3, jitter=1), 2) == 0


def test_the_backoff_of_a_function_travels_with_its_calls(make_huey: MakeHuey, clock: FakeClock) -> None:
    huey = make_huey(clock=clock)

    @huey.task(retries=3, retry_delay=10, retry_backoff=3)
    def fail() -> None:
        raise ValueError

    handle = fail()
    with running(huey):
        for attempt, delay in enumerate((10, 30, 90), 1):
            row = wait_until(lambda attempt=attempt: (row := huey.storage.get(handle.id)) and row.attempt == attempt and row.due and row)  # type: ignore[misc]
            assert (row.due - clock.now()) / SECOND == delay
            clock.forward(delay)
        wait_until(lambda: huey.storage.get(handle.id).state == "failed")  # type: ignore[union-attr]


# What is tried again


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        ({"retry_on": KeyError}, 1),
        ({"retry_on": (KeyError, ValueError)}, 3),
        ({"retry_on": lambda error: "again" in str(error)}, 3),
        ({"no_retry_on": ValueError}, 1),
        ({"no_retry_on": KeyError}, 3),
        ({"retry_on": Exception, "no_retry_on": ValueError}, 1),
        ({"retry_on": lambda error: 1 / 0}, 1),
    ],
)
def test_exceptions_decide_whether_it_is_tried_again(huey: Huey, options: dict[str, Any], runs: int) -> None:
    ran: list[int] = []

    @huey.task(retries=2, **options)
    def fail() -> None:
        ran.append(1)
        raise ValueError("try again")

    with running(huey), pytest.raises(TaskException):
        fail().get(blocking=True, timeout=10)
    assert len(ran) == runs


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retry_on", "ValueError"),
        ("no_retry_on", int),
        ("retry_backoff", -1),
        ("retry_jitter", 2),
        ("max_retry_delay", "9"),
        ("aliases", "app.f"),
        ("aliases", [""]),
    ],
)
def test_options_that_cannot_work_are_refused_where_they_stand(huey: Huey, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=option):
        huey.task(**{option: value})(lambda: 1)


# A call's own wishes


def test_keywords_meant_for_the_call_are_not_passed_on(huey: Huey) -> None:
    task = huey.task()(lambda **rest: rest)

    made = task.s(a=1, delay=60, retries=3, retry_delay=5, retry_backoff=2, priority=7, expires=timedelta(hours=1), timeout=9)

    assert made.kwargs == {"a": 1}
    assert (made.retries, made.retry_delay, made.retry_backoff, made.priority, made.timeout) == (3, 5, 2, 7, 9)
    assert made.eta is not None
    assert (made.expires, made.expires_in, made.expires_resolved) == (timedelta(hours=1), 3600 * SECOND, None)


def test_a_parameter_of_the_function_itself_is_passed_on(huey: Huey) -> None:
    """The 0.4.9 promise: what a function asks for it gets."""

    @huey.task()
    def order(priority: int, *, timeout: int = 0) -> tuple[int, int]:
        return priority, timeout

    made = order.s(priority=5, timeout=3, retries=1)

    assert (made.kwargs, made.priority, made.timeout, made.retries) == ({"priority": 5, "timeout": 3}, 0, None, 1)


def test_a_call_for_later_by_keyword(make_huey: MakeHuey, clock: FakeClock) -> None:
    huey = make_huey(clock=clock)
    task = huey.task()(lambda n: n)

    handle = task(1, delay=60)

    assert [it.id for it in huey.scheduled()] == [handle.id]
    with pytest.raises(ValueError, match="both"):
        task(1, delay=1, eta=clock)


def test_a_task_may_be_made_with_datetimes(huey: Huey) -> None:
    make = huey.task()(lambda: 1).task_class
    when = datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC)

    made = make(eta=when, expires=when + timedelta(hours=1))

    assert made.due == round(when.timestamp()) * SECOND + 6
    assert made.expires_at == made.due + 3600 * SECOND
    assert made.execute_time == made.due / SECOND
    assert made.eta == when.replace(tzinfo=None)


def test_the_wishes_of_a_call_hold_in_its_runs(huey: Huey) -> None:
    seen: list[Any] = []

    @huey.task(context=True, timeout=100, retry_backoff=2)
    def look(task: Any = None) -> None:
        seen.append((task.retries, task.retry_delay, task.retry_backoff, task.timeout, task.priority))

    look(retries=4, retry_delay=1, retry_backoff=5, timeout=50, priority=3)
    look()
    look(timeout=0)
    with running(huey):
        wait_until(lambda: len(seen) == 3)

    assert seen == [(4, 1, 5, 50, 3), (0, 0, 2, 100, 0), (0, 0, 2, None, 0)]


def test_higher_priority_first_and_in_order_within_one(huey: Huey) -> None:
    ran: list[int] = []
    task = huey.task(priority=1)(ran.append)
    task(1)
    task(2, priority=5)
    task(3)
    task(4, priority=-5)
    task(5, priority=5)

    with running(huey):
        wait_until(lambda: len(ran) == 5)
    assert ran == [2, 5, 1, 3, 4]


def test_expires_0_on_a_call_never_expires(huey: Huey) -> None:
    task = huey.task(expires=0.001)(lambda: 1)
    handle = task.schedule(delay=0.1, expires=0)

    with running(huey):
        assert handle.get(blocking=True, timeout=10) == 1


# Time limits


def test_a_body_that_looks_at_its_limit_itself(huey: Huey) -> None:
    never = threading.Event()
    seen: list[float] = []

    @huey.task(context=True, timeout=30)
    def steps(task: Any) -> bool:
        seen.append(task.time_remaining)
        task.check_timeout()
        return bool(task.is_timed_out)

    @huey.task(context=True)
    def unlimited(task: Any) -> float:
        return float(task.time_remaining)

    with running(huey):
        assert steps().get(blocking=True, timeout=10) is False
        assert unlimited().get(blocking=True, timeout=10) == float("inf")
    assert 0 < seen[0] <= 30
    assert not never.is_set()


def test_check_timeout_raises_once_the_time_is_over(huey: Huey) -> None:
    task = huey.task(timeout=3)(lambda: 1).s()
    task.begins(lambda: -0.5)

    assert task.is_timed_out
    with pytest.raises(TaskTimeout, match="time limit of 3 s"):
        task.check_timeout()


def test_the_limit_of_a_call_is_kept(huey: Huey) -> None:
    never = threading.Event()

    @huey.task()
    def endless() -> None:
        while not never.is_set():
            never.wait(0.001)

    with running(huey), pytest.raises(TaskException, match="TaskTimeout"):
        endless(timeout=0.05).get(blocking=True, timeout=10)


# Names


def test_a_renamed_task_runs_what_has_its_old_name(huey: Huey) -> None:
    old = huey.task(name="app.old")(lambda n: n)
    handle = old(7)
    old.unregister()
    with pytest.raises(UnknownTask):
        huey.registry.find("app.old")

    new = huey.task(name="app.new", aliases=["app.old"])(lambda n: n + 1)

    with running(huey):
        assert handle.get(blocking=True, timeout=10) == 8
    new.unregister()
    assert "app.old" not in [wrapper.name for wrapper in huey.registry]


def test_an_alias_that_is_another_functions_name_is_refused(huey: Huey) -> None:
    huey.task(name="app.one")(lambda: 1)

    with pytest.raises(ValueError, match=r"'app\.one' is taken"):
        huey.task(name="app.two", aliases=["app.one"])(noop)


def noop() -> None:
    """Another function."""


def test_revoking_a_renamed_function_revokes_its_old_name_too(huey: Huey) -> None:
    ran: list[int] = []
    other = for_queue(huey)
    other.task(name="app.old")(ran.append)(1)
    new = huey.task(name="app.new", aliases=["app.old"])(ran.append)

    new.revoke()

    with running(huey), pytest.raises(ResultTimeout):
        new(2).get(blocking=True, timeout=0.2)
    assert ran == []
    assert new.restore() is True


# Context


def test_a_body_inside_a_context(huey: Huey) -> None:
    order: list[Any] = []

    class Room:
        def __enter__(self) -> str:
            order.append("in")
            return "room"

        def __exit__(self, *error: Any) -> None:
            order.append("out")

    @huey.context_task(Room())
    def plain(a: int) -> None:
        """What it does."""
        order.append(a)

    @huey.context_task(Room(), as_argument=True, retries=1)
    def inside(room: str, a: int) -> None:
        order.append((room, a))

    plain(1)
    inside(2)
    with running(huey):
        wait_until(lambda: len(order) == 6)

    assert order == ["in", 1, "out", "in", ("room", 2), "out"]
    assert plain.__doc__ == "What it does."
    assert inside.name.endswith(".inside")


def test_what_is_rarely_asked_costs_a_call_nothing(huey: Huey) -> None:
    usual = huey.task(retries=3, retry_delay=1, timeout=5)(lambda: 1)
    assert huey.client.producer.build(usual.s()).options is None
    assert read_policy(huey.client.producer.build(usual.s(timeout=6)).options) == {"timeout": 6}

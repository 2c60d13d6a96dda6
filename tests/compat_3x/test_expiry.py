"""When tasks are due and expire: relative and absolute, in the past, and as a task shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from huey import Huey, RetryTask
from huey.client.result import Result
from huey.exceptions import RateLimitExceeded, TaskException
from huey.runtime.clock import SECOND
from huey.task.task import Task
from huey.testing.clock import FakeClock
from tests.compat_3x.conftest import Told

MakeHuey = Callable[..., Huey]


def add(a: int, b: int) -> int:
    return a + b


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def huey(make_huey: MakeHuey, clock: FakeClock) -> Huey:
    return make_huey(clock=clock)


def run_next(huey: Huey) -> Any:
    """Run the next due task as a consumer would; None when there is none."""
    task = huey.dequeue()
    return None if task is None else huey.execute(task)


def naive(clock: FakeClock, seconds: float = 0) -> datetime:
    """That much from now, as a naive datetime in UTC."""
    return datetime.fromtimestamp(clock.now() / SECOND + seconds, UTC).replace(tzinfo=None)


# A relative expiry counts from the enqueue, or from the eta


@pytest.mark.parametrize("given", [60, 60.0, timedelta(seconds=60)])
def test_an_expiry_of_a_task_for_later_counts_from_its_eta(huey: Huey, clock: FakeClock, given: Any) -> None:
    handle = huey.task()(add).schedule((1, 2), delay=3600, expires=given)

    assert handle.task.expires_resolved == naive(clock, 3660)
    clock.forward(3650)

    assert run_next(huey) == 3


def test_a_task_for_later_expires_after_its_eta(huey: Huey, clock: FakeClock) -> None:
    handle = huey.task()(add).schedule((1, 2), delay=3600, expires=60)
    clock.forward(3661)

    assert run_next(huey) is None
    assert huey.inspector.task(handle.id).reason == "expired"  # type: ignore[union-attr]


def test_an_expiry_of_the_decorator_counts_from_the_eta_too(huey: Huey, clock: FakeClock) -> None:
    task = huey.task(expires=60)(add)
    eta = datetime.fromtimestamp(clock.now() / SECOND, UTC) + timedelta(hours=1)
    task.schedule((1, 2), eta=eta)
    clock.forward(3650)

    assert run_next(huey) == 3


@pytest.mark.parametrize("many", [False, True])
def test_an_expiry_of_a_signature_counts_from_its_enqueue(huey: Huey, clock: FakeClock, many: bool) -> None:
    signature = huey.task()(add).s(1, 2, expires=60)
    assert (signature.expires, signature.expires_resolved) == (60, None)
    clock.forward(70)

    huey.enqueue_many([signature]) if many else huey.enqueue(signature)

    assert signature.expires_resolved == naive(clock, 60)
    clock.forward(59)
    assert run_next(huey) == 3


def test_a_signature_that_is_enqueued_again_counts_again(huey: Huey, clock: FakeClock) -> None:
    signature = huey.task()(add).s(1, 2, expires=60)
    huey.enqueue(signature)
    assert run_next(huey) == 3
    clock.forward(100)

    huey.enqueue(signature)

    clock.forward(50)
    assert run_next(huey) == 3


@pytest.mark.parametrize("delay", [0, 100])
def test_an_expiry_counts_anew_with_each_retry(huey: Huey, clock: FakeClock, delay: int) -> None:
    runs: list[int] = []

    @huey.task(retries=2, retry_delay=delay, expires=60)
    def fail() -> None:
        runs.append(1)
        raise ValueError

    fail()
    for _ in range(3):
        clock.forward(50)
        run_next(huey)
        clock.forward(delay)

    assert len(runs) == 3


def test_a_retry_that_comes_too_late_expires(huey: Huey, clock: FakeClock, told: Told) -> None:
    @huey.task(retries=2, expires=60)
    def fail() -> None:
        raise ValueError

    handle = fail()
    run_next(huey)
    clock.forward(61)

    assert run_next(huey) is None
    assert huey.inspector.task(handle.id).reason == "expired"  # type: ignore[union-attr]
    assert told.of(handle.id)[-1] == "expired"


@pytest.mark.parametrize("error", [RetryTask(), RetryTask(delay=100), RateLimitExceeded("api", 100.0)])
def test_an_expiry_counts_anew_whatever_asks_for_another_run(huey: Huey, clock: FakeClock, error: Exception) -> None:
    runs: list[int] = []

    @huey.task(expires=60)
    def again() -> str:
        runs.append(1)
        if len(runs) == 1:
            raise error
        return "done"

    again()
    clock.forward(50)
    run_next(huey)
    clock.forward(100 if getattr(error, "delay", None) else 50)

    assert run_next(huey) == "done"


def test_an_absolute_expiry_bounds_all_retries(huey: Huey, clock: FakeClock) -> None:
    runs: list[int] = []

    @huey.task(retries=5, expires=datetime.fromtimestamp(clock.now() / SECOND + 60, UTC))
    def fail() -> None:
        runs.append(1)
        raise ValueError

    fail()
    for _ in range(3):
        run_next(huey)
        clock.forward(40)

    assert len(runs) == 2


@pytest.mark.parametrize("secret", [None, "a long secret text"])
def test_signed_tasks_keep_these_rules(make_huey: MakeHuey, clock: FakeClock, secret: str | None) -> None:
    huey = make_huey(clock=clock, secret=secret)
    runs: list[int] = []

    @huey.task(retries=1, retry_delay=100, expires=60)
    def fail() -> None:
        runs.append(1)
        raise ValueError

    fail.schedule(delay=3600)
    clock.forward(3650)
    run_next(huey)
    clock.forward(150)
    run_next(huey)

    assert len(runs) == 2


# Rescheduled


@pytest.mark.parametrize("given", [60, timedelta(seconds=60)])
def test_rescheduled_a_relative_expiry_counts_from_the_new_time(huey: Huey, clock: FakeClock, given: Any) -> None:
    handle = huey.task()(add).schedule((1, 2), delay=10, expires=given)

    again = handle.reschedule(delay=3600)

    assert (again.task.expires, again.task.expires_resolved) == (given, naive(clock, 3660))


def test_rescheduled_an_absolute_expiry_is_kept(huey: Huey, clock: FakeClock) -> None:
    end = datetime.fromtimestamp(clock.now() / SECOND + 7200, UTC)
    handle = huey.task()(add).schedule((1, 2), delay=10, expires=end)

    again = handle.reschedule(delay=3600)

    assert (again.task.expires, again.task.expires_resolved) == (end, naive(clock, 7200))
    assert huey.inspector.task(again.id).expires == end  # type: ignore[union-attr]


def test_rescheduled_another_expiry_may_be_given(huey: Huey, clock: FakeClock) -> None:
    handle = huey.task(expires=60)(add).schedule((1, 2), delay=10)

    assert handle.reschedule(delay=3600, expires=5).task.expires_resolved == naive(clock, 3605)


def test_rescheduled_by_its_id_an_expiry_is_kept(huey: Huey, clock: FakeClock) -> None:
    handle = huey.task()(add).schedule((1, 2), delay=10, expires=60)

    again = Result(huey, Task(id=handle.id)).reschedule(delay=3600)

    assert (again.task.expires, again.task.expires_resolved) == (60, naive(clock, 3660))


# The past


@pytest.mark.parametrize("delay", [-1, -0.5, timedelta(seconds=-60), timedelta(0), 0])
def test_a_delay_in_the_past_is_now(huey: Huey, delay: Any) -> None:
    task = huey.task()(add)
    task.schedule((1, 2), delay=delay)
    task(3, 4, delay=delay)
    huey.enqueue(task.s(5, 6, delay=delay))

    assert [run_next(huey) for _ in range(3)] == [3, 7, 11]


@pytest.mark.parametrize("eta", [datetime(1, 1, 1), datetime(1969, 12, 31), datetime(2000, 1, 1), datetime.min.replace(tzinfo=UTC)])
def test_an_eta_in_the_past_is_now(huey: Huey, eta: datetime) -> None:
    huey.task()(add).schedule((1, 2), eta=eta)

    assert run_next(huey) == 3


@pytest.mark.parametrize("expires", [-1, -0.5, timedelta(seconds=-60), datetime(2000, 1, 1), datetime(1, 1, 1)])
def test_an_expiry_in_the_past_drops_the_task_as_expired(huey: Huey, told: Told, expires: Any) -> None:
    handle = huey.task()(add)(1, 2, expires=expires)

    assert run_next(huey) is None
    assert huey.inspector.task(handle.id).reason == "expired"  # type: ignore[union-attr]
    assert told.of(handle.id)[-1] == "expired"


@pytest.mark.parametrize("expires", [0, 0.0, None])
def test_no_expiry_never_expires(huey: Huey, clock: FakeClock, expires: Any) -> None:
    huey.task(expires=None if expires is None else 10)(add)(1, 2, expires=expires)
    clock.forward(10**6)

    assert run_next(huey) == 3


@pytest.mark.parametrize(
    "again", [{"delay": -1}, {"delay": timedelta(seconds=-1)}, {"eta": datetime(2000, 1, 1)}, {"eta": datetime(1, 1, 1)}]
)
def test_a_retry_asked_for_the_past_is_now(huey: Huey, again: dict[str, Any]) -> None:
    runs: list[int] = []

    @huey.task()
    def ask() -> str:
        runs.append(1)
        if len(runs) == 1:
            raise RetryTask(**again)
        return "done"

    ask()
    run_next(huey)

    assert run_next(huey) == "done"


@pytest.mark.parametrize("name", ["timeout", "retries", "retry_delay"])
@pytest.mark.parametrize("value", [-1, -0.5])
def test_other_negative_numbers_are_refused_where_they_are_given(huey: Huey, name: str, value: float) -> None:
    task = huey.task()(add)

    for give in (lambda: huey.task(**{name: value}), lambda: task(1, 2, **{name: value}), lambda: task.schedule((1, 2), **{name: value})):
        with pytest.raises(ValueError, match=name):
            give()  # type: ignore[no-untyped-call]
    assert len(huey) == 0


@pytest.mark.parametrize("seconds", [-1, -0.5, float("nan"), "1", True])
def test_a_time_to_keep_results_that_cannot_be_is_refused(make_huey: MakeHuey, seconds: Any) -> None:
    with pytest.raises(ValueError, match="result_ttl"):
        make_huey(result_ttl=seconds)


@pytest.mark.parametrize("seconds", [-1, -0.5, "soon"])
def test_a_shutdown_timeout_that_cannot_be_is_refused(huey: Huey, seconds: Any) -> None:
    with pytest.raises(ValueError, match="shutdown_timeout"):
        huey.create_consumer(shutdown_timeout=seconds)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**12, "60", True])
def test_what_is_no_duration_is_refused(huey: Huey, value: Any) -> None:
    task = huey.task()(add)

    for name in ("delay", "expires"):
        with pytest.raises(ValueError, match=rf"{name}=.*(hundred years|seconds)"):
            task(1, 2, **{name: value})


# As a task shows it


def test_a_task_shows_its_eta_as_a_naive_datetime_in_utc(huey: Huey, clock: FakeClock) -> None:
    task = huey.task()(add)

    later = task.schedule((1, 2), delay=3600, expires=60).task

    assert (later.eta, later.expires, later.expires_resolved) == (naive(clock, 3600), 60, naive(clock, 3660))
    assert (later.due, later.expires_at) == (clock.now() + 3600 * SECOND, clock.now() + 3660 * SECOND)
    now = task(1, 2).task
    assert (now.eta, now.due, now.expires, now.expires_resolved, now.expires_at) == (None, None, None, None, None)


def test_a_naive_eta_is_shown_in_utc(huey: Huey, set_zone: Callable[[str], None]) -> None:
    set_zone("JST-9")
    eta = datetime(2040, 1, 1, 12, 0, 0, 5)

    assert huey.task()(add).schedule((1, 2), eta=eta).task.eta == datetime(2040, 1, 1, 3, 0, 0, 5)


def test_without_utc_times_are_shown_in_local_time(make_huey: MakeHuey, clock: FakeClock, set_zone: Callable[[str], None]) -> None:
    set_zone("JST-9")
    huey = make_huey(clock=clock, utc=False)
    eta = datetime(2040, 1, 1, 12, 0, 0, 5)

    made = huey.task()(add).schedule((1, 2), eta=eta, expires=60).task

    assert (made.eta, made.expires_resolved) == (eta, eta + timedelta(seconds=60))


def test_an_eta_that_a_task_shows_can_be_set_back(huey: Huey, clock: FakeClock) -> None:
    made = huey.task()(add).s(1, 2, delay=60)
    assert made.eta is not None

    made.eta += timedelta(seconds=60)
    huey.enqueue(made)

    assert made.due == clock.now() + 120 * SECOND
    clock.forward(119)
    assert run_next(huey) is None
    clock.forward(1)
    assert run_next(huey) == 3


def test_listings_show_the_eta_as_tasks_do(huey: Huey, clock: FakeClock) -> None:
    huey.task()(add).schedule((1, 2), delay=60, expires=30)

    (found,) = huey.scheduled()

    assert (found.eta, found.expires, found.expires_resolved) == (naive(clock, 60), 30, naive(clock, 90))


# Retries


def test_the_delay_that_a_task_shows_is_the_one_in_force(huey: Huey, clock: FakeClock) -> None:
    seen: list[float] = []

    @huey.task(retries=3, retry_delay=10, retry_backoff=2, max_retry_delay=30, include_task=True)
    def fail(task: Task) -> None:
        seen.append(task.retry_delay)
        raise ValueError

    fail()
    for _ in range(4):
        run_next(huey)
        clock.forward(60)

    assert seen == [10, 20, 30, 30]


@pytest.mark.parametrize("secret", [None, "a long secret text"])
def test_a_retry_asked_for_without_a_time_advances_the_backoff(make_huey: MakeHuey, clock: FakeClock, secret: str | None) -> None:
    huey = make_huey(clock=clock, secret=secret)
    seen: list[tuple[float, int]] = []

    @huey.task(retries=3, retry_delay=10, retry_backoff=2, include_task=True)
    def again(task: Task) -> None:
        seen.append((task.retry_delay, task.retries))
        raise RetryTask if len(seen) < 3 else ValueError

    again()
    for _ in range(4):
        run_next(huey)
        clock.forward(80)

    assert seen == [(10, 3), (20, 3), (40, 3), (80, 2)]


def test_an_error_between_tries_tells_the_retries_that_were_left(huey: Huey) -> None:
    @huey.task(retries=2)
    def fail() -> None:
        raise ValueError

    handle, left = fail(), []
    for _ in range(3):
        run_next(huey)
        with pytest.raises(TaskException) as caught:
            handle.get()
        left.append(caught.value.metadata["retries"])
        handle.reset()

    assert left == [2, 1, 0]


@pytest.mark.parametrize("retry", [True, False])
def test_waiting_for_a_rate_limit_is_no_error(huey: Huey, retry: bool) -> None:
    @huey.task(retries=1)
    def limited() -> None:
        raise RateLimitExceeded("api", 60.0, retry=retry)

    handle = limited()
    run_next(huey)

    assert handle.get() is None


def test_the_error_of_an_error_is_the_text_of_the_inner_one(huey: Huey) -> None:
    @huey.task()
    def inner() -> None:
        raise KeyError("the reason")

    @huey.task()
    def outer() -> None:
        handle.get()

    handle = inner()
    run_next(huey)
    other = outer()
    run_next(huey)

    with pytest.raises(TaskException) as caught:
        other.get()
    assert caught.value.metadata["error"] == "KeyError('the reason')"
    assert str(caught.value) == "KeyError('the reason')"


def test_times_are_exact_to_the_microsecond(huey: Huey, set_zone: Callable[[str], None]) -> None:
    set_zone("EST5EDT,M3.2.0,M11.1.0")
    when = datetime(2030, 7, 1, 12, 0, 0, 123457)

    made = huey.task()(add).s(1, 2, eta=when)

    assert made.due == round(time.mktime(when.replace(microsecond=0).timetuple())) * SECOND + 123457
    assert made.eta == when + timedelta(hours=4)

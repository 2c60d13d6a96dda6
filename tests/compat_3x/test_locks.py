"""Section 7 of 3.x: locks and rate limits."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from huey import Huey
from huey.api import RateLimit, TaskLock
from huey.exceptions import HueyException, RateLimitExceeded, TaskException, TaskLockedException
from huey.storage.locks import HOLDER, Holder
from huey.testing.clock import FakeClock
from tests.compat_3x.conftest import Told
from tests.support.helpers import running, wait_until

MakeHuey = Callable[..., Huey]


def test_both_exceptions_are_hueys() -> None:
    assert issubclass(TaskLockedException, HueyException)
    assert issubclass(RateLimitExceeded, HueyException)


# locks


def test_a_lock_is_a_context_manager_and_yields_itself(huey: Huey) -> None:
    with huey.lock_task("l") as lock:
        assert isinstance(lock, TaskLock)
        assert (lock.locked(), lock.is_locked(), huey.is_locked("l"), huey.is_locked("m")) == (True, True, True, False)
        assert lock.token is not None
        with pytest.raises(TaskLockedException, match="'l' is held"), huey.lock_task("l"):
            raise AssertionError("it was entered twice")
    assert (huey.is_locked("l"), lock.token) == (False, None)


def test_acquire_and_release(huey: Huey) -> None:
    one, other = huey.lock_task("l"), huey.lock_task("l")

    assert one.acquire() is True
    with pytest.raises(TaskLockedException):
        other.acquire()
    assert other.release() is False
    assert huey.is_locked("l")
    assert one.release() is True
    assert one.release() is False


def test_a_lock_may_be_released_by_another_thread(huey: Huey) -> None:
    lock = huey.lock_task("l")
    taking = threading.Thread(target=lock.acquire)
    taking.start()
    taking.join()

    assert lock.release() is True


def test_clear_frees_it_whoever_holds_it(huey: Huey) -> None:
    huey.lock_task("l").acquire()

    assert huey.lock_task("l").clear() is True
    assert huey.lock_task("l").clear() is False
    huey.client.lock_keepalive.check_idle()


def test_a_lock_is_free_after_an_exception(huey: Huey) -> None:
    with pytest.raises(ZeroDivisionError), huey.lock_task("l"):
        raise ZeroDivisionError
    assert not huey.is_locked("l")


def test_flush_locks_frees_and_names_those_that_were_held(huey: Huey) -> None:
    for name in ("a", "b", "c"):
        huey.lock_task(name).acquire()

    assert huey.flush_locks("a", "other") == {"a"}
    assert huey.flush_locks() == {"b", "c"}
    assert huey.flush_locks() == set()
    huey.client.lock_keepalive.check_idle()


def test_a_decorated_function_holds_the_lock_while_it_runs(huey: Huey) -> None:
    @huey.lock_task("l")
    def look(n: int) -> tuple[int, bool]:
        """Says what it sees."""
        return n, huey.is_locked("l")

    assert look(3) == (3, True)
    assert not huey.is_locked("l")
    assert (look.__name__, look.__doc__) == ("look", "Says what it sees.")


def test_a_task_that_meets_a_held_lock_sends_locked(huey: Huey, told: Told) -> None:
    @huey.task()
    @huey.lock_task("l")
    def work() -> int:
        return 1

    with huey.lock_task("l"), running(huey):
        handle = work()
        with pytest.raises(TaskException, match="TaskLockedException"):
            handle.get(blocking=True, timeout=10)
        wait_until(lambda: told.of(handle.id)[-1:] == ["locked"])
    assert told.of(handle.id) == ["enqueued", "executing", "locked"]
    row = huey.storage.get(handle.id)
    assert row is not None
    assert row.reason == "locked"


def test_and_is_tried_again_if_it_has_retries(huey: Huey) -> None:
    @huey.task(retries=50, retry_delay=0.02)
    @huey.lock_task("l")
    def work() -> int:
        return 1

    with running(huey):
        with huey.lock_task("l"):
            handle = work()
            wait_until(lambda: (row := huey.storage.get(handle.id)) is not None and row.attempt)
        assert handle.get(blocking=True, timeout=10) == 1


def test_tasks_under_one_lock_never_run_together(huey: Huey) -> None:
    inside: list[int] = []
    most: list[int] = []
    tokens: list[int] = []
    lock = huey.lock_task("l")

    @huey.task(retries=1000, retry_delay=0.002)
    def work(n: int) -> int:
        with lock as held:
            inside.append(n)
            most.append(len(inside))
            tokens.append(held.token or 0)
            threading.Event().wait(0.002)
            inside.remove(n)
        return n

    handles = work.map(range(12))
    with running(huey, workers=4):
        assert handles.get(blocking=True, timeout=30) == list(range(12))
    assert set(most) == {1}
    assert tokens == sorted(set(tokens))


def test_a_lock_that_a_task_leaves_behind_is_free_when_it_ends(huey: Huey) -> None:
    @huey.task()
    def take() -> bool:
        return huey.lock_task("l").acquire()

    with running(huey):
        assert take().get(blocking=True, timeout=10) is True
        assert not huey.is_locked("l")


def test_the_locks_of_this_process_are_renewed(make_huey: MakeHuey, clock: FakeClock) -> None:
    huey = make_huey(clock=clock)
    lock = huey.lock_task("l")
    lock.acquire()
    for _ in range(3):
        clock.forward(HOLDER / 1e6 - 1)
        huey.client.lock_keepalive.renew()

    assert huey.is_locked("l")
    clock.forward(HOLDER / 1e6 + 1)
    assert not huey.is_locked("l")
    huey.client.lock_keepalive.check_idle()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_another_holder(make_huey: MakeHuey) -> None:
    huey = make_huey()
    if huey.storage.name == "app" and type(huey.storage).__name__ == "MemoryStorage":
        pytest.skip("a child of a storage in memory has a copy of its own")
    with huey.lock_task("l"):
        before = huey.client.lock_keepalive
        child = os.fork()
        if child == 0:
            code = 1
            try:
                huey.lock_task("l").acquire()
            except TaskLockedException:
                code = 0 if huey.client.lock_keepalive is not before else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("ttl", [30, 30.0, timedelta(seconds=30)])
def test_c48_a_lock_with_a_time_is_free_after_it(make_huey: MakeHuey, clock: FakeClock, ttl: Any) -> None:
    huey = make_huey(clock=clock)
    lock = huey.lock_task("l", ttl=ttl)
    lock.acquire()
    for _ in range(3):
        clock.forward(9.9)
        huey.client.lock_keepalive.renew()
    before = lock.locked(), huey.is_locked("l")
    clock.forward(0.4)
    huey.client.lock_keepalive.renew()

    assert before == (True, True)
    assert (lock.locked(), huey.is_locked("l")) == (False, False)
    assert huey.flush_locks("l") == set()
    huey.client.lock_keepalive.check_idle()


def test_c48_a_former_holder_changes_nothing_for_the_next_one(make_huey: MakeHuey, clock: FakeClock) -> None:
    huey = make_huey(clock=clock)
    first, second = huey.lock_task("l", ttl=1), huey.lock_task("l", 5)
    with first:
        clock.forward(1.5)
        assert second.acquire()
        huey.client.lock_keepalive.renew()
        assert first.release() is False
        assert second.locked()
    assert second.locked()
    clock.forward(5)
    assert not second.locked()
    assert second.release() is False


def test_c48_a_time_neither_lengthens_nor_outlives_a_run(huey: Huey) -> None:
    @huey.task()
    def work() -> bool:
        return huey.lock_task("l", ttl=timedelta(days=1)).acquire()

    with running(huey):
        assert work().get(blocking=True, timeout=10) is True
        assert not huey.is_locked("l")


def test_c48_a_body_may_hold_its_lock_beyond_its_time(make_huey: MakeHuey, clock: FakeClock) -> None:
    huey = make_huey(clock=clock)
    entered, gate = threading.Event(), threading.Event()

    @huey.task()
    @huey.lock_task("l", ttl=2)
    def work() -> int:
        entered.set()
        gate.wait(10)
        return 1

    with running(huey):
        handle = work()
        assert entered.wait(10)
        clock.forward(2.5)
        with huey.lock_task("l") as mine:
            gate.set()
            assert handle.get(blocking=True, timeout=10) == 1
            assert mine.locked()


@pytest.mark.parametrize("ttl", [0, -1, 0.0, -0.5, timedelta(0), timedelta(seconds=-1), float("nan"), float("inf"), True, "5", 10**12])
def test_c48_a_time_that_is_none_is_refused_where_it_is_given(huey: Huey, ttl: Any) -> None:
    for call in (lambda: huey.lock_task("l", ttl=ttl), lambda: TaskLock(huey, "l", ttl), lambda: huey.put_if_empty("k", 1, ttl=ttl)):
        with pytest.raises(ValueError, match="ttl="):
            call()
    assert huey.get("k") is None


def test_c48_releasing_twice_does_not_free_another_threads_lock(make_huey: MakeHuey, clock: FakeClock) -> None:
    huey = make_huey(clock=clock)
    lock = huey.lock_task("l", ttl=1)
    lock.acquire()
    clock.forward(2)
    answers: list[bool] = []

    def take() -> None:
        answers.append(lock.acquire())

    def fail() -> None:
        try:
            lock.acquire()
        except TaskLockedException:
            answers.append(lock.release())

    for call in (take, fail):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    answers += [lock.release(), lock.release()]

    assert answers == [True, False, False, False]
    assert lock.locked()
    assert lock.clear()
    huey.client.lock_keepalive.check_idle()


def test_c48_a_run_releases_its_own_lock_only(huey: Huey) -> None:
    lock = huey.lock_task("l")

    @huey.task()
    def meddle() -> bool:
        return lock.release()

    with lock, running(huey):
        assert meddle().get(blocking=True, timeout=10) is False
        assert lock.locked()


@pytest.mark.parametrize("ttl", [2, 2.0, timedelta(seconds=2)])
def test_c48_what_is_put_if_empty_goes_after_its_time(make_huey: MakeHuey, clock: FakeClock, ttl: Any) -> None:
    huey = make_huey(clock=clock)
    done = huey.put_if_empty("k", "first", ttl=ttl), huey.put_if_empty("k", "second", ttl=60)
    clock.forward(1.9)
    before = huey.get("k", peek=True)
    clock.forward(0.2)

    assert (done, before, huey.get("k", peek=True)) == ((True, False), "first", None)
    assert huey.put_if_empty("k", "third")
    clock.forward(10**6)
    assert huey.get("k") == "third"


@pytest.mark.parametrize("name", ["", 5, "a\0b"])
def test_a_name_that_cannot_be_stored_is_refused(huey: Huey, name: Any) -> None:
    for call in (huey.lock_task, huey.is_locked, huey.flush_locks, lambda name: huey.rate_limit(name, 1, 1)):
        with pytest.raises(ValueError, match="give a string"):
            call(name)


def test_a_consumer_frees_locks_at_its_start_if_told_to(huey: Huey) -> None:
    huey.storage.acquire_lock("l", Holder("somebody"))

    with running(huey):
        assert huey.is_locked("l")
    with running(huey, extra_locks="m"):
        assert not huey.is_locked("l")


# rate limits


def limited(huey: Huey, retry: bool, **options: Any) -> Any:
    limit = huey.rate_limit("api", 1, 60, retry=retry)

    @huey.task(**options)
    @limit
    def ask() -> str:
        return "answer"

    return ask


def test_a_rate_limit_counts_uses_of_a_window(make_huey: MakeHuey, clock: FakeClock) -> None:
    huey = make_huey(clock=clock)
    limit = huey.rate_limit("api", limit=2, per=60)
    clock.forward(15)

    assert isinstance(limit, RateLimit)
    assert limit.acquire() is True
    with limit as same:
        assert same is limit
    with pytest.raises(RateLimitExceeded) as refused:
        limit.acquire()
    assert (refused.value.key, refused.value.delay, refused.value.retry, limit.current_usage()) == ("api", 45.0, True, 3)
    limit.reset()
    assert (limit.acquire(), limit.current_usage()) == (True, 1)
    clock.forward(45)
    assert limit.current_usage() == 0


@pytest.mark.parametrize(
    ("retry", "options", "due_in", "left"),
    [
        (True, {}, 60, 0),
        (True, {"retry_delay": 7}, 7, 0),
        (True, {"retries": 3}, 60, 3),
        (False, {"retries": 3}, 60, 2),
        (False, {"retries": 3, "retry_delay": 7}, 7, 2),
    ],
)
def test_a_limited_task_is_scheduled_for_the_next_window(
    make_huey: MakeHuey, clock: FakeClock, told: Told, retry: bool, options: dict[str, Any], due_in: float, left: int
) -> None:
    huey = make_huey(clock=clock)
    ask = limited(huey, retry, **options)
    first = ask()
    begun = clock.now()

    with running(huey):
        assert first.get(blocking=True, timeout=10) == "answer"
        handle = ask()
        wait_until(lambda: huey.storage.counts().scheduled == 1)
    row = huey.storage.get(handle.id)
    assert row is not None
    assert ((row.due or 0) - begun) / 1e6 == pytest.approx(due_in, abs=5)
    assert (row.retries - row.attempt, row.reason) == (left, "rate limited")
    clock.forward(61)
    with running(huey):
        assert handle.get(blocking=True, timeout=10) == "answer"


def test_without_retry_and_retries_the_error_is_final(huey: Huey) -> None:
    ask = limited(huey, retry=False)
    huey.rate_limit("api", 1, 60).acquire()

    with running(huey), pytest.raises(TaskException, match="RateLimitExceeded"):
        ask().get(blocking=True, timeout=10)


def test_signals_of_a_limited_task(huey: Huey, told: Told) -> None:
    ask = limited(huey, retry=True, retry_delay=3600)
    huey.rate_limit("api", 1, 60).acquire()
    handle = ask()

    with running(huey):
        wait_until(lambda: told.of(handle.id)[-1:] == ["scheduled"])
    assert told.of(handle.id) == ["enqueued", "executing", "rate-limited", "retrying", "scheduled"]


@pytest.mark.parametrize("given", [{"limit": 0, "per": 1}, {"limit": 1, "per": 0}, {"limit": 1.5, "per": 1}])
def test_a_rate_that_cannot_work_is_refused(huey: Huey, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give"):
        huey.rate_limit("api", **given)

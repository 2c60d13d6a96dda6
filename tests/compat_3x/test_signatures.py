"""Signatures as programs of 3.x use them: keywords, and what may stand for a function (sections 2, 3, 5)."""

from __future__ import annotations

import inspect
import pickle
from datetime import timedelta
from typing import Any

import pytest

from huey import CancelExecution, Huey
from huey.api import Result, ResultGroup, TaskWrapper
from huey.exceptions import RateLimitExceeded, ResultTimeout
from huey.testing.clock import FakeClock
from tests.support.helpers import running

SURFACE: list[tuple[Any, str]] = [
    (Huey.result, "id blocking timeout backoff max_delay revoke_on_timeout preserve"),
    (Result.get, "blocking timeout backoff max_delay revoke_on_timeout preserve"),
    (Result.revoke, "revoke_until revoke_once"),
    (Result.reschedule, "eta delay expires priority preserve_pipeline"),
    (ResultGroup.get, "blocking timeout backoff max_delay revoke_on_timeout preserve"),
    (ResultGroup.as_completed, "backoff max_delay"),
    (Huey.revoke, "task revoke_until revoke_once"),
    (Huey.revoke_by_id, "id revoke_until revoke_once"),
    (Huey.revoke_all, "task_class revoke_until revoke_once"),
    (Huey.restore, "task"),
    (Huey.restore_by_id, "id"),
    (Huey.restore_all, "task_class"),
    (Huey.is_revoked, "task timestamp peek"),
    (Huey.rate_limit, "name limit per retry"),
    (Huey.pre_execute, "name"),
    (Huey.post_execute, "name"),
    (Huey.on_startup, "name"),
    (Huey.on_shutdown, "name"),
    (Huey.unregister_pre_execute, "name_or_fn"),
    (Huey.disconnect_signal, "receiver signals"),
    (Huey.context_task, "obj as_argument"),
    (Huey.build_error_result, "task exception"),
    (Huey.put, "key value"),
    (Huey.get, "key peek"),
    (Huey.delete, "key"),
    (Huey.pending, "limit"),
    (Huey.scheduled, "limit"),
    (TaskWrapper.revoke, "revoke_until revoke_once"),
    (CancelExecution, "msg retry"),
]


@pytest.mark.parametrize(("verb", "parameters"), SURFACE, ids=lambda it: getattr(it, "__qualname__", ""))
def test_parameters_have_the_names_and_the_order_of_3_x(verb: Any, parameters: str) -> None:
    names = [name for name in inspect.signature(verb).parameters if name != "self"]

    assert names[: len(parameters.split())] == parameters.split()


def test_options_of_a_decorator_are_taken_by_their_names_of_3_x(huey: Huey) -> None:
    given = {"retries": 1, "retry_delay": 2, "retry_backoff": 2, "priority": 3, "context": True, "name": "a", "expires": 60, "timeout": 5}

    wrapper = huey.task(**given)(lambda task=None: None)

    assert (wrapper.retries, wrapper.retry_delay, wrapper.name) == (1, 2, "a")
    with pytest.raises(AttributeError):
        wrapper.retries = 5  # type: ignore[misc]


def test_the_class_of_its_tasks_stands_for_a_function(huey: Huey) -> None:
    work = huey.task(name="work")(lambda: None)

    huey.revoke_all(work.task_class)
    assert huey.is_revoked(work.task_class)
    assert work.is_revoked()
    assert huey.restore_all(task_class=work.task_class)
    huey.revoke(task=work.task_class, revoke_once=True)
    assert huey.is_revoked(task=work)
    assert huey.restore(task=work.task_class)
    assert not huey.is_revoked(work.task_class)


def test_what_is_no_function_is_refused_where_one_is_wanted(huey: Huey) -> None:
    for verb in (huey.revoke_all, huey.restore_all):
        with pytest.raises(ValueError, match="give a decorated function, or the class of its tasks"):
            verb("work")


def test_a_lock_may_be_named_by_its_keyword_of_3_x(huey: Huey) -> None:
    with huey.lock_task(lock_name="report"):
        assert huey.is_locked(lock_name="report")
        assert huey.is_locked("report")
    with pytest.raises(TypeError, match="lock_name and name are the same; give one"):
        huey.lock_task(lock_name="a", name="b")


def test_a_look_with_peek_off_takes_a_mark_for_one_run_back(huey: Huey, clock: FakeClock) -> None:
    work = huey.task(name="work")(lambda: None)
    task = work.s()
    huey.revoke(task, revoke_once=True)
    work.revoke(revoke_once=True)

    assert (huey.is_revoked(task), huey.is_revoked(task, peek=False)) == (True, True)
    assert not huey.is_revoked(task.id)
    assert (work.is_revoked(peek=True), work.is_revoked(peek=False), work.is_revoked()) == (True, True, False)


def test_a_look_with_peek_off_leaves_a_mark_for_all_runs(huey: Huey) -> None:
    work = huey.task(name="work")(lambda: None)
    work.revoke()

    assert (work.is_revoked(peek=False), work.is_revoked(peek=False)) == (True, True)


def test_what_is_ready_is_taken_into_the_handle_that_asked(huey: Huey) -> None:
    result = huey.task(name="work")(lambda: 5)()
    with running(huey):
        huey.storage.wait([result.id], 10)
        assert result.is_ready()

    assert huey.result(result.id) is None
    assert (result.is_ready(), result.get()) == (True, 5)


def test_a_group_that_comes_too_late_may_be_revoked(huey: Huey) -> None:
    group = huey.task(name="work")(lambda n: n).map([1, 2])

    with pytest.raises(ResultTimeout):
        group.get(blocking=True, timeout=0, revoke_on_timeout=True)

    assert [result.is_revoked() for result in group] == [True, True]


def test_the_result_of_an_id_that_comes_too_late_may_be_revoked(huey: Huey) -> None:
    result = huey.task(name="work")(lambda: 5)()

    with pytest.raises(ResultTimeout):
        huey.result(result.id, blocking=True, timeout=0, backoff=2, max_delay=3, revoke_on_timeout=True)

    assert result.is_revoked()


def test_a_cancelled_run_says_by_keyword_whether_it_is_retried() -> None:
    error = CancelExecution("not on Sundays", retry=False)

    assert (str(error), error.retry, error.args) == ("not on Sundays", False, ("not on Sundays",))
    assert (str(CancelExecution()), CancelExecution().retry, CancelExecution("a", True).retry) == ("", None, True)
    with pytest.raises(TypeError):
        CancelExecution("a", True, 3)  # type: ignore[call-arg]


def test_a_refused_use_travels() -> None:
    error = pickle.loads(pickle.dumps(RateLimitExceeded("api", 2.5, False)))

    assert (error.key, error.delay, error.retry, error.args) == ("api", 2.5, False, ("api", 2.5, False))


def test_a_map_without_results_is_none(make_huey: Any) -> None:
    huey = make_huey(results=False)

    assert huey.task(name="work")(lambda n: n).map([1, 2]) is None
    assert huey.pending_count() == 2


@pytest.mark.parametrize("timeout", [-1, -0.5])
def test_a_negative_limit_is_refused_where_it_is_given(huey: Huey, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout="):
        huey.task(timeout=timeout)
    with pytest.raises(ValueError, match="timeout="):
        huey.task(name="work")(lambda: None)(timeout=timeout)


class Stubborn:
    """What a process without its class, or with a newer one, cannot build."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise OSError("the license server is away")


def test_a_list_leaves_out_what_cannot_be_read_and_says_so(make_huey: Any, caplog: pytest.LogCaptureFixture) -> None:
    huey = make_huey(allow_pickle=True)
    work = huey.task(name="work")(lambda it: it)
    work(1)
    unreadable = work(Stubborn())
    work.schedule((Stubborn(),), delay=timedelta(hours=1))
    work(3)
    unknown = huey.task(name="gone")(lambda: None)
    unknown()
    unknown.unregister()

    assert [(task.name, task.args) for task in huey.pending()] == [("work", (1,)), ("work", (3,)), ("gone", ())]
    assert huey.scheduled() == []
    assert (huey.pending_count(), huey.scheduled_count()) == (4, 1)
    assert unreadable.id in caplog.text
    assert "left out of the list" in caplog.text

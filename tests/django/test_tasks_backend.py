"""The backend of django.tasks: what Django documents for backends, on Django's own framework or the backport, whichever is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.test import override_settings

from huey import CancelExecution, Huey, MemoryHuey, RetryTask
from huey.djhuey import framework
from huey.djhuey.framework import InvalidTask, TaskResultDoesNotExist, TaskResultStatus, signals, tasks
from huey.djhuey.runs import is_final
from huey.djhuey.settings import current
from huey.djhuey.tasks_backend import HueyBackend, task
from huey.exceptions import RateLimitExceeded, TaskTimeout
from tests.django import functions
from tests.django.functions import Nope, add, fails, failures, later, looks, ran, strange
from tests.support.djangos import TASKS
from tests.support.helpers import running, wait_until


@pytest.fixture(autouse=True)
def _clean() -> None:
    ran.clear()
    failures.clear()


@pytest.fixture(params=["memory", "sqlite"])
def huey(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Huey]:
    kinds = {
        "memory": {"huey_class": "huey.MemoryHuey"},
        "sqlite": {"huey_class": "huey.SqliteHuey", "filename": tmp_path / "queue.db"},
    }
    with override_settings(HUEY={**kinds[request.param], "name": "django", "immediate": False}):
        yield current().huey
        current().huey.close()


def finished(result: Any) -> Any:
    """The result, refreshed until it has ended."""

    def has_ended() -> bool:
        result.refresh()
        return bool(result.is_finished)

    wait_until(has_ended)
    return result


def test_it_has_every_feature() -> None:
    backend = tasks.default_task_backend

    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority


def test_a_task_is_ready_then_successful(huey: Huey) -> None:
    result = task(add).enqueue(1, b=2)

    assert result.status == TaskResultStatus.READY
    assert (result.args, result.kwargs, result.attempts) == ([1], {"b": 2}, 0)
    assert result.enqueued_at.tzinfo is not None
    assert (result.started_at, result.finished_at) == (None, None)
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value
    with running(huey):
        finished(result)
    assert result.status == TaskResultStatus.SUCCESSFUL
    assert result.return_value == 3
    assert result.enqueued_at <= result.started_at == result.last_attempted_at <= result.finished_at
    assert (result.attempts, result.errors) == (1, [])


def seen_while_it_runs(huey: Huey) -> Any:
    seen: list[Any] = []

    def look(sender: Any, task_result: Any, **_: Any) -> None:
        seen.append(adding.get_result(task_result.id))

    adding = task(add)
    signals.task_started.connect(look)
    try:
        with running(huey):
            finished(adding.enqueue(1))
    finally:
        signals.task_started.disconnect(look)
    return seen[0]


def test_a_running_task_says_so(huey: Huey) -> None:
    seen = seen_while_it_runs(huey)

    assert seen.status == TaskResultStatus.RUNNING
    assert seen.worker_ids == [worker for worker in seen.worker_ids if worker]
    assert seen.attempts == 1


def test_a_running_task_tells_its_start_if_recorded(huey: Huey) -> None:
    with override_settings(TASKS={"default": {**TASKS["default"], "OPTIONS": {"record_starts": True}}}):
        seen = seen_while_it_runs(huey)

    assert seen.started_at == seen.last_attempted_at is not None
    assert seen.attempts == 1
    assert huey.storage.items("django") == {}


def test_a_result_is_found_by_its_id_in_another_process(huey: Huey) -> None:
    adding = task(add)
    result = adding.using(priority=7, queue_name="mail").enqueue(1, 2)

    waiting = adding.get_result(result.id)
    with running(huey):
        finished(result)
    ended = tasks.default_task_backend.get_result(result.id)

    assert (waiting.status, waiting.args, waiting.task.priority, waiting.task.queue_name) == (TaskResultStatus.READY, [1, 2], 7, "mail")
    assert waiting.enqueued_at == ended.enqueued_at == result.enqueued_at
    assert (ended.task.func, ended.return_value, ended.task.priority, ended.task.queue_name) == (add, 3, 7, "mail")
    assert adding.get_result(result.id).return_value == 3


def test_no_result_is_found_for_foreign_tasks(huey: Huey) -> None:
    mine = huey.task(name="mine")(lambda: 1)()
    ended = huey.task(name="ended")(lambda: {"about": 1})()

    for id in ("nothing", mine.id):
        with pytest.raises(TaskResultDoesNotExist):
            tasks.default_task_backend.get_result(id)
    with running(huey):
        wait_until(ended.is_ready)
    with pytest.raises(TaskResultDoesNotExist):
        tasks.default_task_backend.get_result(ended.id)


def test_the_result_of_another_task_does_not_match(huey: Huey) -> None:
    result = task(add).enqueue(1)

    with pytest.raises(Exception, match="does not match"):
        task(fails).get_result(result.id)


def test_a_failed_task_has_its_error_class_and_traceback(huey: Huey) -> None:
    failures.append(Nope("so sad"))
    result = task(fails).enqueue()

    with running(huey):
        finished(result)

    assert result.status == TaskResultStatus.FAILED
    assert result.finished_at is not None
    (error,) = result.errors
    assert error.exception_class is Nope
    assert error.traceback.splitlines()[-1].endswith("Nope: so sad")
    assert "functions.py" in error.traceback
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value


def test_a_value_that_json_does_not_have_fails_the_task(huey: Huey) -> None:
    result = task(strange).enqueue()

    with running(huey):
        finished(result)

    assert [error.exception_class for error in result.errors] == [TypeError]


def test_arguments_that_json_does_not_have_are_refused_at_once(huey: Huey) -> None:
    with pytest.raises(TypeError):
        task(add).enqueue(object())

    assert len(huey) == 0


def test_a_tuple_becomes_a_list_before_the_function_sees_it(huey: Huey) -> None:
    with running(huey):
        finished(task(add).enqueue((1,), [2]))

    assert ran == [([1], [2])]


def test_a_parameter_may_be_called_task(huey: Huey) -> None:
    with running(huey):
        result = finished(task(functions.named_like_ours).enqueue(1, task="mine"))

    assert result.return_value == [1, "mine"]
    with pytest.raises(InvalidTask, match="keyword-only"):
        task(functions.keyword_only).enqueue(task="mine")


def test_arguments_are_seen_as_they_stand_in_the_call(huey: Huey) -> None:
    task(add).enqueue(1, b=2)

    assert [it.arguments for it in huey.inspector.tasks()] == ["1, b=2"]


def test_enqueue_and_all_the_rest_exist_for_coroutines(huey: Huey) -> None:
    async def use() -> Any:
        result = await task(later).aenqueue(21)
        found = await tasks.default_task_backend.aget_result(result.id)
        return result, found

    result, found = async_to_sync(use)()

    assert found.id == result.id
    with running(huey):
        finished(result)
    async_to_sync(result.arefresh)()
    assert result.return_value == 42


def test_the_higher_priority_runs_first(huey: Huey) -> None:
    adding = task(add)
    results = [adding.using(priority=priority).enqueue(priority) for priority in (-100, 0, 100)]

    with running(huey):
        for result in results:
            finished(result)

    assert [a for a, _ in ran] == [100, 0, -100]


def test_run_after_is_the_earliest_time(huey: Huey) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)

    result = task(add).using(run_after=at).enqueue(1)

    (waiting,) = huey.inspector.tasks("scheduled")
    assert waiting.id == result.id
    assert waiting.due == at
    assert tasks.default_task_backend.get_result(result.id).task.run_after == at


def test_a_time_without_zone_is_refused_if_zones_are_used(huey: Huey) -> None:
    with pytest.raises(InvalidTask, match="aware"):
        task(add).using(run_after=datetime(2030, 1, 1))


def test_without_zones_times_are_local(huey: Huey) -> None:
    with override_settings(USE_TZ=False), running(huey):
        result = finished(task(add).using(run_after=datetime(2020, 1, 1)).enqueue(1))

        assert result.enqueued_at.tzinfo is None
        assert abs(result.finished_at - datetime.now()) < timedelta(seconds=30)


def test_the_context_tells_the_attempt_and_the_result(huey: Huey) -> None:
    result = task(looks, takes_context=True).enqueue("x")

    with running(huey):
        finished(result)

    assert result.return_value == ["x", 1, result.id]
    assert ran[0].task.func is looks


@pytest.mark.parametrize(
    ("func", "options", "said"),
    [
        (add, {"takes_context": True}, "context"),
        (add, {"priority": 101}, "priority"),
        (add, {"queue_name": "unheard-of"}, "unheard-of"),
        (add, {"retries": -1}, "retries"),
    ],
    ids=["no context argument", "priority out of range", "no such queue", "retries below 0"],
)
def test_a_task_that_cannot_work_is_refused_where_it_is_declared(
    huey: Huey, func: Callable[..., Any], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidTask, match=said):
        task(func, **options)


def test_an_option_that_huey_does_not_have_is_refused(huey: Huey) -> None:
    with pytest.raises(TypeError, match="colour"):
        task(add, colour="blue")
    with pytest.raises(InvalidTask, match="concurrency"):
        task(add, concurrency="blue")


def test_a_function_inside_another_is_refused(huey: Huey) -> None:
    def inner() -> None:
        pass

    with pytest.raises(InvalidTask, match="module level"):
        task(inner)


def test_a_function_without_a_name_is_refused(huey: Huey) -> None:
    with pytest.raises(InvalidTask, match="define it with def at the top level"):
        task(functions.nameless)


def test_the_backport_is_found_wherever_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    there: set[str] = set()
    monkeypatch.setattr(framework, "find_spec", lambda name: name in there or None)
    with override_settings(INSTALLED_APPS=[]):
        with pytest.raises(ImproperlyConfigured, match="pip install django-tasks"):
            framework.root()
        there.add("django_tasks")
        assert framework.root() == "django_tasks"
        there.add("django.tasks")
        assert framework.root() == "django.tasks"
    with override_settings(INSTALLED_APPS=["django_tasks"]):
        assert framework.root() == "django_tasks"


def test_django_s_own_decorator_takes_huey_s_options_too(huey: Huey) -> None:
    failures.extend([Nope("two"), Nope("one")])
    result = tasks.task(retries=2)(fails).enqueue()

    with running(huey):
        finished(result)

    assert result.return_value == "at last"
    assert [error.traceback.splitlines()[-1].rpartition(" ")[2] for error in result.errors] == ["one", "two"]
    assert result.attempts == 3
    assert result.started_at < result.last_attempted_at


def test_using_changes_the_retries_of_one_call(huey: Huey) -> None:
    failures.extend([Nope("two"), Nope("one")])
    result = task(fails).using(retries=1).enqueue()

    with running(huey):
        finished(result)

    assert result.status == TaskResultStatus.FAILED
    assert len(result.errors) == result.attempts == 2


@pytest.mark.parametrize("expires", [3600, timedelta(hours=1)], ids=str)
def test_a_call_may_expire(huey: Huey, expires: Any) -> None:
    declared = task(later, expires=expires).enqueue(1)
    called = task(add).using(expires=expires).enqueue(1)

    for result in (declared, called):
        left = huey.inspector.task(result.id).expires - datetime.now(UTC)  # type: ignore[union-attr, operator]
        assert timedelta(minutes=59) < left <= timedelta(hours=1)


def test_signals_are_sent_for_each_step_and_one_end(huey: Huey) -> None:
    failures.append(Nope("once"))
    told: list[str] = []
    receivers = {
        name: lambda sender, task_result, name=name, **_: told.append(f"{name} {sender.__name__} {task_result.status}")
        for name in ("task_enqueued", "task_started", "task_finished")
    }
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver)
    try:
        result = task(fails, retries=1).enqueue()
        with running(huey):
            finished(result)
    finally:
        for name, receiver in receivers.items():
            getattr(signals, name).disconnect(receiver)

    assert told == [
        "task_enqueued HueyBackend READY",
        "task_started HueyBackend RUNNING",
        "task_started HueyBackend RUNNING",
        "task_finished HueyBackend SUCCESSFUL",
    ]


def test_a_receiver_that_raises_harms_nothing(huey: Huey) -> None:
    def broken(**_: Any) -> None:
        raise Nope("a receiver")

    for name in ("task_enqueued", "task_started", "task_finished"):
        getattr(signals, name).connect(broken)
    try:
        with running(huey):
            result = finished(task(add).enqueue(1, 2))
    finally:
        for name in ("task_enqueued", "task_started", "task_finished"):
            getattr(signals, name).disconnect(broken)

    assert result.return_value == 3
    assert len(ran) == 1


def test_a_task_of_a_missing_backend_fails_and_says_so(huey: Huey) -> None:
    with override_settings(TASKS={"default": TASKS["default"], "other": TASKS["default"]}):
        result = task(add, backend="other").enqueue(1)
    with running(huey):
        wait_until(lambda: huey.inspector.counts().failed)

    with override_settings(TASKS={"default": TASKS["default"], "other": TASKS["default"]}):
        result.refresh()
    assert result.status == TaskResultStatus.FAILED
    assert "other" in result.errors[0].traceback.splitlines()[-1]


def test_a_revoked_task_has_failed_and_says_why(huey: Huey) -> None:
    result = task(add).enqueue(1)
    huey.revoke(result.id)

    with running(huey):
        finished(result)

    assert result.status == TaskResultStatus.FAILED
    assert "revoked" in result.errors[0].traceback
    assert result.errors[0].exception_class.__name__ == "TaskException"


def test_a_task_that_passes_its_time_limit_has_that_error(huey: Huey) -> None:
    result = task(functions.endless, timeout=0.05).enqueue()

    with running(huey):
        finished(result)

    assert [error.exception_class for error in result.errors] == [TaskTimeout]


def test_it_leaves_one_value_for_a_success_and_nothing_else(huey: Huey) -> None:
    with running(huey):
        finished(task(add).enqueue(1))

    assert huey.storage.items("django") == {}
    assert huey.inspector.counts().results == 1


@override_settings(HUEY={"huey_class": "huey.MemoryHuey", "always_eager": True})
def test_always_eager_runs_it_in_the_call() -> None:
    failures.append(Nope("here"))

    good, bad = task(add).enqueue(1, 2), task(fails).enqueue()

    assert (good.status, good.return_value) == (TaskResultStatus.SUCCESSFUL, 3)
    assert (bad.status, bad.errors[0].exception_class) == (TaskResultStatus.FAILED, Nope)


@override_settings(HUEY={"huey_class": "huey.MemoryHuey", "immediate": True})
def test_immediate_mode_gives_a_result_that_has_ended() -> None:
    failures.append(Nope("here"))

    good, bad = task(add).enqueue(1, 2), task(fails).enqueue()

    assert (good.status, good.return_value) == (TaskResultStatus.SUCCESSFUL, 3)
    assert (bad.status, bad.errors[0].exception_class) == (TaskResultStatus.FAILED, Nope)
    assert task(add).get_result(good.id).return_value == 3


@override_settings(HUEY={"huey_class": "huey.MemoryHuey", "results": False})
def test_it_wants_results_to_be_kept() -> None:
    # Each of django.tasks and django_tasks asks its backends, where both are loaded.
    found = {message.msg for message in checks.run_checks() if message.id == "huey.E002"}

    assert len(found) == 1
    assert "results" in found.pop()


def test_enqueue_on_commit_waits_for_the_commit(huey: Huey, database: None) -> None:
    params = {"BACKEND": "huey.djhuey.tasks_backend.HueyBackend", "ENQUEUE_ON_COMMIT": True}
    with override_settings(TASKS={"default": params}):
        adding = task(add)
        with transaction.atomic():
            kept = adding.enqueue(1)
            assert len(huey) == 0
        with transaction.atomic():
            lost = adding.enqueue(2)
            transaction.set_rollback(True)

    assert adding.get_result(kept.id).status == TaskResultStatus.READY
    with pytest.raises(TaskResultDoesNotExist):
        adding.get_result(lost.id)


@pytest.mark.parametrize("on_commit", [True, False])
def test_a_task_waiting_for_a_commit_is_enqueued_by_it(huey: Huey, database: None, on_commit: bool) -> None:
    told: list[str] = []

    def note(sender: type, task_result: Any, **more: Any) -> None:
        told.append(task_result.id)

    signals.task_enqueued.connect(note)
    params = {"BACKEND": "huey.djhuey.tasks_backend.HueyBackend", "ENQUEUE_ON_COMMIT": on_commit}
    try:
        with override_settings(TASKS={"default": params}):
            adding = task(add)
            with transaction.atomic():
                kept = adding.enqueue(1)
                before = list(told), kept.enqueued_at
            with transaction.atomic():
                lost = adding.enqueue(2)
                transaction.set_rollback(True)
            at_once = adding.enqueue(3)
    finally:
        signals.task_enqueued.disconnect(note)

    assert at_once.enqueued_at is not None
    if on_commit:
        assert before == ([], None)
        assert (kept.enqueued_at is not None, lost.enqueued_at) == (True, None)
        assert told == [kept.id, at_once.id]
    else:
        # A queue elsewhere has it at once, whatever becomes of the transaction.
        assert told == [kept.id, lost.id, at_once.id]
    assert abs(adding.get_result(kept.id).enqueued_at - kept.enqueued_at) < timedelta(seconds=1)


def test_the_path_of_3_x_is_the_same_class() -> None:
    from huey.contrib.djhuey.tasks_backend import HueyBackend as contrib

    assert contrib is HueyBackend


@pytest.mark.parametrize("unique", [True, "a"])
def test_a_unique_task_that_waits_already_gives_its_result(huey: Huey, unique: Any) -> None:
    adding = task(add, unique=unique)

    first, again, other = adding.enqueue(1), adding.enqueue(1), adding.enqueue(2)

    assert first.id == again.id != other.id
    assert len(huey) == 2


@pytest.mark.parametrize(
    ("error", "retries", "is_last"),
    [
        (ValueError(), 0, True),
        (ValueError(), 1, False),
        (KeyError(), 1, True),
        (RetryTask(), 0, False),
        (CancelExecution(), 1, False),
        (CancelExecution(retry=False), 1, True),
        (CancelExecution(retry=True), 0, False),
        (RateLimitExceeded("r", 1.0), 0, False),
        (RateLimitExceeded("r", 1.0, False), 0, True),
    ],
)
def test_a_run_is_the_last_one_when_the_engine_ends_the_task(error: Exception, retries: int, is_last: bool) -> None:
    huey = MemoryHuey()
    wrapper = huey.task(retry_on=ValueError, name="app.f")(lambda: None)

    assert is_final(huey, wrapper.task_class(retries=retries), error) == is_last


@pytest.mark.parametrize("name", ["task_enqueued", "task_started", "task_finished"])
def test_a_receiver_that_exits_stops_neither_task_nor_worker(huey: Huey, name: str) -> None:
    def leaves(**kwargs: Any) -> None:
        raise SystemExit("no more")

    getattr(signals, name).connect(leaves)
    try:
        with running(huey, workers=1):
            first, second = task(add).enqueue(1, b=2), task(add).enqueue(3, b=4)
            assert (finished(first).status, finished(second).return_value) == (TaskResultStatus.SUCCESSFUL, 7)
    finally:
        getattr(signals, name).disconnect(leaves)

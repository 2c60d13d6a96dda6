"""Section 4 of 3.x: handlers of failures (``error``), and what they get."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from huey import CancelExecution, Huey, RetryTask, chord, group
from huey.exceptions import RateLimitExceeded, TaskException, TaskLockedException
from tests.support.helpers import drain, running, wait_until

MakeHuey = Callable[..., Huey]


class Odd(Exception):
    """It can be pickled, and not be read again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("odd")


def told(ran: list[Any]) -> list[Any]:
    """The errors that handlers were told, as texts."""
    return [(*args[:-1], repr(args[-1])) for args in ran]


@pytest.fixture
def ran() -> list[Any]:
    return []


@pytest.fixture
def handle(huey: Huey, ran: list[Any]) -> Any:
    @huey.task(name="handle")
    def handle(*args: Any) -> str:
        ran.append(args)
        return "handled"

    return handle


def failing(huey: Huey, error: BaseException, **options: Any) -> Any:
    def fail() -> None:
        raise error

    return huey.task(name=f"fail {len(huey.registry)}", **options)(fail)


def test_the_exception_comes_behind_the_arguments_of_the_handler(huey: Huey, ran: list[Any], handle: Any) -> None:
    huey.enqueue(failing(huey, ValueError("no")).s().error(handle, 1, 2))

    drain(huey)

    assert told(ran) == [(1, 2, "ValueError('no')")]
    assert isinstance(ran[0][2], ValueError)


def test_a_task_that_succeeds_drops_its_handler(huey: Huey, ran: list[Any], handle: Any) -> None:
    result = huey.enqueue(huey.task(name="good")(lambda: 1).s().error(handle))

    drain(huey)

    assert (result.get(), ran, huey.pending_count(), huey.result_count()) == (1, [], 0, 0)


def test_a_handler_is_that_of_its_task_alone(huey: Huey, ran: list[Any], handle: Any) -> None:
    fail = failing(huey, ValueError("no"))
    huey.enqueue(huey.task(name="good")(lambda: None).s().error(handle, 1).then(fail))
    drain(huey)
    assert ran == []

    huey.enqueue(fail.s().error(handle, 1).then(fail.s().error(handle, 2)))
    drain(huey)
    assert told(ran) == [(1, "ValueError('no')")]


def test_c41_it_runs_for_each_try_that_failed(huey: Huey, ran: list[Any], handle: Any) -> None:
    huey.enqueue(failing(huey, ValueError("no"), retries=2).s().error(handle.s(1, id="handler")))

    drain(huey)

    assert told(ran) == [(1, "ValueError('no')")] * 3


def test_c41_its_result_is_the_last_ones(huey: Huey, ran: list[Any]) -> None:
    @huey.task(name="count")
    def count(error: Exception) -> int:
        ran.append(1)
        return len(ran)

    huey.enqueue(failing(huey, ValueError("no"), retries=2).s().error(count.s(id="handler")))
    drain(huey)

    assert huey.result("handler") == 3


def test_without_intermediate_errors_the_last_try_is_handled(make_huey: MakeHuey, ran: list[Any]) -> None:
    huey = make_huey(store_intermediate_errors=False)
    handle = huey.task(name="handle")(lambda error: ran.append(repr(error)))
    huey.enqueue(failing(huey, ValueError("no"), retries=2).s().error(handle))

    drain(huey)

    assert ran == ["ValueError('no')"]


def test_it_runs_before_the_next_try(huey: Huey, ran: list[Any], handle: Any) -> None:
    result = huey.enqueue(failing(huey, ValueError("no"), retries=1, retry_delay=3600).s().error(handle))

    drain(huey)

    assert told(ran) == [("ValueError('no')",)]
    assert [task.id for task in huey.scheduled()] == [result.id]


PENDING = [
    (RetryTask(delay=3600), {}),
    (RateLimitExceeded("x", 3600), {}),
    (RateLimitExceeded("x", 3600, retry=False), {"retries": 1}),
    (TaskLockedException("x"), {"retries": 1, "retry_delay": 3600}),
]


@pytest.mark.parametrize(("error", "options"), PENDING)
def test_c40_what_is_no_failure_is_not_handled(huey: Huey, ran: list[Any], handle: Any, error: Exception, options: dict[str, Any]) -> None:
    huey.enqueue(failing(huey, error, **options).s().error(handle))
    drain(huey)
    assert ran == []
    assert huey.scheduled_count() == 1


@pytest.mark.parametrize("error", [RateLimitExceeded("x", 1, retry=False), TaskLockedException("x"), CancelExecution()], ids=repr)
def test_what_is_final_is_handled(huey: Huey, ran: list[Any], handle: Any, error: Exception) -> None:
    huey.enqueue(failing(huey, error).s().error(handle))
    drain(huey)
    assert [type(args[0]) for args in ran] == [type(error)]


def test_a_time_limit_is_handled(huey: Huey, ran: list[Any], handle: Any) -> None:
    @huey.task(name="long", timeout=0.02)
    def long() -> None:
        wait_until(lambda: False)

    with running(huey):
        huey.enqueue(long.s().error(handle))
        wait_until(lambda: ran)
    assert "TaskTimeout" in told(ran)[0][0]


def test_what_is_skipped_is_not_handled(huey: Huey, ran: list[Any], handle: Any) -> None:
    good = huey.task(name="good")(lambda: 1)
    revoked = huey.enqueue(good.s().error(handle))
    revoked.revoke()
    huey.enqueue(good.s(expires=datetime.now(UTC) - timedelta(seconds=1)).error(handle))
    drain(huey)

    @huey.pre_execute()
    def cancel(task: Any) -> None:
        raise CancelExecution

    huey.enqueue(good.s().error(handle))
    drain(huey)
    assert ran == []


def test_a_handler_is_a_task_with_options_of_its_own(huey: Huey, ran: list[Any]) -> None:
    @huey.task(name="note", context=True)
    def note(word: str, error: Exception, task: Any) -> None:
        ran.append((word, task.priority, task.retries, task.timeout))

    huey.enqueue(failing(huey, ValueError("no")).s().error(note, "x", priority=3, retries=2, timeout=9))
    drain(huey)
    assert ran == [("x", 3, 2, 9)]


def test_a_handler_with_a_delay_is_scheduled(huey: Huey, ran: list[Any], handle: Any) -> None:
    huey.enqueue(failing(huey, ValueError("no")).s().error(handle, delay=3600))
    drain(huey)
    assert ran == []
    assert [task.name for task in huey.scheduled()] == ["handle"]


def test_a_handler_has_retries_a_handler_and_a_pipeline(huey: Huey, ran: list[Any], handle: Any) -> None:
    @huey.task(name="bad")
    def bad(error: Exception) -> None:
        ran.append(("bad",))
        raise KeyError("worse")

    huey.enqueue(failing(huey, ValueError("no")).s().error(bad.s(retries=1).error(handle, "of the handler").then(handle, "never")))
    drain(huey)
    assert sorted(args[0] for args in ran) == ["bad", "bad", "of the handler", "of the handler"]

    ran.clear()
    huey.enqueue(failing(huey, ValueError("no"), retries=1).s().error(handle.s("first").then(handle, "then").then(handle, "at last")))
    drain(huey)
    assert sorted(args[0] for args in ran) == ["at last", "at last", "first", "first", "then", "then"]


def test_a_second_handler_covers_the_first(huey: Huey, ran: list[Any], handle: Any) -> None:
    @huey.task(name="bad")
    def bad(error: Exception) -> None:
        raise KeyError("worse")

    huey.enqueue(failing(huey, ValueError("no")).s().error(bad).error(handle))
    drain(huey)
    assert told(ran) == [("KeyError('worse')",)]


def test_c42_an_exception_that_cannot_be_stored_is_told_in_words(huey: Huey, ran: list[Any], handle: Any) -> None:
    class Local(Exception):
        pass

    for error in (Local("here"), Odd(1, 2)):
        ran.clear()
        result = huey.enqueue(failing(huey, error, retries=1).s().error(handle))
        drain(huey)

        assert len(ran) == 2
        assert isinstance(ran[0][0], TaskException)
        assert ran[0][0].metadata["error"] == repr(error)
        assert ran[0][0].metadata["task_id"] == result.id


def test_members_of_groups_and_chords_have_handlers(huey: Huey, ran: list[Any], handle: Any) -> None:
    fail = failing(huey, ValueError("no"))
    huey.enqueue(group([fail.s(), fail.s()]).error(handle, 1))
    drain(huey)
    assert [args[0] for args in ran] == [1, 1]

    ran.clear()
    count = huey.task(name="count")(len)
    result = huey.enqueue(chord([fail.s().error(handle, 2), fail.s()], count))
    drain(huey)
    assert ([args[0] for args in ran], result.get()) == ([2], 2)


def test_the_handler_of_a_chord_is_its_callbacks(huey: Huey, ran: list[Any], handle: Any) -> None:
    bad = huey.task(name="bad")(lambda values: 1 // 0)
    result = huey.enqueue(chord([bad.s([])], bad).error(handle, 3).then(bad).error(handle, 4))
    drain(huey)
    assert [args[0] for args in ran] == [3]
    with pytest.raises(TaskException, match="ZeroDivision"):
        result.get()


def test_a_handler_may_be_of_another_queue(huey: Huey, ran: list[Any]) -> None:
    handle = huey.task(name="handle", queue="mail")(lambda error: ran.append(repr(error)))
    huey.enqueue(failing(huey, ValueError("no")).s().error(handle))
    drain(huey)
    assert (ran, huey.on("mail").pending_count()) == ([], 1)

    drain(huey.on("mail"))
    assert ran == ["ValueError('no')"]


def test_a_handler_that_cannot_take_the_exception_is_refused(huey: Huey) -> None:
    good = huey.task(name="good")(lambda: 1)
    with pytest.raises(TypeError, match="takes 0 arguments"):
        huey.enqueue(good.s().error(good))
    assert huey.pending_count() == 0


def test_a_consumer_runs_handlers(huey: Huey, ran: list[Any], handle: Any) -> None:
    with running(huey, workers=2):
        huey.enqueue(failing(huey, ValueError("no"), retries=1).s().error(handle))
        wait_until(lambda: len(ran) == 2)
    assert told(ran) == [("ValueError('no')",)] * 2

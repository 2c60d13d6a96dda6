"""Section 4 of 3.x: what a stage passes to the next, and what becomes of a pipeline when a stage does not succeed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from huey import CancelExecution, Error, Huey, RetryTask, chord
from huey.exceptions import RateLimitExceeded, ResultTimeout, TaskException, TaskLockedException, TaskTimeout
from tests.support.helpers import drain, running

MakeHuey = Callable[..., Huey]


class Pair(NamedTuple):
    one: int
    two: int


class Named(dict[str, Any]):
    pass


@pytest.fixture
def get(huey: Huey) -> Any:
    """Returns how it was called, without the words that it was given to say which call it is."""
    return huey.task(name="get")(lambda *args, **kwargs: [list(args), kwargs])


# -- the value of a stage -----------------------------------------------------------------------------------------------------------------

VALUES: list[tuple[Any, list[Any], dict[str, Any]]] = [
    (None, [], {}),
    ((), [], {}),
    ({}, [], {}),
    ((1, 2), [1, 2], {}),
    (Pair(1, 2), [1, 2], {}),
    ({"a": 1, "b": 2}, [], {"a": 1, "b": 2}),
    (Named(a=1), [], {"a": 1}),
    ({"delay": 5, "id": "x", "priority": 3}, [], {"delay": 5, "id": "x", "priority": 3}),
    (7, [7], {}),
    ([], [[]], {}),
    ([1, 2], [[1, 2]], {}),
    (0, [0], {}),
    (False, [False], {}),
    ("", [""], {}),
    ("text", ["text"], {}),
]


@pytest.mark.parametrize(("value", "args", "kwargs"), VALUES, ids=repr)
def test_the_value_of_a_stage_is_added_to_the_next(
    value: Any, args: list[Any], kwargs: dict[str, Any], huey: Huey, give: Any, get: Any
) -> None:
    group = huey.enqueue(give.s(value).then(get))

    drain(huey)

    assert group[1] == [args, kwargs]


def test_it_comes_behind_the_given_arguments(huey: Huey, give: Any, get: Any) -> None:
    group = huey.enqueue(give.s((3, 4)).then(get, 1, 2, a=5))
    drain(huey)
    assert group[1] == [[1, 2, 3, 4], {"a": 5}]


def test_keywords_that_were_given_stay(huey: Huey, give: Any, get: Any) -> None:
    group = huey.enqueue(give.s({"a": 1, "b": 2}).then(get, a=5))
    drain(huey)
    assert group[1] == [[], {"a": 5, "b": 2}]


def test_keys_that_are_no_text_make_the_stage_fail(huey: Huey, give: Any, get: Any) -> None:
    group = huey.enqueue(give.s({1: 2}).then(get))
    drain(huey)
    with pytest.raises(TaskException, match="TypeError"):
        group[1]


def test_a_value_that_the_stage_cannot_take_makes_it_fail(huey: Huey, give: Any) -> None:
    one = huey.task(name="one")(lambda only: only)
    group = huey.enqueue(give.s((1, 2)).then(one).then(one))
    drain(huey)

    assert next(iter(group)).get() == (1, 2)
    for handle in list(group)[1:]:
        with pytest.raises(TaskException, match="TypeError"):
            handle.get()


def test_c56_an_error_is_one_argument(huey: Huey, give: Any, get: Any) -> None:
    error = Error({"error": "x"})
    group = huey.enqueue(give.s(error).then(get))
    drain(huey)
    assert group[1] == [[error], {}]


def test_values_pass_though_none_is_stored(make_huey: MakeHuey) -> None:
    huey, ran = make_huey(results=False), []
    one = huey.task(name="one")(lambda: 5)
    two = huey.task(name="two")(ran.append)

    assert huey.enqueue(one.s().then(two)) is None

    drain(huey)
    assert ran == [5]


# -- success ------------------------------------------------------------------------------------------------------------------------------


def test_a_pipeline_gives_a_handle_for_each_stage(huey: Huey, get: Any) -> None:
    add = huey.task(name="add")(lambda a, b: a + b)
    group = huey.enqueue(add.s(1, 2).then(add, 3).then(add, 4))
    assert len(group) == 3

    drain(huey)

    assert group.get() == [3, 6, 10]


def test_later_stages_are_in_no_queue_until_their_turn(huey: Huey, give: Any, get: Any) -> None:
    group = huey.enqueue(give.s(1).then(get).then(get))

    assert (len(huey), huey.pending_count(), huey.scheduled_count()) == (1, 1, 0)
    assert [task.id for task in huey.pending()] == [next(iter(group)).id]

    task = huey.dequeue()
    assert task is not None
    huey.execute(task)
    assert [task.id for task in huey.pending()] == [list(group)[1].id]


def test_a_consumer_runs_a_pipeline(huey: Huey) -> None:
    add = huey.task(name="add")(lambda a, b: a + b)

    with running(huey, workers=2):
        assert huey.enqueue(add.s(1, 2).then(add, 3).then(add, 4)).get(blocking=True, timeout=10) == [3, 6, 10]


def test_a_stage_that_returned_none_has_the_result_none(huey: Huey, give: Any, get: Any) -> None:
    with running(huey):
        assert huey.enqueue(give.s(None).then(get)).get(blocking=True, timeout=10) == [None, [[], {}]]


def test_the_tasks_of_a_pipeline_may_be_of_two_queues(huey: Huey) -> None:
    mail = huey.task(name="mail", queue="mail")(lambda n: n + 1)
    here = huey.task(name="here")(lambda n: n * 10)
    group = huey.enqueue(here.s(1).then(mail).then(here))

    drain(huey)
    assert huey.on("mail").pending_count() == 1
    drain(huey.on("mail"))
    drain(huey)

    assert group.get() == [10, 11, 110]


# -- options ------------------------------------------------------------------------------------------------------------------------------


def test_options_are_each_stages_own(huey: Huey) -> None:
    seen: list[Any] = []

    @huey.task(name="note", context=True)
    def note(task: Any) -> None:
        seen.append((task.priority, task.retries, task.timeout))

    huey.enqueue(note.s(priority=5, retries=2, timeout=9).then(note).then(note, priority=1, retries=3))
    drain(huey)

    assert seen == [(5, 2, 9), (0, 0, None), (1, 3, None)]


def test_a_stage_that_is_reached_too_early_is_scheduled(huey: Huey, give: Any, get: Any) -> None:
    group = huey.enqueue(give.s(1).then(get, delay=3600))

    drain(huey)

    assert [task.id for task in huey.scheduled()] == [list(group)[1].id]
    assert huey.pending_count() == 0


def test_a_delay_that_is_over_by_then_delays_nothing(huey: Huey, give: Any, get: Any) -> None:
    group = huey.enqueue(give.s(1).then(get, eta=datetime.now(UTC) - timedelta(seconds=5)))
    drain(huey)
    assert group[1] == [[1], {}]


def test_a_relative_expiry_counts_from_the_turn_of_the_stage(huey: Huey, give: Any, get: Any) -> None:
    group = huey.enqueue(give.s(1, delay=0.05).then(get, expires=0.02))

    with running(huey):
        assert list(group)[1].get(blocking=True, timeout=10) == [[1], {}]


# -- failure ------------------------------------------------------------------------------------------------------------------------------


def test_the_error_of_a_stage_is_that_of_all_later_ones(huey: Huey, give: Any, fail: Any, get: Any) -> None:
    ran: list[Any] = []
    huey.post_execute()(lambda task, value, error: ran.append(task.name))
    one, two, three, four = huey.enqueue(give.s(1).then(fail).then(get).then(get))

    drain(huey)

    assert one.get() == 1
    for handle in (two, three, four):
        with pytest.raises(TaskException, match="no") as caught:
            handle.get()
        assert caught.value.metadata["error"] == "ValueError('no')"
        assert caught.value.metadata["task_id"] == two.id
        assert set(caught.value.metadata) == {"error", "traceback", "retries", "task_id"}
    assert ran == ["give", "fail"]


def test_a_later_stage_is_ready_and_its_handle_keeps_the_error(huey: Huey, fail: Any, get: Any) -> None:
    _, later = huey.enqueue(fail.s().then(get))
    assert not later.is_ready()
    drain(huey)

    assert later.is_ready()
    for _ in range(2):
        with pytest.raises(TaskException):
            later.get(blocking=True, timeout=10)
    later.reset()
    with pytest.raises(TaskException):
        later()


def test_a_caller_that_waits_for_the_last_stage_gets_the_error(huey: Huey, fail: Any, get: Any) -> None:
    with running(huey), pytest.raises(TaskException, match="no"):
        list(huey.enqueue(fail.s().then(get).then(get)))[-1].get(blocking=True, timeout=10)


def test_a_stage_that_will_be_tried_again_leaves_later_ones_open(huey: Huey, get: Any) -> None:
    ran: list[int] = []

    @huey.task(name="twice", retries=1)
    def twice() -> int:
        ran.append(1)
        if len(ran) == 1:
            raise ValueError("once")
        return 7

    one, two = huey.enqueue(twice.s().then(get))
    task = huey.dequeue()
    assert task is not None
    huey.execute(task)

    with pytest.raises(TaskException):
        one.get()
    assert (two.get(), two.is_ready()) == (None, False)

    one.reset()
    drain(huey)
    assert (one.get(), two.get()) == (7, [[7], {}])


@pytest.mark.parametrize("error", [RetryTask(), CancelExecution(retry=True)], ids=repr)
def test_a_stage_that_asks_for_another_run_goes_on_then(huey: Huey, get: Any, error: Exception) -> None:
    ran: list[int] = []

    @huey.task(name="again")
    def again() -> int:
        ran.append(1)
        if len(ran) == 1:
            raise error
        return 7

    one, two = huey.enqueue(again.s().then(get))
    drain(huey)
    assert (one.get(), two.get()) == (7, [[7], {}])


def test_a_body_that_is_cancelled_has_failed_for_later_stages(huey: Huey, get: Any) -> None:
    @huey.task(name="stop")
    def stop() -> None:
        raise CancelExecution

    one, two = huey.enqueue(stop.s().then(get))
    drain(huey)

    for handle in (one, two):
        with pytest.raises(TaskException, match="CancelExecution"):
            handle.get()


FINAL = [TaskLockedException("held"), RateLimitExceeded("used up", 1, retry=False), TaskTimeout("too long"), CancelExecution("enough")]


@pytest.mark.parametrize("error", FINAL, ids=repr)
def test_whatever_ends_a_stage_for_good_is_a_failure(huey: Huey, get: Any, error: Exception) -> None:
    def end() -> None:
        raise error

    handles = huey.enqueue(huey.task(name="end")(end).s().then(get).then(get))
    drain(huey)

    for handle in handles:
        with pytest.raises(TaskException, match=type(error).__name__):
            handle.get()


def test_a_stage_that_failed_once_and_then_returned_none(huey: Huey, get: Any) -> None:
    ran: list[int] = []
    once = huey.task(name="once", retries=1)(lambda: ran.append(1) or (1 // (len(ran) - 1) and None))
    one, two = huey.enqueue(once.s().then(get))
    drain(huey)

    assert (one.get(), two.get()) == (None, [[], {}])


def test_nothing_is_stored_of_a_failure_without_results(make_huey: MakeHuey) -> None:
    huey = make_huey(results=False)
    fail = huey.task(name="fail")(lambda: 1 / 0)
    huey.enqueue(fail.s(id="one").then(fail, id="two"))
    drain(huey)

    assert huey.result_count() == 0
    assert huey.pending_count() == 0


# -- skipped ------------------------------------------------------------------------------------------------------------------------------


def revoked_by_id(huey: Huey, stage: Any, handle: Any) -> None:
    huey.revoke_by_id(handle.id)


def revoked_by_name(huey: Huey, stage: Any, handle: Any) -> None:
    stage.revoke()


def cancelled_by_a_hook(huey: Huey, stage: Any, handle: Any) -> None:
    @huey.pre_execute()
    def cancel(task: Any) -> None:
        if task.id == handle.id:
            raise CancelExecution


@pytest.mark.parametrize("skip", [revoked_by_id, revoked_by_name, cancelled_by_a_hook])
def test_c49_after_a_skipped_stage_the_handles_stay_open(huey: Huey, give: Any, get: Any, skip: Any) -> None:
    ran: list[Any] = []
    stage = huey.task(name="stage")(ran.append)
    one, two, three = huey.enqueue(give.s(1).then(stage.s().error(stage)).then(get))
    skip(huey, stage, two)

    drain(huey)

    assert one.get() == 1
    for handle in (two, three):
        assert handle.get() is None
        with pytest.raises(ResultTimeout):
            handle.get(blocking=True, timeout=0.05)
    assert ran == []


def test_c49_after_an_expired_stage_the_handles_stay_open(huey: Huey, give: Any, get: Any) -> None:
    group = huey.enqueue(give.s(1).then(get, expires=datetime.now(UTC) - timedelta(seconds=5)).then(get))
    drain(huey)
    assert group.get() == [1, None, None]


def test_a_revoked_later_stage_is_restored(huey: Huey, give: Any, get: Any) -> None:
    one, two = huey.enqueue(give.s(1).then(get))
    two.revoke()
    assert two.is_revoked()

    assert two.restore()
    drain(huey)

    assert (one.get(), two.get()) == (1, [[1], {}])


def test_a_pipeline_behind_a_chord_is_its_callbacks(huey: Huey, give: Any, get: Any) -> None:
    result = huey.enqueue(chord([give.s(1), give.s(2)], get).then(give).then(give))
    drain(huey)
    assert result.pipeline_results.get() == [[[[1, 2]], {}]] * 3

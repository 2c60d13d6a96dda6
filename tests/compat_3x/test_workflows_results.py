"""Section 5 of 3.x: handles of pipelines, groups and chords, and moving one of their tasks to another time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from huey import SKIPPED, Huey, chord, group
from huey.api import ChordResult, Result, ResultGroup
from huey.exceptions import ResultTimeout, TaskException
from tests.support.helpers import drain, running, wait_until

MakeHuey = Callable[..., Huey]


# -- which handle -------------------------------------------------------------------------------------------------------------------------


def test_what_an_enqueue_returns(huey: Huey, double: Any, total: Any) -> None:
    assert isinstance(huey.enqueue(double.s(1)), Result)
    assert isinstance(huey.enqueue(double.s(1).error(total)), Result)
    assert isinstance(huey.enqueue(double.s(1).then(double)), ResultGroup)
    assert isinstance(huey.enqueue(group([double.s(1)])), ResultGroup)
    assert isinstance(huey.enqueue(chord([double.s(1)], total)), ChordResult)


def test_ids_of_the_handles_are_those_of_the_tasks(huey: Huey, double: Any, total: Any) -> None:
    one, two, three = double.s(1), double.s(), total.s()
    assert [handle.id for handle in huey.enqueue(one.then(two))] == [one.id, two.id]

    result = huey.enqueue(chord([double.s(id="m").then(double, id="last"), chord([], total.s(id="i")).then(total, id="j")], three))
    assert [handle.id for handle in result.results] == ["last", "j"]
    assert result.callback.id == three.id


def test_many_tasks_with_links_are_a_group(huey: Huey, double: Any) -> None:
    results = huey.enqueue_many([double.s(1), double.s(2).then(double)])
    drain(huey)
    assert results.get() == [2, [4, 8]]


def test_a_handle_of_any_stage_is_made_of_its_id(huey: Huey, double: Any) -> None:
    huey.enqueue(double.s(1).then(double, id="second"))
    assert huey.result("second") is None
    drain(huey)
    assert huey.result("second") == 4


# -- reading ------------------------------------------------------------------------------------------------------------------------------


def test_a_group_is_waited_for_as_a_whole(huey: Huey, double: Any, total: Any) -> None:
    results = huey.enqueue(group([double.s(1).then(double), chord([double.s(1)], total)]))
    with pytest.raises(ResultTimeout, match="3 of 3 results are missing"):
        results.get(blocking=True, timeout=0.02)
    with running(huey):
        assert results.get(blocking=True, timeout=10) == [[2, 4], [2]]


def test_results_can_be_preserved(huey: Huey, double: Any, total: Any) -> None:
    results = huey.enqueue(group([double.s(1).then(double), chord([double.s(1)], total)]))
    drain(huey)

    assert copy.deepcopy(results).get(preserve=True) == [[2, 4], [2]]
    assert results.get() == [[2, 4], [2]]
    assert huey.enqueue(group([])).get(preserve=True) == []


def test_the_first_failure_is_raised(huey: Huey, double: Any, fail: Any) -> None:
    results = huey.enqueue(group([double.s(1), fail.s().then(double), double.s(2)]))
    drain(huey)

    with pytest.raises(TaskException, match="no"):
        results.get()
    with pytest.raises(TaskException, match="no"):
        list(results.as_completed())
    assert results[2] == 4


def test_an_index_waits(huey: Huey, double: Any) -> None:
    results = huey.enqueue(double.s(1).then(double))
    with running(huey):
        assert (results[-1], results[0]) == (4, 2)


def test_why_a_later_stage_has_no_result(huey: Huey, double: Any) -> None:
    later = list(huey.enqueue(double.s(1).then(double)))[1]
    with pytest.raises(ResultTimeout, match="it waits for the end of other tasks"):
        later.get(blocking=True, timeout=0.02)


def test_a_timeout_may_revoke(huey: Huey, double: Any, total: Any) -> None:
    result = huey.enqueue(chord([double.s(1)], total))
    with pytest.raises(ResultTimeout):
        result.get(blocking=True, timeout=0.02, revoke_on_timeout=True)
    assert result.callback.is_revoked()


def test_a_chord_has_a_text(huey: Huey, double: Any, total: Any) -> None:
    result = huey.enqueue(chord([double.s(1)], total.s(id="it")))
    assert repr(result) == "<ChordResult of 1, callback it>"
    assert repr(result.results) == "<ResultGroup: 1 task>"


# -- rescheduling -------------------------------------------------------------------------------------------------------------------------


def test_a_stage_takes_the_rest_of_its_pipeline_along(huey: Huey, double: Any) -> None:
    first, second, third = huey.enqueue(double.s(1).then(double).then(double))

    moved = first.reschedule(delay=3600)

    assert isinstance(moved, ResultGroup)
    assert [handle.id for handle in moved][1:] == [second.id, third.id]
    new = next(iter(moved))
    assert new.id != first.id
    assert [task.id for task in huey.scheduled()] == [new.id]
    drain(huey)
    assert (first.get(), second.get(), third.get()) == (None, None, None)

    new.reschedule()
    drain(huey)
    assert (second.get(), third.get()) == (4, 8)


def test_a_later_stage_is_moved_where_it_is(huey: Huey, double: Any) -> None:
    first, second, third = huey.enqueue(double.s(1).then(double).then(double))

    moved = second.reschedule()
    assert [handle.id for handle in moved][1:] == [third.id]
    drain(huey)

    assert (first.get(), moved.get()) == (2, [4, 8])


def test_a_stage_that_moved_fails_if_it_is_retried_by_hand(huey: Huey, double: Any) -> None:
    _, second = huey.enqueue(double.s(1).then(double))
    second.reschedule()
    drain(huey)

    assert huey.storage.retry([second.id]) == [second.id]
    drain(huey)

    with pytest.raises(TaskException, match="another task has taken its position in the workflow"):
        second.get()


def test_the_last_stage_moves_alone(huey: Huey, double: Any) -> None:
    _, second = huey.enqueue(double.s(1).then(double))
    moved = second.reschedule()
    assert isinstance(moved, Result)
    drain(huey)
    assert moved.get() == 4


def test_the_pipeline_may_be_left_behind(huey: Huey, double: Any) -> None:
    first, second = huey.enqueue(double.s(1).then(double))
    moved = first.reschedule(preserve_pipeline=False)
    drain(huey)
    assert (moved.get(), second.get()) == (2, None)


def test_a_stage_that_has_ended_begins_the_rest_again(huey: Huey, double: Any) -> None:
    first, second = huey.enqueue(double.s(1).then(double))
    drain(huey)
    assert (first.get(), second.get()) == (2, 4)

    moved = first.reschedule()
    drain(huey)
    assert moved.get() == [2, 4]


def test_c46_a_member_that_moves_tells_once(huey: Huey, double: Any, total: Any) -> None:
    result = huey.enqueue(chord([double.s(1), double.s(2)], total))
    member = next(iter(result.results))

    moved = member.reschedule()
    drain(huey)

    assert result.get() == [2, 4]
    assert (moved.get(), member.get()) == (2, None)


def test_c46_the_callback_waits_for_a_member_that_moved(huey: Huey, double: Any, total: Any) -> None:
    result = huey.enqueue(chord([double.s(1), double.s(2)], total))
    moved = next(iter(result.results)).reschedule(delay=3600)
    drain(huey)
    assert result.get() is None

    again = moved.reschedule()
    drain(huey)
    assert (result.get(), again.get(), moved.get()) == ([2, 4], 2, None)


def test_c46_a_member_that_runs_is_replaced(huey: Huey, double: Any, total: Any) -> None:
    result = huey.enqueue(chord([double.s(1)], total))
    running_one = huey.dequeue()
    assert running_one is not None

    moved = next(iter(result.results)).reschedule()
    huey.execute(running_one)
    assert result.get() is None

    drain(huey)
    assert (moved.get(), result.get()) == (2, [2])


def test_a_member_keeps_its_handler_when_it_moves(huey: Huey, fail: Any) -> None:
    ran: list[Any] = []
    handle = huey.task(name="handle")(lambda error: ran.append(repr(error)))
    huey.enqueue(fail.s().error(handle)).reschedule()
    drain(huey)
    assert ran == ["ValueError('no')"]


def test_a_callback_moves_with_what_it_waits_for(huey: Huey, double: Any, total: Any) -> None:
    result = huey.enqueue(chord([double.s(1), double.s(2)], total).then(double))
    moved = result.callback.reschedule()
    drain(huey)
    assert moved.get() == [[2, 4], [2, 4, 2, 4]]
    assert result.get() is None


def test_a_revoked_member_that_is_restored_takes_part(huey: Huey, double: Any, total: Any) -> None:
    result = huey.enqueue(chord([double.s(1), double.s(2)], total))
    one, two = result.results
    one.revoke()
    two.revoke()
    assert one.restore()
    with running(huey):
        wait_until(lambda: result.get() == [2, SKIPPED])

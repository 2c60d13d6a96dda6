"""Section 6 of 3.x: groups and chords, and what the callback of a chord gets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from huey import SKIPPED, CancelExecution, Error, Huey, RetryTask, chord, group
from huey.api import ChordResult, ResultGroup
from huey.exceptions import ResultTimeout, TaskException
from tests.support.helpers import drain, running, wait_until

MakeHuey = Callable[..., Huey]


@pytest.fixture
def seen(huey: Huey) -> list[Any]:
    return []


@pytest.fixture
def see(huey: Huey, seen: list[Any]) -> Any:
    """A callback that notes the arguments that it got, and returns how many values there were."""

    @huey.task(name="see")
    def see(*args: Any) -> int:
        seen.append(args)
        return len(args[-1])

    return see


def expired() -> datetime:
    return datetime.now(UTC) - timedelta(seconds=5)


# -- groups -------------------------------------------------------------------------------------------------------------------------------


def test_a_group_sends_its_members_in_order(huey: Huey, double: Any) -> None:
    results = huey.enqueue(group([double.s(1), double.s(2), double.s(3)]))

    assert isinstance(results, ResultGroup)
    assert [task.id for task in huey.pending()] == [result.id for result in results]
    drain(huey)
    assert results.get() == [2, 4, 6]


def test_an_empty_group_gives_an_empty_one(huey: Huey) -> None:
    results = huey.enqueue(group([]))

    assert (len(results), results.get(), list(results.as_completed()), huey.pending_count()) == (0, [], [], 0)


def test_the_handles_of_a_group_nest_as_its_members(huey: Huey, give: Any, double: Any) -> None:
    results = huey.enqueue(
        group([
            double.s(1),
            double.s(2).then(double),
            group([double.s(3), double.s(4)]),
            chord([give.s(5), give.s(6)], double),
        ])
    )  # fmt: skip
    assert results.get() == [None, [None, None], [None, None], None]

    drain(huey)

    assert results.get() == [2, [4, 8], [6, 8], [5, 6, 5, 6]]
    assert list(results.as_completed()) == [2, [4, 8], [6, 8], [5, 6, 5, 6]]
    assert isinstance(list(results)[3], ChordResult)
    assert (results[1], results[-1], len(results)) == ([4, 8], [5, 6, 5, 6], 4)


def test_a_consumer_completes_nested_groups(huey: Huey, give: Any, double: Any) -> None:
    results = huey.enqueue(group([double.s(2).then(double), chord([give.s(5)], double), double.s(1)]))
    with running(huey, workers=2):
        assert sorted(map(str, results.as_completed())) == ["2", "[4, 8]", "[5, 5]"]
        assert results.get(blocking=True, timeout=10) == [[4, 8], [5, 5], 2]


def test_a_group_is_enqueued_whole_or_not_at_all(huey: Huey, double: Any, total: Any) -> None:
    with pytest.raises(ValueError, match="cannot be a member"):
        huey.enqueue(group([double.s(1), None, double.s(2)]))
    with pytest.raises(TypeError, match="lacks an argument"):
        huey.enqueue(group([double.s(1), total.s()]))
    assert huey.pending_count() == 0


def test_c44_wrappers_are_no_members(huey: Huey, double: Any) -> None:
    for workflow in (group([double.s(1), double]), chord([double.s(1), double], double)):
        with pytest.raises(ValueError, match=r"<TaskWrapper double> cannot be a member of a (group|chord): give its task, double\.s"):
            huey.enqueue(workflow)
    with pytest.raises(ValueError, match="member 1 of a chord is <group of 1>"):
        huey.enqueue(chord([double.s(1), group([double.s(2)])], double))
    assert (huey.pending_count(), huey.result_count()) == (0, 0)


# -- the values of members ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, (), {}, (1, 2), {"a": 1}, [], 0, "text", [1, [2]]], ids=repr)
@pytest.mark.parametrize("results", [True, False])
def test_a_members_value_is_there_as_it_is(make_huey: MakeHuey, value: Any, results: bool) -> None:
    huey, seen = make_huey(results=results), []
    give = huey.task(name="give")(lambda value: value)
    huey.enqueue(chord([give.s(value), give.s(7)], huey.task(name="see")(seen.append)))

    drain(huey)

    assert seen == [[value, 7]]


def test_the_callback_gets_one_list_behind_its_arguments(huey: Huey, give: Any, seen: list[Any], see: Any) -> None:
    result = huey.enqueue(chord([give.s(n) for n in range(5)], see.s("a", "b")))
    assert result.get() is None
    assert [task.name for task in huey.pending()] == ["give"] * 5

    drain(huey)

    assert seen == [("a", "b", [0, 1, 2, 3, 4])]
    assert (result.get(), result(), result.callback.get()) == (5, 5, 5)
    assert result.results.get() == [0, 1, 2, 3, 4]
    assert result.pipeline_results is None


def test_the_values_come_in_the_order_of_the_members(huey: Huey, give: Any, seen: list[Any], see: Any) -> None:
    huey.enqueue(chord([give.s("last", priority=-5), give.s("middle"), give.s("first", priority=5)], see))
    drain(huey)
    assert seen == [(["last", "middle", "first"],)]


def test_a_list_of_one_is_a_list(huey: Huey, give: Any, seen: list[Any], see: Any) -> None:
    huey.enqueue(chord([give.s(1)], see))
    drain(huey)
    assert seen == [([1],)]


def test_the_callback_of_an_empty_chord_gets_an_empty_list(huey: Huey, seen: list[Any], see: Any) -> None:
    result = huey.enqueue(chord([], see.s(1)).then(see))

    assert huey.pending_count() == 1
    drain(huey)

    assert seen[0] == (1, [])
    assert (len(result.results), result.get()) == (0, 0)


def test_a_failed_member_is_an_error(huey: Huey, give: Any, fail: Any, seen: list[Any], see: Any) -> None:
    result = huey.enqueue(chord([give.s(1), fail.s(), give.s(3)], see))
    drain(huey)

    [([one, error, three],)] = seen
    assert (one, three, result.get()) == (1, 3, 3)
    assert isinstance(error, Error)
    member = list(result.results)[1]
    assert error.metadata["error"] == "ValueError('no')"
    assert "raise ValueError" in error.metadata["traceback"]
    assert (error.metadata["retries"], error.metadata["task_id"]) == (0, member.id)
    with pytest.raises(TaskException, match="no"):
        member.get()


def test_an_error_that_a_body_returns_makes_its_handle_raise(huey: Huey, fail: Any) -> None:
    first = huey.task(name="first")(lambda values: values[0])
    result = huey.enqueue(chord([fail.s()], first))
    drain(huey)
    with pytest.raises(TaskException, match="no"):
        result.get()


@pytest.mark.parametrize("way", ["by id", "by name", "expired", "by a hook"])
def test_a_member_that_did_not_run_is_skipped(huey: Huey, give: Any, seen: list[Any], see: Any, way: str) -> None:
    other = huey.task(name="other")(lambda: 5)
    result = huey.enqueue(chord([give.s(1), other.s(expires=expired() if way == "expired" else None), give.s(3)], see))
    member = list(result.results)[1]
    if way == "by id":
        member.revoke()
    elif way == "by name":
        other.revoke()
    elif way == "by a hook":

        @huey.pre_execute()
        def cancel(task: Any) -> None:
            if task.id == member.id:
                raise CancelExecution

    drain(huey)

    assert seen == [([1, SKIPPED, 3],)]
    assert seen[0][0][1] is SKIPPED
    assert (result.get(), member.get()) == (3, None)
    with pytest.raises(ResultTimeout):
        member.get(blocking=True, timeout=0.05)


def test_a_cancelled_body_is_an_error(huey: Huey, seen: list[Any], see: Any) -> None:
    @huey.task(name="stop")
    def stop() -> None:
        raise CancelExecution

    huey.enqueue(chord([stop.s()], see))
    drain(huey)
    assert isinstance(seen[0][0][0], Error)


def test_a_member_that_will_run_again_is_waited_for(huey: Huey, give: Any, seen: list[Any], see: Any) -> None:
    ran: list[str] = []

    @huey.task(name="again")
    def again(how: str) -> str:
        ran.append(how)
        if ran.count(how) == 1:
            raise RetryTask if how == "asks" else ValueError("no")
        return how

    huey.enqueue(chord([again.s("fails", retries=1), again.s("asks"), give.s(3)], see))
    drain(huey)
    assert seen == [(["fails", "asks", 3],)]


def test_a_member_that_is_not_due_is_waited_for(huey: Huey, give: Any, seen: list[Any], see: Any) -> None:
    huey.enqueue(chord([give.s(1), give.s(2, delay=3600)], see))
    drain(huey)
    assert (seen, huey.scheduled_count()) == ([], 1)

    huey.enqueue(chord([give.s(1), give.s(2, delay=0.1)], see))
    with running(huey):
        wait_until(lambda: seen == [([1, 2],)])


# -- members that are pipelines and chords ------------------------------------------------------------------------------------------------


def test_the_value_of_a_pipeline_is_that_of_its_last_stage(huey: Huey, give: Any, double: Any, seen: list[Any], see: Any) -> None:
    result = huey.enqueue(chord([give.s(1).then(double).then(double), give.s(5)], see))
    drain(huey)
    assert seen == [([4, 5],)]
    assert result.results.get() == [4, 5]


def test_a_broken_pipeline_is_its_error_or_skipped(huey: Huey, give: Any, fail: Any, seen: list[Any], see: Any) -> None:
    result = huey.enqueue(chord([give.s(1).then(fail).then(give), give.s(2).then(give, expires=expired()).then(give)], see))
    drain(huey)

    [([error, skipped],)] = seen
    assert (error.metadata["error"], skipped) == ("ValueError('no')", SKIPPED)
    with pytest.raises(TaskException):
        list(result.results)[0].get()  # noqa: RUF015
    assert list(result.results)[1].get() is None


def test_a_chord_in_a_chord_gives_what_its_callback_comes_to(huey: Huey, give: Any, double: Any, seen: list[Any], see: Any) -> None:
    inner = chord([give.s(1), give.s(2)], double).then(double)
    result = huey.enqueue(chord([give.s(0), inner, chord([], see)], see))
    drain(huey)

    assert seen == [([],), ([0, [1, 2] * 4, 0],)]
    assert result.results.get() == [0, [1, 2] * 4, 0]


def test_failures_in_an_inner_chord_are_seen_by_its_callback(huey: Huey, fail: Any, seen: list[Any], see: Any) -> None:
    huey.enqueue(chord([chord([fail.s()], see), chord([fail.s()], fail), chord([fail.s()], see.s(expires=expired()))], see))
    drain(huey)

    assert len(seen[0][0]) == 1
    one, two, three = seen[-1][0]
    assert (one, two.metadata["error"], three) == (1, "ValueError('no')", SKIPPED)


def test_chords_nest_six_deep(huey: Huey, give: Any, seen: list[Any]) -> None:
    add = huey.task(name="add")(sum)
    tree: Any = give.s(1)
    for _ in range(6):
        tree = chord([tree, give.s(1).then(give), give.s(1)], add)
    result = huey.enqueue(tree)
    drain(huey)
    assert result.get() == 13


# -- the callback -------------------------------------------------------------------------------------------------------------------------


def test_the_callback_retries_with_the_same_list(huey: Huey, give: Any) -> None:
    seen: list[Any] = []

    @huey.task(name="twice", retries=1)
    def twice(values: list[int]) -> int:
        seen.append(list(values))
        values.clear()
        return 1 // (len(seen) - 1)

    result = huey.enqueue(chord([give.s(1), give.s(2)], twice))
    drain(huey)
    assert (seen, result.get()) == ([[1, 2], [1, 2]], 1)


def test_a_callback_has_options_and_a_pipeline_of_its_own(huey: Huey, give: Any, double: Any) -> None:
    seen: list[Any] = []

    @huey.task(name="note", context=True)
    def note(values: list[int], task: Any) -> int:
        seen.append((values, task.priority, task.retries))
        return sum(values)

    result = huey.enqueue(chord([give.s(1), give.s(2)], note.s(priority=4, retries=2)).then(double).then(double))
    drain(huey)

    assert seen == [([1, 2], 4, 2)]
    assert (result.get(), result.pipeline_results.get()) == (3, [3, 6, 12])


def test_a_callback_with_a_delay_is_scheduled(huey: Huey, give: Any, see: Any) -> None:
    result = huey.enqueue(chord([give.s(1)], see.s(delay=3600)))
    drain(huey)
    assert [task.id for task in huey.scheduled()] == [result.callback.id]


def test_a_callback_that_fails(huey: Huey, give: Any, fail: Any, see: Any) -> None:
    result = huey.enqueue(chord([give.s(1)], fail).then(see))
    drain(huey)
    assert result.pipeline_results is not None
    for handle in (result, *result.pipeline_results):
        with pytest.raises(TaskException, match="no"):
            handle.get()
    result.reset()
    assert list(result.results)[0].get() == 1  # noqa: RUF015


def test_a_revoked_callback_cancels_the_chord(huey: Huey, give: Any, seen: list[Any], see: Any) -> None:
    result = huey.enqueue(chord([give.s(1)], see).then(see))
    result.callback.revoke()
    drain(huey)

    assert seen == []
    assert result.results.get() == [1]
    assert [result.get(), *result.pipeline_results.get()] == [None, None, None]
    with pytest.raises(ResultTimeout):
        result.get(blocking=True, timeout=0.05)


@pytest.mark.parametrize("way", ["expired", "by a hook"])
def test_a_callback_that_did_not_run_leaves_its_handles_open(huey: Huey, give: Any, seen: list[Any], see: Any, way: str) -> None:
    callback = see.s(expires=expired() if way == "expired" else None)
    result = huey.enqueue(chord([give.s(1)], callback).then(see).error(see))
    if way == "by a hook":

        @huey.pre_execute()
        def cancel(task: Any) -> None:
            if task.id == callback.id:
                raise CancelExecution

    drain(huey)

    assert (seen, result.results.get()) == ([], [1])
    assert [result.get(), *result.pipeline_results.get()] == [None, None, None]


def test_each_stage_of_a_member_has_its_own_result(huey: Huey, give: Any, double: Any, see: Any) -> None:
    result = huey.enqueue(chord([give.s(1, id="first").then(double, id="second"), chord([give.s(3, id="inner")], double)], see))
    drain(huey)

    assert [huey.result(id) for id in ("first", "second", "inner")] == [1, 2, 3]
    assert (result.get(), list(result.results)[1].get()) == (2, [3, 3])


def test_what_a_chord_remembers_is_gone_at_its_end(huey: Huey, give: Any, see: Any) -> None:
    result = huey.enqueue(chord([give.s(1), give.s(2)], see))
    drain(huey)
    assert (result.results.get(), result.get()) == ([1, 2], 2)
    assert (huey.all_results(), huey.result_count(), len(huey)) == ({}, 0, 0)


def test_c57_a_chord_without_a_result_store(make_huey: MakeHuey) -> None:
    huey, seen = make_huey(results=False), []
    give = huey.task(name="give")(lambda value: value)
    result = huey.enqueue(chord([give.s(1)], huey.task(name="see")(seen.append)))
    assert huey.enqueue(group([give.s(1)])) is None
    drain(huey)

    assert (seen, result.get()) == ([[1]], None)
    assert isinstance(result, ChordResult)


def test_a_consumer_runs_chords_of_many(huey: Huey, give: Any, seen: list[Any], see: Any) -> None:
    with running(huey, workers=4):
        result = huey.enqueue(chord([give.s(n) for n in range(300)], see))
        assert result.get(blocking=True, timeout=15) == 300
    assert seen == [(list(range(300)),)]

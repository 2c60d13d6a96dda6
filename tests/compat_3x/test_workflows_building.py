"""Sections 4 and 6 of 3.x: how pipelines, groups and chords are built. None of it touches a storage."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import huey.api
from huey import SKIPPED, Error, MemoryHuey, chord, group
from huey.api import ChordResult, ResultGroup, Task


@pytest.fixture
def app() -> MemoryHuey:
    return MemoryHuey("building")


@pytest.fixture
def add(app: MemoryHuey) -> Any:
    return app.task(name="add")(lambda a, b=0, *more, **named: (a, b, more, named))


def ids(first: Task) -> list[str]:
    """Of a pipeline, in order."""
    found, task = [first.id], first.on_complete
    while task is not None:
        found.append(task.id)
        task = task.on_complete
    return found


def test_the_names_are_where_3_x_has_them() -> None:
    assert huey.api.group is group
    assert huey.api.chord is chord
    assert (ChordResult.__name__, ResultGroup.__name__) == ("ChordResult", "ResultGroup")


# -- pipelines ----------------------------------------------------------------------------------------------------------------------------


def test_then_returns_the_first_task_and_appends_at_the_end(add: Any) -> None:
    first, second, third = add.s(1, id="one"), add.s(2, id="two"), add.s(3, id="three")

    assert first.then(second) is first
    assert first.then(third) is first

    assert ids(first) == ["one", "two", "three"]
    assert third.on_complete is None


def test_then_of_a_function_makes_its_task_with_options(add: Any) -> None:
    first = add.s(1).then(add, 5, named=2, id="second", priority=7)

    second = first.on_complete
    assert (second.args, second.kwargs, second.id, second.priority) == ((5,), {"named": 2}, "second", 7)


def test_then_of_a_task_adds_to_its_arguments(add: Any) -> None:
    second = add.s(5, named=2)

    add.s(1).then(second, 6, named=3, id="a keyword")

    assert (second.args, second.kwargs) == ((5, 6), {"named": 2, "id": "a keyword"})


def test_then_of_a_pipeline_appends_all_of_it(add: Any) -> None:
    later = add.s(3, id="three").then(add, id="four")

    first = add.s(1, id="one").then(add, id="two").then(later).then(add, id="five")

    assert ids(first) == ["one", "two", "three", "four", "five"]


def test_all_ids_exist_before_anything_is_enqueued(add: Any) -> None:
    assert len(set(ids(add.s(1).then(add).then(add)))) == 3


def test_a_pipeline_may_have_ten_thousand_stages(add: Any) -> None:
    first = add.s(1)
    for _ in range(9_999):
        first.then(add)

    assert len(ids(first)) == 10_000


def test_a_pipeline_that_is_a_ring_is_refused(add: Any) -> None:
    one, two = add.s(1), add.s(2)
    one.then(two)

    for first, stage in ((one, one), (one, two), (two, one), (two, two)):
        with pytest.raises(ValueError, match="loop"):
            first.then(stage)
    assert ids(one) == [one.id, two.id]


def test_a_handler_that_handles_itself_is_refused(add: Any) -> None:
    one, two = add.s(1), add.s(2)
    one.error(two)

    with pytest.raises(ValueError, match="for ever"):
        two.error(one)
    with pytest.raises(ValueError, match="for ever"):
        one.error(one)


def test_a_second_handler_is_one_of_the_first_handler(add: Any) -> None:
    task = add.s(1).error(add, id="handler").error(add, id="handler of the handler")

    assert (task.on_error.id, task.on_error.on_error.id) == ("handler", "handler of the handler")


def test_a_task_may_be_given_what_follows_it(add: Any) -> None:
    after, handler = add.s(2), add.s(3)

    task = Task((1,), on_complete=after, on_error=handler)

    assert (task.on_complete, task.on_error) == (after, handler)


@pytest.mark.parametrize("verb", ["then", "error"])
@pytest.mark.parametrize("thing", [group([]), chord([], MemoryHuey().task(name="x")(lambda x: x)), None, 5, print])
def test_what_is_no_task_can_be_no_stage(add: Any, verb: str, thing: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot be a (stage|handler)"):
        getattr(add.s(1), verb)(thing)


def test_a_function_says_where_a_pipeline_begins(add: Any) -> None:
    with pytest.raises(AttributeError, match=r"'add' has no attribute 'then': a pipeline begins with a task, f.s\(1, 2\).then\(g\)"):
        add.then(add)
    with pytest.raises(AttributeError, match=r"huey\.signal"):
        add.error(add)


def test_a_task_may_lack_what_the_one_before_it_passes(app: MemoryHuey) -> None:
    both = app.task(name="both")(lambda a, b: a + b)

    assert both.s(1).args == (1,)
    assert both.s(b=1).kwargs == {"b": 1}
    with pytest.raises(TypeError, match="takes 2 arguments"):
        both.s(1, 2, 3)
    with pytest.raises(TypeError, match="has no parameter 'c'"):
        both.s(c=3)
    with pytest.raises(TypeError, match="lacks an argument: b"):
        app.enqueue(both.s(1))
    with pytest.raises(TypeError, match="lacks an argument: b"):
        app.enqueue(both.s(1).then(both, 2))
    assert len(app) == 0


# -- groups and chords --------------------------------------------------------------------------------------------------------------------


def test_any_iterable_of_tasks_is_a_group_and_a_chord(add: Any) -> None:
    assert [task.args for task in group(add.s(n) for n in range(3)).tasks] == [(0,), (1,), (2,)]
    assert len(chord((add.s(n) for n in range(3)), add).tasks) == 3


def test_then_of_a_group_is_a_chord(add: Any) -> None:
    members, callback = [add.s(1), add.s(2)], add.s(5)

    of_function, of_task = group(members).then(add, 7, priority=3), group(members).then(callback, 6, named=1)

    assert isinstance(of_function, chord)
    assert (of_function.tasks, of_function.callback.args, of_function.callback.priority) == (members, (7,), 3)
    assert of_task.callback is callback
    assert (callback.args, callback.kwargs) == ((5, 6), {"named": 1})


def test_error_of_a_group_gives_each_member_its_handler(add: Any) -> None:
    tasks = [add.s(1), add.s(2).then(add)]
    assert group(tasks).error(add, 9).tasks == tasks
    handlers = [task.on_error for task in tasks]
    assert [handler.args for handler in handlers] == [(9,), (9,)]
    assert handlers[0].id != handlers[1].id

    shared, others = add.s(3), [add.s(1), add.s(2)]
    group(others).error(shared, 4)

    assert [task.on_error for task in others] == [shared, shared]
    assert shared.args == (3, 4)


def test_then_and_error_of_a_chord_are_those_of_its_callback(add: Any) -> None:
    it = chord([add.s(1)], add.s(id="callback"))

    assert it.then(add, id="after").error(add, id="handler") is it

    assert ids(it.callback) == ["callback", "after"]
    assert it.callback.on_error is not None
    assert it.callback.on_complete is not None
    assert (it.callback.on_error.id, it.callback.on_complete.on_error) == ("handler", None)


# -- values -------------------------------------------------------------------------------------------------------------------------------


def test_skipped_is_one_object_that_is_true() -> None:
    assert repr(SKIPPED) == "SKIPPED"
    assert SKIPPED
    assert pickle.loads(pickle.dumps(SKIPPED)) is SKIPPED


def test_an_error_has_the_metadata_of_the_failure() -> None:
    error = Error({"error": "ValueError()", "task_id": "x"})

    assert error.metadata["task_id"] == "x"
    assert pickle.loads(pickle.dumps(error)) == error


# -- size ---------------------------------------------------------------------------------------------------------------------------------


def test_a_chord_has_up_to_10_000_members(app: MemoryHuey, add: Any) -> None:
    members = [add.s(n) for n in range(10_001)]

    app.enqueue(chord(members[:10_000], add.s()))
    with pytest.raises(ValueError, match=r"a workflow of 10001 tasks: at most 10000 .* together"):
        app.enqueue(chord(members, add.s()))

    assert app.inspector.counts().ready == 10_000

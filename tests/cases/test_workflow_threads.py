"""What users of other queues report about groups and chords, tried here: each test has the number of the thread that it is from.

The threads are of celery/celery and taskforcesh/bullmq. Where a shape cannot be written here, the nearest one stands for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from huey import Error, Huey, chord, group
from huey.exceptions import TaskException
from huey.testing.clock import FakeClock
from tests.support.helpers import drain, running, wait_until

MakeHuey = Callable[..., Huey]
MONTH = 31 * 86400.0


@pytest.fixture
def ran() -> list[Any]:
    """What ran, in order."""
    return []


@pytest.fixture
def add(huey: Huey) -> Any:
    return huey.task(name="add")(lambda *numbers: sum(numbers))


@pytest.fixture
def total(huey: Huey) -> Any:
    return huey.task(name="total")(lambda numbers: sum(numbers))


@pytest.fixture
def note(huey: Huey, ran: list[Any]) -> Any:
    """Notes its first argument and returns it; it takes any others."""

    @huey.task(name="note")
    def note(word: Any, *values: Any) -> Any:
        ran.append(word)
        return word

    return note


@pytest.fixture
def fail(huey: Huey, ran: list[Any]) -> Any:
    @huey.task(name="fail")
    def fail(*values: Any) -> None:
        ran.append("fail")
        raise ValueError("no")

    return fail


@pytest.fixture
def shown(huey: Huey, ran: list[Any]) -> Any:
    """A callback: the values that it got, with the text of each error."""

    @huey.task(name="shown")
    def shown(values: list[Any]) -> list[Any]:
        ran.append("shown")
        return [value.metadata["error"] if isinstance(value, Error) else value for value in values]

    return shown


def finished(huey: Huey, workflow: Any) -> Any:
    """The value of a workflow that a consumer ran. Nothing may be left of it that waits or runs."""
    with running(huey, workers=3):
        value = huey.enqueue(workflow).get(blocking=True, timeout=20)
        wait_until(lambda: is_quiet(huey), "nothing is left")
    return value


def is_quiet(huey: Huey) -> bool:
    counts = huey.storage.counts()
    return counts.ready == counts.scheduled == counts.running == counts.blocked == counts.waiting == 0


# -- nested -------------------------------------------------------------------------------------------------------------------------------


def test_the_outer_callback_of_nested_chords_runs(huey: Huey, ran: list[Any], note: Any) -> None:
    """celery #4681: a chord whose only member is a chord, behind another task, never completes."""
    inner = group([note.s(1).then(note, 2), note.s(3)]).then(note, 4)

    assert finished(huey, group([inner]).then(note, 5)) == 5
    assert (sorted(ran[:3]), ran[3:]) == ([1, 2, 3], [4, 5])


@pytest.mark.parametrize("spelling", ["chord", "then"])
def test_chords_of_chords_complete_in_either_spelling(huey: Huey, add: Any, total: Any, spelling: str) -> None:
    """celery #4401: the outer callback never runs; #2922: it does if the chords are made in another way."""

    def joined(*members: Any) -> Any:
        return chord(members, total) if spelling == "chord" else group(members).then(total)

    outer = joined(joined(add.s(1, 2), add.s(4, 5)), joined(add.s(6, 7), add.s(8, 10)))

    assert finished(huey, outer) == 43


def test_each_callback_of_three_levels_runs(huey: Huey, ran: list[Any], note: Any) -> None:
    """celery #3323: of three chords inside one another the callback in the middle is left out."""
    assert finished(huey, chord([chord([chord([note.s("task")], note.s("A"))], note.s("B"))], note.s("D"))) == "D"
    assert ran == ["task", "A", "B", "D"]


def test_an_inner_chord_of_one_member_gets_a_list(huey: Huey, add: Any, total: Any) -> None:
    """celery #3885: chords that were made of however many tasks there are break when that is one."""
    assert finished(huey, chord([chord([add.s(1), add.s(2)], total), chord([add.s(4)], total)], total)) == 7


def test_a_group_of_groups_and_pipelines_gives_all_values(huey: Huey, add: Any, total: Any) -> None:
    """celery #2573: waiting for a group with a group and a pipeline in it never ends."""
    assert finished(huey, group([group([add.s(16, 16), add.s(32, 32)]), add.s(2, 2).then(add, 4)])) == [[32, 64], [4, 8]]
    assert finished(huey, group([group([add.s(16, 16), add.s(32, 32)]).then(total), add.s(2, 2).then(add, 4)])) == [96, [4, 8]]


def test_no_callback_of_nested_chords_runs_twice(huey: Huey, ran: list[Any], note: Any) -> None:
    """celery #3538: with two members each the callbacks run twice, and too early; with three the workflow hangs."""

    def nested(name: str, depth: int) -> Any:
        if depth == 3:
            return note.s(name)
        return group([nested(f"{name}{n}", depth + 1) for n in ("1", "2", "3")]).then(note, f"{name}_")

    assert finished(huey, nested("", 0).then(note, "#").then(note, "$")) == "_"
    assert set(Counter(ran).values()) == {1}
    assert len(ran) == 27 + 9 + 3 + 1 + 2
    assert ran[-3:] == ["_", "#", "$"]
    for place, name in enumerate(ran):
        if name.endswith("_"):
            assert {f"{name[:-1]}{n}" for n in "123"} <= {it.rstrip("_") for it in ran[:place]}


def test_what_follows_a_chord_runs_once(huey: Huey, ran: list[Any], note: Any) -> None:
    """celery #3771: what was chained to a chord ran behind each of its members too; #5947: twice, with pipelines as members."""
    members = [note.s(f"a{n}").then(note, f"b{n}") for n in range(2)]

    finished(huey, chord(members, note.s("callback")).then(note, "next"))

    assert sorted(ran) == ["a0", "a1", "b0", "b1", "callback", "next"]


# -- members that fail --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stages", ["fail", "fail, next", "first, fail, next"])
def test_a_broken_pipeline_does_not_hold_its_chord(huey: Huey, ran: list[Any], note: Any, fail: Any, shown: Any, stages: str) -> None:
    """celery #9674, #6029: a member that fails inside a chain makes the chord ask for ever whether it is ready."""
    tasks = [fail.s() if name == "fail" else note.s(name) for name in stages.split(", ")]
    for task in tasks[1:]:
        tasks[0].then(task)
    inner = chord([note.s("good"), fail.s().then(note, "never")], shown)

    value = finished(huey, chord([tasks[0], inner], shown))

    assert value == ["ValueError('no')", ["good", "ValueError('no')"]]
    assert "next" not in ran
    assert "never" not in ran
    assert (ran.count("fail"), ran.count("shown")) == (2, 2)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_the_callback_runs_whichever_member_fails(huey: Huey, add: Any, fail: Any, shown: Any, position: int) -> None:
    """bullmq #3362, #3122, #800: the parent waits for ever if a child fails; #1333: if the last one does. celery #1881 asks for a callback
    that runs all the same."""
    members = [fail.s() if n == position else add.s(n) for n in range(3)]

    assert finished(huey, chord(members, shown)) == ["ValueError('no')" if n == position else n for n in range(3)]


def test_the_callback_waits_for_a_member_that_is_retried(huey: Huey, ran: list[Any], shown: Any) -> None:
    """celery #2324, #2405: the callback is called while a member waits for its next try."""

    @huey.task(name="flaky", retries=2, retry_delay=0.1, include_task=True)
    def flaky(task: Any) -> str:
        ran.append(task.attempt)
        if task.attempt < 2:
            raise ValueError("not yet")
        return "at last"

    assert finished(huey, chord([flaky.s()], shown)) == ["at last"]
    assert ran == [0, 1, 2, "shown"]


def test_a_failed_inner_callback_is_a_failed_member(huey: Huey, add: Any, shown: Any) -> None:
    """bullmq #3235: the middle of a flow fails with its leaf; the top is to run all the same, and waits though nothing is left."""

    @huey.task(name="middle")
    def middle(values: list[Any]) -> Any:
        if any(isinstance(value, Error) for value in values):
            raise ValueError("a leaf failed")
        return values

    leaf = huey.task(name="leaf")(lambda divisor: 1 // divisor)

    assert finished(huey, chord([chord([leaf.s(0)], middle), chord([leaf.s(1)], middle)], shown)) == ["ValueError('a leaf failed')", [1]]


def test_a_failure_in_an_inner_chord_is_handled_once(huey: Huey, ran: list[Any], add: Any, fail: Any, shown: Any) -> None:
    """celery #9107: of a chord in a chord no handler of errors is called; #3317: nor is it for a chain that is a member."""
    handle = huey.task(name="handle")(lambda of, error: ran.append((of, str(error))))
    inner = group([fail.s(), add.s(1)]).error(handle, "inner").then(shown)
    outer = group([inner, fail.s().error(handle, "outer").then(add)]).then(shown)

    finished(huey, outer)

    assert sorted(it for it in ran if isinstance(it, tuple)) == [("inner", "no"), ("outer", "no")]


# -- members that are removed -------------------------------------------------------------------------------------------------------------


def test_a_failed_member_may_be_removed_before_the_others_end(huey: Huey, add: Any, fail: Any, shown: Any) -> None:
    """bullmq #1752: a failed child is removed, and its parent waits for ever."""
    bad, late = fail.s(), add.s(2, delay=0.3)
    result = huey.enqueue(chord([bad, late], shown))
    with running(huey):
        wait_until(lambda: huey.storage.counts().failed == 1, "it has failed")

        assert huey.inspector.discard(bad.id) == [bad.id]

        assert result.get(blocking=True, timeout=20) == ["ValueError('no')", 2]


def test_nothing_is_left_of_a_pipeline_that_failed(make_huey: MakeHuey) -> None:
    """bullmq #3587: parents of children that failed stay in the state of waiting, and nothing removes them."""
    clock = FakeClock()
    huey = make_huey(clock=clock)
    fail, after = huey.task(name="fail")(lambda: 1 // 0), huey.task(name="after")(lambda: None)
    results = huey.enqueue(fail.s().then(after).then(after))

    drain(huey)

    assert huey.storage.counts()[:5] == (0, 0, 0, 1, 2)
    assert huey.storage.counts().waiting == 0
    with pytest.raises(TaskException, match="ZeroDivisionError"):
        list(results)[2].get()
    clock.forward(MONTH)
    while huey.storage.prune():
        continue
    assert (huey.storage.find(), huey.storage.edges([it.id for it in results])) == ([], [])

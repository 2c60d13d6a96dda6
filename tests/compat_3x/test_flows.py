"""Flows: graphs of tasks in which a task that is an argument of another is an edge."""

from __future__ import annotations

from typing import Any

import pytest

from huey import SKIPPED, Error, Huey, MemoryHuey
from huey.exceptions import ResultTimeout, TaskException
from tests.support.helpers import drain, running


@pytest.fixture
def give(huey: Huey) -> Any:
    return huey.task(name="give")(lambda *values, **named: named or (values[0] if len(values) == 1 else list(values)))


def states(result: Any) -> list[str]:
    return [member.state for member in result.status().members]


# -- values -------------------------------------------------------------------------------------------------------------------------------


def test_a_value_arrives_in_the_place_of_its_task(huey: Huey, give: Any) -> None:
    flow = huey.flow("values")
    one, two = flow.add(give.s(1)), flow.add(give.s((2, 3)))
    flow.add(give.s(two, [one, "x", two], key=one, other=None))

    result = flow.enqueue()
    drain(huey)

    assert result.get() == {"key": 1, "other": None}
    flow = huey.flow("positions")
    flow.add(give.s(give.s(1), [give.s(2), "x", give.s(None)], "last"))
    result = flow.enqueue()
    drain(huey)
    assert result.get() == [1, [2, "x", None], "last"]


def test_a_diamond_runs_each_member_once(huey: Huey) -> None:
    ran: list[str] = []

    @huey.task(name="note")
    def note(name: str, *values: str) -> str:
        ran.append(name)
        return name + "".join(values)

    flow = huey.flow("diamond")
    top = flow.add(note.s("a"))
    left, right = flow.add(note.s("b", top)), flow.add(note.s("c", top))
    flow.add(note.s("d", left, right))

    result = flow.enqueue()
    drain(huey)

    assert result.get() == "dbaca"
    assert sorted(ran) == ["a", "b", "c", "d"]


def test_a_thousand_members_join_in_one(huey: Huey, give: Any) -> None:
    total = huey.task(name="total")(sum)
    flow = huey.flow("wide")
    flow.add(total.s([give.s(number) for number in range(1000)]))

    result = flow.enqueue()
    drain(huey)

    assert result.get() == 499_500


def test_after_orders_without_a_value(huey: Huey, give: Any) -> None:
    flow = huey.flow("order")
    first = flow.add(give.s(1))
    flow.add(give.s("alone"), after=[first])

    result = flow.enqueue()

    assert states(result) == ["queued", "waiting"]
    drain(huey)
    assert result.get() == "alone"


def test_several_last_members_give_a_list_in_order(huey: Huey, give: Any) -> None:
    flow = huey.flow("two ends")
    one = flow.add(give.s(1))
    flow.add(give.s(one, 2))
    flow.add(give.s(one, 3))

    result = flow.enqueue()
    drain(huey)

    assert result.get() == [[1, 2], [1, 3]]


# -- run_if -------------------------------------------------------------------------------------------------------------------------------


def test_a_failure_cancels_what_needs_success(huey: Huey, give: Any, fail: Any) -> None:
    flow = huey.flow("fails")
    flow.add(give.s(give.s(fail.s(), give.s(1))))

    result = flow.enqueue()
    drain(huey)

    assert sorted(states(result)) == ["cancelled", "cancelled", "failed", "succeeded"]
    assert result.status().state == "failed"
    with pytest.raises(TaskException, match="no"):
        result.get(blocking=True, timeout=5)


def test_always_gets_the_error_or_that_it_was_skipped(huey: Huey, give: Any, fail: Any) -> None:
    got: list[Any] = []

    @huey.task(name="look")
    def look(*values: Any) -> int:
        got.extend(values)
        return len(values)

    flow = huey.flow("always")
    bad = flow.add(fail.s())
    flow.add(look.s(give.s(1), bad, give.s(bad)), run_if="always")

    result = flow.enqueue()
    drain(huey)

    assert result.get() == 3
    assert got[0] == 1
    assert isinstance(got[1], Error)
    assert isinstance(got[2], Error) or got[2] is SKIPPED


@pytest.mark.parametrize("is_failing", [False, True])
def test_a_handler_runs_only_if_a_parent_failed(huey: Huey, give: Any, fail: Any, is_failing: bool) -> None:
    cleaned: list[Any] = []
    clean = huey.task(name="clean")(cleaned.append)
    flow = huey.flow("handler")
    first = flow.add(fail.s() if is_failing else give.s(1))
    flow.add(clean.s(first), run_if="failure")
    flow.add(give.s(first))

    result = flow.enqueue()
    drain(huey)

    assert len(cleaned) == is_failing
    assert states(result) == (["failed", "succeeded", "cancelled"] if is_failing else ["succeeded", "cancelled", "succeeded"])
    assert result.status().state == ("failed" if is_failing else "succeeded")
    if not is_failing:
        assert result.get() == 1


# -- the handle ---------------------------------------------------------------------------------------------------------------------------


def test_a_flow_is_cancelled_all_the_way_down(huey: Huey, give: Any) -> None:
    flow = huey.flow("cancelled")
    flow.add(give.s(give.s(give.s(1))))
    result = flow.enqueue()

    result.cancel()
    drain(huey)

    assert states(result) == ["cancelled"] * 3
    assert result.status().state == "cancelled"
    with pytest.raises(ResultTimeout):
        result.result(timeout=0)


def test_a_retried_flow_keeps_what_succeeded(huey: Huey, give: Any) -> None:
    ran: list[str] = []
    broken = [True]

    @huey.task(name="step")
    def step(name: str, *values: Any) -> str:
        ran.append(name)
        if name == "b" and broken[0]:
            raise ValueError("not yet")
        return name + "".join(values)

    flow = huey.flow("retried")
    first = flow.add(step.s("a"))
    flow.add(step.s("d", flow.add(step.s("b", first)), flow.add(step.s("c", first))))
    result = flow.enqueue()
    drain(huey)
    assert result.status().state == "failed"
    broken[0] = False

    assert len(result.retry()) == 1
    drain(huey)

    assert result.result(timeout=5) == "dbaca"
    assert sorted(ran) == ["a", "b", "b", "c", "d"]


def test_the_inspector_shows_a_flow(huey: Huey, give: Any) -> None:
    flow = huey.flow("shown")
    first = flow.add(give.s(1))
    flow.add(give.s(first))
    result = flow.enqueue()

    info = huey.inspector.flow(result.id)

    assert info is not None
    assert (info.name, info.state, info.edges) == ("shown", "running", ((first.id, flow.tasks[1].id),))
    assert info.members[1].waits_for == (first.id,)
    assert f"give {flow.tasks[1].id}: waiting, waits for give {first.id}, since" in result.explain()
    assert info.mermaid() == 'flowchart TD\n  m0["give<br>queued"]\n  m1["give<br>waiting"]\n  m0 --> m1'
    assert huey.inspector.flow("other") is None


def test_a_consumer_runs_a_flow_over_two_queues(huey: Huey, give: Any) -> None:
    away = huey.task(name="away", queue="away")(lambda value: value * 2)
    flow = huey.flow("across")
    flow.add(give.s(away.s(give.s(21))))

    with running(huey), running(huey.on("away")):
        assert flow.enqueue().result(timeout=20) == 42


# -- members that add members -------------------------------------------------------------------------------------------------------------


def test_members_add_members_at_three_levels(huey: Huey) -> None:
    ran: list[int] = []

    @huey.task(name="split")
    def split(level: int) -> int:
        ran.append(level)
        if level:
            for _ in range(2):
                huey.current_flow().add(split.s(huey.current_flow().add(next_level.s(level))))
        return level

    @huey.task(name="next")
    def next_level(level: int) -> int:
        return level - 1

    flow = huey.flow("deep")
    flow.add(split.s(3))
    result = flow.enqueue()
    drain(huey)

    assert sorted(ran) == sorted([3] + [2] * 2 + [1] * 4 + [0] * 8)
    info = result.status()
    assert (info.state, len(info.members), len(info.edges)) == ("succeeded", 15 + 14, 14)


def test_a_run_that_fails_adds_nothing(huey: Huey, give: Any) -> None:
    tries: list[int] = []

    @huey.task(name="adder", retries=1)
    def adder() -> str:
        huey.current_flow().add(give.s(1))
        tries.append(1)
        if len(tries) < 2:
            raise ValueError("once")
        return "done"

    flow = huey.flow("retried adder")
    flow.add(adder.s())
    result = flow.enqueue()
    drain(huey)

    assert result.get() == "done"
    assert [member.name for member in result.status().members] == ["adder", "give"]


def test_outside_a_member_there_is_no_current_flow(huey: Huey) -> None:
    caught: list[str] = []

    @huey.task(name="alone")
    def alone() -> None:
        with pytest.raises(RuntimeError) as error:
            huey.current_flow()
        caught.append(str(error.value))

    alone()
    drain(huey)

    assert caught == ["huey.current_flow(): no member of a flow runs here; huey.flow(name) makes a new one"]
    with pytest.raises(RuntimeError, match="no member of a flow runs here"):
        huey.current_flow()


def test_a_task_that_runs_inside_a_member_is_in_no_flow() -> None:
    huey = MemoryHuey("inside", immediate=True)
    caught: list[bool] = []

    @huey.task()
    def inner() -> None:
        with pytest.raises(RuntimeError):
            huey.current_flow()
        caught.append(True)

    @huey.task()
    def outer() -> int:
        inner()
        return len(huey.current_flow())

    flow = huey.flow("outer")
    flow.add(outer.s())

    assert flow.enqueue().get() == 0
    assert caught == [True]


def test_what_a_run_adds_is_not_enqueued_by_itself(huey: Huey, give: Any) -> None:
    caught: list[str] = []

    @huey.task(name="eager")
    def eager() -> None:
        try:
            huey.current_flow().add(give.s(1))
            huey.current_flow().enqueue()
        except ValueError as error:
            caught.append(str(error))

    flow = huey.flow("eager")
    flow.add(eager.s())
    flow.enqueue()
    drain(huey)

    assert caught == ["the members that a run adds are enqueued with its success: only add() them"]


# -- immediate and eager ------------------------------------------------------------------------------------------------------------------


def test_immediate_mode_runs_a_flow() -> None:
    huey = MemoryHuey("immediate", immediate=True)
    add = huey.task()(lambda *numbers: sum(numbers))
    flow = huey.flow("now")
    flow.add(add.s(add.s(1), add.s(2), 4))

    assert flow.enqueue().get() == 7


def test_always_eager_runs_a_flow() -> None:
    huey = MemoryHuey("eager", always_eager=True)
    add = huey.task()(lambda *numbers: sum(numbers))
    flow = huey.flow("now")
    last = flow.add(add.s(add.s(1), add.s(2), 4))
    flow.add(add.s(last), run_if="failure")

    assert huey.enqueue(flow) == 7


# -- what cannot be -----------------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_a_member_is_refused(huey: Huey, give: Any) -> None:
    one = huey.task(name="one")(lambda value: value)
    flow = huey.flow("refused")
    first = flow.add(give.s(1))

    with pytest.raises(TypeError, match=r"is no task: give one, such as give\.s\(1\) returns"):
        flow.add(give)
    with pytest.raises(ValueError, match="in <flow 'refused' of 1> already, or waits for itself"):
        flow.add(first)
    with pytest.raises(ValueError, match=r"run_if='failed': give .* did you mean 'failure'"):
        flow.add(give.s(2), run_if="failed")
    with pytest.raises(ValueError, match="waits for no task, so none can fail"):
        flow.add(give.s(2), run_if="failure")
    with pytest.raises(ValueError, match="has a pipeline"):
        flow.add(give.s(2).then(give))
    with pytest.raises(TypeError):
        flow.add(one.s())
    ring = give.s()
    ring.args = (ring,)
    with pytest.raises(ValueError, match="waits for itself"):
        flow.add(ring)
    assert [task.id for task in flow] == [first.id]


def test_a_flow_is_enqueued_once_and_not_empty(huey: Huey, give: Any) -> None:
    flow = huey.flow("once")
    with pytest.raises(ValueError, match="has no tasks: add some first"):
        flow.enqueue()
    flow.add(give.s(1))
    flow.enqueue()

    with pytest.raises(ValueError, match="is enqueued already: make another one"):
        flow.enqueue()
    with pytest.raises(ValueError, match="is enqueued already: make another one"):
        flow.add(give.s(2))
    with pytest.raises(ValueError, match="name=''"):
        huey.flow("")

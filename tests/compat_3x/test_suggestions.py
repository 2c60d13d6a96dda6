"""What is said of a slip of the pen names the thing, and the word that was meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from huey import Huey, MemoryHuey, RedisHuey, SqliteHuey
from huey.exceptions import ConfigurationError


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Huey("x", result=True), r"Huey\('x'\): unknown option 'result'; did you mean 'results'"),
        (lambda: MemoryHuey("x", imediate=True), "unknown option 'imediate'; did you mean 'immediate'"),
        (lambda: SqliteHuey("x", flename="a.db"), "unknown option 'flename'; did you mean 'filename'"),
        (lambda: SqliteHuey("x", fsinc=True), "unknown option 'fsinc'; did you mean 'fsync'"),
        (lambda: MemoryHuey("x", colour=1), "unknown option 'colour'; its docstring lists the options"),
        (lambda: RedisHuey("x", port="abc"), "port='abc': invalid literal for int"),
    ],
)
def test_an_unknown_option_is_answered_with_the_nearest_one(make: Callable[[], Huey], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        make()


@pytest.mark.parametrize(
    ("declare", "told"),
    [
        (lambda huey: huey.task(retry=3), r"Huey.task\(\) got an unexpected keyword argument 'retry'; did you mean 'retries'\?$"),
        (lambda huey: huey.periodic_task("@daily", priorty=3), r"'priorty'; did you mean 'priority'\?$"),
        (lambda huey: huey.task(time_limit=3), r"'time_limit'; here: timeout=60$"),
        (lambda huey: huey.task(bind=True), r"unexpected keyword argument 'bind'; here: context=True passes the task as the keyword task$"),
        (lambda huey: huey.task(rate_limit="1/m"), r"unexpected keyword argument 'rate_limit'; here: rate='10/m'$"),
        (lambda huey: huey.task(colour=3), r"Huey.task\(\) got an unexpected keyword argument 'colour'$"),
    ],
)
def test_an_unknown_keyword_of_a_decorator_too(declare: Callable[[Huey], Any], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        declare(MemoryHuey("x"))


def test_a_type_error_inside_a_function_is_left_as_it_is() -> None:
    def failing(now: Any) -> bool:
        raise TypeError("got an unexpected keyword argument 'retry'")

    huey = MemoryHuey("x")
    huey.periodic_task(failing, name="a")(lambda: None)

    with pytest.raises(TypeError, match=r"argument 'retry'$"):
        huey.read_periodic(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("give", "told"),
    [
        (lambda add: add, r"<TaskWrapper add> is a decorated function: call it, add\(...\), or .* huey.enqueue\(add.s\(...\)\)"),
        (lambda add: add(1, 2), "<Result: task .*> is a handle: its task is enqueued already"),
        (lambda add: [add.s(1, 2)], r"list: enqueue takes one task; use huey.enqueue\(group\(\[...\]\)\) or huey.enqueue_many"),
        (lambda add: add.task_class, r"is the task class of a function: give one of its tasks"),
        (lambda add: None, "None is not a task: give one"),
        (lambda add: "add", "'add' is not a task: give one"),
    ],
)
def test_what_is_no_task_is_not_enqueued(give: Callable[[Any], Any], told: str) -> None:
    huey = MemoryHuey("x")
    thing = give(huey.task(name="add")(lambda a, b: a + b))
    before = huey.pending_count()

    with pytest.raises(TypeError, match=told):
        huey.enqueue(thing)
    with pytest.raises(TypeError):
        huey.enqueue_many([huey.registry.find("add").s(1, 2), thing])
    assert huey.pending_count() == before


def test_arguments_side_by_side_are_shown_as_a_tuple() -> None:
    add = MemoryHuey("x").task(name="add")(lambda a, b: a + b)

    with pytest.raises(ValueError, match=r"args=1, kwargs=2: .*: args=\(1, 2\)"):
        add.schedule(1, 2)
    with pytest.raises(ValueError, match=r"args=\(1,\), kwargs=2: .*kwargs=\{'name': value\}"):
        add.schedule((1,), 2)


def test_a_state_that_is_none_is_refused() -> None:
    inspector = MemoryHuey("x").inspector

    with pytest.raises(ValueError, match="state='faild': no such state; did you mean 'failed'"):
        inspector.tasks("faild")
    assert all(inspector.tasks(state) == [] for state in ("ready", "scheduled", "suspect", "blocked", "failed", None))


def test_attributes_of_ones_own_stand_on_the_tasks_of_a_function() -> None:
    huey = MemoryHuey("x")
    work = huey.task(name="work", task_attributes={"team": "billing"})(lambda: None)

    assert (work.task_class.team, work.s().team) == ("billing", "billing")  # type: ignore[attr-defined]
    work()
    assert huey.pending()[0].team == "billing"  # type: ignore[attr-defined]
    for name in ("id", "retries", "args", "no good", "_own"):
        with pytest.raises(ValueError, match="task_attributes="):
            huey.task(task_attributes={name: 1})

"""Section C: the decorator ``task`` and what it adds to a function."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from huey import Huey
from huey.api import AsyncData
from tests.support.helpers import running

MakeHuey = Callable[..., Huey]


def add(a: int, b: int) -> int:
    return a + b


def instant() -> float:
    return time.time()


def next_second() -> datetime:
    """A whole second that is near, local time: 0.2 to 1.2 s ahead."""
    return (datetime.now() + timedelta(seconds=1.2)).replace(microsecond=0)


@dataclass
class Bean:
    """Something of the user's own."""

    weight: int


# The call


def test_S25_a_call_enqueues_and_returns_at_once(huey: Huey) -> None:
    ran = []

    @huey.task()
    def note(word: str) -> None:
        ran.append(word)

    note("a")

    assert len(huey) == 1
    assert ran == []


def test_S26_a_call_returns_a_handle(huey: Huey) -> None:
    task = huey.task()(add)

    assert isinstance(task(1, 2), AsyncData)


def test_S27_a_call_returns_none_without_a_result_store(make_huey: MakeHuey) -> None:
    huey = make_huey(results=False)
    task = huey.task()(add)

    assert task(1, 2) is None
    assert len(huey) == 1


# Options


def test_S28_the_options_by_keyword(huey: Huey) -> None:
    task = huey.task(retries=3, retry_delay=10)(add)

    call = task(1, 2).task

    assert (call.retries, call.retry_delay) == (3, 10)


def test_S28_the_options_by_position(huey: Huey) -> None:
    seen = []

    @huey.task(1, 0, True, True)
    def look(x: int, retries: int | None = None, task: Any = None) -> int:
        seen.append((x, retries, task.task_id))
        return x

    handle = look(5)

    with running(huey):
        assert handle.get(blocking=True, timeout=10) == 5
    assert seen == [(5, 1, handle.task.task_id)]


def test_S28_the_defaults(huey: Huey) -> None:
    known = inspect.signature(huey.task).parameters

    assert [(name, known[name].default) for name in list(known)[:4]] == [
        ("retries", 0),
        ("retry_delay", 0),
        ("retries_as_argument", False),
        ("include_task", False),
    ]


def test_S28_a_task_may_have_a_name(huey: Huey) -> None:
    task = huey.task(name="sum")(add)
    handle = task(1, 2)

    assert handle.task.name == "sum"
    with running(huey):
        assert handle.get(blocking=True, timeout=10) == 3


def test_S29_the_function_is_told_the_retries_left(huey: Huey) -> None:
    seen = []

    @huey.task(retries=3, retries_as_argument=True)
    def try_thrice(x: str, retries: int | None = None) -> str:
        seen.append((x, retries))
        if retries:
            raise ValueError("nope")
        return "last"

    handle = try_thrice("a")

    with running(huey):
        assert handle.get(blocking=True, timeout=10) == "last"
    assert seen == [("a", 3), ("a", 2), ("a", 1), ("a", 0)]


@pytest.mark.parametrize("option", ["include_task", "context"])
def test_S30_the_function_is_given_its_task(huey: Huey, option: str) -> None:
    seen = []

    @huey.task(**{option: True})
    def look(x: int, task: Any = None) -> int:
        seen.append(task)
        return x

    handle = look(5)

    with running(huey):
        assert handle.get(blocking=True, timeout=10) == 5
    assert [task.task_id for task in seen] == [handle.task.task_id]
    assert isinstance(seen[0], look.task_class)
    assert seen[0].args == (5,)


# schedule


def test_S31_schedule_takes_arguments_keywords_and_a_delay(huey: Huey) -> None:
    task = huey.task()(add)

    handle = task.schedule(args=(1,), kwargs={"b": 2}, delay=60)

    assert huey.storage.get(handle.id).due is not None  # type: ignore[union-attr]
    assert handle.task.data == ((1,), {"b": 2})
    assert huey.storage.counts().scheduled == 1


def test_S31_schedule_has_the_documented_signature(huey: Huey) -> None:
    known = inspect.signature(huey.task()(add).schedule).parameters

    assert [(name, known[name].default) for name in list(known)[:5]] == [
        ("args", None),
        ("kwargs", None),
        ("eta", None),
        ("delay", None),
        ("convert_utc", True),
    ]


def test_S31_both_eta_and_delay_are_refused(huey: Huey) -> None:
    task = huey.task()(add)

    with pytest.raises(ValueError, match=r"eta.*delay|delay.*eta"):
        task.schedule(args=(1, 2), eta=datetime.now(), delay=1)
    assert len(huey) == 0


@pytest.mark.parametrize("given", [{}, {"delay": 0}])
def test_S31_neither_eta_nor_delay_enqueues_now(huey: Huey, given: dict[str, int]) -> None:
    task = huey.task()(add)

    handle = task.schedule(args=(1, 2), **given)

    assert huey.storage.counts().ready == 1
    with running(huey):
        assert handle.get(blocking=True, timeout=10) == 3


@pytest.mark.parametrize("word", ["task_id", "id"])
def test_S31_schedule_takes_an_id(huey: Huey, word: str) -> None:
    task = huey.task()(add)

    handle = task.schedule(args=(1, 2), delay=60, **{word: "mine"})

    assert (handle.id, handle.task.id, handle.task.task_id) == ("mine", "mine", "mine")
    assert huey.storage.get("mine") is not None


@pytest.mark.parametrize("when", [60, 60.5, timedelta(minutes=1), datetime(2199, 1, 1), datetime(2199, 1, 1, tzinfo=UTC)])
def test_S31_a_time_as_the_only_argument_is_when(huey: Huey, when: Any) -> None:
    """C13."""
    task = huey.task()(lambda: None)

    handle = task.schedule(when)

    assert huey.storage.counts().scheduled == 1
    assert handle.task.args == ()


def test_S32_schedule_returns_a_handle(huey: Huey) -> None:
    task = huey.task()(add)

    assert isinstance(task.schedule(args=(1, 2), delay=60), AsyncData)


def test_S32_schedule_returns_none_without_a_result_store(make_huey: MakeHuey) -> None:
    huey = make_huey(results=False)
    task = huey.task()(add)

    assert task.schedule(args=(1, 2), delay=60) is None
    assert huey.scheduled_count() == 1


@pytest.mark.parametrize("delay", [0.3, timedelta(seconds=0.3)])
def test_S33_a_delayed_task_runs_no_earlier(huey: Huey, delay: Any) -> None:
    task = huey.task()(instant)

    with running(huey):
        called = time.time()
        started = task.schedule(delay=delay).get(blocking=True, timeout=10)

    assert started >= called + 0.3


def test_S34_a_naive_eta_is_local_time(huey: Huey, set_zone: Callable[[str], None]) -> None:
    set_zone("EST5")
    task = huey.task()(instant)
    eta = next_second()

    with running(huey):
        started = task.schedule(eta=eta).get(blocking=True, timeout=10)

    assert started >= eta.timestamp()


def test_S34_an_aware_eta_is_exact(huey: Huey, set_zone: Callable[[str], None]) -> None:
    """C25."""
    set_zone("EST5")
    task = huey.task()(instant)
    eta = next_second().astimezone(UTC)

    with running(huey):
        started = task.schedule(eta=eta).get(blocking=True, timeout=10)

    assert started >= eta.timestamp()


def test_S35_an_unconverted_eta_is_local_for_a_local_consumer(huey: Huey, set_zone: Callable[[str], None]) -> None:
    set_zone("EST5")
    task = huey.task()(instant)

    with running(huey, localtime=True):
        eta = next_second()
        started = task.schedule(eta=eta, convert_utc=False).get(blocking=True, timeout=10)

    assert started >= eta.timestamp()


def test_S35_an_unconverted_eta_is_utc_for_a_utc_consumer(huey: Huey, set_zone: Callable[[str], None]) -> None:
    set_zone("EST5")
    task = huey.task()(instant)

    with running(huey):
        eta = next_second().astimezone(UTC)
        started = task.schedule(eta=eta.replace(tzinfo=None), convert_utc=False).get(blocking=True, timeout=10)

    assert started >= eta.timestamp()


# What the function gains


def test_S36_call_local_runs_the_function_itself(huey: Huey) -> None:
    task = huey.task()(add)

    assert task.call_local(1, 2) == 3
    assert task.call_local(a=1, b=3) == 4
    assert len(huey) == 0


def test_S37_a_task_has_a_class(huey: Huey) -> None:
    task = huey.task()(add)

    assert isinstance(task.task_class, type)
    assert isinstance(task(1, 2).task, task.task_class)


def test_S38_the_class_is_named_after_the_function(huey: Huey) -> None:
    task = huey.task()(add)

    assert task.task_class.__name__ == "queuecmd_add"
    assert task.task_class.__module__ == add.__module__ == task.__module__


def test_S38_the_name_of_a_task_is_its_place(huey: Huey) -> None:
    """C11."""
    task = huey.task()(add)

    assert task(1, 2).task.name == f"{__name__}.add"


# The queue


def test_S39_first_in_first_out(huey: Huey) -> None:
    ran = []

    @huey.task()
    def note(n: int) -> int:
        ran.append(n)
        return n

    handles = [note(n) for n in range(20)]

    with running(huey):
        assert [handle.get(blocking=True, timeout=10) for handle in handles] == list(range(20))
    assert ran == list(range(20))


@pytest.mark.parametrize(
    "value",
    [{"k": (1, b"x")}, [{1, 2}, frozenset("ab")], 2**100, 1.5, "ä\n\0", datetime(2026, 1, 1, tzinfo=UTC), Bean(3), {"deep": [Bean(1)]}],
    ids=["dict", "sets", "big", "float", "text", "datetime", "class of the user", "nested"],
)
def test_S40_arguments_and_results_survive(huey: Huey, value: Any) -> None:
    seen = []

    @huey.task()
    def echo(given: Any, *, again: Any) -> Any:
        seen.append((given, again))
        return given

    handle = echo(value, again=value)

    with running(huey):
        back = handle.get(blocking=True, timeout=10)
    assert back == value
    assert type(back) is type(value)
    assert seen == [(value, value)]

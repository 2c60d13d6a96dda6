"""Arguments are checked where the call is made, before anything is enqueued; and which words of a call are huey's."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from huey import Huey, MemoryHuey, crontab
from huey.exceptions import ConfigurationError, TaskException
from tests.support.helpers import drain


@pytest.fixture
def huey() -> Huey:
    return MemoryHuey("arguments")


def add(a: Any, b: Any) -> Any:
    return a + b


def more(a: Any, b: Any = 2, *args: Any, c: Any = 3, **kwargs: Any) -> Any:
    return a, b, args, c, kwargs


def strict(a: Any, /, b: Any, *, c: Any, d: Any = 4) -> Any:
    return a, b, c, d


WRONG: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], str]] = [
    (add, (), {}, "lacks arguments: a, b; call it as add(a, b)"),
    (add, (1,), {}, "lacks an argument: b; call it as add(a, b)"),
    (add, (1, 2, 3), {}, "takes 2 arguments by position, and 3 were given"),
    (add, (1,), {"c": 3}, "has no parameter 'c'"),
    (add, (1, 2), {"countdown": 5}, "has no parameter 'countdown'; did you mean 'delay'? call it as add(a, b)"),
    (add, (1, 2), {"prioritty": 5}, "did you mean 'priority'?"),
    (add, (1, 2), {"max_retries": 5}, "did you mean 'retries'?"),
    (add, (1, 2), {"a": 5}, "is given 'a' twice, by position and by keyword"),
    (add, (1,), {"delay": 5}, "lacks an argument: b"),
    (lambda customer: customer, (), {"custmer": 5}, "did you mean 'customer'?"),
    (lambda: None, (1,), {}, "takes 0 arguments by position, and 1 was given"),
    (more, (), {}, "lacks an argument: a; call it as more(a, b=..., *args, c=..., **kwargs)"),
    (more, (1,), {"a": 1}, "is given 'a' twice"),
    (strict, (1, 2), {}, "lacks an argument: c; call it as strict(a, /, b, *, c, d=...)"),
    (strict, (), {"a": 1, "b": 2, "c": 3}, "has no parameter 'a'"),
    (strict, (1, 2, 3), {}, "takes 2 arguments by position, and 3 were given"),
    (functools.partial(add, 1), (), {}, "lacks an argument: b"),
    (functools.partial(add, 1), (2, 3), {}, "takes 1 argument by position, and 2 were given"),
    (functools.lru_cache(add), (1,), {}, "lacks an argument: b"),
    (len, (), {}, "lacks an argument: obj"),
    ([].append, (), {}, "lacks an argument: object"),
]


@pytest.mark.parametrize(("func", "args", "kwargs", "why"), WRONG)
def test_a_call_that_does_not_fit_is_refused(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], why: str, huey: Huey
) -> None:
    task = huey.task(name="add" if not hasattr(func, "__code__") else None)(func)
    ways: list[Callable[[], Any]] = [lambda: task(*args, **kwargs), lambda: huey.enqueue(task.s(*args, **kwargs))]
    if not {"delay", "countdown"} & set(kwargs):
        ways.append(lambda: task.schedule(args, kwargs, delay=60))

    for way in ways:
        with pytest.raises(TypeError) as caught:
            way()
        assert why in str(caught.value)
        assert task.name in str(caught.value)
    assert len(huey) == 0


RIGHT: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = [
    (add, (1, 2), {}),
    (add, (1,), {"b": 2}),
    (add, (), {"b": 2, "a": 1}),
    (more, (1,), {}),
    (more, (1, 2, 3, 4), {"z": 5, "c": 6}),
    (more, (), {"a": 1, "self": 2, "args": 3, "kwargs": 4}),
    (strict, (1, 2), {"c": 3}),
    (strict, (1,), {"b": 2, "c": 3, "d": 4}),
    (lambda *args: args, (1, 2, 3), {}),
    (lambda **kwargs: kwargs, (), {"b": 2}),
    (functools.partial(add, b=1), (1,), {}),
    (functools.partial(add, b=1), (1,), {"b": 3}),
    (lambda a, /, **kwargs: (a, kwargs), (1,), {"a": 2}),
]


@pytest.mark.parametrize(("func", "args", "kwargs"), RIGHT)
def test_a_call_that_fits_is_taken(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    huey = MemoryHuey("arguments", immediate=True)
    task = huey.task(name="it")(func)

    expected = func(*args, **kwargs)

    assert task(*args, **kwargs).get() == expected
    assert huey.enqueue(task.s(*args, **kwargs)).get() == expected
    assert task.schedule(args, kwargs).get() == expected


def test_map_checks_all_items_before_it_enqueues_one(huey: Huey) -> None:
    task = huey.task()(add)

    with pytest.raises(TypeError, match=r"item 1 of map.*lacks an argument: b.*nothing was enqueued"):
        task.map([(1, 2), (3,)])
    with pytest.raises(TypeError, match=r"item 0 of map.*a list is one argument, a tuple is several"):
        task.map([[1, 2]])
    with pytest.raises(TypeError, match=r"item 2 of map.*takes 2 arguments"):
        task.map(item for item in [(1, 2), (1, 2), (1, 2, 3)])

    assert len(huey) == 0
    assert len(task.map(item for item in [(1, 2), (3, 4)])) == 2
    assert len(task.map([])) == 0


def test_keywords_that_must_be_given_cannot_be_mapped(huey: Huey) -> None:
    with pytest.raises(TypeError, match=r"lacks an argument: c"):
        huey.task()(strict).map([(1, 2)])


# -- what huey gives with a run ---------------------------------------------------------------------------------------------------------


def test_what_huey_gives_with_a_run_is_not_asked_of_the_caller() -> None:
    huey = MemoryHuey("arguments", immediate=True)
    first = huey.task(context=True, name="a")(lambda x, task: (x, task.name))
    second = huey.task(include_task=True, retries_as_argument=True, retries=3, name="b")(lambda task, *, x, retries: (x, retries))

    assert first(1).get() == (1, "a")
    assert first(1, task=None).get() == (1, "a")
    assert second(x=1).get() == (1, 3)
    with pytest.raises(TypeError, match=r"takes 1 argument by position, and 2 were given|'task' is passed by huey"):
        first(1, 2)
    with pytest.raises(TypeError, match=r"lacks an argument: x; call it as <lambda>\(x\)"):
        first()


@pytest.mark.parametrize("options", [{"context": True}, {"include_task": True}, {"retries_as_argument": True}])
def test_a_function_that_cannot_take_what_huey_gives_is_refused(options: dict[str, Any], huey: Huey) -> None:
    with pytest.raises(ValueError, match=r"passes the keyword '(task|retries)'.*add the parameter"):
        huey.task(**options)(add)
    with pytest.raises(ValueError, match=r"passes the keyword '(task|retries)'"):
        huey.task(name="other", **options)(lambda task, retries, /: None)

    huey.task(name="takes all", **options)(lambda a, **kwargs: None)
    huey.task(name="takes it", **options)(lambda a, task=None, retries=None: None)


def test_a_context_task_is_called_without_what_its_context_gives() -> None:
    huey = MemoryHuey("arguments", immediate=True)
    task = huey.context_task(contextlib.nullcontext("entered"), as_argument=True)(lambda entered, a: (entered, a))

    assert task(1).get() == ("entered", 1)
    with pytest.raises(TypeError, match=r"lacks an argument: a"):
        task()
    with pytest.raises(TypeError, match=r"lacks an argument: b"):
        huey.context_task(contextlib.nullcontext())(add)(1)


def test_locks_and_rates_of_ours_do_not_hide_the_parameters(huey: Huey) -> None:
    task = huey.task()(huey.lock_task("lock")(huey.rate_limit("rate", 1, 1)(add)))

    with pytest.raises(TypeError, match=r"lacks an argument: b"):
        task(1)


def test_a_decorator_may_add_arguments_of_its_own() -> None:
    huey = MemoryHuey("arguments", immediate=True)

    def with_session(func: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(func)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return func("session", *args, **kwargs)

        return inner

    assert huey.task()(with_session(lambda session, a: (session, a)))(1).get() == ("session", 1)
    assert huey.periodic_task(crontab(), name="nightly")(with_session(lambda session: session))() == "session"


def test_what_others_add_to_a_task_after_the_call_passes() -> None:
    """As tracing does, which takes it out again before the run."""
    huey = MemoryHuey("arguments", immediate=True)
    task = huey.task()(lambda a, **kwargs: (a, kwargs))

    made = task.s(1)
    made.kwargs["headers"] = {"trace": "1"}

    assert huey.enqueue(made).get() == (1, {"headers": {"trace": "1"}})


# -- declarations that can never work ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("func", [lambda n: n, lambda *, n: n, lambda a=1, *, n: n, functools.partial(add, 1)])
def test_a_periodic_task_with_a_required_parameter_is_refused(func: Callable[..., Any], huey: Huey) -> None:
    with pytest.raises(ValueError, match=r"parameters without a default \((n|b)\).*give them defaults"):
        huey.periodic_task(crontab(), name="nightly")(func)
    assert not len(huey.registry)


def test_a_periodic_task_may_take_defaults_and_what_huey_gives(huey: Huey) -> None:
    huey.periodic_task(crontab(), name="a")(lambda a=1, *args, b=2, **kwargs: None)
    huey.periodic_task(crontab(), name="b", context=True)(lambda task: None)
    huey.periodic_task(crontab(), name="c", retries_as_argument=True)(lambda retries: None)
    huey.periodic_task(crontab(), name="d")(functools.partial(add, 1, 2))
    huey.context_task(contextlib.nullcontext(1), as_argument=True, name="e")(lambda entered: None)

    assert len(huey.registry) == 5


@pytest.mark.parametrize(
    "options",
    [
        {"unique": "custmer"},
        {"unique": ["amount", "custmer"]},
        {"concurrency": 1, "key": "custmer"},
        {"concurrency": 1, "key": ("custmer",)},
    ],
)
def test_a_key_of_an_unknown_parameter_is_refused(options: dict[str, Any], huey: Huey) -> None:
    with pytest.raises(ValueError, match=r"no parameter 'custmer'.*did you mean 'customer'"):
        huey.task(**options)(lambda customer, amount: None)
    with pytest.raises(ValueError, match=r"no parameter '(custmer|amount)'"):
        huey.task(name="other", **options)(lambda **kwargs: None)


def test_a_key_of_a_parameter_that_is_there_is_taken(huey: Huey) -> None:
    task = huey.task(unique="customer", concurrency=1, key=["customer", "amount"])(lambda customer, amount=1: None)

    assert task("a").id == task("a", amount=2).id


# -- words that mean something to huey --------------------------------------------------------------------------------------------------


def test_words_of_huey_are_taken_and_not_passed_on(huey: Huey) -> None:
    """C36."""
    task = huey.task()(lambda a, **kwargs: None)

    made = task.s(1, id="mine", delay=timedelta(hours=1), priority=3, retries=2, retry_delay=4, timeout=5, x=6)

    assert (made.id, made.priority, made.retries, made.retry_delay, made.timeout) == ("mine", 3, 2, 4, 5)
    assert made.data == ((1,), {"x": 6})
    assert task(1, id="yours").id == "yours"


@pytest.mark.parametrize("word", ["id", "eta", "delay", "retries", "retry_delay", "retry_backoff", "priority", "expires", "timeout"])
def test_a_word_that_is_a_parameter_goes_to_the_function(word: str, huey: Huey) -> None:
    """C36."""
    names: dict[str, Any] = {}
    exec(f"def func({word}): return {word}", names)
    for name, func in {"plain": names["func"], "locked": huey.lock_task("lock")(names["func"])}.items():
        task = huey.task(name=name)(func)

        assert task.s(**{word: "given"}).kwargs == {word: "given"}
        assert task.s(**{word: "given"}).id != "given"


@pytest.mark.parametrize("id", ["", None])
def test_no_id_is_a_new_one(id: str | None, huey: Huey) -> None:
    """C36."""
    task = huey.task()(add)

    first, second = task(1, 2, id=id), task(1, 2, id=id)

    assert first.id
    assert first.id != second.id


def test_an_id_in_a_call_is_held_once(huey: Huey) -> None:
    task = huey.task()(add)

    assert task(1, 2, id="sync").id == task(1, 2, id="sync").id == "sync"
    assert len(huey) == 1


def test_eager_calls_are_checked_too() -> None:
    with pytest.raises(TypeError, match=r"lacks an argument: b"):
        MemoryHuey("arguments", always_eager=True).task()(add)(1)
    with pytest.raises(TypeError, match=r"lacks an argument: b"):
        MemoryHuey("arguments", immediate=True).task()(add)(1)


def test_unknown_options_of_a_storage_are_still_its_own_error() -> None:
    with pytest.raises(ConfigurationError):
        MemoryHuey("arguments", nonsense=1)


# -- typing=False -------------------------------------------------------------------------------------------------------------------------


def test_the_check_of_arguments_can_be_switched_off(huey: Huey) -> None:
    @huey.task(typing=False)
    def add(a: int, b: int) -> int:
        return a + b

    wrong = [add(1), add.schedule((1, 2, 3)), huey.enqueue(add.s(1, c=2)), *add.map([1, (1, 2, 3)])]
    right = add(1, 2, priority=3)
    drain(huey)

    for result in wrong:
        with pytest.raises(TaskException, match=r"add\(\) (missing|takes|got)"):
            result.get()
    assert (right.get(), right.task.priority) == (3, 3)


def test_unchecked_a_word_that_is_a_parameter_is_one_still(huey: Huey) -> None:
    @huey.task(typing=False)
    def wait(timeout: float) -> float:
        return timeout

    result = wait(timeout=2.5)
    drain(huey)

    assert (result.get(), result.task.timeout) == (2.5, None)

"""What can be declared as a task: it works, or it is refused where it is declared, with the way out."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from huey import Huey, MemoryHuey, crontab
from huey.exceptions import TaskException
from huey.task.wrapper import TaskWrapper


@pytest.fixture
def huey() -> Huey:
    return MemoryHuey("tasks", immediate=True)


def add(a: int, b: int = 2) -> int:
    return a + b


def numbers() -> Iterator[int]:
    yield 1


async def coroutine() -> int:
    return 1


async def async_numbers() -> AsyncIterator[int]:
    yield 1


class Numbers:
    def __call__(self) -> Iterator[int]:
        yield 1


class AsyncCall:
    async def __call__(self) -> int:
        return 1


class Many(Numbers):
    pass


@contextlib.contextmanager
def opened() -> Iterator[int]:
    yield 1


# -- what has a body that a call does not run -------------------------------------------------------------------------------------------

GENERATORS: dict[str, Any] = {
    "a generator function": numbers,
    "an async generator function": async_numbers,
    "a lambda with a yield": lambda: (yield),
    "a partial": functools.partial(numbers),
    "a partial of a partial": functools.partial(functools.partial(numbers)),
    "a callable object": Numbers(),
    "a callable object of a subclass": Many(),
    "a bound method": Numbers().__call__,
    "a context manager": opened,
    "below a cache": functools.lru_cache(numbers),
    "below staticmethod": staticmethod(numbers),
}
COROUTINES: dict[str, Any] = {
    "an async def": coroutine,
    "a partial": functools.partial(coroutine),
    "a callable object": AsyncCall(),
    "a mock": AsyncMock(return_value=5),
}
COROUTINE_VALUES = {"a mock": 5}
DECLARE: dict[str, Callable[[Huey], Callable[[Any], Any]]] = {
    "task": lambda huey: huey.task(name="it"),
    "periodic_task": lambda huey: huey.periodic_task(crontab(), name="it"),
    "context_task": lambda huey: huey.context_task(contextlib.nullcontext(), name="it"),
    "context_task with an argument": lambda huey: huey.context_task(contextlib.nullcontext(), as_argument=True, name="it"),
    "lock_task": lambda huey: lambda func: huey.task(name="it")(huey.lock_task("lock")(func)),
    "rate_limit": lambda huey: lambda func: huey.task(name="it")(huey.rate_limit("rate", 1, 1)(func)),
}


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_generator_function_is_refused_at_the_decorator(kind: str, huey: Huey) -> None:
    with pytest.raises(ValueError, match=r"generator function.*return a list"):
        huey.task(name="it")(GENERATORS[kind])
    assert not len(huey.registry)


@pytest.mark.parametrize("kind", COROUTINES)
def test_an_async_def_is_run_to_its_end(kind: str, huey: Huey) -> None:
    assert huey.task(name="it")(COROUTINES[kind])().get() == COROUTINE_VALUES.get(kind, 1)


@pytest.mark.parametrize("declare", DECLARE)
@pytest.mark.parametrize("func", [numbers, async_numbers])
def test_every_decorator_of_ours_refuses_generators(declare: str, func: Any, huey: Huey) -> None:
    with pytest.raises(ValueError, match=r"calling it does not run"):
        DECLARE[declare](huey)(func)


@pytest.mark.parametrize("declare", DECLARE)
def test_every_decorator_of_ours_takes_an_async_def(declare: str, huey: Huey) -> None:
    async def ignore(*args: Any) -> int:
        return 1

    assert DECLARE[declare](huey)(ignore).is_async


def in_a_loop(func: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    @functools.wraps(func)
    def run(*args: Any, **kwargs: Any) -> Any:
        async def main() -> Any:
            return await func(*args, **kwargs)

        return asyncio.run(main())

    return run


def as_list(func: Callable[..., Iterator[Any]]) -> Callable[..., list[Any]]:
    @functools.wraps(func)
    def run(*args: Any, **kwargs: Any) -> list[Any]:
        return list(func(*args, **kwargs))

    return run


def test_a_decorator_that_runs_the_body_makes_a_task_of_them(huey: Huey) -> None:
    assert huey.task()(in_a_loop(coroutine))().get() == 1
    assert huey.task()(as_list(numbers))().get() == [1]


def just_calling(func: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return call


class Later:
    def __await__(self) -> Iterator[None]:
        yield


UNRUN: dict[str, Callable[[], Any]] = {
    "generator": just_calling(numbers),
    "coroutine": just_calling(coroutine),
    "async_generator": just_calling(async_numbers),
    "Later": Later,
}


@pytest.mark.parametrize("kind", UNRUN)
@pytest.mark.parametrize("results", [True, False])
@pytest.mark.filterwarnings("error")
def test_what_returns_something_still_to_run_fails(kind: str, results: bool) -> None:
    huey = MemoryHuey("tasks", immediate=True, results=results)
    func = UNRUN[kind]

    huey.task(name="it")(lambda: func())()

    (failed,) = huey.inspector.tasks("failed")
    assert failed.error is not None
    assert kind in str(failed.error)
    assert "asyncio.run" in str(failed.error)


def test_where_a_call_runs_the_task_itself_it_raises() -> None:
    huey = MemoryHuey("tasks", always_eager=True)

    with pytest.raises(TypeError, match=r"returned a coroutine.*asyncio\.run"):
        huey.task()(just_calling(coroutine))()


def test_other_values_pass_unharmed(huey: Huey) -> None:
    values = [None, 0, "text", b"bytes", [1], {"a": 1}, (1, 2), {1}, 1.5, True, frozenset({1}), range(3), Exception("no")]

    echo = huey.task()(lambda value: value)

    assert [repr(echo(value).get()) for value in values] == [repr(value) for value in values]


# -- what is no plain function ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [None, 5, "add", property(add), functools.cached_property(add), object(), [add]])
def test_what_cannot_be_called_is_refused(thing: Any, huey: Huey) -> None:
    with pytest.raises(ValueError, match=r"is not callable, and a task is a function"):
        huey.task()(thing)
    with pytest.raises(ValueError, match=r"is not callable, and a task is a function"):
        huey.context_task(contextlib.nullcontext())(thing)


@pytest.mark.parametrize(
    "thing", [functools.partial(add, 1), Mock(return_value=3), type("Add", (), {"__call__": lambda self, a=1, b=2: a + b})()]
)
def test_what_has_no_name_needs_one(thing: Any, huey: Huey) -> None:
    with pytest.raises(ValueError, match=r"has no name by which.*name='"):
        huey.task()(thing)

    task = huey.task(name="shop.three")(thing)
    assert task().get() == 3
    assert task.task_class.__name__ == "queuecmd_three"


@pytest.mark.parametrize(
    ("thing", "args", "value"),
    [
        (functools.partial(add, 1), (5,), 6),
        (functools.partial(add, b=1), (5,), 6),
        ([3, 4].index, (4,), 1),
        (len, ("abc",), 3),
        (max, (3, 7), 7),
        (str.upper, ("abc",), "ABC"),
        (complex, (1, 2), 1 + 2j),
        (functools.lru_cache(add), (1,), 3),
    ],
)
def test_other_callables_work(thing: Any, args: tuple[Any, ...], value: Any, huey: Huey) -> None:
    assert huey.task(name="it")(thing)(*args).get() == value


# -- classes ----------------------------------------------------------------------------------------------------------------------------


def test_a_method_is_refused_when_its_class_is_made(huey: Huey) -> None:
    # Python 3.11 hides what __set_name__ raises behind a RuntimeError.
    with pytest.raises((ValueError, RuntimeError)) as caught:

        class Client:
            @huey.task()
            def send(self, text: str) -> str:
                return text

    error = caught.value.__cause__ or caught.value
    assert isinstance(error, ValueError)
    assert "Client.send is a method" in str(error)
    assert "@staticmethod below the decorator" in str(error)


def test_a_method_below_a_lock_is_refused_too(huey: Huey) -> None:
    with pytest.raises((ValueError, RuntimeError)) as caught:

        class Client:
            @huey.task()
            @huey.lock_task("lock")
            def send(self, text: str) -> str:
                return text

    assert "Client.send is a method" in str(caught.value.__cause__ or caught.value)


def test_classmethod_below_task_is_refused(huey: Huey) -> None:
    with pytest.raises(ValueError, match=r"write @classmethod above"):

        class Client:
            @huey.task()
            @classmethod
            def send(cls, text: str) -> str:
                return text


class Above:
    """Found by pickle, as classes of applications are."""

    host = MemoryHuey("above", immediate=True)

    @classmethod
    @host.task()
    def of_class(cls, text: str) -> str:
        return f"{cls.__name__}: {text}"

    @staticmethod
    @host.task()
    def static_above(text: str) -> str:
        return f"sent {text}"

    @host.task()
    @staticmethod
    def static_below(text: str) -> str:
        return f"sent {text}"

    @host.task()
    def used_by_its_class(text: str) -> str:  # type: ignore[misc]
        return f"sent {text}"


def test_functions_in_a_class_that_need_no_instance_work() -> None:
    assert Above.of_class("a").get() == "Above: a"
    assert Above.static_above("b").get() == "sent b"
    assert Above().static_above("b").get() == "sent b"
    assert Above.static_below("c").get() == "sent c"
    assert Above().static_below("c").get() == "sent c"
    assert Above.used_by_its_class("d").get() == "sent d"


def test_a_decorated_function_can_be_an_attribute_of_a_class(huey: Huey) -> None:
    task = huey.task()(add)

    class View:
        action = task

    assert View().action(1).get() == 3


def test_a_bound_method_works_where_its_object_is(huey: Huey) -> None:
    class Store:
        def count(self, name: str) -> str:
            return f"counted {name}"

    assert huey.task()(Store().count)("a").get() == "counted a"


def test_a_method_called_on_an_instance_is_refused(huey: Huey) -> None:
    class Client:
        def send(self, text: str) -> str:
            return text

    Client.send = huey.task()(Client.send)  # type: ignore[method-assign, assignment]

    with pytest.raises(TypeError, match=r"lacks an argument: text"):
        Client().send("hello")


# -- the wrapper and its function -------------------------------------------------------------------------------------------------------


def test_attributes_of_a_function_do_not_replace_its_wrappers(huey: Huey) -> None:
    def send(to: str) -> str:
        return f"sent to {to}"

    attributes = ("options", "name", "huey", "func", "s", "schedule", "map", "task_class", "revoke", "needs_extras", "_overrides", "_check")
    for name in attributes:
        setattr(send, name, "mine")
    send.short_description = "Send"  # type: ignore[attr-defined]

    task = huey.task()(send)

    assert not [name for name in attributes if getattr(task, name) == "mine"]
    assert task.short_description == "Send"  # type: ignore[attr-defined]
    assert task("you").get() == "sent to you"
    assert (task.__name__, task.__wrapped__) == ("send", send)  # type: ignore[attr-defined]


def test_attributes_do_not_replace_those_of_a_periodic_wrapper(huey: Huey) -> None:
    def tidy() -> None: ...

    tidy.validate_datetime = "mine"  # type: ignore[attr-defined]
    schedule = crontab(minute="0")

    assert huey.periodic_task(schedule)(tidy).validate_datetime is schedule


def test_a_function_may_be_decorated_for_a_second_instance(huey: Huey) -> None:
    first = huey.task()(add)
    other = MemoryHuey("other", immediate=False)

    second = other.task()(first)
    second(1)

    assert isinstance(second, TaskWrapper)
    assert second.func is add
    assert (len(other), len(huey)) == (1, 0)
    assert other.context_task(contextlib.nullcontext(), name="in a context")(first).call_local(1) == 3


def test_a_parameter_may_be_called_self(huey: Huey) -> None:
    def tell(self: str, args: str = "", kwargs: str = "") -> str:
        return self + args + kwargs

    task = huey.task()(tell)

    assert task(self="a", args="b", kwargs="c").get() == "abc"
    assert task.call_local(self="a") == "a"
    assert huey.enqueue(task.s(self="b")).get() == "b"
    assert huey.periodic_task(crontab(), name="other")(lambda self="x": self)(self="c") == "c"


def test_a_task_that_fails_since_its_function_is_wrong_says_so(huey: Huey) -> None:
    with pytest.raises(TaskException, match=r"returned a generator"):
        huey.task()(just_calling(numbers))().get()


# -- other functions that huey calls ----------------------------------------------------------------------------------------------------

GIVEN: dict[str, Callable[[Huey, Any], Any]] = {
    "pre_execute": lambda huey, func: huey.pre_execute()(func),
    "post_execute": lambda huey, func: huey.post_execute()(func),
    "on_startup": lambda huey, func: huey.on_startup()(func),
    "on_shutdown": lambda huey, func: huey.on_shutdown()(func),
    "signal": lambda huey, func: huey.signal()(func),
    "schedule": lambda huey, func: huey.periodic_task(func),
    "retry_on": lambda huey, func: huey.task(retry_on=func),
    "no_retry_on": lambda huey, func: huey.task(no_retry_on=func),
    "unique": lambda huey, func: huey.task(unique=func),
    "key": lambda huey, func: huey.task(concurrency=1, key=func),
}


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("func", [numbers, coroutine])
def test_huey_calls_no_function_that_does_not_run(given: str, func: Any, huey: Huey) -> None:
    with pytest.raises(ValueError, match=r"is a generator function|is an 'async def'"):
        GIVEN[given](huey, func)


def test_periodic_task_without_its_brackets_is_told(huey: Huey) -> None:
    with pytest.raises(ValueError, match=r"write @huey\.periodic_task\(crontab"):

        @huey.periodic_task
        def tidy() -> None: ...


@pytest.mark.parametrize(
    "schedule", [lambda now: True, lambda *args: True, crontab(), Mock(return_value=True), functools.partial(lambda a, b: True, 1)]
)
def test_any_callable_of_a_datetime_is_a_schedule(schedule: Any, huey: Huey) -> None:
    assert huey.periodic_task(schedule)(add_nothing).validate_datetime is schedule


def add_nothing() -> None: ...

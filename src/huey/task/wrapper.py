"""What ``@huey.task()`` and ``@huey.periodic_task()`` give back: the function with the verbs of a task."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from huey.runtime.clock import Clock
from huey.runtime.functions import checked_function, is_method_of, take_over
from huey.runtime.logs import SafeLogger
from huey.runtime.main_module import is_of_script, module_of
from huey.runtime.masking import Masked, opened
from huey.runtime.missing_names import say_what_is_not_here
from huey.runtime.times import Expires, resolve_eta, resolve_expiry
from huey.task.arguments import own_names, parameters_of
from huey.task.bounds import LONGEST_NAME, parse_text
from huey.task.options import TaskOptions
from huey.task.record_options import NONE, Constraints, with_constraints, write_policy
from huey.task.task import PeriodicTask, Task

P = ParamSpec("P")
R = TypeVar("R")

log = SafeLogger("huey")

CALL_OVERRIDES = frozenset({"id", "eta", "delay", "retries", "retry_delay", "retry_backoff", "priority", "expires", "timeout"})
"""Keywords of a call that mean the call, not its arguments; unless the function has a parameter of that name."""


SHAPES = 100
"""So many kinds of calls are remembered as fitting, of each function."""


class MapHost(Protocol):
    """What enqueues many calls of a function."""

    def map(self, wrapper: TaskWrapper[Any, Any], calls: Iterable[Any]) -> Any: ...


class TaskHost(Protocol):
    """What a decorated function needs of its ``Huey``."""

    def enqueue(self, task: Task) -> Any: ...

    def revoke_all(self, wrapper: TaskWrapper[Any, Any], revoke_until: datetime | None = None, revoke_once: bool = False) -> None: ...

    def restore_all(self, wrapper: TaskWrapper[Any, Any]) -> bool: ...

    def is_revoked(self, task: Any, timestamp: datetime | None = None, peek: bool = True) -> bool: ...

    def unregister(self, wrapper: TaskWrapper[Any, Any]) -> bool: ...

    @property
    def client(self) -> MapHost: ...

    @property
    def new_id(self) -> Callable[[], str]: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def always_eager(self) -> bool: ...

    @property
    def is_shared(self) -> bool: ...

    @property
    def utc(self) -> bool: ...


class TaskWrapper(Masked, Generic[P, R]):
    """A function whose calls are tasks."""

    kind = "task"
    stores_result = True

    def __init__(self, huey: TaskHost, func: Callable[P, R], name: str | None, options: TaskOptions) -> None:
        func = checked_function(plain(func), name)
        self.huey = huey
        self.func = func
        self.options = options
        self.name = name or f"{module_of(func)}.{func.__name__}"
        parse_text("name", self.name, LONGEST_NAME)
        self.needs_extras = options.retries_as_argument or options.include_task
        extras = ("retries", "task")[not options.retries_as_argument : 1 + options.include_task]
        self._parameters = parameters_of(func, extras)
        self._least, self._most = self._parameters.counts
        self._taken = CALL_OVERRIDES - own_names(func, self._parameters)
        if options.constraints is not None:
            options.constraints.check_names(func)
        self._fitting: set[tuple[object, ...]] = set()
        """Numbers of arguments and keywords of calls that fitted."""
        self._is_of_script = name is None and is_of_script(self.name)
        if self._is_of_script:
            self._most = -1
        self.task_class = _task_class(self, func)
        take_over(self, func)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Enqueue one call and return at once: a ``Result``, or None without a result store (S25-S27). Keywords as for ``s``. TypeError:
        arguments that the function does not take."""
        if kwargs:
            shape = (len(args), *kwargs)
            if shape not in self._fitting:
                if not self._taken.isdisjoint(kwargs):
                    return self.huey.enqueue(self._wished(args, kwargs))
                self._check(args, kwargs)
                if len(self._fitting) < SHAPES:
                    self._fitting.add(shape)
        elif not self._least <= len(args) <= self._most:
            self._check(args, kwargs)
        return self.huey.enqueue(self.task_class(args, kwargs))

    def s(self, /, *args: P.args, **kwargs: P.kwargs) -> Task:
        """The call as a task, not enqueued: for ``huey.enqueue`` and ``huey.enqueue_many``.

        The keywords ``id, eta, delay, retries, retry_delay, retry_backoff, priority, expires, timeout`` are meant for this call and not
        passed on, except those that the function itself has as parameters. TypeError: arguments that the function does not take.
        """
        if kwargs:
            return self._wished(args, kwargs)
        self._check(args, kwargs)
        return self.task_class(args)

    def _wished(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task:
        wishes = {name: kwargs[name] for name in self._taken if name in kwargs}
        kwargs = {name: value for name, value in kwargs.items() if name not in wishes}
        self._check(args, kwargs)
        due = resolve_eta(wishes.pop("eta", None), wishes.pop("delay", None), now=self.huey.clock.now())
        return self.task_class(args, kwargs, **due._asdict(), **wishes)

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """TypeError: the function does not take these."""
        if self._is_of_script and not self.huey.always_eager:
            self._warn_of_script()
        if not kwargs and self._least <= len(args) <= self._most:
            return
        if misfit := self._parameters.misfit(args, kwargs, self._taken):
            way_out = f"call it as {getattr(self.func, '__name__', self.name)}{self._parameters}"
            raise TypeError(f"{self.name}() {misfit}{'' if misfit.endswith('?') else ';'} {way_out}")

    def _warn_of_script(self) -> None:
        """Say once that no other process knows this function."""
        self._is_of_script = False
        self._most = self._parameters.counts[1]
        # Who writes the program on the command line sees what it is.
        if self.huey.is_shared and sys.argv[:1] != ["-c"]:
            log.warning(
                "the task %s is declared in a notebook, at a prompt, or in a file that cannot be imported: no consumer of another process "
                "finds it. Move it into a module that both import, or give both sides the same name='...'",
                self.name,
            )

    def check_calls(self, calls: Sequence[tuple[Any, ...]], given: Sequence[Any]) -> None:
        """``_check`` for many calls without keywords; *given*: them, as they were given to ``map``."""
        lengths = set(map(len, calls))
        if not lengths or (self._least <= min(lengths) and max(lengths) <= self._most):
            return
        for place, args in enumerate(calls):
            try:
                self._check(args, {})
            except TypeError as error:
                hint = "; a list is one argument, a tuple several" if isinstance(given[place], list) else ""
                raise TypeError(f"item {place} of map: {error}{hint}; nothing was enqueued") from None

    def options_of(self, task: Task, options: str | None, of_id: Constraints) -> str | None:
        """*options* of a record with the terms of that call; *of_id*: those of its id."""
        wishes, terms = self.options.constraints, NONE
        if wishes is not None:
            terms = wishes.for_call(self.name, self.func, task.args, task.kwargs)
        return with_constraints(options, terms._replace(id_ttl=of_id.id_ttl, own=of_id.own))

    def map(self, calls: Iterable[Any]) -> Any:
        """Enqueue one call per item, in chunks of 1,000 that are each all or nothing (C1): a ``ResultGroup``.

        A tuple is a list of arguments, anything else a single argument.
        """
        return self.huey.client.map(self, calls)

    def schedule(
        self,
        args: Any = None,
        kwargs: dict[str, Any] | None = None,
        eta: datetime | None = None,
        delay: float | timedelta | None = None,
        convert_utc: bool = True,
        *,
        id: str | None = None,
        task_id: str | None = None,
        priority: int | None = None,
        retries: int | None = None,
        retry_delay: float | None = None,
        retry_backoff: float | None = None,
        expires: Expires | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Enqueue one call for later (S31-S35, C13): a ``Result``, or None without a result store.

        *delay*: seconds or timedelta from now. *eta*: a datetime; an aware one is exact, a naive one is local time. With
        ``convert_utc=False`` a naive one is wall time: the consumer reads it on its own clock (UTC, or local time with ``--localtime``).
        Neither, or a time in the past: at once. A number, timedelta or datetime as the only argument is the delay or eta. *expires*:
        seconds or a timedelta from the enqueue, or from the eta if that is ahead, and anew with each retry; or a datetime, which bounds
        the whole. ValueError: eta and delay given, arguments that are not a tuple or list.
        """
        if isinstance(args, int | float | timedelta | datetime) and kwargs is None and eta is None and delay is None:
            eta, delay, args = (args, None, None) if isinstance(args, datetime) else (None, args, None)
        args = _arguments(args, kwargs)
        self._check(args, kwargs or {})
        task = self.task_class(
            args,
            kwargs,
            id=id or task_id,
            **resolve_eta(eta, delay, now=self.huey.clock.now(), naive_is_local=convert_utc)._asdict(),
            retries=retries,
            retry_delay=retry_delay,
            retry_backoff=retry_backoff,
            priority=priority,
            timeout=timeout,
            expires=expires,
        )
        return self.huey.enqueue(task)

    @property
    def retries(self) -> int:
        """As declared."""
        return self.options.retries

    @property
    def retry_delay(self) -> float:
        """As declared, seconds."""
        return self.options.retry_delay

    def with_extras(self, task: Task) -> dict[str, Any]:
        """The keywords of a run: the call's own, and what the function asked for (S29, S30)."""
        if not self.needs_extras:
            return task.kwargs
        extras: dict[str, Any] = {}
        if self.options.retries_as_argument:
            extras["retries"] = task.retries
        if self.options.include_task:
            extras["task"] = task
        return {**task.kwargs, **extras}

    @opened
    def call_local(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now (S36)."""
        return self.func(*args, **kwargs)

    def revoke(self, revoke_until: datetime | None = None, revoke_once: bool = False) -> None:
        """Keep all calls from running: for ever, until a time, or once. Each call overwrites the former (S57-S60)."""
        self.huey.revoke_all(self, revoke_until, revoke_once)

    def is_revoked(self, dt: datetime | None = None, peek: bool = True, *, timestamp: datetime | None = None) -> bool:
        """Whether calls are kept from running at *dt* (None: now) (S61). *peek* False: a revocation for one run, or one that is over, is
        taken back by this, as a consumer does."""
        return self.huey.is_revoked(self, dt or timestamp, peek)

    def restore(self) -> bool:
        """Take the revocation back; True if there was one (S62)."""
        return self.huey.restore_all(self)

    def unregister(self) -> bool:
        """Forget this task: its messages are put back by this process from now on."""
        return self.huey.unregister(self)

    def __set_name__(self, owner: type, name: str) -> None:
        if is_method_of(self.func, owner, name):
            raise ValueError(
                f"{owner.__qualname__}.{name} is a method, and a task is not bound to an instance: declare a function outside of the class "
                "and give it what it needs, such as an id, as an argument; or write @staticmethod below the decorator of the task"
            )

    def __reduce__(self) -> str:
        # By its place, as functions are; then a copy is the wrapper itself.
        place: str = getattr(self.func, "__qualname__", "")
        found: Any = sys.modules.get(getattr(self.func, "__module__", ""))
        for part in place.split("."):
            found = getattr(found, part, None)
        if found is not self:
            raise TypeError(f"{self!r} is not pickled: it stands in no module by the name of its function; send its name, {self.name!r}")
        return place

    def __deepcopy__(self, memo: object) -> TaskWrapper[P, R]:
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


say_what_is_not_here(TaskWrapper, of_others=True)


class PeriodicWrapper(TaskWrapper[P, R]):
    """A function that the scheduler enqueues. Called directly it runs here and now (S66); its results are not stored (S67)."""

    kind = "periodic task"
    stores_result = False

    def __init__(
        self, huey: TaskHost, func: Callable[P, R], name: str | None, options: TaskOptions, validate_datetime: Callable[[datetime], bool]
    ) -> None:
        self.validate_datetime = validate_datetime
        super().__init__(huey, func, name, options)
        self._was_called = False
        if missing := self._parameters.missing:
            raise ValueError(
                f"{self.name}() has parameters without a default ({', '.join(missing)}), and a periodic task is called without arguments: "
                "give them defaults"
            )

    @opened
    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not self._was_called:
            self._was_called = True
            log.info("%s is periodic: a direct call runs it here; to enqueue one run use .schedule()", self.name)
        return self.func(*args, **kwargs)


def _task_class(wrapper: TaskWrapper[Any, Any], func: Callable[..., Any]) -> type[Task]:
    """The class of this function's tasks: ``queuecmd_<function>`` in the function's module (S38)."""
    options, huey = wrapper.options, wrapper.huey
    members: dict[str, Any] = {
        **dict(options.attributes),
        "__slots__": (),
        "__module__": getattr(func, "__module__", None) or __name__,
        "name": wrapper.name,
        "wrapper": wrapper,
        "execute": lambda task: func(*task.args, **wrapper.with_extras(task)),
        "new_id": staticmethod(huey.new_id),
        "default_retries": options.retries,
        "default_retry_delay": options.retry_delay,
        "default_priority": options.priority,
        "queue": options.queue,
        "default_retry_backoff": options.retry_backoff,
        "default_retry_jitter": options.retry_jitter,
        "default_max_retry_delay": options.max_retry_delay,
        "default_timeout": options.timeout,
        "has_constraints": options.constraints is not None,
        "default_expires": options.expires,
        "shows_local_time": not huey.utc,
    }
    at, after = resolve_expiry(options.expires) if options.expires is not None else (None, None)
    rare = write_policy(backoff=options.retry_backoff, jitter=options.retry_jitter, cap=options.max_retry_delay, expires_in=after)
    members |= {"default_expires_at": at, "default_expires_in": after, "default_policy": rare}
    name = getattr(func, "__name__", wrapper.name.rpartition(".")[2])
    if not isinstance(wrapper, PeriodicWrapper):
        return type(f"queuecmd_{name}", (Task,), members)
    return type(f"queuecmd_{name}", (PeriodicTask,), {**members, "validate_datetime": _asking(wrapper.validate_datetime)})


def plain(func: Any) -> Any:
    """The function inside, if *func* is a decorated function already: its calls would enqueue it, and not run it."""
    while (wrapper := getattr(func, "_wrapper", func)) is not None and isinstance(wrapper, TaskWrapper):
        func = wrapper.func
    return func


def _asking(validate_datetime: Callable[[datetime], bool]) -> Callable[[Task, datetime], bool]:
    # Instrumentations find the schedule by the name of this variable.
    return lambda task, timestamp: validate_datetime(timestamp)


def _arguments(args: Any, kwargs: Any) -> tuple[Any, ...]:
    if kwargs is not None and not isinstance(kwargs, Mapping):
        meant = args if isinstance(args, tuple | list) else (args, kwargs)
        hint = f"args={tuple(meant)!r}" if meant is not args else "kwargs={'name': value}"
        raise ValueError(f"args={args!r}, kwargs={kwargs!r}: give the arguments as a tuple, and keywords as a dict: {hint}")
    if args is None:
        return ()
    if not isinstance(args, tuple | list):
        raise ValueError(f"args={args!r}: give the arguments as a tuple, args=({args!r},)")
    return tuple(args)

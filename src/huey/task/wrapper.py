"""The object that ``@huey.task()`` returns: a function whose calls are tasks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, ParamSpec, TypeVar

from huey.runtime.event_loops import running_to_end
from huey.runtime.functions import checked_function, is_coroutine_function, is_method_of, take_over
from huey.runtime.logs import SafeLogger
from huey.runtime.masking import opened
from huey.runtime.method_masking import Masked
from huey.runtime.missing_names import explain_missing_names
from huey.runtime.times import Expires, resolve_eta
from huey.task.arguments import ANY, own_names, parameters_of, scheduled_arguments
from huey.task.bounds import LONGEST_NAME, parse_text
from huey.task.identity import is_of_script, module_of
from huey.task.links import own_links
from huey.task.options import TaskOptions
from huey.task.record_options import NONE, Constraints, with_constraints
from huey.task.task import Task
from huey.task.task_class import TaskHost, task_class

P = ParamSpec("P")
R = TypeVar("R")

log = SafeLogger("huey")

CALL_OVERRIDES = frozenset({"id", "eta", "delay", "retries", "retry_delay", "retry_backoff", "priority", "expires", "timeout"})
"""Keywords that set options of one call; they are not passed to the function, unless it has a parameter of the same name."""
REMEMBERED_SHAPES = 100
"""How many shapes of valid calls are remembered per function."""


class TaskWrapper(Masked, Generic[P, R]):
    """A function whose calls are tasks."""

    kind = "task"
    stores_result = True

    def __init__(self, huey: TaskHost, func: Callable[P, R], name: str | None, options: TaskOptions) -> None:
        func = checked_function(plain(func), name)
        self.huey = huey
        self.func = func
        self.is_async = is_coroutine_function(func)
        """Whether calling it returns a coroutine."""
        self.body = running_to_end(func) if self.is_async else func
        """What a thread calls to run it."""
        self.options = options
        self.name = name or f"{module_of(func)}.{func.__name__}"
        parse_text("name", self.name, LONGEST_NAME)
        self.needs_extras = options.retries_as_argument or options.include_task
        extras = ("retries", "task")[not options.retries_as_argument : 1 + options.include_task]
        parameters = parameters_of(func, extras)
        self._overrides = CALL_OVERRIDES - own_names(func, parameters)
        self._parameters = parameters if options.typing else ANY
        self._least, self._most = self._parameters.counts
        if options.constraints is not None:
            options.constraints.check_names(func)
        self._valid_shapes: set[tuple[object, ...]] = set()
        """Valid shapes of calls: the number of arguments, and the keywords."""
        self._is_of_script = name is None and is_of_script(self.name)
        if self._is_of_script:
            self._most = -1
        self.task_class = task_class(self, huey, func, self.name, options)
        take_over(self, func)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Enqueue one call and return its ``Result`` at once, or None without a result store. Keywords are as for ``s``. Raise TypeError
        for arguments that the function does not take."""
        if kwargs:
            shape = (len(args), *kwargs)
            if shape not in self._valid_shapes:
                if not self._overrides.isdisjoint(kwargs):
                    return self.huey.enqueue(self._with_overrides(args, kwargs))
                self._check(args, kwargs)
                if len(self._valid_shapes) < REMEMBERED_SHAPES:
                    self._valid_shapes.add(shape)
        elif not self._least <= len(args) <= self._most:
            self._check(args, kwargs)
        return self.huey.enqueue(self.task_class(args, kwargs))

    async def aenqueue(self, /, *args: Any, **kwargs: Any) -> Any:
        """Enqueue one call from a coroutine and return its ``Result``, as a call does, but without blocking the event loop: a thread waits
        for the disk or the server. Arguments are checked at once."""
        task = self._with_overrides(args, kwargs)
        return await self.huey.aenqueue(task)

    def s(self, /, *args: Any, **kwargs: Any) -> Task:
        """Return the call as a task without enqueuing it, for ``huey.enqueue``, pipelines, groups and chords.

        The keywords ``id, eta, delay, retries, retry_delay, retry_backoff, priority, expires, timeout`` are options of this call. They are
        not passed to the function, unless it has parameters of these names. Arguments that an earlier task of a pipeline passes may be left
        out; the enqueue checks the first task. Raise TypeError for arguments that the function does not take.
        """
        if kwargs:
            return self._with_overrides(args, kwargs, may_lack=True)
        lacks, task = self._check(args, kwargs, may_lack=True), self.task_class(args)
        if lacks:
            own_links(task).is_partial = True
        return task

    def _with_overrides(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, may_lack: bool = False) -> Task:
        overrides = {name: kwargs[name] for name in self._overrides if name in kwargs}
        kwargs = {name: value for name, value in kwargs.items() if name not in overrides}
        lacks = self._check(args, kwargs, may_lack=may_lack)
        due = resolve_eta(overrides.pop("eta", None), overrides.pop("delay", None), now=self.huey.clock.now())
        task = self.task_class(args, kwargs, **due._asdict(), **overrides)
        if lacks:
            own_links(task).is_partial = True
        return task

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, may_lack: bool = False) -> bool:
        """Raise TypeError if the function does not take these arguments. With *may_lack* some may be missing: return whether they are."""
        if self._is_of_script and not self.huey.always_eager:
            self._warn_of_script()
        if not kwargs and self._least <= len(args) <= self._most:
            return False
        misfit = self._parameters.misfit(args, kwargs, self._overrides)
        if misfit is None:
            return False
        if may_lack and self._parameters.misfit(args, kwargs, self._overrides, may_lack=True) is None:
            return True
        way_out = f"call it as {getattr(self.func, '__name__', self.name)}{self._parameters}"
        raise TypeError(f"{self.name}() {misfit}{'' if misfit.endswith('?') else ';'} {way_out}")

    def check_task(self, task: Task, passed: int = 0) -> None:
        """Raise TypeError if the function does not accept the arguments of *task* followed by *passed* values of its parents."""
        self._check((*task.args, *[None] * passed), task.kwargs)

    def _warn_of_script(self) -> None:
        """Log a warning, once, that no other process knows this function."""
        self._is_of_script = False
        self._most = self._parameters.counts[1]
        # The author of a program on the command line sees where it is.
        if self.huey.is_shared and sys.argv[:1] != ["-c"]:
            log.warning(
                "the task %s is declared in a notebook, at a prompt, or in a file that cannot be imported: a consumer in another process "
                "cannot find it. Move it into a module that both import, or give both sides the same name='...'",
                self.name,
            )

    def check_calls(self, calls: Sequence[tuple[Any, ...]], given: Sequence[Any]) -> None:
        """Check many calls without keywords, like ``_check``. *given*: the items, as passed to ``map``."""
        lengths = set(map(len, calls))
        if not lengths or (self._least <= min(lengths) and max(lengths) <= self._most):
            return
        for index, args in enumerate(calls):
            try:
                self._check(args, {})
            except TypeError as error:
                hint = "; a list is one argument, a tuple is several" if isinstance(given[index], list) else ""
                raise TypeError(f"item {index} of map: {error}{hint}; nothing was enqueued") from None

    def options_of(self, task: Task, options: str | None, of_id: Constraints) -> str | None:
        """Return the *options* of a record with the constraints of *task* added; *of_id*: the constraints of its id."""
        spec, constraints = self.options.constraints, NONE
        if spec is not None:
            constraints = spec.for_call(self.name, self.func, task.args, task.kwargs)
        return with_constraints(options, constraints._replace(id_ttl=of_id.id_ttl, own=of_id.own))

    def map(self, calls: Iterable[Any]) -> Any:
        """Enqueue one call per item, in chunks of 1,000 that are each all or nothing, and return a ``ResultGroup``.

        A tuple holds several arguments; anything else is a single argument.
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
        """Enqueue one call for later and return its ``Result``, or None without a result store.

        *delay*: seconds or timedelta from now. *eta*: a datetime; an aware one is exact, a naive one is local time. With
        ``convert_utc=False`` a naive one is wall time: the consumer reads it on its own clock (UTC, or local time with ``--localtime``).
        Without either, or with a time in the past, the call is ready at once. A number, timedelta or datetime as the only argument is the
        delay or eta. *expires*: seconds or a timedelta from the enqueue, or from the eta if that is later, counted again from each retry;
        or a datetime, which applies to all tries. Raise ValueError for both eta and delay, or arguments that are not a tuple or list.
        """
        if isinstance(args, int | float | timedelta | datetime) and kwargs is None and eta is None and delay is None:
            eta, delay, args = (args, None, None) if isinstance(args, datetime) else (None, args, None)
        args = scheduled_arguments(args, kwargs)
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
        """The number of retries, as declared."""
        return self.options.retries

    @property
    def retry_delay(self) -> float:
        """The retry delay in seconds, as declared."""
        return self.options.retry_delay

    def with_extras(self, task: Task) -> dict[str, Any]:
        """Return the keywords of a run: those of the call, and ``retries`` and ``task`` if the decorator asks for them."""
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
        """Run the function in this process and return its value; of an ``async def``, return the coroutine, to be awaited."""
        return self.func(*args, **kwargs)

    def revoke(self, revoke_until: datetime | None = None, revoke_once: bool = False) -> None:
        """Keep all calls from running: forever, until a time, or once. Each revocation overwrites the previous one."""
        self.huey.revoke_all(self, revoke_until, revoke_once)

    def is_revoked(self, dt: datetime | None = None, peek: bool = True, *, timestamp: datetime | None = None) -> bool:
        """Return whether calls are revoked at *dt* (None: now). With *peek* False, also remove a revocation that is for one run only or has
        ended, as a consumer does."""
        return self.huey.is_revoked(self, dt or timestamp, peek)

    def restore(self) -> bool:
        """Take the revocation back; return whether there was one."""
        return self.huey.restore_all(self)

    def unregister(self) -> bool:
        """Unregister this function and return whether it was registered: from now on this process returns its tasks to the queue."""
        return self.huey.unregister(self)

    def __set_name__(self, owner: type, name: str) -> None:
        if is_method_of(self.func, owner, name):
            raise ValueError(
                f"{owner.__qualname__}.{name} is a method, and a task is not bound to an instance: declare a function outside of the class "
                "and give it what it needs, such as an id, as an argument; or write @staticmethod below the decorator of the task"
            )

    def __reduce__(self) -> str:
        # By module and name, like functions, so that a copy is the wrapper itself.
        qualified_name: str = getattr(self.func, "__qualname__", "")
        found: Any = sys.modules.get(getattr(self.func, "__module__", ""))
        for part in qualified_name.split("."):
            found = getattr(found, part, None)
        if found is not self:
            raise TypeError(f"{self!r} cannot be pickled: no module has it under the name of its function; send its name, {self.name!r}")
        return qualified_name

    def __deepcopy__(self, memo: object) -> TaskWrapper[P, R]:
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


explain_missing_names(TaskWrapper)


def plain(func: Any) -> Any:
    """Return the undecorated function if *func* is decorated already, because calling *func* would enqueue a task instead of running it."""
    while (wrapper := getattr(func, "_wrapper", func)) is not None and isinstance(wrapper, TaskWrapper):
        func = wrapper.func
    return func

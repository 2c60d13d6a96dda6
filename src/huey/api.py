"""``Huey``: the facade. Each method calls the part that does the work; those are in ``huey.client``."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Sequence
from copy import copy
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, Unpack, cast, overload

from huey.client.context import CallPolicy, QueueContext
from huey.client.legacy_facade import LegacyFacade
from huey.client.locks import RateLimit, TaskLock
from huey.client.result import Result
from huey.client.result_groups import ChordResult, ResultGroup
from huey.client.routing import QueueRouter
from huey.cron import crontab
from huey.exceptions import CancelExecution, ConfigurationError, DataStoreTimeout, RetryTask
from huey.hooks import Hooks
from huey.registry import Registry
from huey.runtime.clock import Clock, Ids, Rng, system_clock, system_rng
from huey.runtime.functions import checked_function, inside_context
from huey.runtime.missing_names import not_here
from huey.serializer import Codec
from huey.signals import Signals
from huey.storage import adapted, is_queue_part, open_as, open_of, open_parts, why_not
from huey.storage.base import Storage
from huey.task.arguments import check_schedule
from huey.task.bounds import parse_number, parse_text
from huey.task.composition import chord, group
from huey.task.options import CallOptionArgs, TaskOptionArgs, parse_options
from huey.task.task import PeriodicTask, Task
from huey.task.wrapper import plain
from huey.utils import SKIPPED, Error

if TYPE_CHECKING:
    from typing import Self

    from huey.client.typed import ConsumerOptionArgs, LooseTaskDecorator, PeriodicWrapper, TaskDecorator, TaskWrapper
    from huey.consumer.program import Consumer
    from huey.inspector import Inspector
else:
    from huey.task.periodic import PeriodicWrapper
    from huey.task.wrapper import TaskWrapper

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("huey")

AsyncData = Result
_NOT_MADE_YET: Any = None
"""The storage, while ``get_storage`` of a subclass may ask for the name or the clock."""

__all__ = [
    "SKIPPED", "AsyncData", "CancelExecution", "ChordResult", "DataStoreTimeout", "Error", "Huey", "PeriodicTask", "RateLimit", "Result",
    "ResultGroup", "RetryTask", "Task", "TaskLock", "TaskWrapper", "chord", "crontab", "group",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # Classes of Huey with a storage of their own, which huey 3.x exports here: they are subclasses of this one, in another module.
    if name.endswith("Huey"):
        from importlib import import_module

        presets = import_module("huey.presets")
        if hasattr(presets, name):
            return getattr(presets, name)
    not_here(__name__, name)


class Huey(LegacyFacade):
    """A task queue and its task functions.

    *name*: the queue's name; instances with the same name and storage share it. By default tasks are kept in the SQLite file ``huey.db`` in
    the current directory; other keywords (``filename=``, ``fsync=``, ...) go to that storage. *storage*: another storage. *storage_class*:
    a class of ``huey.storage``, or a ``BaseStorage`` of your own as for huey 3.x; a consumer logs at startup what that cannot promise.

    *results*: False stores no results, and calls return None. *store_none*: store the value None too. *always_eager*: a call runs the
    function at once and returns its value. *utc*: False if consumers run with ``--localtime``.

    *immediate*: calls run synchronously in the calling thread, exactly as a consumer would run them: they return a handle, and errors are
    stored. Scheduled tasks are stored but not run. It can be set at any time. While it is set, a storage in memory replaces the real one,
    unless *immediate_use_memory* is False. *store_intermediate_errors*: a ``get()`` that does not wait raises the last error while retries
    are left (components of 0.4.9 keep none).

    *serializer*: an object with ``serialize`` and ``deserialize`` (default: pickle). *secret*: signs every message; a list rotates secrets
    (the first signs, all verify); default: the environment variable HUEY_SECRET. *compression*, *use_zlib*: compress stored values.
    *allow_pickle*: True reads pickles of any class even from stores that others can write to; False from none.

    *queue* (also as first argument), *result_store*, *schedule*, *events*: components of 0.4.9, see ``huey.backends.base``; they replace
    *name* and *storage*, and without a result store there are no results.

    *keep_ids*: seconds, from a call or its eta, for which an id that you chose (``id=``) stays known even after its task has ended:
    repeating the call changes nothing. None or 0: until its task has ended; then the same id starts a new run.

    Raises ConfigurationError for an option that does not exist or cannot work.
    """

    storage_class: Any = None
    """The storage class that replaces the default of this class; like *storage_class*."""
    _storage_kind = "SqliteStorage"

    def __init__(
        self,
        name: Any = "huey",
        result_store: Any = None,
        schedule: Any = None,
        events: Any = None,
        store_none: bool = False,
        always_eager: bool = False,
        *,
        queue: Any = None,
        storage: Storage | None = None,
        results: bool = True,
        utc: bool = True,
        immediate: bool = False,
        immediate_use_memory: bool = True,
        store_intermediate_errors: bool = True,
        serializer: Any = None,
        secret: str | bytes | Sequence[str | bytes] | None = None,
        compression: bool = False,
        use_zlib: bool = False,
        allow_pickle: bool | None = None,
        keep_ids: float | None = None,
        clock: Clock = system_clock,
        rng: Rng = system_rng,
        **storage_options: Any,
    ) -> None:
        if queue is None and is_queue_part(name):
            name, queue = "huey", name
        self.queue, self.result_store, self.schedule = queue, result_store, schedule
        if queue is not None or (result_store, schedule, events) != (None, None, None):
            storage = self._storage_of_parts(name, events, storage, clock)
            name, results = storage.name, results and result_store is not None
        name = _checked_name(name)
        make_codec = functools.partial(
            Codec,
            serializer=serializer,
            secret=os.environ.get("HUEY_SECRET") or None if secret is None else secret,
            compression=compression,
            use_zlib=use_zlib,
            allow_pickle=allow_pickle,
        )
        ids = None if not keep_ids else float(parse_number("keep_ids", keep_ids))
        policy = CallPolicy(results, store_none, store_intermediate_errors, always_eager, utc, ids)
        codec = make_codec(name, is_trusted=lambda: self.storage.is_trusted)
        context = QueueContext(name, _NOT_MADE_YET, codec, make_codec, clock, rng, Ids(clock, rng), Registry(), Signals(), Hooks(), policy)
        QueueRouter(self, context, _ORIGINALS, lambda: copy(self))
        self.storage = self._make_storage(storage, storage_options)
        self.store_intermediate_errors = store_intermediate_errors and self.storage.features.keeps_errors
        self._immediate_use_memory = immediate_use_memory
        self.immediate = immediate

    @property
    def immediate(self) -> bool:
        """Whether tasks run where they are called. Setting it raises ConfigurationError if ``always_eager`` is set."""
        return self.client.router.state.is_immediate

    @immediate.setter
    def immediate(self, on: bool) -> None:
        self.client.router.set_immediate(bool(on), self._make_memory_storage if self._immediate_use_memory else None)

    def _make_memory_storage(self) -> Storage:
        return open_as("MemoryStorage", self.name, clock=self.clock, rng=self.rng)

    def _storage_of_parts(self, name: Any, events: Any, storage: Storage | None, clock: Clock) -> Storage:
        """Return the storage on top of components of 0.4.9."""
        if self.queue is None or storage is not None or name != "huey":
            fact = f"name={name!r}" if name != "huey" else "no queue=" if self.queue is None else "storage="
            raise ConfigurationError(f"{fact} with components of 0.4.9: these are Huey(queue, result_store=..., schedule=..., events=...)")
        return open_parts(self.queue, self.result_store, self.schedule, events, clock=clock)

    def _make_storage(self, storage: Storage | None, options: dict[str, Any]) -> Storage:
        self.storage_class = options.pop("storage_class", None) or self.storage_class
        if storage is not None:
            if options:
                raise ConfigurationError(f"{', '.join(options)}: options of a storage go to the storage that you made yourself")
            return storage
        try:
            return adapted(self.get_storage(**options), self.name, self.clock)
        except TypeError as error:
            raise ConfigurationError(why_not(self, self.name, error)) from error

    def get_storage(self, **options: Any) -> Any:
        """Return the storage, made with *options* that are not ``Huey``'s own. Override it to return another one: of ``huey.storage``, or a
        ``BaseStorage`` as for huey 3.x."""
        if self.storage_class is None:
            return open_as(self._storage_kind, self.name, clock=self.clock, rng=self.rng, **options)
        return open_of(self.storage_class, self.name, self.clock, self.rng, **options)

    def on(self, queue: str | None) -> Self:
        """Return this Huey on another queue of the same store: ``huey.on("mail").inspector``, ``huey.on("mail").result(id)``. Tasks
        enqueued through it go to that queue. Raise ConfigurationError if the storage holds only one queue."""
        return cast("Self", self if queue is None else self.client.router.for_queue(queue).huey)

    # -- functions ----------------------------------------------------------------------------------------------------------------------

    @overload
    def task(
        self,
        retries: int = 0,
        retry_delay: float = 0,
        retries_as_argument: Literal[False] = False,
        include_task: Literal[False] = False,
        *,
        context: Literal[False] = False,
        **options: Unpack[CallOptionArgs],
    ) -> TaskDecorator: ...
    # Callers leave out what huey passes, so their arguments are not checked.
    @overload
    def task(
        self,
        retries: int = 0,
        retry_delay: float = 0,
        retries_as_argument: bool = False,
        include_task: bool = False,
        **options: Unpack[TaskOptionArgs],
    ) -> LooseTaskDecorator: ...
    def task(
        self,
        retries: int = 0,
        retry_delay: float = 0,
        retries_as_argument: bool = False,
        include_task: bool = False,
        **options: Unpack[TaskOptionArgs],
    ) -> Any:
        """Decorator: calls of the function become tasks.

        *retries*: further runs after a failure. *retry_delay*: least seconds between them. *retries_as_argument*: pass the number of
        retries left as the keyword ``retries``. *include_task* (or *context*): pass the task as the keyword ``task``.
        *name*: the name of its tasks in the queue, default ``module.function``; *aliases*: its former names. *priority*: higher runs
        first. *expires*: latest start, in seconds or as a timedelta from the call, or a datetime. *timeout*: seconds that a run may take;
        then ``TaskTimeout`` is raised inside it, and if that does not end it, the supervisor kills its process and the run fails
        (reason "timeout"). *queue*: calls go to this queue of the same store; consumers take from it with ``--queues``.
        *retry_backoff*: factor by which the delay grows with each failed attempt, up to *max_retry_delay* seconds; 0: it does not grow.
        *retry_jitter*: largest random share of the delay that is added to it (0.1: a tenth). *retry_on*, *no_retry_on*: retry only after
        these exceptions, or not after these: a class, several, or a function of the exception.
        *unique*, *unique_for*, *concurrency*, *key*, *rate*, *rate_key*, *at_most_once*: see ``ConstraintSpec``. *keep*: how long a task
        is kept, for the inspector, when it has succeeded: seconds or a timedelta; None: as the storage's ``keep_finished``. *typing*:
        False: the arguments of a call are not checked before it runs. *task_attributes*: more attributes for the class of its tasks, for
        hooks and handlers to read, such as ``{"team": "billing"}``.
        Raises ValueError for a value that cannot work or a name that another function has, TypeError for an unknown option.
        """
        parsed = parse_options("task", options, retries, retry_delay, retries_as_argument, include_task)

        def decorate(func: Callable[..., Any]) -> TaskWrapper[..., Any]:
            wrapper = TaskWrapper(self, func, options.get("name"), parsed)
            self.registry.register(wrapper)
            return wrapper

        return decorate

    def periodic_task(
        self,
        validate_datetime: Callable[[datetime], bool] | str,
        retries: int = 0,
        retry_delay: float = 0,
        retries_as_argument: bool = False,
        include_task: bool = False,
        **options: Unpack[TaskOptionArgs],
    ) -> Callable[[Callable[P, R]], PeriodicWrapper[P, R]]:
        """Decorator: the consumer runs the function at each minute for which *validate_datetime* is true: ``crontab(...)``, a cron line
        such as ``"0 3 * * *"``, or any callable of a datetime. A periodic task runs once per tick, however many consumers are running.
        Its results are not stored. Other keywords: see ``task``."""
        if isinstance(validate_datetime, str):
            validate_datetime = crontab.of_line(validate_datetime)
        check_schedule(validate_datetime)
        parsed = parse_options("periodic_task", options, retries, retry_delay, retries_as_argument, include_task)

        def decorate(func: Callable[P, R]) -> PeriodicWrapper[P, R]:
            wrapper = PeriodicWrapper(self, func, options.get("name"), parsed, validate_datetime)
            self.registry.register(wrapper)
            return wrapper

        return decorate

    def context_task(
        self, obj: Any, as_argument: bool = False, **task_options: Any
    ) -> Callable[[Callable[..., Any]], TaskWrapper[..., Any]]:
        """Decorator: like ``task``, but the body runs inside ``with obj:``. *as_argument*: pass what that returns as the first argument."""

        def decorate(func: Callable[..., Any]) -> TaskWrapper[..., Any]:
            func = checked_function(plain(func), task_options.get("name"))
            inside = inside_context(obj, func, as_argument)
            declare: Callable[[Callable[..., Any]], TaskWrapper[..., Any]] = self.task(**task_options)
            return declare(inside)

        return decorate

    def unregister(self, wrapper: TaskWrapper[Any, Any]) -> bool:
        """Remove a function from the registry; return whether it was there."""
        return self.registry.unregister(wrapper.name)

    # -- the queue ----------------------------------------------------------------------------------------------------------------------

    @property
    def inspector(self) -> Inspector:
        """The inspector of this queue: shows tasks, workers and statistics, and acts on them."""
        from huey.inspector import Inspector

        return Inspector(self.storage, self.codec, self.clock)

    def __len__(self) -> int:
        """Return the number of pending tasks, like ``pending_count()``."""
        return self.pending_count()

    def __bool__(self) -> bool:
        return True

    @property
    def is_shared(self) -> bool:
        """Whether another process may run its tasks."""
        return self.storage.features.is_shared and not self.immediate

    def flush(self) -> None:
        """Remove everything in this queue."""
        self.storage.flush()

    def close(self) -> None:
        """Close files and connections; the next call reopens them."""
        self.client.router.close()

    def create_consumer(self, **options: Unpack[ConsumerOptionArgs]) -> Consumer:
        """Return a consumer that runs in this process: use ``start()`` and ``stop()``, or ``run()``, which starts worker processes if its
        options ask for them. Options as for ``Consumer``."""
        from huey.consumer.program import Consumer

        return Consumer(self, **options)

    def __copy__(self) -> Self:
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be pickled: import it where it is needed, and pass names and ids, such as result.id")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"name={name!r}: a queue needs a name, such as Huey('my-app')")
    try:
        return parse_text("name", name)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


_ORIGINALS = {verb: getattr(Huey, verb) for verb in ("enqueue", "_execute", "build_error_result")}
"""The methods that may be replaced; see ``huey.client.context``."""

"""``Huey``: the face of the house. Each method hands on to the part that does the work."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from huey.client.limits import RateLimit, TaskLock
from huey.client.producer import Putting
from huey.client.result import Result, ResultGroup
from huey.client.revocation import Revoking
from huey.cron import crontab
from huey.exceptions import CancelExecution, ConfigurationError, DataStoreTimeout, RetryTask
from huey.hooks import Hooks
from huey.registry import Registry
from huey.runtime.clock import Clock, Ids, Micros, Rng, micros, system_clock, system_rng
from huey.runtime.functions import checked_function, passing_on, tell_without_first
from huey.runtime.hinting import hinting
from huey.runtime.masking import Masked, stepwise
from huey.runtime.missing_names import not_here
from huey.runtime.once import once
from huey.runtime.times import Expires
from huey.serializer import Codec
from huey.signals import Signals
from huey.storage import adapted, is_queue_part, open_as, open_of, open_parts
from huey.storage.base import Storage
from huey.storage.unknown_options import why_not
from huey.task.arguments import check_schedule
from huey.task.bounds import parse_number, parse_text
from huey.task.constraints import Key, parse_constraints
from huey.task.options import ExceptionFilter, parse_options
from huey.task.record_options import DONE
from huey.task.task import PeriodicTask, Task
from huey.task.wrapper import PeriodicWrapper, TaskWrapper, plain

if TYPE_CHECKING:
    from typing import Self

    from huey.consumer.program import Consumer
    from huey.inspector import Inspector

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("huey")

AsyncData = Result

__all__ = [
    "AsyncData", "CancelExecution", "DataStoreTimeout", "Huey", "PeriodicTask", "RateLimit", "Result", "ResultGroup", "RetryTask", "Task",
    "TaskLock", "TaskWrapper", "crontab",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # Classes of Huey with a storage of their own, which huey 3.x has here: they are made of what stands below, in another module.
    if name.endswith("Huey"):
        from importlib import import_module

        presets = import_module("huey.presets")
        if hasattr(presets, name):
            return getattr(presets, name)
    not_here(__name__, name)


class Huey(Putting, Revoking, Masked):
    """One queue and the functions that run from it.

    *name*: the queue's name; instances of one name and storage share it. Without more, tasks are kept in the SQLite file ``huey.db`` in
    the current directory; other keywords (``filename=``, ``fsync=``, ...) go to that storage. *storage*: another storage. *storage_class*:
    a class of ``huey.storage``, or a ``BaseStorage`` of your own as for huey 3.x; a consumer tells at its start what that cannot promise.

    *results*: False stores no results, calls return None. *store_none*: store the value None too (S17, S18). *always_eager*: a call runs
    the function at once and returns its value (S19). *utc*: False when consumers run with ``--localtime``.

    *immediate*: a call is run in the caller, by the way of a consumer: a handle is returned, errors are stored, a task for later only
    stands on the schedule. It can be set at any time. Meanwhile a storage in memory takes the place of the other, unless
    *immediate_use_memory* is False. *store_intermediate_errors*: a ``get()`` that does not wait raises the last error while
    further tries are left (parts of 0.4.9 keep none).

    *serializer*: an object with ``serialize`` and ``deserialize`` (default: pickle). *secret*: signs every message, a list of secrets
    rotates them (first signs, all verify); default the environment's HUEY_SECRET. *compression*, *use_zlib*: compress what is stored.
    *allow_pickle*: True reads pickles of any class also from stores that others may write into; False from none.

    *queue* (also as first argument), *result_store*, *schedule*, *events*: parts of 0.4.9, see ``huey.backends.base``; then there is no
    name and no other storage, and without a result store no results (S15, S16, C1).

    *keep_ids*: seconds, from a call or its eta, for which an id that you chose (``id=``) stays known also when its task has ended: the same
    call again changes nothing. None or 0: while its task is held; once that has ended, the same id is a new run.

    ConfigurationError: an option that does not exist or cannot work.
    """

    storage_class: Any = None
    """Class of the storage, in place of that of this class; as *storage_class*."""
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
            storage = self._of_parts(name, events, storage, clock)
            name, results = storage.name, results and result_store is not None
        self.name = _checked_name(name)
        self.results = results
        self.store_none = store_none
        self.always_eager = always_eager
        self.utc = utc
        self.clock = clock
        self.rng = rng
        self.new_id = Ids(clock, rng)
        self.keep_ids = None if not keep_ids else float(parse_number("keep_ids", keep_ids))
        self.registry = Registry()
        self.hooks = Hooks()
        self.signals = Signals()
        self.in_flight = []
        self._lasting = self.storage = self._storage(storage, storage_options)
        self.store_intermediate_errors = store_intermediate_errors and self._lasting.keeps_errors
        self._fleeting = None if immediate_use_memory else self._lasting
        self._codec_options = {
            "serializer": serializer,
            "secret": os.environ.get("HUEY_SECRET") or None if secret is None else secret,
            "compression": compression,
            "use_zlib": use_zlib,
            "allow_pickle": allow_pickle,
        }
        self.codec = self._make_codec()
        self._home, self._branches = None, {}
        self._hands, self._presences, self._stand_ins = {}, {}, {}
        self._is_immediate = False
        self.immediate = immediate

    @property
    def immediate(self) -> bool:
        """Tasks run where they are called. ConfigurationError when it is set on one that is always_eager."""
        return self._is_immediate

    @immediate.setter
    def immediate(self, on: bool) -> None:
        if on and self.always_eager:
            raise ConfigurationError("immediate and always_eager are two ways not to need a consumer: choose one of them")
        self._is_immediate = bool(on)
        if on and self._fleeting is None:
            self._fleeting = once(self._stand_ins, self.name, lambda: open_as("MemoryStorage", self.name, clock=self.clock, rng=self.rng))
        self.storage = self._fleeting if on and self._fleeting is not None else self._lasting
        self.codec.reset()

    def _make_codec(self) -> Codec:
        return Codec(self.name, is_trusted=lambda: self.storage.is_trusted, **self._codec_options)

    def _of_parts(self, name: Any, events: Any, storage: Storage | None, clock: Clock) -> Storage:
        """The storage over parts of 0.4.9 (C1)."""
        if self.queue is None or storage is not None or name != "huey":
            fact = f"name={name!r}" if name != "huey" else "no queue=" if self.queue is None else "storage="
            raise ConfigurationError(f"{fact} with parts of 0.4.9: these are Huey(queue, result_store=..., schedule=..., events=...)")
        return open_parts(self.queue, self.result_store, self.schedule, events, clock=clock)

    def _storage(self, storage: Storage | None, options: dict[str, Any]) -> Storage:
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
        """Make the storage, of *options* that are not ``Huey``'s own. Override it to make another one: of ``huey.storage``, or a
        ``BaseStorage`` as for huey 3.x."""
        if self.storage_class is None:
            return open_as(self._storage_kind, self.name, clock=self.clock, rng=self.rng, **options)
        return open_of(self.storage_class, self.name, self.clock, self.rng, **options)

    # -- decorators ---------------------------------------------------------------------------------------------------------------------

    @hinting
    def task(
        self,
        retries: int = 0,
        retry_delay: float = 0,
        retries_as_argument: bool = False,
        include_task: bool = False,
        *,
        name: str | None = None,
        priority: int | None = None,
        expires: Expires | None = None,
        timeout: float | None = None,
        context: bool = False,
        retry_backoff: float = 0,
        retry_jitter: float = 0,
        max_retry_delay: float | None = None,
        retry_on: ExceptionFilter | None = None,
        no_retry_on: ExceptionFilter | None = None,
        aliases: Sequence[str] = (),
        queue: str | None = None,
        unique: bool | Key = False,
        unique_for: str | float | timedelta = DONE,
        concurrency: int | None = None,
        key: Key | None = None,
        at_most_once: bool = False,
        task_attributes: Mapping[str, Any] | None = None,
    ) -> Callable[[Callable[P, R]], TaskWrapper[P, R]]:
        """Decorator: calls of the function become tasks (S25-S30, C12).

        *retries*: further runs after a failure. *retry_delay*: seconds between them, at least. *retries_as_argument*: pass the runs left
        as keyword ``retries``. *include_task* (or *context*): pass the task as keyword ``task``. *name*: identity in the queue, default
        ``module.function``; *aliases*: names it had before. *priority*: higher runs first. *expires*: do not start later than this, seconds
        or timedelta from the call, or a datetime. *timeout*: seconds that a run may take; then ``TaskTimeout`` is raised inside it, and if
        that does not end it, the supervisor ends its process and the run has failed (reason "timeout").
        *retry_backoff*: factor by which the delay grows with each failed try, up to *max_retry_delay* seconds; 0: it does not.
        *retry_jitter*: up to such a share of it (0.1: a tenth) is added by chance. *retry_on*, *no_retry_on*: only after these exceptions
        it is tried again, or not after these: a class, several, or a function of the exception. *queue*: calls go to this queue of the
        same store; consumers take from it with ``--queues``.
        *unique*, *unique_for*, *concurrency*, *key*, *at_most_once*: see ``ConstraintSpec``. *task_attributes*: further
        attributes of the class of its tasks, for hooks and handlers to look at, such as ``{"team": "billing"}``. ValueError: a value that
        cannot work, a name that another function has.
        """
        options = parse_options(
            retries=retries, retry_delay=retry_delay, retries_as_argument=retries_as_argument,
            include_task=include_task or context, priority=priority or 0, expires=expires, timeout=timeout,
            retry_backoff=retry_backoff, retry_jitter=retry_jitter, max_retry_delay=max_retry_delay, retry_on=retry_on,
            no_retry_on=no_retry_on, aliases=aliases, queue=queue, attributes=tuple((task_attributes or {}).items()),
            constraints=parse_constraints(unique, unique_for, concurrency, key, at_most_once),
        )  # fmt: skip

        def decorate(func: Callable[P, R]) -> TaskWrapper[P, R]:
            wrapper = TaskWrapper(self, func, name, options)
            self.registry.register(wrapper)
            return wrapper

        return decorate

    @hinting
    def periodic_task(
        self,
        validate_datetime: Callable[[datetime], bool] | str,
        retries: int = 0,
        retry_delay: float = 0,
        retries_as_argument: bool = False,
        include_task: bool = False,
        *,
        name: str | None = None,
        priority: int | None = None,
        expires: Expires | None = None,
        timeout: float | None = None,
        context: bool = False,
        retry_backoff: float = 0,
        retry_jitter: float = 0,
        max_retry_delay: float | None = None,
        retry_on: ExceptionFilter | None = None,
        no_retry_on: ExceptionFilter | None = None,
        aliases: Sequence[str] = (),
        queue: str | None = None,
        unique: bool | Key = False,
        unique_for: str | float | timedelta = DONE,
        concurrency: int | None = None,
        key: Key | None = None,
        at_most_once: bool = False,
        task_attributes: Mapping[str, Any] | None = None,
    ) -> Callable[[Callable[P, R]], PeriodicWrapper[P, R]]:
        """Decorator: the consumer runs the function at each minute for which *validate_datetime* is true: ``crontab(...)``, a cron line
        such as ``"0 3 * * *"``, or any callable of a datetime (S64-S69). Each tick runs once, whatever the number of consumers. Results
        are not stored."""
        if isinstance(validate_datetime, str):
            validate_datetime = crontab.of_line(validate_datetime)
        check_schedule(validate_datetime)
        options = parse_options(
            retries=retries, retry_delay=retry_delay, retries_as_argument=retries_as_argument,
            include_task=include_task or context, priority=priority or 0, expires=expires, timeout=timeout,
            retry_backoff=retry_backoff, retry_jitter=retry_jitter, max_retry_delay=max_retry_delay, retry_on=retry_on,
            no_retry_on=no_retry_on, aliases=aliases, queue=queue, attributes=tuple((task_attributes or {}).items()),
            constraints=parse_constraints(unique, unique_for, concurrency, key, at_most_once),
        )  # fmt: skip

        def decorate(func: Callable[P, R]) -> PeriodicWrapper[P, R]:
            wrapper = PeriodicWrapper(self, func, name, options, validate_datetime)
            self.registry.register(wrapper)
            return wrapper

        return decorate

    def context_task(
        self, obj: Any, as_argument: bool = False, **task_options: Any
    ) -> Callable[[Callable[..., Any]], TaskWrapper[..., Any]]:
        """Decorator: as ``task``, but the body runs inside ``with obj:``. *as_argument*: what that gives is the first argument."""

        def decorate(func: Callable[..., Any]) -> TaskWrapper[..., Any]:
            func = checked_function(plain(func), task_options.get("name"))

            @passing_on
            @functools.wraps(func)
            def inside(*args: Any, **kwargs: Any) -> Any:
                with obj:
                    return func(*args, **kwargs)

            @functools.wraps(func)
            def inside_with(*args: Any, **kwargs: Any) -> Any:
                with obj as entered:
                    return func(entered, *args, **kwargs)

            if not as_argument:
                return self.task(**task_options)(inside)
            tell_without_first(inside_with, func)
            return self.task(**task_options)(inside_with)

        return decorate

    def unregister(self, wrapper: TaskWrapper[Any, Any]) -> bool:
        """Forget a function; True if it was known."""
        return self.registry.unregister(wrapper.name)

    # -- looking ------------------------------------------------------------------------------------------------------------------------

    @property
    def inspector(self) -> Inspector:
        """Tasks, workers and statistics of this queue to look at and to act on."""
        from huey.inspector import Inspector

        return Inspector(self.storage, self.codec, self.clock)

    def result(
        self,
        id: str,
        blocking: bool = False,
        timeout: float | None = None,
        backoff: float = 1.15,
        max_delay: float = 1.0,
        revoke_on_timeout: bool = False,
        preserve: bool = False,
        allow_wait: bool = False,
    ) -> Any:
        """The result of the task of that id; see ``Result.get``. An id that is not held, and of which no result is stored, is waited for:
        it may be enqueued yet."""
        return Result[Any](self, Task(id=id)).get(blocking, timeout, backoff, max_delay, revoke_on_timeout, preserve, allow_wait)

    def events(self, timeout: float | None = None) -> Iterator[str]:
        """Events of this queue from now on, as JSON texts, as they happen (S119). Ends when none came for *timeout* seconds."""
        return self._events(self.storage.follow(None)[0], timeout)

    @stepwise
    def _events(self, position: int, timeout: float | None) -> Iterator[str]:
        quiet_since = self.clock.monotonic()
        while timeout is None or self.clock.monotonic() - quiet_since < micros(timeout):
            position, told = self.storage.follow(position, min(5.0, 5.0 if timeout is None else timeout))
            yield from told
            if told:
                quiet_since = self.clock.monotonic()

    def __len__(self) -> int:
        """How many tasks are pending, as ``pending_count()``."""
        return self.pending_count()

    def __bool__(self) -> bool:
        return True

    def now(self) -> Micros:
        return self.clock.now()

    @property
    def is_shared(self) -> bool:
        """Its tasks may be run by another process."""
        return self.storage.is_shared and not self._is_immediate

    # -- house --------------------------------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Remove everything of this queue (C26)."""
        self.storage.flush()

    def using(self, connection: Any) -> AbstractContextManager[None]:
        """What this thread enqueues inside the block becomes part of the transaction of *connection*, to the same SQLite file:
        a rollback leaves no task, a commit leaves it. ConfigurationError: another file, or another kind of storage."""
        using = getattr(self.storage, "using", None)
        if using is None:
            raise ConfigurationError(f"using(connection) needs a queue in the same SQLite file, and this one is in {self.storage!r}")
        return using(connection)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Let go of files and connections; the next call opens them again."""
        self.storage.close()
        for branch in self._branches.values():
            branch.storage.close()

    def create_consumer(self, **options: Any) -> Consumer:
        """A consumer that runs in this process: ``start()`` and ``stop()`` it; or ``run()`` it, which starts worker processes if its
        options ask for them. Options as in ``Consumer``."""
        from huey.consumer.program import Consumer

        return Consumer(self, **options)

    def __copy__(self) -> Self:
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} is not pickled: import it where it is needed; what travels are names and ids, such as result.id")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"name={name!r}: a queue has a name, such as Huey('my-app')")
    try:
        return parse_text("name", name)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None

"""``Huey``: the face of the house. Each method hands on to the part that does the work."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from huey import events
from huey.clock import Clock, Ids, Micros, Rng, micros, system_clock, system_rng
from huey.cron import crontab
from huey.decorators import PeriodicWrapper, TaskOptions, TaskWrapper
from huey.exceptions import ConfigurationError, DataStoreTimeout, HueyException, QueueException
from huey.registry import Registry
from huey.result import Result, ResultGroup
from huey.serializer import Codec
from huey.storage import open_default
from huey.storage.base import CHUNK, FOREVER, Storage, in_chunks
from huey.task import LARGEST, Alike, Record, Task, checked_number
from huey.when import Expires, instant

if TYPE_CHECKING:
    from huey.consumer.consumer import Consumer
    from huey.inspector import Inspector

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("huey")

AsyncData = Result

__all__ = ["AsyncData", "DataStoreTimeout", "Huey", "Result", "ResultGroup", "Task", "TaskWrapper", "crontab"]


class Huey:
    """One queue and the functions that run from it.

    *name*: the queue's name; instances of one name and storage share it. Without more, tasks are kept in the SQLite file ``huey.db`` in
    the current directory; other keywords (``filename=``, ``fsync=``, ...) go to that storage. *storage*: another storage.

    *results*: False stores no results, calls return None. *store_none*: store the value None too (S17, S18). *always_eager*: a call runs
    the function at once and returns its value (S19). *utc*: False when consumers run with ``--localtime``.

    *serializer*: an object with ``serialize`` and ``deserialize`` (default: pickle). *secret*: signs every message, a list of secrets
    rotates them (first signs, all verify); default the environment's HUEY_SECRET. *compression*, *use_zlib*: compress what is stored.
    *allow_pickle*: True reads pickles of any class also from stores that others may write into; False from none.

    ConfigurationError: an option that does not exist or cannot work.
    """

    storage_factory: Callable[..., Storage] = staticmethod(open_default)

    def __init__(
        self,
        name: str = "huey",
        *,
        storage: Storage | None = None,
        results: bool = True,
        store_none: bool = False,
        always_eager: bool = False,
        utc: bool = True,
        serializer: Any = None,
        secret: str | bytes | Sequence[str | bytes] | None = None,
        compression: bool = False,
        use_zlib: bool = False,
        allow_pickle: bool | None = None,
        clock: Clock = system_clock,
        rng: Rng = system_rng,
        **storage_options: Any,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"name={name!r}: a queue has a name, such as Huey('my-app')")
        self.name = name
        self.results = results
        self.store_none = store_none
        self.always_eager = always_eager
        self.utc = utc
        self.clock = clock
        self.rng = rng
        self.new_id = Ids(clock, rng)
        self.registry = Registry()
        self.storage = self._storage(storage, storage_options)
        self.codec = Codec(
            name,
            serializer=serializer,
            secret=os.environ.get("HUEY_SECRET") or None if secret is None else secret,
            compression=compression,
            use_zlib=use_zlib,
            allow_pickle=allow_pickle,
            is_trusted=lambda: self.storage.is_trusted,
        )
        self._batches = threading.local()
        self.outbox: Callable[[Callable[[], Any]], Any] | None = None
        """Decides when and where each enqueue is written: it is given the write, to call it now, after the caller's transaction, or not at
        all. None: now."""

    def _storage(self, storage: Storage | None, options: dict[str, Any]) -> Storage:
        if storage is not None:
            if options:
                raise ConfigurationError(f"{', '.join(options)}: options of a storage go to the storage that you made yourself")
            return storage
        try:
            return type(self).storage_factory(self.name, clock=self.clock, rng=self.rng, **options)
        except TypeError as error:
            raise ConfigurationError(f"{type(self).__name__}({self.name!r}): {error}; known options stand in its docstring") from error

    # -- decorators ---------------------------------------------------------------------------------------------------------------------

    def task(
        self,
        retries: int = 0,
        retry_delay: float = 0,
        retries_as_argument: bool = False,
        include_task: bool = False,
        *,
        name: str | None = None,
        priority: int = 0,
        expires: Expires | None = None,
        timeout: float | None = None,
        context: bool = False,
    ) -> Callable[[Callable[P, R]], TaskWrapper[P, R]]:
        """Decorator: calls of the function become tasks (S25-S30, C12).

        *retries*: further runs after a failure. *retry_delay*: seconds between them, at least. *retries_as_argument*: pass the runs left
        as keyword ``retries``. *include_task* (or *context*): pass the task as keyword ``task``. *name*: identity in the queue, default
        ``module.function``. *priority*: higher runs first. *expires*: do not start later than this, seconds or timedelta from the call,
        or a datetime. *timeout*: seconds that a run may take; then ``TaskTimeout`` is raised inside it, and if that does not end it, the
        supervisor ends its process and the run has failed (reason "timeout").

        ValueError: a value that cannot work, a name that another function has.
        """
        options = _checked(retries, retry_delay, retries_as_argument, include_task or context, priority, expires, timeout)

        def decorate(func: Callable[P, R]) -> TaskWrapper[P, R]:
            wrapper = TaskWrapper(self, func, name, options)
            self.registry.register(wrapper)
            return wrapper

        return decorate

    def periodic_task(
        self,
        validate_datetime: Callable[[datetime], bool],
        retries: int = 0,
        retry_delay: float = 0,
        retries_as_argument: bool = False,
        include_task: bool = False,
        *,
        name: str | None = None,
        priority: int = 0,
        expires: Expires | None = None,
        timeout: float | None = None,
        context: bool = False,
    ) -> Callable[[Callable[P, R]], PeriodicWrapper[P, R]]:
        """Decorator: the consumer runs the function at each minute for which *validate_datetime* (``crontab(...)`` or any callable of a
        datetime) is true (S64-S69). Each tick runs once, whatever the number of consumers. Results are not stored."""
        if not callable(validate_datetime):
            raise ValueError(f"validate_datetime={validate_datetime!r}: give crontab(...) or a function of a datetime")
        options = _checked(retries, retry_delay, retries_as_argument, include_task or context, priority, expires, timeout)

        def decorate(func: Callable[P, R]) -> PeriodicWrapper[P, R]:
            wrapper = PeriodicWrapper(self, func, name, options, validate_datetime)
            self.registry.register(wrapper)
            return wrapper

        return decorate

    def unregister(self, wrapper: TaskWrapper[Any, Any]) -> bool:
        """Forget a function; True if it was known."""
        return self.registry.unregister(wrapper.name)

    # -- putting in ---------------------------------------------------------------------------------------------------------------------

    def enqueue(self, task: Task) -> Any:
        """Put a task in: a ``Result``, or None without results. Durable when it returns (C1); the same id again changes nothing."""
        if self.always_eager:
            return self.run_now(task)
        self._put([self._record(task)])
        return Result(self, task) if self.results else None

    def enqueue_many(self, tasks: Iterable[Task]) -> Any:
        """Put many tasks in, in chunks of 1,000 that are each all or nothing: a ``ResultGroup``, or None without results.

        When a chunk fails, the error says how many tasks were written before.
        """
        if self.always_eager:
            return [self.run_now(task) for task in tasks]
        tasks = list(tasks)
        self._put_all(in_chunks(map(self._record, tasks)))
        return ResultGroup(Result(self, task) for task in tasks) if self.results else None

    def map_task(self, wrapper: TaskWrapper[Any, Any], calls: Iterable[Any]) -> Any:
        """One task per item; see ``TaskWrapper.map``."""
        make = wrapper.task_class
        arguments = [call if isinstance(call, tuple) else (call,) for call in calls]
        if self.always_eager:
            return [self.run_now(make(args)) for args in arguments]
        # Straight to what is stored: a hundred thousand Task objects would cost more than their enqueue.
        ids, pattern = self.new_id.many(len(arguments)), self._record(make())

        def chunk(start: int) -> Alike:
            place = slice(start, start + CHUNK)
            return Alike(pattern, ids[place], self.codec.encode_calls(ids[place], arguments[place]))

        self._put_all(map(chunk, range(0, len(ids), CHUNK)))
        return ResultGroup(Result(self, make(args, id=id)) for id, args in zip(ids, arguments, strict=True)) if self.results else None

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Calls of this thread inside the block are put in together at its end, in chunks of 1,000; none when the block raises. Their
        handles work from then on."""
        if self._collected is not None:
            raise HueyException("batch() inside batch(): one block at a time collects the calls of a thread")
        collected: list[Record] = []
        self._batches.collected = collected
        try:
            yield
        finally:
            self._batches.collected = None
        self._put_all(in_chunks(collected))

    @property
    def _collected(self) -> list[Record] | None:
        """What this thread's batch has so far; None outside a batch."""
        return getattr(self._batches, "collected", None)

    def run_now(self, task: Task) -> Any:
        """Run the task's function here and return its value; exceptions pass (S19)."""
        wrapper = self.registry.find(task.name)
        return wrapper.func(*task.args, **wrapper.with_extras(task))

    def _record(self, task: Task) -> Record:
        return task.record(self.codec.encode("task", task.id, (task.args, task.kwargs or None)))

    def _put_all(self, chunks: Iterable[Sequence[Record]]) -> None:
        written = 0
        try:
            with self.storage.durable_at_end():
                for chunk in chunks:
                    self._put(chunk)
                    written += len(chunk)
        except Exception as error:  # Of whatever kind: who called has to know.
            error.args = (f"{error} ({written} tasks were written before)", *error.args[1:])
            raise

    def _put(self, records: Sequence[Record]) -> None:
        if self._collected is not None:
            self._collected.extend(records)
        elif self.outbox is not None:
            self.outbox(partial(self._write, records))
        else:
            self._write(records)

    def _write(self, records: Sequence[Record]) -> None:
        self.storage.enqueue(records, lambda: [events.of_enqueue(record, self.clock.now()) for record in records])

    # -- taking back --------------------------------------------------------------------------------------------------------------------

    def revoke(self, target: Any, revoke_until: datetime | None = None, revoke_once: bool = False) -> None:
        """Keep a task (a ``Task``, ``Result`` or id) from running, or with a decorated function all its tasks (S54-S60).

        *revoke_until*: until then; a naive datetime is on the consumer's clock (UTC by default). *revoke_once*: only the next run.
        Each call overwrites the former. A task that has started is not stopped.
        """
        if isinstance(target, TaskWrapper):
            self.revoke_all(target, revoke_until, revoke_once)
        else:
            self._need_results()
            self.storage.cancel([_id(target)], self._limit(revoke_until), revoke_once)

    def _need_results(self) -> None:
        if not self.results:
            raise QueueException("revoking needs a result store (S55), and this Huey has results=False; make it with results=True")

    def revoke_all(self, wrapper: TaskWrapper[Any, Any], revoke_until: datetime | None = None, revoke_once: bool = False) -> None:
        """Keep all tasks of a function from running."""
        self._need_results()
        self.storage.cancel_name(wrapper.name, self._limit(revoke_until), revoke_once)

    def revoke_by_id(self, id: str, revoke_until: datetime | None = None, revoke_once: bool = False) -> None:
        """Keep the task of that id from running."""
        self.revoke(id, revoke_until, revoke_once)

    def restore(self, target: Any) -> bool:
        """Take a revocation back; True if there was one that had not been obeyed yet."""
        return self.restore_all(target) if isinstance(target, TaskWrapper) else bool(self.storage.restore([_id(target)]))

    def restore_all(self, wrapper: TaskWrapper[Any, Any]) -> bool:
        """Take the revocation of a function back."""
        return self.storage.restore_name(wrapper.name)

    def restore_by_id(self, id: str) -> bool:
        """Take the revocation of one task back."""
        return self.restore(id)

    def is_revoked(self, target: Any, timestamp: datetime | None = None) -> bool:
        """Whether a task, its id, or a function is revoked at that time (None: now). An id alone does not tell its function."""
        when = self.clock.now() if timestamp is None else instant(timestamp, self.consumer_is_local())
        if isinstance(target, TaskWrapper):
            mark = self.storage.revocation(name=target.name)
        else:
            task = getattr(target, "task", target)
            mark = self.storage.revocation(id=_id(target), name=task.name if isinstance(task, Task) else None)
        return mark is not None and mark.holds(when)

    def _limit(self, until: datetime | None) -> Micros | None:
        return None if until is None else min(instant(until, self.consumer_is_local()), FOREVER)

    def consumer_is_local(self) -> bool:
        """Whether naive times on the consumer's clock are local: it runs with ``--localtime``, or ``utc=False`` is set here."""
        return not self.utc or self.storage.peek("setting", "localtime") == b"1"

    # -- looking ------------------------------------------------------------------------------------------------------------------------

    @property
    def inspector(self) -> Inspector:
        """Tasks, workers and statistics of this queue to look at and to act on."""
        from huey.inspector import Inspector

        return Inspector(self.storage, self.codec, self.clock)

    def result(self, id: str, blocking: bool = False, timeout: float | None = None, preserve: bool = False) -> Any:
        """The result of the task of that id; see ``Result.get``."""
        return Result[Any](self, Task(id=id)).get(blocking, timeout, preserve=preserve)

    def events(self, timeout: float | None = None) -> Iterator[str]:
        """Events of this queue from now on, as JSON texts, as they happen (S119). Ends when none came for *timeout* seconds."""
        return self._events(self.storage.follow(None)[0], timeout)

    def _events(self, position: int, timeout: float | None) -> Iterator[str]:
        quiet_since = self.clock.monotonic()
        while timeout is None or self.clock.monotonic() - quiet_since < micros(timeout):
            position, told = self.storage.follow(position, min(5.0, 5.0 if timeout is None else timeout))
            yield from told
            if told:
                quiet_since = self.clock.monotonic()

    def __len__(self) -> int:
        """Tasks that wait, ready or scheduled."""
        counts = self.storage.counts()
        return counts.ready + counts.scheduled

    def __bool__(self) -> bool:
        return True

    def now(self) -> Micros:
        return self.clock.now()

    # -- house --------------------------------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Remove everything of this queue (C26)."""
        self.storage.flush()

    def close(self) -> None:
        """Let go of files and connections; the next call opens them again."""
        self.storage.close()

    def create_consumer(self, **options: Any) -> Consumer:
        """A consumer that runs in this process: ``start()`` and ``stop()`` it, or ``run()`` it. Options as in ``Consumer``."""
        from huey.consumer.consumer import Consumer

        return Consumer(self, **options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def _id(target: Any) -> str:
    id = target if isinstance(target, str) else getattr(target, "id", None)
    if not isinstance(id, str) or not id:
        raise ValueError(f"{target!r}: give a task, a result, a decorated function or the id of a task")
    return id


def _checked(
    retries: int,
    retry_delay: float,
    retries_as_argument: bool,
    include_task: bool,
    priority: int,
    expires: Expires | None,
    timeout: float | None,
) -> TaskOptions:
    if callable(retries):
        hint = "write @huey.task() with brackets" if hasattr(retries, "__name__") else "did you mean periodic_task?"
        raise ValueError(f"retries={retries!r}: give the number of further runs; {hint}")
    checked_number("retries", retries, whole=True)
    checked_number("priority", priority, low=-LARGEST, whole=True)
    checked_number("retry_delay", retry_delay)
    # 3.x takes 0 and less for "no limit".
    limit = None if timeout is None or checked_number("timeout", timeout, low=-LARGEST) <= 0 else float(timeout)
    return TaskOptions(retries, retry_delay, retries_as_argument, include_task, priority, expires, limit)

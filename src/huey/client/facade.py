"""The base of ``Huey``: one queue with its hooks, signals, values, locks and rate limits, but without tasks and calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Generic, TypeVar

from huey.client.context import CallPolicy, QueueContext
from huey.client.inline import ALL
from huey.client.locks import RateLimit, TaskLock
from huey.client.routing import QueueClient
from huey.hooks import POST, PRE, SHUTDOWN, STARTUP, Hooks
from huey.registry import Registry
from huey.runtime.clock import Clock, Ids, Rng, micros
from huey.runtime.logs import SafeLogger
from huey.runtime.masking import masked
from huey.runtime.method_masking import Masked, stepwise
from huey.runtime.suggestions import also_named
from huey.runtime.times import parse_ttl
from huey.serializer import Codec, Purpose
from huey.signals import Signals
from huey.storage.base import Storage
from huey.task.bounds import LONGEST_NAME, parse_text
from huey.task.task import Task

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

log = SafeLogger("huey")

FOLLOW_S = 5.0
"""The longest time in seconds that one read of the events waits."""


class ContextAttribute(Generic[T]):
    """A descriptor that shows a field of the queue's context as an attribute of ``Huey``, which can be set at any time."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self._is_policy = name in CallPolicy._fields

    @masked
    def __get__(self, huey: QueueFacade | None, owner: type) -> T:
        if huey is None:
            return self  # type: ignore[return-value]  # Of the class, as properties do.
        context = huey.client.context
        return getattr(context.policy if self._is_policy else context, self._name)  # type: ignore[no-any-return]

    @masked
    def __set__(self, huey: QueueFacade, value: T) -> None:
        huey.client.router.change(huey.client, {self._name: value})


class QueueFacade(Masked):
    """The base class of ``Huey``. The attributes of the context can be set at any time."""

    client: QueueClient
    """The collaborators that do the work, for other parts of huey; applications do not need them."""

    name = ContextAttribute[str]()
    storage = ContextAttribute[Storage]()
    codec = ContextAttribute[Codec]()
    clock = ContextAttribute[Clock]()
    rng = ContextAttribute[Rng]()
    new_id = ContextAttribute[Ids]()
    registry = ContextAttribute[Registry]()
    signals = ContextAttribute[Signals]()
    hooks = ContextAttribute[Hooks]()

    results = ContextAttribute[bool]()
    store_none = ContextAttribute[bool]()
    store_intermediate_errors = ContextAttribute[bool]()
    always_eager = ContextAttribute[bool]()
    utc = ContextAttribute[bool]()
    keep_ids = ContextAttribute["float | None"]()

    @property
    def outbox(self) -> Callable[[Callable[[], Any]], Any] | None:
        """A function that decides when and where each enqueue is written, or None to write at once. It is called with the write function,
        which it may call at once, returning its value, or when the caller's transaction commits, or never, returning None."""
        return self.client.router.state.outbox

    @outbox.setter
    def outbox(self, outbox: Callable[[Callable[[], Any]], Any] | None) -> None:
        self.client.router.state.outbox = outbox

    # -- hooks and signals --------------------------------------------------------------------------------------------------------------

    def pre_execute(self, name: str | None = None) -> Callable[[F], F]:
        """Decorator: call the function with each task before it runs, in the runner's thread. ``CancelExecution`` cancels the task."""
        return self.hooks.declare(PRE, name)

    def post_execute(self, name: str | None = None) -> Callable[[F], F]:
        """Decorator: call the function with ``(task, value, exception)`` after each run, once its result is stored, in the same thread."""
        return self.hooks.declare(POST, name)

    def on_startup(self, name: str | None = None) -> Callable[[F], F]:
        """Decorator: call the function, without arguments, in each runner of a consumer before it takes its first task."""
        return self.hooks.declare(STARTUP, name)

    def on_shutdown(self, name: str | None = None) -> Callable[[F], F]:
        """Decorator: call the function, without arguments, in each runner of a consumer that stops, after its last task."""
        return self.hooks.declare(SHUTDOWN, name)

    def signal(self, *signals: str) -> Callable[[F], F]:
        """Decorator: call the function with ``(signal, task)`` at each of these signals (``huey.signals``), or at every signal if none is
        given. The signal ``error`` passes the exception too. Raise ValueError for an unknown signal."""
        return self.signals.declare(signals)

    # -- values, locks and rates --------------------------------------------------------------------------------------------------------

    def put(self, key: str, value: Any) -> None:
        """Store *value* under *key*, replacing any value there. Raise EncodeError if it cannot be encoded."""
        self.storage.put("data", parse_text("key", key, LONGEST_NAME), self.codec.encode("data", key, value))

    def get(self, key: str, peek: bool = False) -> Any:
        """Return what is stored under *key*, or None. It is removed unless *peek*."""
        kind, data = self._stored(key, peek)
        return None if kind is None else self.codec.decode(kind, key, data)

    def _stored(self, key: str, peek: bool) -> tuple[Purpose | None, bytes]:
        """Return whether *key* holds a value or the result of a task, and its bytes; None and empty bytes if it holds neither."""
        kinds: tuple[Purpose, ...] = ("data", "result")
        for kind in kinds:
            data = self.storage.take(kind, [parse_text("key", key, LONGEST_NAME)], remove=not peek).get(key)
            if data is not None:
                return kind, data
        return None, b""

    def put_if_empty(self, key: str, value: Any, ttl: float | timedelta | None = None) -> bool:
        """Store *value* unless *key* holds one; return whether it was stored. Of concurrent callers, exactly one stores it. *ttl*: seconds
        (int, float) or a timedelta after which it is removed; None: it stays. Raise ValueError if *ttl* is 0 or less."""
        data = self.codec.encode("data", key, value)
        return self.storage.put("data", parse_text("key", key, LONGEST_NAME), data, parse_ttl(ttl), if_absent=True)

    def delete(self, key: str) -> bool:
        """Remove the value stored under *key*; return whether there was one."""
        return self.storage.delete("data", parse_text("key", key, LONGEST_NAME))

    @also_named(lock_name="name")
    def lock_task(self, name: str, ttl: float | timedelta | None = None) -> TaskLock:
        """Return a lock of that name: a decorator, or ``with huey.lock_task("report"):``. If it is held, entering raises
        TaskLockedException, which ends a task; it is retried if it has retries left. *ttl*: as in ``TaskLock``."""
        return TaskLock(self, name, ttl)

    @also_named(lock_name="name")
    def is_locked(self, name: str) -> bool:
        """Return whether the lock of that name is held now."""
        return self.lock_task(name).locked()

    def flush_locks(self, *names: str) -> set[str]:
        """Free the locks of these names, or all locks of this queue, even if they are held. Return the names of those that were held."""
        return self.storage.flush_locks([parse_text("name", name, LONGEST_NAME) for name in names] or None)

    def rate_limit(self, name: str, limit: int, per: float, retry: bool = True) -> RateLimit:
        """Return a limit of *limit* uses per window of *per* seconds, across all processes: a decorator, or a ``with`` block. See
        ``RateLimit``."""
        return RateLimit(self, name, limit, per, retry)

    # -- lists -------------------------------------------------------------------------------------------------------------------------

    def pending(self, limit: int | None = None) -> list[Task]:
        """Return the tasks that are ready, in the order in which they will run. A task whose arguments cannot be read here is logged and
        left out, although *limit* counts it; it stays in the queue."""
        return list_tasks(self.client.context, "ready", limit)

    def scheduled(self, limit: int | None = None) -> list[Task]:
        """Return the tasks whose eta is in the future, the earliest first. Unreadable tasks are left out as in ``pending``."""
        return list_tasks(self.client.context, "scheduled", limit)

    def pending_count(self) -> int:
        return self.storage.counts().ready

    def scheduled_count(self) -> int:
        return self.storage.counts().scheduled

    def result_count(self) -> int:
        return self.storage.counts().results


def list_tasks(context: QueueContext, state: str, limit: int | None) -> list[Task]:
    """Return the tasks in *state*, in the order in which they will run. One that cannot be decoded here is logged and left out."""
    if limit is not None and limit <= 0:
        return []
    decoder = context.decoder
    found = []
    for row in context.storage.find(state, limit=ALL if limit is None else limit):
        try:
            found.append(decoder.decode(row, row.due))
        except Exception as error:  # Constructors of the application's classes run here, and may raise anything.
            log.error("task %s %s is left out of the list: %s: %s", row.name, row.id, type(error).__name__, error)
    return found


@stepwise
def follow_events(context: QueueContext, position: int, timeout: float | None) -> Iterator[str]:
    """Yield the events after *position* as they happen; end when none arrives for *timeout* seconds."""
    clock = context.clock
    quiet_since = clock.monotonic()
    while timeout is None or clock.monotonic() - quiet_since < micros(timeout):
        position, published = context.storage.follow(position, min(FOLLOW_S, FOLLOW_S if timeout is None else timeout))
        yield from published
        if published:
            quiet_since = clock.monotonic()

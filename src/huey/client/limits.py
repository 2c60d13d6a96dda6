"""Locks and rate limits, for tasks and for any other code of the application.

A lock that a task takes belongs to that run of it and is free when it ends, in whatever way. Outside a task the holder is the process: a
small thread renews its lease, and the lock is free 15 seconds after the process dies (C10).
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import ParamSpec, Protocol, TypeVar

from huey.exceptions import RateLimitExceeded, StorageError, TaskLockedException
from huey.registry import Registry
from huey.runtime import current_run as current
from huey.runtime.clock import Clock, Micros, Rng
from huey.runtime.functions import passing_on
from huey.runtime.hinting import also_named
from huey.runtime.masking import Masked
from huey.runtime.once import once
from huey.runtime.times import parse_ttl
from huey.storage.base import HEARTBEAT_S, Storage
from huey.storage.locks import Holder
from huey.task.bounds import LONGEST_NAME, parse_number, parse_text
from huey.task.record import Record
from huey.task.record_options import NONE, Constraints, with_constraints
from huey.task.task import Task

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("huey")


class LimitHost(Protocol):
    """What locks and rates need of their Huey."""

    @property
    def storage(self) -> Storage: ...

    @property
    def presence(self) -> LockKeepalive: ...


class Limits:
    """The part of ``Huey`` where locks and rate limits are made."""

    storage: Storage
    registry: Registry
    rng: Rng
    clock: Clock
    keep_ids: float | None
    _last_enqueue: Micros = 0
    _presences: dict[tuple[int, int], LockKeepalive]
    """By process and storage."""

    def with_constraints(self, record: Record, task: Task) -> Record:
        """The record of a call with what its function, or its chosen id, asks about other tasks. ConfigurationError: the storage cannot
        keep that. ValueError: an argument of which no key can be made."""
        of_id = NONE
        if task.may_come_again:
            # Two enqueues of one id never have the same instant, however coarse the clock is.
            self._last_enqueue = task.enqueued_as = max(self.clock.now(), self._last_enqueue + 1)
            of_id = Constraints(own=task.enqueued_as, id_ttl=self.keep_ids if self.storage.supports_constraints else None)
        if not task.has_constraints:
            return record._replace(options=with_constraints(record.options, of_id))
        if not self.storage.supports_constraints:
            raise self.storage.refusal()
        return record._replace(options=self.registry.find(task.name).options_of(task, record.options, of_id))

    @property
    def presence(self) -> LockKeepalive:
        """This process as a holder of locks."""
        # A forked child holds no lock of its parent's.
        return once(self._presences, (os.getpid(), id(self.storage)), lambda: LockKeepalive(self.storage, self.rng))

    @also_named(lock_name="name")
    def lock_task(self, name: str, ttl: float | timedelta | None = None) -> TaskLock:
        """A lock of that name: a decorator, or ``with huey.lock_task("report"):``. Who meets it held gets TaskLockedException; a task ends
        with that, and is tried again if it has retries. *ttl*: as in ``TaskLock``."""
        return TaskLock(self, name, ttl)

    @also_named(lock_name="name")
    def is_locked(self, name: str) -> bool:
        """Whether somebody holds the lock of that name now."""
        return self.storage.lock(_checked(name)) is not None

    def flush_locks(self, *names: str) -> set[str]:
        """Free locks, whoever holds them: those named, without names all of this queue. The names of those that were held."""
        return self.storage.flush_locks([_checked(name) for name in names] or None)

    def rate_limit(self, name: str, limit: int, per: float, retry: bool = True) -> RateLimit:
        """At most *limit* uses in each window of *per* seconds, over all processes: a decorator, or a ``with`` block. See ``RateLimit``."""
        return RateLimit(self, name, limit, per, retry)


class TaskLock(Masked):
    """A lock by name, over all processes. One object may be used by many threads and runs at once.

    *ttl*: seconds (int, float) or a timedelta after which it is free by itself, counted from when it was taken; what it protects has to
    be done by then. It may be free sooner, with the end of its holder. None (default): it ends with its holder only. Who releases a lock
    too late changes nothing: neither for nobody, nor for the next holder. ValueError: a *ttl* of 0 or less, or that is no time.
    """

    def __init__(self, huey: LimitHost, name: str, ttl: float | timedelta | None = None) -> None:
        self.huey = huey
        self.name = _checked(name)
        self.ttl = parse_ttl(ttl)
        self._tokens: dict[object, int] = {}
        self._askers: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        """Threads that wanted it: what one of them releases is its own, or nothing."""

    @property
    def token(self) -> int | None:
        """A number that grows with each time a lock is taken, while this run or thread holds it here; else None. Send it along to what
        the lock protects: that can refuse one who was thought dead, and holds a smaller number (C10)."""
        return self._tokens.get(_here())

    def acquire(self) -> bool:
        """Take the lock: True. TaskLockedException: somebody holds it, this very task or process included."""
        run = current.run.get()
        if run is None:
            self._askers.add(threading.current_thread())
            token = self.huey.presence.acquire(self.name, self.ttl)
        else:
            token = self.huey.storage.acquire(self.name, Holder(*run), self.ttl)
        if token is None:
            raise TaskLockedException(f"the lock {self.name!r} is held by somebody else, or this run has lost its lease")
        self._tokens[_here()] = token
        return True

    def release(self) -> bool:
        """Free the lock, if it was taken here and is still held; True if so. One that was taken outside of tasks may be released by another
        thread, if that did not want it itself."""
        token = self._tokens.pop(_here(), None)
        if token is None and current.run.get() is None and threading.current_thread() not in self._askers:
            threads = [who for who in list(self._tokens) if isinstance(who, threading.Thread)]
            token = self._tokens.pop(threads[0], None) if threads else None
        was_held = token is not None and self.huey.storage.give_up(self.name, token)
        if current.run.get() is None:
            self.huey.presence.rest()
        return was_held

    def clear(self) -> bool:
        """Free the lock, whoever holds it; True if somebody did."""
        self._tokens.clear()
        return bool(self.huey.storage.flush_locks([self.name]))

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self.huey.storage.lock(self.name) is not None

    is_locked = locked

    def __enter__(self) -> TaskLock:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def __call__(self, func: Callable[P, R]) -> Callable[P, R]:
        @passing_on
        @functools.wraps(func)
        def locked(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return func(*args, **kwargs)

        return locked

    def __repr__(self) -> str:
        return f"<TaskLock {self.name!r}>"


class RateLimit(Masked):
    """At most *limit* uses in each window of *per* seconds, over all processes, by the storage's clock. Windows begin at multiples of
    *per*.

    A task that meets a full window ends with RateLimitExceeded. *retry* True: it runs again after its ``retry_delay``, or else in the next
    window, and no try is counted. False: it costs a try, and without one left the task fails.
    """

    def __init__(self, huey: LimitHost, name: str, limit: int, per: float, retry: bool = True) -> None:
        self.huey = huey
        self.name = _checked(name)
        self.limit = parse_number("limit", limit, low=1, whole=True)
        self.per = float(parse_number("per", per))
        if self.per < 0.001:
            raise ValueError(f"per={per!r}: give the length of a window in seconds, at least 0.001")
        self.retry = retry

    def acquire(self) -> bool:
        """Count one use: True. RateLimitExceeded: the window is full."""
        delay = self.huey.storage.take(self.name, self.limit, self.per)
        if delay > 0:
            raise RateLimitExceeded(self.name, delay, self.retry)
        return True

    def current_usage(self) -> int:
        """Uses in the window of now, those that were refused too."""
        return self.huey.storage.usage(self.name, self.per)

    def reset(self) -> None:
        """Begin the window anew."""
        self.huey.storage.forget_rate(self.name)

    def __enter__(self) -> RateLimit:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        """A use stays counted."""

    def __call__(self, func: Callable[P, R]) -> Callable[P, R]:
        @passing_on
        @functools.wraps(func)
        def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            self.acquire()
            return func(*args, **kwargs)

        return limited

    def __repr__(self) -> str:
        return f"<RateLimit {self.name!r}: {self.limit} in {self.per:g} s>"


class LockKeepalive:
    """This process as a holder of locks in one storage, and the thread that renews its lease while it holds some."""

    def __init__(self, storage: Storage, rng: Rng) -> None:
        self._storage = storage
        self._me = Holder(f"process {os.getpid()} {rng.getrandbits(128):032x}")
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pause = threading.Event()

    def acquire(self, name: str, ttl: float | None = None) -> int | None:
        token = self._storage.acquire(name, self._me, ttl)
        if token is not None:
            with self._lock:
                if self._thread is None:
                    self._pause = threading.Event()
                    self._thread = threading.Thread(target=_renew, args=(weakref.ref(self), self._pause), name="Locks", daemon=True)
                    self._thread.start()
        return token

    def rest(self) -> None:
        """A lock was given up: look whether there are others, now."""
        self._pause.set()

    def renew(self) -> bool:
        """Give a sign of life. False: nothing is held any more, and the thread ends."""
        with self._lock:
            try:
                if self._storage.renew(self._me):
                    return True
            except StorageError as error:
                log.warning("the locks of this process cannot be renewed, they are free soon: %s", error)
                return True
            self._thread = None
            return False


def _renew(presence: weakref.ref[LockKeepalive], pause: threading.Event) -> None:
    while True:
        pause.wait(HEARTBEAT_S)
        pause.clear()
        here = presence()
        if here is None or not here.renew():
            return
        del here


def _here() -> object:
    """The run that this code is in, or else its thread."""
    # Not its number, which the next thread may get.
    return current.run.get() or threading.current_thread()


def _checked(name: str) -> str:
    return parse_text("name", name, LONGEST_NAME)

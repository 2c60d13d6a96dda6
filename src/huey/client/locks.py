"""Locks and rate limits by name, for tasks and for any other code of the application.

A lock taken by a task belongs to that run, and is freed when the run ends, in whatever way. Outside a task the holder is the process: a
small thread renews its lease, and the lock is freed 15 seconds after the process dies.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ParamSpec, Protocol, Self, TypeVar, cast

from huey.exceptions import RateLimitExceeded, StorageError, TaskLockedException
from huey.runtime import current_run as current
from huey.runtime.clock import Rng
from huey.runtime.functions import inside_context
from huey.runtime.method_masking import Masked
from huey.runtime.owned_blocks import asyncio_task
from huey.runtime.times import parse_ttl
from huey.storage.base import HEARTBEAT_S, Storage
from huey.storage.locks import Holder
from huey.task.bounds import LONGEST_NAME, parse_number, parse_text

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("huey")


class LimitHost(Protocol):
    """The part of ``Huey`` that locks and rate limits use."""

    @property
    def storage(self) -> Storage: ...

    @property
    def client(self) -> Any: ...


class Limit(Masked):
    """The base of locks and rate limits, which are acquired by name before some code runs: a decorator, or a ``with`` block."""

    def __init__(self, huey: LimitHost, name: str) -> None:
        self.huey = huey
        self.name = parse_text("name", name, LONGEST_NAME)

    def acquire(self) -> bool:
        """Acquire it and return True; raise an error if that is not possible."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        """Keep what was acquired; a subclass may release it."""

    async def __aenter__(self) -> Self:
        """Acquire it for a coroutine, whose event loop goes on meanwhile."""
        await self.huey.client.awaitable.aside(self.__enter__)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.huey.client.awaitable.aside(self.__exit__, *error)

    def __call__(self, func: Callable[P, R]) -> Callable[P, R]:
        return cast("Callable[P, R]", inside_context(self, func))


class TaskLock(Limit):
    """A named lock, shared by all processes that use the queue. Several threads and runs may use one object at the same time.

    *ttl*: seconds (int, float) or a timedelta after which the lock is freed, counted from when it was taken; the protected work must be
    done by then. None (default): no limit. Either way the lock is freed when its holder ends. A late release changes nothing, even if the
    lock has a new holder. Raise ValueError if *ttl* is 0 or less, or not a duration.
    """

    def __init__(self, huey: LimitHost, name: str, ttl: float | timedelta | None = None) -> None:
        super().__init__(huey, name)
        self.ttl = parse_ttl(ttl)
        self._tokens: dict[object, int] = {}
        self._askers: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        """Threads that tried to take it: each of them can release only its own hold."""

    @property
    def token(self) -> int | None:
        """The fencing token, while this run or thread holds the lock, else None. It grows each time any lock is taken. Pass it to the
        resource that the lock protects, which can then reject an earlier holder by its smaller token."""
        return self._tokens.get(_here())

    def acquire(self) -> bool:
        """Take the lock and return True. Raise TaskLockedException if it is held, even by this task or process."""
        run = current.run.get()
        if run is None:
            self._askers.add(threading.current_thread())
            token = self.huey.client.lock_keepalive.acquire(self.name, self.ttl)
        else:
            token = self.huey.storage.acquire_lock(self.name, Holder(*run), self.ttl)
        if token is None:
            raise TaskLockedException(f"the lock {self.name!r} is held elsewhere, or this run has lost its lease")
        self._tokens[_here()] = token
        return True

    def release(self) -> bool:
        """Free the lock if this run or thread took it and still holds it; return whether it did. A lock taken outside of tasks may also be
        released by another thread that did not try to take it."""
        token = self._tokens.pop(_here(), None)
        if token is None and current.run.get() is None and threading.current_thread() not in self._askers:
            threads = [who for who in list(self._tokens) if isinstance(who, threading.Thread)]
            token = self._tokens.pop(threads[0], None) if threads else None
        was_held = token is not None and self.huey.storage.release_lock(self.name, token)
        if current.run.get() is None:
            self.huey.client.lock_keepalive.check_idle()
        return was_held

    def clear(self) -> bool:
        """Free the lock even if another run or process holds it; return whether it was held."""
        self._tokens.clear()
        return bool(self.huey.storage.flush_locks([self.name]))

    def locked(self) -> bool:
        """Return whether the lock is held."""
        return self.huey.storage.find_lock(self.name) is not None

    is_locked = locked

    def __exit__(self, *error: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<TaskLock {self.name!r}>"


class LockKeepalive:
    """This process as a lock holder in one storage, with a thread that renews the lease while any lock is held."""

    def __init__(self, storage: Storage, rng: Rng) -> None:
        self._storage = storage
        self._me = Holder(f"process {os.getpid()} {rng.getrandbits(128):032x}")
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pause = threading.Event()

    def acquire(self, name: str, ttl: float | None = None) -> int | None:
        token = self._storage.acquire_lock(name, self._me, ttl)
        if token is not None:
            with self._lock:
                if self._thread is None:
                    self._pause = threading.Event()
                    self._thread = threading.Thread(target=_renew, args=(weakref.ref(self), self._pause), name="Locks", daemon=True)
                    self._thread.start()
        return token

    def check_idle(self) -> None:
        """Check at once, after a release, whether any lock is left; if not, the thread ends."""
        self._pause.set()

    def renew(self) -> bool:
        """Renew the lease. Return False, so that the thread ends, if no lock is held any more."""
        with self._lock:
            try:
                if self._storage.renew_locks(self._me):
                    return True
            except StorageError as error:
                log.warning("cannot renew the locks of this process, they will expire soon: %s", error)
                return True
            self._thread = None
            return False


def _renew(keepalive: weakref.ref[LockKeepalive], pause: threading.Event) -> None:
    while True:
        pause.wait(HEARTBEAT_S)
        pause.clear()
        here = keepalive()
        if here is None or not here.renew():
            return
        del here


def _here() -> object:
    """Return the owner of a lock that is acquired now: the running task or, outside of tasks, the asyncio task or the current thread."""
    # A thread's number would not do: a later thread may get the same one.
    return current.run.get() or current.caller.get() or asyncio_task() or threading.current_thread()


class RateLimit(Limit):
    """A limit of *limit* uses per window of *per* seconds, across all processes, by the storage's clock. Windows begin at multiples of
    *per*.

    A task that uses a full window ends with RateLimitExceeded. *retry* True: it runs again after its ``retry_delay``, or in the next window
    if it has none, and no try is counted. False: this counts as a try, and the task fails if none is left.
    """

    def __init__(self, huey: LimitHost, name: str, limit: int, per: float, retry: bool = True) -> None:
        super().__init__(huey, name)
        self.limit = parse_number("limit", limit, low=1, whole=True)
        self.per = float(parse_number("per", per))
        if self.per < 0.001:
            raise ValueError(f"per={per!r}: give the length of a window in seconds, at least 0.001")
        self.retry = retry

    def acquire(self) -> bool:
        """Count one use and return True. Raise RateLimitExceeded if the window is full."""
        delay = self.huey.storage.hit_rate_limit(self.name, self.limit, self.per)
        if delay > 0:
            raise RateLimitExceeded(self.name, delay, self.retry)
        return True

    def current_usage(self) -> int:
        """Return the number of uses in the current window, including rejected ones."""
        return self.huey.storage.rate(self.name, self.per)

    def reset(self) -> None:
        """Reset the current window to no uses."""
        self.huey.storage.rate(self.name, self.per, reset=True)

    def __repr__(self) -> str:
        return f"<RateLimit {self.name!r}: {self.limit} in {self.per:g} s>"

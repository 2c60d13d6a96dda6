"""The storage of `huey.testing.memory`: in memory, and nothing but ``drain()`` runs its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from huey.exceptions import ConfigurationError, HopelessWait
from huey.runtime.clock import FOREVER
from huey.storage.base import Storage
from huey.storage.locks import Holder
from huey.storage.memory import MemoryStorage
from huey.storage.rows import Polling, Turn, Worker
from huey.testing.clock import FakeClock

LONGEST_WAIT_S = 3600.0
"""Seconds, by the clock of the test, after which a wait for a result is hopeless."""


class DrainedStorage(MemoryStorage):
    """A storage in memory for one test. Its time is that of *clock*: to wait is to move it. What this process holds does not expire, since
    the process lives as long as the test does."""

    def __init__(self, name: str, *, clock: FakeClock, result_ttl: float | None = 7 * 86400.0) -> None:
        super().__init__(name, clock=clock, result_ttl=result_ttl)
        self._test_clock = clock
        self._waited = 0.0

    @classmethod
    def like(cls, storage: Storage, clock: FakeClock) -> DrainedStorage:
        """Return an empty one for the queue of *storage*, which keeps results for as long."""
        return cls(storage.name, clock=clock, result_ttl=storage.result_ttl)

    def open(self, polling: Polling | None = None) -> int:
        """Raise ConfigurationError for a consumer, which waits by another clock."""
        if polling is not None:
            raise ConfigurationError(
                "this Huey is inside huey.testing.memory(), or the fixture huey_memory: there drain() runs the tasks, and no consumer can "
                "start. For a consumer in a test, use a MemoryHuey or a SqliteHuey without them"
            )
        return super().open()

    def wait(self, ids: Sequence[str], timeout: float | None) -> bool:
        """Let *timeout* pass on the clock if no result is there: nothing runs meanwhile. Raise HopelessWait after an hour."""
        if super().wait(ids, 0.0):
            self._waited = 0.0
            return True
        seconds = LONGEST_WAIT_S if timeout is None else timeout
        self._waited += seconds
        if self._waited > LONGEST_WAIT_S:
            self._waited = 0.0
            raise HopelessWait(
                "nothing runs tasks while this test waits for a result: call drain() first; code that itself waits needs immediate=True"
            )
        self._test_clock.forward(seconds)
        return False

    def turn(self, worker: Worker, *args: Any, **kwargs: Any) -> Turn:
        self._waited = 0.0
        return super().turn(worker, *args, **kwargs)

    def follow(self, after: int | None, timeout: float = 0.0) -> tuple[int, list[str]]:
        position, published = super().follow(after)
        if after is not None and not published:
            self._test_clock.forward(timeout)
        return position, published

    def acquire_lock(self, name: str, holder: Holder, ttl: float | None = None) -> int | None:
        token = super().acquire_lock(name, holder, ttl)
        if token is not None:
            held, _, ends = self.tables.locks[name]
            self.tables.locks[name] = held, FOREVER, ends
        return token

    def renew_locks(self, holder: Holder) -> int:
        return sum(held.holder == holder for held in self.locks())

    def _renew(self, worker: Worker) -> None:
        self.tables.workers[worker.id] = worker, FOREVER

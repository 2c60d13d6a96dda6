"""The verbs of sharing, in memory: what ``huey.storage.locks`` promises, each under the one lock of the storage."""

from __future__ import annotations

from collections.abc import Sequence

from huey.runtime.clock import SECOND, Clock, Micros, micros
from huey.runtime.times import EARLIEST_ZONE
from huey.storage.base import Storage
from huey.storage.locks import HOLDER, Held, Holder
from huey.storage.memory.condition import ChangeCondition
from huey.storage.memory.constraints import Keys, Locks, Rates
from huey.storage.memory.row import Row
from huey.storage.memory.tables import Tasks, remove
from huey.storage.memory.values import end_of
from huey.storage.rows import Worker
from huey.task.lifecycle import State


class SharingInMemory(Storage):
    """Terms, locks and rates of a ``MemoryStorage``."""

    _clock: Clock
    _changed: ChangeCondition
    _tasks: Tasks
    _workers: dict[str, tuple[Worker, Micros]]
    _locks: Locks

    def _clear_shared(self) -> None:
        self._keys = Keys()
        self._locks.clear()
        self._rates = Rates()

    def _gives_way(self, id: str, now: Micros) -> bool:
        """A task that is revoked and has not started."""
        row = self._tasks.rows[id]
        return row.state != State.RUNNING and row.is_revoked(now, EARLIEST_ZONE)

    def _has_ended(self, row: Row) -> None:
        """Let others have what a task held."""
        self._keys.release_keys(row)
        self._tasks.limits.level(row)

    def _drop_queued(self, *, is_scheduled: bool) -> int:
        with self._changed:
            gone = self._tasks.drop_waiting(scheduled=is_scheduled)
            for row in gone:
                self._keys.forget(row)
            return len(gone)

    # -- locks --------------------------------------------------------------------------------------------------------------------------

    def _is_live(self, holder: Holder, until: Micros) -> bool:
        if not holder.token:
            return until > self._clock.monotonic()
        row = self._tasks.rows.get(holder.id)
        if row is None or row.state != State.RUNNING or row.token != holder.token or row.worker not in self._workers:
            return False
        return self._workers[row.worker][1] > self._clock.monotonic()

    def acquire_lock(self, name: str, holder: Holder, ttl: float | None = None) -> int | None:
        with self._changed:
            now = self._clock.monotonic()
            return self._locks.take(name, holder, now + HOLDER, end_of(ttl, now), now)

    def renew_locks(self, holder: Holder) -> int:
        with self._changed:
            now = self._clock.monotonic()
            return self._locks.renew(holder, now + HOLDER, now)

    def release_lock(self, name: str, token: int) -> bool:
        with self._changed:
            now = self._clock.monotonic()
            held = self._locks.find(name, now)
            return held is not None and held.token == token and self._locks.free(name, now)

    def locks(self, names: Sequence[str] | None = None) -> list[Held]:
        with self._changed:
            now = self._clock.monotonic()
            found = [self._locks.find(name, now) for name in (self._locks.names() if names is None else names)]
            return [held for held in found if held is not None]

    # -- rates --------------------------------------------------------------------------------------------------------------------------

    def hit_rate_limit(self, name: str, limit: int, per: float, now: Micros | None = None) -> float:
        with self._changed:
            now, length = self._clock.now() if now is None else now, micros(per)
            if self._rates.take(name, limit, length, now):
                return 0.0
            return (length - now % length) / SECOND

    def rate(self, name: str, per: float, now: Micros | None = None, reset: bool = False) -> int:
        with self._changed:
            used = self._rates.usage(name, micros(per), self._clock.now() if now is None else now)
            if reset:
                self._rates.windows.pop(name, None)
            return used

    def _prune_shared(self, now: Micros) -> int:
        gone = remove(self._keys.kept, lambda kept: kept.expires <= now) + self._locks.prune(self._clock.monotonic())
        return gone + remove(self._rates.windows, lambda window: window[1] <= now)

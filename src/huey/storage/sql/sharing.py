"""Locks and rate limits in SQL: one named statement each, in the locks.sql of the dialect. Constraints are the work of the dialect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from huey.runtime.clock import SECOND, Micros, micros
from huey.storage.locks import HOLDER, Held, Holder
from huey.storage.rows import Features
from huey.storage.sql.storage import SqlStorage


class SharingInSql(SqlStorage):
    """The verbs of locks and rate limits, which are the same in every SQL storage."""

    features = Features(supports_constraints=True)

    def acquire_lock(self, name: str, holder: Holder, ttl: float | None = None) -> int | None:
        alive = self._alive()
        who = {"queue": self._queue, "name": name, "holder": holder.id, "run": holder.token, "until": alive["clock"] + HOLDER}
        who["ends"] = None if ttl is None else alive["clock"] + micros(ttl)
        if not self._write("lock_acquire", who | alive, is_durable=False):
            return None
        # This caller holds it, so no other changes it meanwhile; but it may have been flushed.
        held = next(iter(self.locks([name])), None)
        return held.token if held is not None and held.holder == holder else None

    def renew_locks(self, holder: Holder) -> int:
        alive = self._alive()
        who = {"queue": self._queue, "holder": holder.id, "until": alive["clock"] + HOLDER}
        return self._write("lock_renew", who | alive, is_durable=False)

    def release_lock(self, name: str, token: int) -> bool:
        which = {"queue": self._queue, "name": name, "token": token}
        return self._write("lock_release", which | self._alive(), is_durable=False) > 0

    def locks(self, names: Sequence[str] | None = None) -> list[Held]:
        which = {"queue": self._queue} | self._alive()
        if names is None:
            rows = self._read("locks_held", which)
        else:
            rows = [(name, *row) for name in names for row in self._read("lock_find", which | {"name": name})]
        return [Held(name, token, Holder(holder, run)) for name, token, holder, run in rows]

    def hit_rate_limit(self, name: str, limit: int, per: float, now: Micros | None = None) -> float:
        window = self._window(name, per, now) | {"limit": limit}
        if self._write("rate_hit", window, is_durable=False):
            return 0.0
        # Full it stays, whoever counts in between.
        self._write("rate_reject", window, is_durable=False)
        return float(window["ends"] - window["now"]) / SECOND

    def rate(self, name: str, per: float, now: Micros | None = None, reset: bool = False) -> int:
        used = int(sum(used for (used,) in self._read("rate_usage", self._window(name, per, now))))
        if reset:
            self._write("rate_reset", {"queue": self._queue, "name": name})
        return used

    def _window(self, name: str, per: float, now: Micros | None) -> dict[str, Any]:
        now, length = self._now(now), micros(per)
        start = now - now % length
        return {"queue": self._queue, "name": name, "start": start, "ends": start + length, "now": now}

"""Locks and rates: one script each, by the server's clock. Terms of tasks are kept by the scripts of the tasks (lua/terms.lua)."""

from __future__ import annotations

from collections.abc import Sequence

from huey.exceptions import StorageUnavailable
from huey.runtime.clock import SECOND, Micros, Rng, micros
from huey.storage.locks import HOLDER, Held, Holder
from huey.storage.redis.verbs import PlainVerbs


class SharingVerbs(PlainVerbs):
    """The verbs of sharing, but for ``admit``."""

    supports_constraints = True

    _rng: Rng
    _unanswered: set[str]
    """Calls that may have taken a lock, but the answer was lost: the next sign of life frees it."""

    def acquire_lock(self, name: str, holder: Holder, ttl: float | None = None) -> int | None:
        nonce = f"{self._rng.getrandbits(64):x}"
        who = (name, holder.id, holder.token, HOLDER, nonce, "" if ttl is None else micros(ttl))
        try:
            token: int | None = self._connections.call("acquire_lock", self._prefix, self._now(), self._lease_time(), *who)
        except StorageUnavailable:
            self._unanswered.add(nonce)
            raise
        return token

    def renew_locks(self, holder: Holder) -> int:
        lost = list(self._unanswered)
        held: int = self._connections.call("renew_locks", self._prefix, self._now(), self._lease_time(), holder.id, HOLDER, *lost)
        self._unanswered.difference_update(lost)
        return held

    def release_lock(self, name: str, token: int) -> bool:
        """As the contract says. After a lost answer it is asked again, and what the lost call freed counts as not held."""
        return bool(self._connections.call("release_lock", self._prefix, self._now(), self._lease_time(), name, token))

    def locks(self, names: Sequence[str] | None = None) -> list[Held]:
        which = (1,) if names is None else ("", *names)
        found = self._connections.call("get_locks", self._prefix, self._now(), self._lease_time(), *which)
        return [Held(name.decode(), token, Holder(holder.decode(), int(run))) for name, token, holder, run in found]

    def hit_rate_limit(self, name: str, limit: int, per: float, now: Micros | None = None) -> float:
        """As the contract says. After a lost answer it is asked again: a use may then count as two, never as none."""
        wait: int = self._connections.call("hit_rate_limit", self._prefix, self._now(now), name, micros(per), limit)
        return wait / SECOND

    def rate(self, name: str, per: float, now: Micros | None = None, reset: bool = False) -> int:
        used: int = self._connections.call("read_rate", self._prefix, self._now(now), name, micros(per), int(reset))
        return used

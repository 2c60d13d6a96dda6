"""Locks and rates, by the server's clock. Constraints of tasks are kept by the scripts of tasks (lua/parts/constraints.lua)."""

from __future__ import annotations

from collections.abc import Sequence

from huey.exceptions import StorageUnavailable
from huey.runtime.clock import SECOND, Micros, Rng, micros
from huey.storage.locks import HOLDER, Held, Holder
from huey.storage.redis.queue import RedisQueue


class Locks:
    """The verbs of locks and rates."""

    def __init__(self, queue: RedisQueue, rng: Rng) -> None:
        self._queue = queue
        self._rng = rng
        self._unanswered: set[str] = set()
        """Nonces of calls that may have acquired a lock, but whose reply was lost: the next renewal releases those locks."""

    def acquire_lock(self, name: str, holder: Holder, ttl: float | None = None) -> int | None:
        nonce = f"{self._rng.getrandbits(64):x}"
        who = (name, holder.id, holder.token, HOLDER, nonce, "" if ttl is None else micros(ttl))
        try:
            token: int | None = self._queue.call("acquire_lock", self._queue.lease_time(), *who)
        except StorageUnavailable:
            self._unanswered.add(nonce)
            raise
        return token

    def renew_locks(self, holder: Holder) -> int:
        lost = list(self._unanswered)
        held: int = self._queue.call("renew_locks", self._queue.lease_time(), holder.id, HOLDER, *lost)
        self._unanswered.difference_update(lost)
        return held

    def release_lock(self, name: str, token: int) -> bool:
        """As the contract says. If the reply is lost the call is repeated, and a lock that the first one released counts as not held."""
        return bool(self._queue.call("release_lock", self._queue.lease_time(), name, token))

    def locks(self, names: Sequence[str] | None = None) -> list[Held]:
        which = (1,) if names is None else ("", *names)
        found = self._queue.call("get_locks", self._queue.lease_time(), *which)
        return [Held(name.decode(), token, Holder(holder.decode(), int(run))) for name, token, holder, run in found]

    def hit_rate_limit(self, name: str, limit: int, per: float, now: Micros | None = None) -> float:
        """As the contract says. If the reply is lost the call is repeated, so a hit may count twice, but never not at all."""
        wait: int = self._queue.call("hit_rate_limit", name, micros(per), limit, now=now)
        return wait / SECOND

    def rate(self, name: str, per: float, now: Micros | None = None, reset: bool = False) -> int:
        used: int = self._queue.call("read_rate", name, micros(per), int(reset), now=now)
        return used

"""Tasks in memory that wait for a worker that can run them."""

from __future__ import annotations

from collections.abc import Sequence

from huey.runtime.clock import Micros
from huey.storage.memory.lookups import LookingInMemory
from huey.storage.memory.row import Row
from huey.storage.memory.tables import Revocations
from huey.storage.rows import Missing, Worker
from huey.task.record import Lease


class MissingInMemory(LookingInMemory):
    """``missing`` and ``claim_missing``."""

    _revocations: Revocations
    _is_paused: bool

    def missing(self) -> list[Missing]:
        with self._changed:
            return sorted({self._tasks.rows[id].missing for id in self._tasks.missing})

    def claim_missing(self, worker: Worker, missing: Sequence[Missing], want: int, now: Micros | None = None) -> list[Lease]:
        self.heartbeat([worker])
        with self._changed:
            now = self._clock.now() if now is None else now
            if self._is_paused:
                return []
            claimed = self._tasks.claim_missing(worker.id, set(missing), want, lambda row: self._is_plain(row, now), now)
            self._changed.notify_all()
            return [row.lease() for row in claimed]

    def _is_plain(self, row: Row, now: Micros) -> bool:
        """A claim has nothing to look at."""
        has_constraints = row.constraints.concurrency_key is not None or row.constraints.unique is not None
        # A wall time is read by the claim, which knows the consumer's clock.
        revocations = [revocation for revocation in (row.revoked, self._revocations.names.get(row.record.name)) if revocation is not None]
        must_not_run = any(revocation.until < 0 or revocation.holds(now) for revocation in revocations) or row.is_expired(now)
        return not (has_constraints or row.solo_crashes or must_not_run)

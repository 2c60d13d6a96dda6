"""The turn of a worker in SQLite: stage its finishes, run the one statement that does all, read what it claimed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from huey.runtime.clock import Clock, Micros, micros
from huey.runtime.failpoints import failpoint
from huey.storage.base import LEASE
from huey.storage.helpers import newest
from huey.storage.rows import Turn, Worker
from huey.storage.sql.finishes import rows_of
from huey.storage.sqlite.ballast import Ballast
from huey.storage.sqlite.database import Database
from huey.storage.sqlite.staging import Staging
from huey.storage.sqlite.texts import RENAME, nameable
from huey.storage.unreadable import leases_from
from huey.task.lifecycle import CancelledAtClaim, Finish, Promotion

UNIT = 128
UNIT_BYTES = 32 * 1024
"""Tasks, and bytes, that weigh as much in the log as one small commit."""


class Turns:
    """Turns of the workers of one queue. *result_ttl*: how long results are kept; *keeps_finished*: whether succeeded tasks are kept."""

    def __init__(
        self, database: Database, staging: Staging, ballast: Ballast, clock: Clock, result_ttl: float | None, keeps_finished: bool
    ) -> None:
        self._database = database
        self._staging = staging
        self._ballast = ballast
        self._clock = clock
        self._result_ttl = None if result_ttl is None else micros(result_ttl)
        self._keeps_finished = keeps_finished

    def turn(
        self,
        queue: int,
        worker: Worker,
        finishes: Sequence[Finish],
        want: int,
        events: Sequence[str],
        now: Micros,
        offset: Micros,
        report_promoted: bool,
        before_io: Callable[[], None] | None,
    ) -> Turn:
        """Renew the lease of *worker*, write *finishes*, and claim up to *want* tasks, in one statement. *offset*: how far the clock of the
        consumer is ahead of UTC; the others as in `Storage.turn`."""
        is_full = self._ballast.is_short()
        want = 0 if is_full else want
        # There may be two finishes of one task: one that an outage kept back, and one of a later run.
        finishes, outdated = newest(finishes)
        expires = None if self._result_ttl is None else now + self._result_ttl
        rows = rows_of(finishes, now, offset)
        until = self._clock.monotonic() + LEASE
        row = (queue, *worker, now, until, want, expires, "\n".join(events) or None, self._keeps_finished, *rows[3:])
        with self._database.turn_lock:
            self._staging.begin()
            self._staging.add("successes", rows.successes)
            self._staging.add("other_finishes", rows.others)
            failpoint("turn:before-commit")
            units = 1 + (want + len(finishes)) // UNIT + rows.size // UNIT_BYTES
            if before_io is not None:
                before_io()
            # A claim need not survive a power cut: its worker would not either, and the task would still be queued.
            self._staging.execute("turn", row, units, is_durable=bool(finishes))
            failpoint("turn:after-commit")
            turn = self._read_turn(queue, worker, want, now, now + offset, is_full, report_promoted)
        if any(lease.options is not None and lease.is_at_most_once for lease in turn.leases):
            # Here the claim is the acknowledgement: it has to survive a power cut.
            self._database.sync()
        return turn._replace(stale=turn.stale + outdated) if outdated else turn

    def _read_turn(self, queue: int, worker: Worker, want: int, now: Micros, wall: Micros, is_full: bool, report_promoted: bool) -> Turn:
        """Read what the turn did. The rows are this worker's, so nobody changes them meanwhile; if it lost them, they are left out."""
        read = self._staging.fetch
        mine = {"queue": queue, "worker": worker.id, "now": now, "wall": wall}
        ((stale, promoted, claimed, next_due, is_paused, is_followed, is_revoked, is_heavy),) = read("turn_control", mine)
        leases = nameable(leases_from(read("turn_leases", mine)), partial(self._rename, queue)) if claimed else []
        promoted = promoted and (is_followed or report_promoted)
        cancelled = [CancelledAtClaim._make(row) for row in read("turn_cancelled", mine)] if len(leases) < claimed else []
        return Turn(
            leases,
            [id for (id,) in read("turn_stale")] if stale else [],
            cancelled,
            [Promotion._make(row) for row in read("turn_promoted", (queue,))] if promoted else [],
            [id for (id,) in read("turn_revoked", mine)] if is_revoked else [],
            next_due,
            claimed == want > 0 or bool(is_heavy),
            bool(is_paused),
            bool(is_followed),
            is_full,
            bool(is_heavy),
        )

    def _rename(self, queue: int, id: str, raw: bytes) -> None:
        self._database.execute(RENAME, (id, queue, raw), is_durable=False, lock=self._database.held)

"""The turn of a worker in SQLite: stage its finishes, run the one statement of the turn, read what it claimed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from huey.runtime.clock import SECOND, Clock, Micros, micros
from huey.runtime.failpoints import failpoint
from huey.storage.base import LEASE
from huey.storage.helpers import newest
from huey.storage.rows import Turn, Worker
from huey.storage.sqlite.ballast import Ballast
from huey.storage.sqlite.database import Database
from huey.storage.sqlite.staging import UNIT, UNIT_BYTES, Staging
from huey.storage.sqlite.workflows import Workflows
from huey.storage.stats import tallied
from huey.storage.unreadable import leases_from, spelled
from huey.task.bounds import is_storable
from huey.task.lifecycle import CancelledAtClaim, Finish, Promotion, State
from huey.task.record import Lease
from huey.task.workflow import Opened

_RENAME = "UPDATE OR REPLACE huey_task SET id = ? WHERE queue = ? AND CAST(id AS BLOB) = ?"


class Turns:
    """Runs the turns of one queue's workers. *result_ttl*: how long results are kept; *keeps_finished*: whether succeeded tasks are
    kept."""

    def __init__(
        self,
        database: Database,
        staging: Staging,
        workflows: Workflows,
        ballast: Ballast,
        clock: Clock,
        result_ttl: float | None,
        keeps_finished: bool,
    ) -> None:
        self._database = database
        self._staging = staging
        self._workflows = workflows
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
        """Renew the lease of *worker*, write *finishes*, and claim up to *want* tasks, in one statement. *offset*: how far the consumer's
        clock is ahead of UTC; the rest is as in `Storage.turn`."""
        is_full = self._ballast.is_short()
        want = 0 if is_full else want
        # There may be two finishes of one task: one that an outage kept back, and one of a later run.
        finishes, outdated = newest(finishes)
        expires = None if self._result_ttl is None else now + self._result_ttl
        rows = rows_of(finishes, now, offset)
        until = self._clock.monotonic() + LEASE
        with_edges = [finish for finish in finishes if finish.output is not None or finish.follow_ups is not None]
        kept = [(finish.lease.id, now + finish.keep) for finish in finishes if finish.keep is not None]
        head = (queue, *worker, now, until, want, expires, "\n".join(events) or None, self._keeps_finished)
        row = (*head, *rows[3:], bool(with_edges))
        with self._database.turn_lock:
            self._staging.begin()
            if with_edges:
                self._workflows.stage_finishes(with_edges, now)
            self._staging.add("successes", rows.successes)
            self._staging.add("other_finishes", rows.others)
            self._staging.add("kept", kept)
            failpoint("turn:before-commit")
            units = 1 + (want + len(finishes)) // UNIT + rows.size // UNIT_BYTES
            if before_io is not None:
                before_io()
            # A claim need not survive a power failure: its worker does not either, and the task would still be queued.
            self._staging.execute("turn", row, units, is_durable=bool(finishes))
            failpoint("turn:after-commit")
            turn = self._read_turn(queue, worker, want, now, now + offset, is_full, report_promoted)
        if any(lease.options is not None and lease.is_at_most_once for lease in turn.leases):
            # Here the claim is the acknowledgement, so it must survive a power failure.
            self._database.sync()
        return turn._replace(stale=turn.stale + outdated) if outdated else turn

    def _read_turn(self, queue: int, worker: Worker, want: int, now: Micros, wall: Micros, is_full: bool, report_promoted: bool) -> Turn:
        """Read the results of the turn. Only this worker changes these rows; those whose lease it lost are left out."""
        read = self._staging.fetch
        mine = {"queue": queue, "worker": worker.id, "now": now, "wall": wall}
        control = read("turn_control", mine)[0]
        stale, promoted, claimed, next_due, is_paused, is_followed, is_revoked, is_heavy, has_opened = control
        opened, is_open = self._read_opened() if has_opened else ([], False)
        leases = self._nameable(queue, leases_from(read("turn_leases", mine))) if claimed else []
        promoted = promoted and (is_followed or report_promoted)
        cancelled = [CancelledAtClaim._make(row) for row in read("turn_cancelled", mine)] if len(leases) < claimed else []
        return Turn(
            leases,
            [id for (id,) in read("turn_stale")] if stale else [],
            cancelled,
            [Promotion._make(row) for row in read("turn_promoted", (queue,))] if promoted else [],
            [id for (id,) in read("turn_revoked", mine)] if is_revoked else [],
            next_due,
            claimed == want > 0 or bool(is_heavy) or is_open or bool(opened and cancelled),
            bool(is_paused),
            bool(is_followed),
            is_full,
            bool(is_heavy),
            opened,
        )

    def _read_opened(self) -> tuple[list[Opened], bool]:
        """Return the tasks that the turn opened, and whether it left edges for the next turn."""
        rows = self._staging.fetch("turn_opened")
        self._staging.clear("turn_opened_read")
        return [Opened._make(row) for row in rows if row[1] is not None], any(row[1] is None for row in rows)

    def _nameable(self, queue: int, leases: list[Lease]) -> list[Lease]:
        """Return *leases*, of which those whose ids are not text have new ids that spell the bytes out: else no call could name them."""
        for index, lease in enumerate(leases):
            # Only a task that cannot be read has no name.
            if not lease.name and not (isinstance(lease.id, str) and is_storable(lease.id)):
                raw = lease.id if isinstance(lease.id, bytes) else str(lease.id).encode("utf-8", "surrogateescape")
                self._database.execute(_RENAME, (spelled(raw), queue, raw), is_durable=False, lock=self._database.held)
                leases[index] = lease._replace(id=spelled(raw))
        return leases


MANY = 16
"""From this number of successes on, statistics are added up in Python; for fewer, in SQL."""

SMALL = 4096
"""Maximum size in bytes of values that are copied; copying a larger one costs more than it saves."""


class FinishRows(NamedTuple):
    """The rows that a turn writes."""

    successes: list[tuple[Any, ...]]
    """Rows of tasks that succeeded: id, token, value, duration in microseconds."""
    others: list[tuple[Any, ...]]
    """Rows of all others: id, token, state, due, the counters, reason, value, error, duration, and expiry and options if they change."""
    size: int
    """Total size of all values in bytes."""
    tally: str | None
    """The statistics of `successes`, added up, as JSON; None if SQL adds them up."""
    top_token: int
    """The highest token in `successes`."""
    wall: Micros
    """The time on the consumer's own clock."""


def rows_of(finishes: Sequence[Finish], now: Micros, offset: Micros) -> FinishRows:
    """Return the rows of *finishes*. *offset*: how far the consumer's clock is ahead of UTC."""
    successes: list[tuple[Any, ...]] = []
    others: list[tuple[Any, ...]] = []
    runs: dict[str, tuple[list[Micros], list[Micros]]] = {}
    size, top_token = 0, 0
    for finish in finishes:
        lease, duration = finish.lease, round(finish.duration * SECOND)
        value: bytes | bytearray | None = finish.value
        if value is not None:
            size += len(value)
            if len(value) < SMALL:
                # The driver takes a bytearray directly, but searches for an adapter of bytes.
                value = bytearray(value)
        if finish.state == State.SUCCEEDED:
            successes.append((lease.id, lease.token, value, duration))
            if lease.token > top_token:
                top_token = lease.token
            try:
                durations, times = runs[lease.name]
            except KeyError:
                durations, times = runs[lease.name] = ([], [])
            durations.append(duration)
            times.append(lease.created)
        else:
            error = None if finish.error is None else json.dumps(finish.error)
            counted = finish[3:7]
            row_end = (finish.reason, value, error, duration, finish.expires_at(now), finish.options)
            others.append((lease.id, lease.token, finish.state, finish.due_at(now), *counted, *row_end))
    tally = json.dumps(list(tallied(runs, now))) if len(successes) >= MANY else None
    return FinishRows(successes, others, size, tally, top_token, now + offset)

"""Runs of tasks: what a claim and the end of a run change."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from huey.runtime.clock import Micros, micros
from huey.storage.base import KEPT_RESULT
from huey.storage.memory import edges, keys, revocations, workflows
from huey.storage.memory.row import Row
from huey.storage.memory.tables import Tables
from huey.storage.memory.tasks import up_to_byte_limit
from huey.storage.rows import Missing, Turn, Worker
from huey.storage.stats import CANCELLED, ENQUEUED
from huey.task.lifecycle import CancelledAtClaim, Finish, State
from huey.task.record import Lease


def turn(
    tables: Tables, worker: Worker, finishes: Sequence[tuple[Finish, str | None]], want: int, expires: Micros, now: Micros, offset: Micros
) -> Turn:
    """Write *finishes*, each with its error as JSON, and claim up to *want* tasks. *expires*: when the results expire."""
    tasks, is_paused = tables.tasks, tables.is_paused
    written = [_finish(tables, worker, finish, error, expires, now, offset) for finish, error in finishes]
    opened = edges.settle(tables.edges, now) if tables.edges.ended else []
    done = [finish for (finish, _), is_written in zip(finishes, written, strict=True) if is_written]
    keys.hold(tables, [finish.lease.id for finish in done])
    for finish in done:
        if finish.follow_ups is not None:
            opened += workflows.follow_up(tables.edges, finish.follow_ups, now)
    promoted = [row.label for row in tasks.promote(now)]
    tasks.ready.end_windows(now)
    claimed = [] if is_paused else tasks.claim(worker, want)
    is_heavy = len(claimed) < want and not is_paused and any(tasks.ready.heaps(worker))
    cancelled = [dropped for row in claimed if (dropped := _turn_away(tables, row, now, offset))]
    for row in claimed:
        keys.release(tables, row)
    tasks.ready.after_claim(claimed, now)
    edges.skip(tables, [dropped.id for dropped in cancelled])
    if cancelled and tables.edges.ended:
        opened += edges.settle(tables.edges, now)
    return Turn(
        leases=[row.lease() for row in claimed if row.state == State.RUNNING],
        stale=[finish.lease.id for (finish, _), is_written in zip(finishes, written, strict=True) if not is_written],
        cancelled=cancelled,
        promoted=promoted,
        revoked_running=[row.id for row in tasks.held_by(worker.id) if row.is_revoked(now, offset)],
        next_due=tasks.next_due,
        may_have_more=is_heavy or len(claimed) == want > 0 or bool(tables.edges.ended) or bool(opened and cancelled),
        is_paused=is_paused,
        is_followed=tables.events.are_followed(now),
        hit_byte_limit=is_heavy,
        opened=opened,
    )


def _finish(tables: Tables, worker: Worker, finish: Finish, error: str | None, expires: Micros, now: Micros, offset: Micros) -> bool:
    """Write the end of a run and its result, which *expires*. Return False if the lease is gone."""
    row = tables.tasks.rows.get(finish.lease.id)
    if row is None or not row.is_held_by(worker, finish.lease):
        return False
    tables.tasks.end_lease(row)
    if finish.value is not None:
        tables.values["result"][row.id] = finish.value, expires if finish.keep is None else max(expires, now + finish.keep + KEPT_RESULT)
    _count(tables, row, row.settle(finish, worker, error, now, offset), now, micros(finish.duration))
    if row.state == State.QUEUED:
        tables.tasks.queue(row)
        return True
    _has_ended(tables, row)
    edges.end_run(tables, row, finish, error)
    if row.is_kept or (row.state == State.SUCCEEDED and not tables.retention.is_on):
        edges.forget(tables, row.id)
        if not row.is_kept:
            tables.tasks.remove([row.id])
    return True


def _turn_away(tables: Tables, row: Row, now: Micros, offset: Micros) -> CancelledAtClaim | None:
    """End a task that was claimed but must not run."""
    if row.is_revoked(now, offset) or revocations.obey_name(tables, row.record.name, now, offset):
        reason = "revoked"
    elif row.is_expired(now):
        reason = "expired"
    else:
        return None
    tables.tasks.end_lease(row)
    row.end(State.CANCELLED, reason, now)
    _count(tables, row, CANCELLED, now)
    id, name, retries, retry_delay = row.label
    return CancelledAtClaim(id, name, reason, retries, retry_delay)


def release(tables: Tables, worker: Worker, lease: Lease) -> bool:
    """Return a task that never started to the queue. Return False if its lease is gone."""
    row = tables.tasks.rows.get(lease.id)
    if row is None or not row.is_held_by(worker, lease):
        return False
    tables.tasks.end_lease(row)
    tables.tasks.ready.refund(row)
    tables.tasks.queue(row)
    return True


def take_over(tables: Tables, dead: Worker, worker: Worker) -> list[Row]:
    """Lease everything that a dead worker holds to *worker*, and remove the dead one."""
    taken = tables.tasks.held_by(dead.id)
    for row in taken:
        row.lost_by = row.lost_by or dead
        tables.tasks.end_lease(row)
        tables.tasks.lease_to(worker.id, row)
    del tables.workers[dead.id]
    return taken


def start_over(tables: Tables, ids: Sequence[str], now: Micros) -> list[str]:
    """Requeue those that ended without success; return their ids."""
    rows = tables.tasks.rows
    requeued = [id for id in dict.fromkeys(ids) if id in rows and rows[id].has_failed and not rows[id].is_cancelled_by_parent]
    for id in requeued:
        tables.values["result"].pop(id, None)
        tables.tasks.wait(rows[id].reset(now))
        keys.hold(tables, [id])
    edges.reopen(tables, requeued)
    for id in requeued:
        if not rows[id].open_parents:
            tables.tasks.queue(rows[id])
    return requeued


def remove_waiting(tables: Tables, now: Micros, *, scheduled: bool) -> int:
    gone = tables.tasks.remove_waiting(scheduled=scheduled)
    for row in gone:
        keys.forget(tables, row)
    edges.forget_gone(tables)
    edges.skip(tables, [row.id for row in gone])
    edges.settle(tables.edges, now)
    return len(gone)


def discard(tables: Tables, ids: Sequence[str]) -> list[str]:
    """Remove ended tasks and their stored results; return the ids that were removed."""
    rows = tables.tasks.rows
    gone = [id for id in ids if id in rows and rows[id].is_ended]
    tables.tasks.remove(gone)
    for id in gone:
        tables.values["result"].pop(id, None)
        tables.kept_ids.pop(id, None)
    edges.forget_gone(tables)
    return gone


def keep(tables: Tables, ids: Sequence[str], until: Micros) -> None:
    """Keep those that are kept for a time of their own until *until*, and their results."""
    rows, results = tables.tasks.rows, tables.values["result"]
    for id in ids:
        if id in rows and rows[id].is_kept:
            rows[id].due = until
            if id in results:
                value, expires = results[id]
                results[id] = value, max(expires, until + KEPT_RESULT)


def _has_ended(tables: Tables, row: Row) -> None:
    """Release what a task held for others."""
    keys.release(tables, row)
    tables.tasks.ready.rebalance(row)


def _count(tables: Tables, row: Row, what: int | None, now: Micros, took: Micros = 0) -> None:
    if what is not None:
        tables.statistics.count(row.record.name, what, now, took)
    if row.is_ended:
        # Until then it is counted when the statistics are read.
        tables.statistics.count(row.record.name, ENQUEUED, row.created)


def claim_missing(tables: Tables, worker: Worker, missing: Sequence[Missing], want: int, now: Micros) -> list[Row]:
    """Lease tasks that wait for one of *missing* to *worker*, best first; those that a claim has to check become due."""
    if tables.is_paused:
        return []
    tasks, wanted = tables.tasks, set(missing)
    waiting = [row for id in tasks.missing if (row := tasks.rows[id]).missing in wanted and row.due is not None and row.due > now]
    rows = {row.id: row for row in up_to_byte_limit(sorted(waiting, key=lambda row: row.rank)[:want])}
    tasks.scheduled = [each for each in tasks.scheduled if each[1] not in rows]
    claimed = []
    for row in rows.values():
        if _is_plain(tables, row, now):
            row.due = None
            tasks.missing.remove(row.id)
            tasks.lease_to(worker.id, row)
            claimed.append(row)
        else:
            row.due = now
            tasks.scheduled.append((now, row.id))
    heapq.heapify(tasks.scheduled)
    return claimed


def _is_plain(tables: Tables, row: Row, now: Micros) -> bool:
    """Return True if a claim has nothing to check."""
    has_constraints = row.constraints.concurrency_key is not None or row.constraints.unique is not None
    # A wall time is evaluated by the claim, which knows the consumer's clock.
    found = [revocation for revocation in (row.revoked, tables.revoked_names.get(row.record.name)) if revocation is not None]
    must_not_run = any(revocation.until < 0 or revocation.holds(now) for revocation in found) or row.is_expired(now)
    return not (has_constraints or row.solo_crashes or must_not_run)

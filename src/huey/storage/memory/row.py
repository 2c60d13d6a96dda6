"""A task in memory, and its changes of state."""

from __future__ import annotations

import json
from typing import Any

from huey.runtime.clock import Micros
from huey.storage.base import ATTEMPTS_KEPT
from huey.storage.rows import Missing, Revocation, TaskRow, Worker
from huey.storage.stats import CANCELLED, FAILED, RETRIED, SUCCEEDED
from huey.task import reasons
from huey.task.lifecycle import FINAL, Finish, Promotion, State
from huey.task.record import Lease, Record
from huey.task.record_options import read_constraints, without_requests


class Row:
    """One task. While queued it is ready if ``due`` is None, otherwise scheduled. A succeeded one is kept until then, if it has one."""

    def __init__(self, record: Record, now: Micros) -> None:
        self.id = record.id
        self.record = record = record.resolved(now)
        self.constraints = read_constraints(record.options)
        self.state = State.QUEUED
        self.ready_at = now
        self.due = record.eta if record.eta is not None and record.eta > now else None
        self.attempt = 0
        self.solo_crashes = 0
        self.deaths = 0
        self.unknown_until: Micros | None = None
        self.token = 0
        self.worker: str | None = None
        self.reason: str | None = None
        self.error: str | None = None
        self.created = now
        self.finished: Micros | None = None
        self.revoked: Revocation | None = None
        self.attempts: list[dict[str, Any]] = []
        self.spent: Micros | None = None
        """The start of the window in which its last claim spent a use of its rate."""
        self.open_parents = 0
        """Number of parents that have not ended."""
        self.lost_by: Worker | None = None
        """The worker that ran it and died, until its successor has decided what that means."""

    @property
    def rank(self) -> tuple[int, Micros, str]:
        """Sort key: the smallest runs first."""
        return -self.record.priority, self.ready_at, self.id

    @property
    def label(self) -> Promotion:
        """Id, name, remaining runs and their delay, for events about a task."""
        return Promotion(self.id, self.record.name, max(0, self.record.retries - self.attempt), self.record.retry_delay)

    def is_held_by(self, worker: Worker, lease: Lease) -> bool:
        return self.state == State.RUNNING and self.worker == worker.id and self.token == lease.token

    def is_revoked(self, now: Micros, offset: Micros) -> bool:
        return self.revoked is not None and self.revoked.holds(now, offset)

    @property
    def is_ended(self) -> bool:
        return self.state in FINAL

    @property
    def is_kept(self) -> bool:
        """Whether it has succeeded and is kept for a time of its own, until ``due``."""
        return self.state == State.SUCCEEDED and self.due is not None

    @property
    def is_missing(self) -> bool:
        """Whether it waits for a worker that can run it."""
        return self.state == State.QUEUED and self.due is not None and self.unknown_until is not None

    @property
    def missing(self) -> Missing:
        """What it is waiting for."""
        return Missing(self.record.name, self.reason or "")

    @property
    def may_come_again(self) -> bool:
        """Whether it has ended and its id may be enqueued again."""
        return self.is_ended and self.constraints.own is not None

    @property
    def is_cancelled_by_parent(self) -> bool:
        """Whether it was cancelled because a parent did not succeed."""
        return self.state == State.CANCELLED and self.reason in (reasons.PARENT_FAILED, reasons.PARENT_SKIPPED)

    @property
    def has_failed(self) -> bool:
        """Whether it ended without success."""
        return self.state in (State.FAILED, State.CANCELLED)

    def is_older(self, than: Micros) -> bool:
        """Return True if it ended by that time."""
        return self.finished is not None and self.finished <= than

    def is_expired(self, now: Micros) -> bool:
        return self.record.expires is not None and self.record.expires <= now

    def settle(self, finish: Finish, worker: Worker, error: str | None, now: Micros, offset: Micros) -> int | None:
        """Apply the end of a run; return the new state, and what it counts as in the statistics."""
        if finish.state == State.SUCCEEDED:
            self.end(State.SUCCEEDED, None, now)
            self.due = None if finish.keep is None else now + finish.keep
            return SUCCEEDED
        is_try = finish.attempt > self.attempt
        self._note(finish, worker, now)
        self.attempt, self.solo_crashes, self.deaths = finish.attempt, finish.solo_crashes, finish.deaths
        self.unknown_until = finish.due_at(now) if finish.unknown_until == 0 else finish.unknown_until
        self.error = error or self.error
        if finish.state != State.QUEUED:
            self.end(finish.state, finish.reason, now)
        elif self.is_revoked(now, offset):
            self.end(State.CANCELLED, "revoked", now)
        else:
            if (expires := finish.expires_at(now)) is not None:
                self.record = self.record._replace(expires=expires)
            if finish.options is not None:
                self.record = self.record._replace(options=finish.options)
            self.requeue(finish.due_at(now), finish.reason, now)
            return RETRIED if is_try else None
        return FAILED if self.state == State.FAILED else CANCELLED

    def _note(self, finish: Finish, worker: Worker, now: Micros) -> None:
        """Store a run that failed or whose worker died."""
        if finish.error is not None or finish.deaths > self.deaths or finish.solo_crashes > self.solo_crashes:
            ran = self.lost_by or worker
            error = None if finish.error is None else finish.error.get("error")
            attempt = {"worker": ran.id, "host": ran.host, "pid": ran.pid, "at": now, "reason": finish.reason, "error": error}
            self.attempts = [*self.attempts, attempt][-ATTEMPTS_KEPT:]

    def end(self, state: str, reason: str | None, now: Micros) -> None:
        """End the task. A revocation for once ends with it."""
        self.state, self.reason, self.finished = state, reason, now
        if self.revoked is not None and self.revoked.once:
            self.revoked = None

    def requeue(self, due: Micros | None, reason: str | None, now: Micros) -> None:
        """Queue another run: at once behind the waiting tasks, at a past position, or later."""
        self.state, self.reason = State.QUEUED, reason
        self.due = due if due is not None and due > now else None
        self.ready_at = due if due is not None and due <= now else now

    def reset(self, now: Micros) -> Row:
        """Return the row as newly enqueued, except for its age, token and attempts. Drops the expiry: a retry by hand is meant to run."""
        options = without_requests(self.record.options)
        row = Row(self.record._replace(eta=None, expires=None, delay=None, expires_in=None, options=options), now)
        row.token, row.created, row.attempts = self.token, self.created, self.attempts
        return row

    def lease(self) -> Lease:
        id, name, payload, priority, _, expires, retries, retry_delay, options, _, _ = self.record
        counted = (self.attempt, self.solo_crashes, self.deaths, self.unknown_until)
        return Lease(id, self.token, name, payload, priority, self.ready_at, expires, retries, retry_delay, *counted, options, self.created)

    def to_task_row(self) -> TaskRow:
        record, revoked = self.record, self.revoked
        return TaskRow(
            id=self.id,
            name=record.name,
            state=State.BLOCKED if self.is_missing else self.state,
            payload=record.payload,
            priority=record.priority,
            ready_at=self.ready_at,
            due=self.due,
            expires=record.expires,
            retries=record.retries,
            retry_delay=record.retry_delay,
            attempt=self.attempt,
            solo_crashes=self.solo_crashes,
            deaths=self.deaths,
            token=self.token,
            worker=self.worker,
            reason=self.reason,
            error=self.error,
            created=self.created,
            finished=self.finished,
            revoked_until=None if revoked is None else revoked.until,
            options=record.options,
            attempts=json.dumps(self.attempts) if self.attempts else None,
        )

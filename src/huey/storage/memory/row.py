"""A task that is held in memory, and what can be said about it."""

from __future__ import annotations

from huey.clock import Micros
from huey.lifecycle import Promotion, State
from huey.storage.base import Revocation, TaskRow, Worker
from huey.task import Lease, Record


class Row:
    """One task. Queued, it is ready while ``due`` is None, else scheduled; ``place`` is when it became ready."""

    def __init__(self, record: Record, now: Micros) -> None:
        self.record = record
        self.state = State.QUEUED
        self.place = now
        self.due = record.eta if record.eta is not None and record.eta > now else None
        self.attempt = 0
        self.crashes = 0
        self.deaths = 0
        self.parked: Micros | None = None
        self.token = 0
        self.worker: str | None = None
        self.reason: str | None = None
        self.error: str | None = None
        self.created = now
        self.finished: Micros | None = None
        self.revoked: Revocation | None = None

    @property
    def rank(self) -> tuple[int, Micros, str]:
        """Smaller runs first."""
        return -self.record.priority, self.place, self.record.id

    @property
    def label(self) -> Promotion:
        """Id, name, runs left and their delay: what an event tells of a task."""
        return Promotion(self.record.id, self.record.name, max(0, self.record.retries - self.attempt), self.record.retry_delay)

    def is_held_by(self, worker: Worker, lease: Lease) -> bool:
        return self.state == State.RUNNING and self.worker == worker.id and self.token == lease.token

    def is_revoked(self, now: Micros) -> bool:
        return self.revoked is not None and self.revoked.holds(now)

    def is_expired(self, now: Micros) -> bool:
        return self.record.expires is not None and self.record.expires <= now

    def end(self, state: str, reason: str | None, now: Micros) -> None:
        """No further run. A mark for once goes with this one."""
        self.state, self.reason, self.finished = state, reason, now
        if self.revoked is not None and self.revoked.once:
            self.revoked = None

    def put_back(self, due: Micros | None, now: Micros) -> None:
        """Another run: at once behind what waits, at a place in the past, or later."""
        self.due = due if due is not None and due > now else None
        self.place = due if due is not None and due <= now else now

    def anew(self, now: Micros) -> Row:
        """As just enqueued, but for its age and its token. An expiry is dropped: who puts it back by hand wants it to run."""
        row = Row(self.record._replace(eta=None, expires=None), now)
        row.token, row.created = self.token, self.created
        return row

    def lease(self) -> Lease:
        id, name, payload, priority, _, expires, retries, retry_delay, options = self.record
        counted = (self.attempt, self.crashes, self.deaths, self.parked)
        return Lease(id, self.token, name, payload, priority, self.place, expires, retries, retry_delay, *counted, options)

    def look(self) -> TaskRow:
        record, revoked = self.record, self.revoked
        return TaskRow(
            id=record.id,
            name=record.name,
            state=self.state,
            payload=record.payload,
            priority=record.priority,
            place=self.place,
            due=self.due,
            expires=record.expires,
            retries=record.retries,
            retry_delay=record.retry_delay,
            attempt=self.attempt,
            crashes=self.crashes,
            deaths=self.deaths,
            token=self.token,
            worker=self.worker,
            reason=self.reason,
            error=self.error,
            created=self.created,
            finished=self.finished,
            revoked_until=None if revoked is None else revoked.until,
            options=record.options,
        )

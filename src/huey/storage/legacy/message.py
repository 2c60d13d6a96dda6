"""A task as the components of a 0.4.9 queue store it: one line of ASCII JSON, which any component can keep as bytes or as text.

Anyone can read the metadata; the payload is what the serializer wrote, in base64.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any, NamedTuple

from huey.exceptions import DecodeError
from huey.runtime.clock import Micros, micros
from huey.storage.rows import TaskRow
from huey.task.bounds import LARGEST, is_storable
from huey.task.lifecycle import UNKNOWN_DELAY, Finish, State
from huey.task.record import Lease, Record
from huey.task.record_options import read_constraints

FORMAT = 1
_LARGEST_TIME = 2**62


class Message(NamedTuple):
    """A waiting or running task. Times are microseconds UTC."""

    id: str
    name: str
    payload: bytes
    due: Micros | None = None
    """Earliest time to run; None: now."""
    expires: Micros | None = None
    retries: int = 0
    retry_delay: float = 0.0
    options: str | None = None
    created: Micros = 0
    ready_at: Micros = 0
    """When it became ready."""
    attempt: int = 0
    solo_crashes: int = 0
    deaths: int = 0
    unknown_until: Micros | None = None
    token: int = 0
    """Token of its last claim. For an id that may be reused, it begins with the time of the enqueue."""
    reason: str | None = None
    """Reason for which it was requeued."""
    priority: int = 0
    """For a queue with priorities."""

    @classmethod
    def of(cls, record: Record, now: Micros) -> Message:
        """Return the message of a task that is being enqueued."""
        record = record.resolved(now)
        due = record.eta if record.eta is not None and record.eta > now else None
        fields = (record.expires, record.retries, record.retry_delay, record.options)
        # A reused id begins above its former tokens as long as the producers' clocks go forward: nothing is left of its former runs.
        token = read_constraints(record.options).own or 0
        message = cls(record.id, record.name, record.payload, due, *fields, created=now, ready_at=now if due is None else due)
        return message._replace(token=token, priority=record.priority)

    def to_bytes(self) -> bytes:
        """Return the message encoded; fields with their default are left out."""
        fields: dict[str, Any] = {"huey": FORMAT, "id": self.id, "name": self.name, "payload": b64encode(self.payload).decode("ascii")}
        for field, default in self._field_defaults.items():
            if (value := getattr(self, field)) != default:
                fields[field] = value
        return json.dumps(fields, separators=(",", ":")).encode("ascii")

    @classmethod
    def read(cls, data: Any) -> Message:
        """Return the decoded message that a component returned. Raise DecodeError if it is not a huey message."""
        try:
            fields = json.loads(data)
        except (TypeError, ValueError, RecursionError) as error:
            raise DecodeError(f"not a huey message ({type(error).__name__})") from error
        if not isinstance(fields, dict) or fields.pop("huey", None) != FORMAT:
            raise DecodeError(f"not a huey message, or not of format {FORMAT}")
        try:
            message = cls(**{**fields, "payload": b64decode(fields["payload"], validate=True)})
        except (KeyError, TypeError, ValueError) as error:
            raise DecodeError(f"a message with fields that huey does not use ({type(error).__name__}: {error})") from error
        for field, value in zip(cls._fields, message, strict=True):
            if not _fits(field, value):
                raise DecodeError(f"a message with {field}={value!r:.100}")
        return message

    @classmethod
    def read_or_none(cls, data: Any) -> Message | None:
        """Return the decoded message, or None if it is not a huey message."""
        try:
            return cls.read(data)
        except DecodeError:
            return None

    def lease(self) -> Lease:
        """Return the lease of a worker that claims the message now."""
        counted = (self.attempt, self.solo_crashes, self.deaths, self.unknown_until)
        outside = (self.priority, self.ready_at, self.expires, self.retries, self.retry_delay)
        return Lease(self.id, self.token + 1, self.name, self.payload, *outside, *counted, self.options, self.created)

    def claimed(self) -> Message:
        """Return the message after a lease on it has ended."""
        return self._replace(token=self.token + 1)

    def after(self, finish: Finish, now: Micros) -> Message:
        """Return the message to requeue after a run that ended with *finish*."""
        at, unknown_until = finish.due_at(now), finish.unknown_until
        if unknown_until is not None and at is not None:
            # There is no way to ask what it lacks: another worker may read it next.
            at, unknown_until = now + micros(UNKNOWN_DELAY), unknown_until or at
        due = at if at is not None and at > now else None
        ready_at = now if at is None else at
        expires = self.expires if finish.expires_in is None else finish.expires_at(now)
        options = self.options if finish.options is None else finish.options
        message = self.claimed()._replace(due=due, ready_at=ready_at, expires=expires, options=options, reason=finish.reason)
        return message._replace(attempt=finish.attempt, solo_crashes=finish.solo_crashes, deaths=finish.deaths, unknown_until=unknown_until)

    def to_task_row(self, worker: str | None = None) -> TaskRow:
        """Return the task as the inspector shows it."""
        return TaskRow(
            id=self.id,
            name=self.name,
            state=State.QUEUED if worker is None else State.RUNNING,
            payload=self.payload,
            priority=self.priority,
            ready_at=self.ready_at,
            due=self.due,
            expires=self.expires,
            retries=self.retries,
            retry_delay=self.retry_delay,
            attempt=self.attempt,
            solo_crashes=self.solo_crashes,
            deaths=self.deaths,
            token=self.token if worker is None else self.token + 1,
            worker=worker,
            reason=self.reason if worker is None else None,
            error=None,
            created=self.created,
            finished=None,
            revoked_until=None,
            options=self.options,
        )


_TIMES = ("due", "expires", "unknown_until")
_TEXTS = ("options", "reason")
_COUNTS = ("retries", "attempt", "solo_crashes", "deaths")


def _fits(field: str, value: Any) -> bool:
    """Return True if this field may have this value."""
    if value is None:
        return field in _TIMES + _TEXTS
    if isinstance(value, bool):
        return False
    if field == "retry_delay":
        return isinstance(value, int | float) and 0 <= value <= LARGEST
    if field in _COUNTS:
        return isinstance(value, int) and 0 <= value <= LARGEST
    if field == "priority":
        return isinstance(value, int) and abs(value) <= LARGEST
    if field == "token":
        return isinstance(value, int) and 0 <= value <= _LARGEST_TIME
    if field in _TIMES or field in ("created", "ready_at"):
        return isinstance(value, int) and abs(value) <= _LARGEST_TIME
    if field == "payload":
        return isinstance(value, bytes)
    return isinstance(value, str) and is_storable(value)

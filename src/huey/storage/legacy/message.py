"""A task as the parts of a 0.4.9 queue carry it: one line of JSON in ASCII, which any part can keep, as bytes or as text.

Its outside can be read by anyone; the payload is what the serializer wrote, in base64.
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
    """A task that waits or runs. Times are microseconds UTC."""

    id: str
    name: str
    payload: bytes
    due: Micros | None = None
    """Not before this time; None: now."""
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
    """That of its last claim; of an id that may come again it begins with the instant of the enqueue."""
    reason: str | None = None
    """Why it was put back."""
    priority: int = 0
    """For a queue that takes priorities."""

    @classmethod
    def of(cls, record: Record, now: Micros) -> Message:
        """A task that is put in now."""
        record = record.resolved(now)
        due = record.eta if record.eta is not None and record.eta > now else None
        fields = (record.expires, record.retries, record.retry_delay, record.options)
        # An id that comes again begins above its former tokens while the producers' clocks go forward: nothing is left of its former runs.
        token = read_constraints(record.options).own or 0
        message = cls(record.id, record.name, record.payload, due, *fields, created=now, ready_at=now if due is None else due)
        return message._replace(token=token, priority=record.priority)

    def to_bytes(self) -> bytes:
        """As it travels; what has its default is left out."""
        fields: dict[str, Any] = {"huey": FORMAT, "id": self.id, "name": self.name, "payload": b64encode(self.payload).decode("ascii")}
        for field, default in self._field_defaults.items():
            if (value := getattr(self, field)) != default:
                fields[field] = value
        return json.dumps(fields, separators=(",", ":")).encode("ascii")

    @classmethod
    def read(cls, data: Any) -> Message:
        """What a part gave back. DecodeError: it is no message of ours."""
        try:
            fields = json.loads(data)
        except (TypeError, ValueError, RecursionError) as error:
            raise DecodeError(f"no message of huey ({type(error).__name__})") from error
        if not isinstance(fields, dict) or fields.pop("huey", None) != FORMAT:
            raise DecodeError(f"no message of huey, or not of format {FORMAT}")
        try:
            message = cls(**{**fields, "payload": b64decode(fields["payload"], validate=True)})
        except (KeyError, TypeError, ValueError) as error:
            raise DecodeError(f"a message with other fields than huey's ({type(error).__name__}: {error})") from error
        for field, value in zip(cls._fields, message, strict=True):
            if not _fits(field, value):
                raise DecodeError(f"a message with {field}={value!r:.100}")
        return message

    @classmethod
    def read_or_none(cls, data: Any) -> Message | None:
        """None: it is no message of ours."""
        try:
            return cls.read(data)
        except DecodeError:
            return None

    def lease(self) -> Lease:
        """What a worker gets that claims it now."""
        counted = (self.attempt, self.solo_crashes, self.deaths, self.unknown_until)
        outside = (self.priority, self.ready_at, self.expires, self.retries, self.retry_delay)
        return Lease(self.id, self.token + 1, self.name, self.payload, *outside, *counted, self.options, self.created)

    def claimed(self) -> Message:
        """After a lease on it was given and ended."""
        return self._replace(token=self.token + 1)

    def after(self, finish: Finish, now: Micros) -> Message:
        """To be put back after a run that ended so."""
        at, unknown_until = finish.due_at(now), finish.unknown_until
        if unknown_until is not None and at is not None:
            # Nobody can be asked what it lacks: another worker may be the next to read it.
            at, unknown_until = now + micros(UNKNOWN_DELAY), unknown_until or at
        due = at if at is not None and at > now else None
        ready_at = now if at is None else at
        expires = self.expires if finish.expires_in is None else finish.expires_at(now)
        options = self.options if finish.options is None else finish.options
        message = self.claimed()._replace(due=due, ready_at=ready_at, expires=expires, options=options, reason=finish.reason)
        return message._replace(attempt=finish.attempt, solo_crashes=finish.solo_crashes, deaths=finish.deaths, unknown_until=unknown_until)

    def to_task_row(self, worker: str | None = None) -> TaskRow:
        """As a person sees it."""
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
    """The value is one that this field may have."""
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

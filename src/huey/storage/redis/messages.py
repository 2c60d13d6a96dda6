"""The stored form of a task in Redis: a message, readable except for its payload, and a state once the task is no longer new.

A message: ``-`` (or ``x``: it has an eta or an expiry), 16 digits of when it was enqueued, 6 digits of the length of its head, the head,
the payload. The head is a JSON list of name, priority, retries, retry_delay, expires, eta, options, delay, expires_in; defaults at its end
are left out. The last two are durations (microseconds) from the enqueue, and replace eta and expires. Fields that a newer release adds
after them are ignored. An unreadable message becomes a lease without a name (``unreadable``). The state is a list that only scripts write
(lua/parts/base.lua has the order).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, NamedTuple

from huey.runtime.clock import Micros
from huey.storage.rows import Revocation, TaskRow
from huey.storage.unreadable import UNREADABLE, check_outside, check_times, unreadable
from huey.task.lifecycle import CancelledAtClaim, Promotion, State
from huey.task.record import Lease, Record, RecordBatch

Arg = bytes | str | int | float
_DEFAULTS = [None, 0, 0, 0.0, None, None, None, None, None]
_HEADS_KEPT = 1000


class Head(NamedTuple):
    """The part of a task that can be read without its payload."""

    name: str
    priority: int
    retries: int
    retry_delay: float
    expires: Micros | None
    eta: Micros | None
    options: str | None
    delay: Micros | None
    expires_in: Micros | None

    def expiry(self, created: Micros) -> Micros | None:
        """Return when the task expires."""
        return self.expires if self.expires_in is None else self.first_ready_at(created) + self.expires_in

    def first_ready_at(self, created: Micros) -> Micros:
        """Return its ready_at before any requeue: when it was enqueued, or was due."""
        due = self.due(created)
        return due if due is not None and due > created else created

    def due(self, created: Micros) -> Micros | None:
        """Return when it was first due."""
        return self.eta if self.delay is None else created + self.delay


_as_lease = Lease._make
_read: dict[bytes, Head] = {}
_written: dict[tuple[Any, ...], tuple[str, bytes]] = {}


def group(pattern: Record, ids: Sequence[str], payloads: Sequence[bytes]) -> list[Arg]:
    """Return records that differ only in id and payload as arguments (lua/parts/insert.lua)."""
    _, name, _, priority, eta, expires, retries, retry_delay, options, delay, expires_in = pattern
    # Durations as given, without this host's estimates of the times, so that heads are equal.
    eta, expires = None if delay is not None else eta, None if expires_in is not None else expires
    shared = (name, priority, retries, retry_delay, expires, eta, options, delay, expires_in)
    try:
        flag, head = _written[shared]
    except KeyError:
        flag, head = _head(shared)
    due: Arg = "" if eta is None else eta
    return [flag, head, priority, due if delay is None else f"+{delay}", name, len(ids), *ids, *payloads]


def single(one: list[Arg]) -> list[Arg] | None:
    """Return a group of one as arguments of lua/enqueue_one.lua, or None if it is not a ready task of priority 0."""
    flag, head, priority, eta, name, _, id, payload = one
    return [flag, head, name, id, payload] if priority == 0 and eta == "" else None


def _head(shared: tuple[Any, ...]) -> tuple[str, bytes]:
    values = list(shared)
    while len(values) > 1 and values[-1] == _DEFAULTS[len(values) - 1]:
        values.pop()
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
    is_timed = any(shared[index] is not None for index in (4, 5, 7, 8))
    written = ("x" if is_timed else "-"), b"%06d" % len(text) + text
    if shared[4] is None and shared[5] is None and len(_written) < _HEADS_KEPT:
        _written[shared] = written
    return written


def groups(records: Sequence[Record]) -> list[Arg]:
    """Return *records* as groups, in order of id. The first of several with one id counts."""
    if type(records) is RecordBatch:
        ids = records.ids
        if all(map(str.__lt__, ids, ids[1:])):
            return group(records.template, ids, records.payloads)
    elif len(records) == 1:
        record = records[0]
        return group(record, (record.id,), (record.payload,))
    first: dict[str, Record] = {}
    for record in records:
        first.setdefault(record.id, record)
    arguments: list[Arg] = []
    for _, alike in groupby([first[id] for id in sorted(first)], lambda record: (record.name, *record[3:])):
        some = list(alike)
        arguments += group(some[0], [record.id for record in some], [record.payload for record in some])
    return arguments


def text_of(raw: bytes) -> str:
    """Return an id or a key as a string. Foreign bytes that are not UTF-8 become surrogates, which ``raw_of`` turns back into bytes."""
    return raw.decode("utf-8", "surrogateescape")


def raw_of(text: str) -> Arg:
    """Return the bytes for a string that ``text_of`` returned."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape")


def _split(message: bytes) -> tuple[Micros, Head, bytes]:
    """Return when the task was enqueued, its head and its payload. Raise one of ``UNREADABLE`` if this release cannot read it."""
    start = 23 + int(message[17:23])
    text = message[23:start]
    head = _read.get(text)
    if head is None:
        head = _head_in(json.loads(text))
        if len(_read) >= _HEADS_KEPT:
            _read.clear()
        _read[text] = head
    return int(message[1:17]), head, message[start:]


def _head_in(values: Any) -> Head:
    if not isinstance(values, list) or not values:
        raise ValueError("no list")
    head = Head(*values[: len(_DEFAULTS)], *_DEFAULTS[len(values) :])
    check_outside(head.name, head.priority, head.retries, head.retry_delay, head.options)
    check_times(head.expires, head.eta, head.delay, head.expires_in)
    return head


def lease_of(id: bytes, message: bytes, state: list[Any] | None, token: int | None = None) -> Lease:
    """Return the lease of a claimed task; for an unreadable one, that of ``unreadable``. *token*: of the lease; None: one more than in the
    state."""
    if token is None:
        token = state[1] + 1 if state else 1
    try:
        return _lease_of(id.decode(), message, state, token)
    except UNREADABLE:
        return unreadable(text_of(id), token, message)


def _lease_of(id: str, message: bytes, state: list[Any] | None, token: int) -> Lease:
    created, head, payload = _split(message)
    outside = (head.retries, head.retry_delay)
    if not state:
        ready_at, expires = head.first_ready_at(created), head.expiry(created)
        return Lease(id, token, head.name, payload, head.priority, ready_at, expires, *outside, 0, 0, 0, None, head.options, created)
    if state[0] == b"damaged":
        raise ValueError("its state cannot be read")
    expires = head.expiry(created)
    if state[14]:
        # It overrides the enqueue's; anything but a string means never.
        expires = int(state[14]) if isinstance(state[14], bytes) else None
    attempt, crashes, deaths, unknown_until = state[2:6]
    where = (head.priority, state[6], expires, *outside)
    options = state[15].decode() if isinstance(state[15], bytes) else head.options
    return Lease(id, token, head.name, payload, *where, attempt, crashes, deaths, _micros(unknown_until), options, created)


def new_leases(ids: Sequence[bytes], messages: Sequence[bytes]) -> list[Lease]:
    """Return the first leases of tasks with neither eta nor expiry. Tasks of one enqueue differ only in id and payload."""
    leases: list[Lease] = []
    front, size = b"?", 1
    name: str = ""
    after: tuple[Any, ...] = ()
    try:
        for id, message in zip(ids, messages, strict=True):
            if not message.startswith(front):
                created, head, payload = _split(message)
                size = len(message) - len(payload)
                front = message[:size]
                name, priority, retries, delay, expires, _, options, _, _ = head
                after = (priority, created, expires, retries, delay, 0, 0, 0, None, options, created)
            leases.append(_as_lease((id.decode(), 1, name, message[size:], *after)))
    except UNREADABLE:
        return [lease_of(id, message, None) for id, message in zip(ids, messages, strict=True)]
    return leases


def _micros(text: bytes | None) -> Micros | None:
    return None if text is None else int(text)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "backslashreplace")


def row_of(found: list[Any]) -> TaskRow:
    """Return the row of a task that lua/get_tasks.lua found."""
    id, message, state, how, detail, token, revocation = found
    lease = lease_of(id, message, state, token)
    due = None
    if how in (b"scheduled", b"missing"):
        due = _due(state, message, detail)
    is_running = how == b"running"
    ended = state if how == b"ended" else None
    if ended and ended[0] == b"succeeded" and ended[7] is not None:
        due = whole_or(_micros, ended[7], 0)
    return TaskRow(
        id=lease.id,
        name=lease.name,
        state=State.RUNNING
        if is_running
        else str(_text(ended[0]))
        if ended
        else State.BLOCKED
        if how in (b"blocked", b"missing")
        else State.WAITING
        if how == b"waiting"
        else State.QUEUED,
        payload=lease.payload,
        priority=lease.priority,
        ready_at=lease.ready_at,
        due=due,
        expires=lease.expires,
        retries=lease.retries,
        retry_delay=lease.retry_delay,
        attempt=lease.attempt,
        solo_crashes=lease.solo_crashes,
        deaths=lease.deaths,
        token=token,
        worker=text_of(detail) if is_running else None,
        reason=None if is_running or not state else _text(state[8]),
        error=_text(state[9]) if state else None,
        created=lease.created,
        finished=whole_or(_micros, ended[11], 0) if ended else None,
        revoked_until=None if revocation is None else parse_revocation(revocation).until,
        options=lease.options,
        attempts=f"[{', '.join(str(_text(each)) for each in state[10] if isinstance(each, bytes))}]" if state and state[10] else None,
    )


def _due(state: list[Any] | None, message: bytes, score: bytes) -> Micros:
    """Return the exact due time; the score, a double, may be rounded."""
    exact = None
    with suppress(*UNREADABLE):
        created, head, _ = _split(message)
        exact = _micros(state[7]) if state else head.due(created)
    return whole_or(lambda score: int(float(score)), score, 0) if exact is None else exact


def cancelled_of(found: list[Any]) -> CancelledAtClaim:
    id, message, attempt, reason = found
    lease = lease_of(id, message, None)
    return CancelledAtClaim(lease.id, lease.name, reason.decode(), max(0, lease.retries - attempt), lease.retry_delay)


def promotion_of(found: list[Any]) -> Promotion:
    id, message, attempt = found
    lease = lease_of(id, message, None)
    return Promotion(lease.id, lease.name, max(0, lease.retries - attempt), lease.retry_delay)


def parse_revocation(revocation: bytes) -> Revocation:
    """Parse a revocation as scripts store it: "until once". An unreadable one has ended."""
    until, _, once = revocation.partition(b" ")
    return Revocation(whole_or(int, until, 0), once == b"1")


def whole_or(read: Callable[[Any], Any], value: Any, default: int) -> int:
    """Return *value* as a whole number, or *default* if it is not one."""
    try:
        found = read(value)
        return default if found is None else int(found)
    except (ValueError, TypeError, OverflowError):
        return default

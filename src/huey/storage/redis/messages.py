"""How a task stands in Redis: a message that anyone can read but for its payload, and a state once it is more than new.

A message: ``-`` (or ``x``: it has an eta or expires), 16 digits of when it came, 6 digits: the length of its head, the head, the payload.
The head is a JSON list of name, priority, retries, retry_delay, expires, eta, options; what is at its end and has its default is left out.
The state is a list that only scripts write (base.lua has the order).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from huey.clock import Micros
from huey.lifecycle import Promotion, Refusal, State
from huey.storage.base import TaskRow
from huey.task import Alike, Lease, Record

Arg = bytes | str | int | float
_DEFAULTS = [None, 0, 0, 0.0, None, None, None]
_HEADS_KEPT = 1000


class Head(NamedTuple):
    """The outside of a task, as its message has it."""

    name: str
    priority: int
    retries: int
    retry_delay: float
    expires: Micros | None
    eta: Micros | None
    options: str | None


_as_lease = Lease._make
_read: dict[bytes, Head] = {}
_written: dict[tuple[Any, ...], tuple[str, bytes]] = {}


def group(pattern: Record, ids: Sequence[str], payloads: Sequence[bytes]) -> list[Arg]:
    """Records that differ in id and payload only, as arguments (lua/insert.lua)."""
    shared = (pattern.name, pattern.priority, pattern.retries, pattern.retry_delay, pattern.expires, pattern.eta, pattern.options)
    try:
        flag, head = _written[shared]
    except KeyError:
        flag, head = _head(shared)
    eta = "" if pattern.eta is None else pattern.eta
    return [flag, head, pattern.priority, eta, pattern.name, len(ids), *ids, *payloads]


def single(one: list[Arg]) -> list[Arg] | None:
    """A group of one as arguments of lua/enqueue_one.lua; None when it is not a ready task of priority 0."""
    flag, head, priority, eta, name, _, id, payload = one
    return [flag, head, name, id, payload] if priority == 0 and eta == "" else None


def _head(shared: tuple[Any, ...]) -> tuple[str, bytes]:
    values = list(shared)
    while len(values) > 1 and values[-1] == _DEFAULTS[len(values) - 1]:
        values.pop()
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
    is_timed = shared[4] is not None or shared[5] is not None
    written = ("x" if is_timed else "-"), b"%06d" % len(text) + text
    if not is_timed and len(_written) < _HEADS_KEPT:
        _written[shared] = written
    return written


def groups(records: Sequence[Record]) -> list[Arg]:
    """*records* as groups, in order of id; of one id the first counts."""
    if isinstance(records, Alike):
        ids = records.ids
        if all(map(str.__lt__, ids, ids[1:])):
            return group(records.pattern, ids, records.payloads)
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


def groups_of_one(records: Sequence[Record]) -> list[Arg]:
    """*records*, each a group, in their order."""
    return [argument for record in records for argument in group(record, (record.id,), (record.payload,))]


def _split(message: bytes) -> tuple[Micros, Head, bytes]:
    """When it came, its outside, its payload."""
    start = 23 + int(message[17:23])
    text = message[23:start]
    head = _read.get(text)
    if head is None:
        values = json.loads(text)
        head = Head(*values, *_DEFAULTS[len(values) :])
        if len(_read) >= _HEADS_KEPT:
            _read.clear()
        _read[text] = head
    return int(message[1:17]), head, message[start:]


def lease_of(id: bytes, message: bytes, state: list[Any] | None, token: int | None = None) -> Lease:
    """What a claim brought. *token*: of the lease, None: one more than the state has."""
    created, head, payload = _split(message)
    name, priority, retries, delay, expires, eta, options = head
    if not state:
        place = eta if eta is not None and eta > created else created
        counted = (0, 0, 0, None)
        return Lease(id.decode(), token or 1, name, payload, priority, place, expires, retries, delay, *counted, options, created)
    if state[14]:
        expires = None
    kept = _counted(state)
    token = state[1] + 1 if token is None else token
    return Lease(id.decode(), token, name, payload, priority, state[6], expires, retries, delay, *kept, options, created)


def new_leases(ids: Sequence[bytes], messages: Sequence[bytes]) -> list[Lease]:
    """The first leases of tasks that have neither eta nor expires. Those of one enqueue differ in id and payload only."""
    leases: list[Lease] = []
    front, size = b"?", 1
    name: str = ""
    after: tuple[Any, ...] = ()
    for id, message in zip(ids, messages, strict=True):
        if not message.startswith(front):
            created, head, payload = _split(message)
            size = len(message) - len(payload)
            front = message[:size]
            name, priority, retries, delay, expires, _, options = head
            after = (priority, created, expires, retries, delay, 0, 0, 0, None, options, created)
        leases.append(_as_lease((id.decode(), 1, name, message[size:], *after)))
    return leases


def _counted(state: list[Any]) -> tuple[int, int, int, Micros | None]:
    return state[2], state[3], state[4], _micros(state[5])


def _micros(text: bytes | None) -> Micros | None:
    return None if text is None else int(text)


def text_of(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def row_of(found: list[Any]) -> TaskRow:
    """What lua/look.lua found of a task."""
    id, message, state, how, detail, token, mark = found
    lease = lease_of(id, message, state, token)
    due = None
    if how == b"scheduled":
        due = _due(state, message, detail)
    is_running = how == b"running"
    ended = state if how == b"ended" else None
    return TaskRow(
        id=lease.id,
        name=lease.name,
        state=State.RUNNING if is_running else ended[0].decode() if ended else State.WAITING if how == b"waiting" else State.QUEUED,
        payload=lease.payload,
        priority=lease.priority,
        place=lease.place,
        due=due,
        expires=lease.expires,
        retries=lease.retries,
        retry_delay=lease.retry_delay,
        attempt=lease.attempt,
        crashes=lease.crashes,
        deaths=lease.deaths,
        token=token,
        worker=detail.decode() if is_running else None,
        reason=None if is_running or not state else text_of(state[8]),
        error=text_of(state[9]) if state else None,
        created=lease.created,
        finished=_micros(ended[11]) if ended else None,
        revoked_until=None if mark is None else int(mark.split()[0]),
        options=lease.options,
        attempts=f"[{', '.join(each.decode() for each in state[10])}]" if state and state[10] else None,
    )


def _due(state: list[Any] | None, message: bytes, score: bytes) -> Micros:
    """Exact also where the score, a double, is not."""
    exact = _micros(state[7]) if state else _split(message)[1].eta
    return int(float(score)) if exact is None else exact


def refusal_of(found: list[Any]) -> Refusal:
    id, message, attempt, reason = found
    head = _split(message)[1]
    return Refusal(id.decode(), head.name, reason.decode(), max(0, head.retries - attempt), head.retry_delay)


def promotion_of(found: list[Any]) -> Promotion:
    id, message, attempt = found
    head = _split(message)[1]
    return Promotion(id.decode(), head.name, max(0, head.retries - attempt), head.retry_delay)

"""Records that cannot be read: what another program or a newer release wrote, or a disk that forgets.

One of them stops nobody. It is handed out like any task, as a lease without a name, and ends as FAILED with the reason ``undecodable``: a
dead letter, kept as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from huey.storage.rows import TaskRow, Worker
from huey.task.bounds import LARGEST, is_storable
from huey.task.record import Lease
from huey.task.record_options import read_constraints, read_policy

UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError)
"""What reading such a record raises."""
_LAST = 2**63


def unreadable(id: str, token: int, payload: bytes) -> Lease:
    """The lease of such a record. *payload*: what is there of it."""
    return Lease(id, token, "", payload, 0, 0, None, 0, 0.0, 0, 0, 0, None, None)


def check_outside(name: Any, priority: Any, retries: Any, retry_delay: Any, options: Any) -> None:
    """ValueError: a task whose outside is that cannot be run."""
    if not isinstance(name, str) or not is_storable(name):
        raise ValueError("its name is no text")
    if type(priority) is not int or not -LARGEST <= priority <= LARGEST or type(retries) is not int or not 0 <= retries <= LARGEST:
        raise ValueError("its priority or retries are no numbers of ours")
    if type(retry_delay) not in (int, float) or not 0 <= retry_delay <= LARGEST:
        raise ValueError("its retry_delay is no duration")
    if options is not None:
        _check_options(options)


def _check_options(options: Any) -> None:
    if not isinstance(options, str):
        raise ValueError("its options are no text")
    for asked in ("backoff", "jitter", "cap", "timeout"):
        if not isinstance(read_policy(options).get(asked, 0), int | float):
            raise ValueError("its options are none of ours")
    constraints = read_constraints(options)
    if type(constraints.max_running) is not int or not isinstance(constraints.concurrency_key or "", str):
        raise ValueError("its constraints are none of ours")


def check_times(*times: Any) -> None:
    """ValueError: one of them is neither None nor a time."""
    for time in times:
        if time is not None and (type(time) is not int or abs(time) >= _LAST):
            raise ValueError("a time that is none")


# -- rows of tables -----------------------------------------------------------------------------------------------------------------------

_NUMBER, _TEXT, _BYTES = (int,), (str,), (bytes,)
_MAYBE_NUMBER, _MAYBE_TEXT = (int, type(None)), (str, type(None))
_OF_LEASE: tuple[tuple[type, ...], ...] = (
    *(_TEXT, _NUMBER, _TEXT, _BYTES, _NUMBER, _NUMBER, _MAYBE_NUMBER, _NUMBER, (float, int)),
    *(_NUMBER, _NUMBER, _NUMBER, _MAYBE_NUMBER, _MAYBE_TEXT, _NUMBER),
)
"""Types of the fields of ``Lease``."""
_PLAIN = [frozenset(kinds) for kinds in (*_OF_LEASE[:13], (type(None),), _OF_LEASE[14])]
"""The same without options."""
_OF_ROW: tuple[tuple[type, ...], ...] = (
    *(_TEXT, _TEXT, _TEXT, _BYTES, _NUMBER, _NUMBER, _MAYBE_NUMBER, _MAYBE_NUMBER, _NUMBER, (float, int)),
    *(_NUMBER, _NUMBER, _NUMBER, _NUMBER, _MAYBE_TEXT, _MAYBE_TEXT, _MAYBE_TEXT, _NUMBER, _MAYBE_NUMBER, _MAYBE_NUMBER),
    *(_MAYBE_TEXT, _MAYBE_TEXT),
)
"""Types of the fields of ``TaskRow``."""
_OF_WORKER: tuple[tuple[type, ...], ...] = (_TEXT, _TEXT, _NUMBER, _TEXT, _NUMBER, _TEXT, _TEXT)


def leases_from(rows: Sequence[tuple[Any, ...]]) -> list[Lease]:
    """Rows of a table as leases; as ``unreadable`` has it where another program wrote the row."""
    return list(map(Lease._make if _are_plain(rows) else _lease_from, rows))


def _are_plain(rows: Sequence[tuple[Any, ...]]) -> bool:
    """As nearly always: right types, no options, no letters but plain ones. Column by column, which is half the work of row by row."""
    columns = list(zip(*rows, strict=True))
    return (
        bool(columns)
        and all(kinds.issuperset(map(type, column)) for kinds, column in zip(_PLAIN, columns, strict=False))
        and "".join(columns[0]).isascii()
        and "".join(columns[2]).isascii()
    )


def _lease_from(row: tuple[Any, ...]) -> Lease:
    try:
        if not all(type(value) in kinds for value, kinds in zip(row, _OF_LEASE, strict=True)):
            raise ValueError("columns of other types")
        if row[13] is not None:
            _check_options(row[13])
        if is_storable(row[0] + row[2]):
            return Lease._make(row)
    except UNREADABLE:
        pass
    payload = row[3] if isinstance(row[3], bytes) else str(row[3]).encode("utf-8", "surrogateescape")
    return unreadable(row[0], row[1] if isinstance(row[1], int) else 0, payload)


def row_from(row: tuple[Any, ...]) -> TaskRow:
    """A row of a table as a person looks at it; what cannot be read has a value that can be shown."""
    if all(type(value) in kinds for value, kinds in zip(row, _OF_ROW, strict=True)) and is_storable(row[0] + row[1]):
        return TaskRow._make(row)
    return TaskRow._make(_shown(value, kinds) for value, kinds in zip(row, _OF_ROW, strict=True))


def worker_from(who: Sequence[Any]) -> Worker:
    """A row of a table as a worker."""
    return Worker._make(_shown(value, kinds) for value, kinds in zip(who, _OF_WORKER, strict=True))


def spelled(raw: bytes | str) -> str:
    """What is no text as one that can be shown and named: bytes beyond ASCII spelled out."""
    if isinstance(raw, str):
        raw = raw.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte < 128 else f"\\x{byte:02x}" for byte in raw)


def _shown(value: Any, kinds: tuple[type, ...]) -> Any:
    if str in kinds and isinstance(value, str):
        return value if is_storable(value) else spelled(value)
    if type(value) in kinds:
        return value
    if type(None) in kinds and str not in kinds:
        return None
    if str in kinds:
        return spelled(value if isinstance(value, bytes) else str(value))
    if bytes in kinds:
        return str(value).encode("utf-8", "surrogateescape")
    return 0

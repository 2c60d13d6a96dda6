"""Records that cannot be read, because of another program, a newer release or a damaged disk.

Such a record does not block others. It is claimed like any task, as a lease without a name, and ends as FAILED with the reason
``undecodable``: a dead letter with its content unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from huey.storage.rows import TaskRow, Worker
from huey.task.bounds import LARGEST, is_storable
from huey.task.record import Lease
from huey.task.record_options import read_constraints, read_policy

UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError)
"""The errors that reading such a record raises."""
_LAST = 2**63


def unreadable(id: str, token: int, payload: bytes) -> Lease:
    """Return the lease of such a record. *payload*: as much of it as there is."""
    return Lease(id, token, "", payload, 0, 0, None, 0, 0.0, 0, 0, 0, None, None)


def check_outside(name: Any, priority: Any, retries: Any, retry_delay: Any, options: Any) -> None:
    """Check what a task carries besides its payload. Raise ValueError if a task with these values cannot be run."""
    if not isinstance(name, str) or not is_storable(name):
        raise ValueError("its name is not text")
    if type(priority) is not int or not -LARGEST <= priority <= LARGEST or type(retries) is not int or not 0 <= retries <= LARGEST:
        raise ValueError("its priority or retries are not valid numbers")
    if type(retry_delay) not in (int, float) or not 0 <= retry_delay <= LARGEST:
        raise ValueError("its retry_delay is not a duration")
    if options is not None:
        _check_options(options)


def _check_options(options: Any) -> None:
    if not isinstance(options, str):
        raise ValueError("its options are not text")
    for asked in ("backoff", "jitter", "cap", "timeout"):
        if not isinstance(read_policy(options).get(asked, 0), int | float):
            raise ValueError("its options are not those of a huey task")
    constraints = read_constraints(options)
    numbers = (constraints.max_running or 0, *(constraints.rate or ()))
    if any(type(number) is not int for number in numbers) or not isinstance(constraints.concurrency_key or "", str):
        raise ValueError("its constraints are not those of a huey task")


def check_times(*times: Any) -> None:
    """Check stored times. Raise ValueError if one is neither None nor a time."""
    for time in times:
        if time is not None and (type(time) is not int or abs(time) >= _LAST):
            raise ValueError("a time that is not one")


# -- rows of tables -----------------------------------------------------------------------------------------------------------------------

_NUMBER, _TEXT, _BYTES = (int,), (str,), (bytes,)
_MAYBE_NUMBER, _MAYBE_TEXT = (int, type(None)), (str, type(None))
_OF_LEASE: tuple[tuple[type, ...], ...] = (
    *(_TEXT, _NUMBER, _TEXT, _BYTES, _NUMBER, _NUMBER, _MAYBE_NUMBER, _NUMBER, (float, int)),
    *(_NUMBER, _NUMBER, _NUMBER, _MAYBE_NUMBER, _MAYBE_TEXT, _NUMBER),
)
"""Types of the fields of ``Lease``."""
_PLAIN = [frozenset(kinds) for kinds in _OF_LEASE]
_OF_ROW: tuple[tuple[type, ...], ...] = (
    *(_TEXT, _TEXT, _TEXT, _BYTES, _NUMBER, _NUMBER, _MAYBE_NUMBER, _MAYBE_NUMBER, _NUMBER, (float, int)),
    *(_NUMBER, _NUMBER, _NUMBER, _NUMBER, _MAYBE_TEXT, _MAYBE_TEXT, _MAYBE_TEXT, _NUMBER, _MAYBE_NUMBER, _MAYBE_NUMBER),
    *(_MAYBE_TEXT, _MAYBE_TEXT),
)
"""Types of the fields of ``TaskRow``."""
_OF_WORKER: tuple[tuple[type, ...], ...] = (_TEXT, _TEXT, _NUMBER, _TEXT, _NUMBER, _TEXT, _TEXT)


def leases_from(rows: Sequence[tuple[Any, ...]]) -> list[Lease]:
    """Return rows of a table as leases; rows that another program wrote become those of ``unreadable``."""
    return list(map(Lease._make if _are_plain(rows) else _lease_from, rows))


def _are_plain(rows: Sequence[tuple[Any, ...]]) -> bool:
    """Return True in the usual case: correct types, options that many share, ASCII ids and names. Checked by column, twice as fast as by
    row."""
    columns = list(zip(*rows, strict=True))
    return (
        bool(columns)
        and all(kinds.issuperset(map(type, column)) for kinds, column in zip(_PLAIN, columns, strict=False))
        and "".join(columns[0]).isascii()
        and "".join(columns[2]).isascii()
        and _are_of_tasks(set(columns[13]))
    )


def _are_of_tasks(found: set[str | None]) -> bool:
    try:
        for options in found:
            if options is not None:
                _check_options(options)
    except UNREADABLE:
        return False
    return True


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
    """Return a row of a table as the inspector shows it; unreadable values are replaced by ones that can be shown."""
    if all(type(value) in kinds for value, kinds in zip(row, _OF_ROW, strict=True)) and is_storable(row[0] + row[1]):
        return TaskRow._make(row)
    return TaskRow._make(_shown(value, kinds) for value, kinds in zip(row, _OF_ROW, strict=True))


def worker_from(who: Sequence[Any]) -> Worker:
    """Return a row of a table as a worker."""
    return Worker._make(_shown(value, kinds) for value, kinds in zip(who, _OF_WORKER, strict=True))


def spelled(raw: bytes | str) -> str:
    """Return *raw*, which is not text, as text that can be shown and used as a name: bytes beyond ASCII are escaped."""
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

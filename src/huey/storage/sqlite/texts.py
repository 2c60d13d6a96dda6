"""Read rows with texts that are not UTF-8. The driver rejects the whole result; here such texts are read with surrogates instead."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from huey.storage.unreadable import spelled
from huey.task.bounds import is_storable
from huey.task.record import Lease

Values = Sequence[Any] | dict[str, Any]


RENAME = "UPDATE OR REPLACE huey_task SET id = ? WHERE queue = ? AND CAST(id AS BLOB) = ?"


def nameable(leases: list[Lease], rename: Callable[[str, bytes], object]) -> list[Lease]:
    """Return *leases*, of which those whose ids are not text have new ids that spell the bytes out; otherwise no call could name them.

    *rename* gives the row its new id.
    """
    for index, lease in enumerate(leases):
        # Only what cannot be read has no name.
        if not lease.name and not (isinstance(lease.id, str) and is_storable(lease.id)):
            raw = lease.id if isinstance(lease.id, bytes) else str(lease.id).encode("utf-8", "surrogateescape")
            rename(spelled(raw), raw)
            leases[index] = lease._replace(id=spelled(raw))
    return leases


def is_of_texts(error: sqlite3.Error) -> bool:
    """Return whether the driver could not decode a text of a result."""
    return "decode" in str(error)


def read_tolerantly(connection: sqlite3.Connection, sql: str, values: Values) -> list[tuple[Any, ...]]:
    """Return all rows of a read, with surrogates where a text is not UTF-8."""
    before, connection.text_factory = connection.text_factory, lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.text_factory = before

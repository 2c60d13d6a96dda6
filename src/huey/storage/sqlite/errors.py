"""What errors of SQLite lead to: another try while another process keeps the file busy, or one of huey's errors."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Sequence
from typing import Any, Protocol

from huey.exceptions import StorageError, StorageFull, StorageRefused, StorageUnavailable
from huey.runtime.clock import SECOND, Clock, Micros, Rng, micros
from huey.storage.sqlite import descriptors

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The system's errors for a full disk, a used-up quota and a file at its size limit."""
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_UNUSABLE = {
    sqlite3.SQLITE_READONLY: "it is read-only for this process; check the permissions of the file and its folder",
    sqlite3.SQLITE_CORRUPT: "it is damaged; keep a copy and check it with 'PRAGMA integrity_check'",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database; give another filename=",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check the path and the permissions of its folder",
    sqlite3.SQLITE_PERM: "its permissions forbid it",
}
_NO_ROOM = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
"""The code of a failed write. SQLite reports a full disk as such, but a used-up quota only as this."""
BROKEN = (*_UNUSABLE, sqlite3.SQLITE_IOERR)
"""Errors after which connections are reopened, because the connection or a missing file may be the cause."""


def primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code of *error*."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def translated(error: sqlite3.Error, path: str) -> StorageError:
    """Return the driver's error as an error of huey; the original becomes its cause."""
    if isinstance(error, sqlite3.ProgrammingError) and "closed database" in str(error):
        return StorageUnavailable(
            f"{path}: it was closed during this call, by a fork or by close() in a signal handler or destructor; nothing was written, "
            "you can safely try again"
        )
    code = primary_code(error)
    if code in BUSY:
        return StorageUnavailable(f"{path}: another process keeps the file locked ({error}); you can safely try again")
    if code == sqlite3.SQLITE_FULL:
        return StorageFull(f"{path}: the disk is full ({error}); nothing was written. Free some space, then try again")
    if getattr(error, "sqlite_errorcode", 0) in _NO_ROOM:
        return StorageFull(
            f"{path}: the file cannot be written ({error}): this user's disk quota is used up, the file has reached a size limit, "
            "or the disk is broken; nothing was written. Free some space, or check the system log, then try again"
        )
    if code == sqlite3.SQLITE_CANTOPEN and descriptors.are_used_up():
        return descriptors.none_left(path)
    if code in _UNUSABLE:
        return StorageRefused(f"{path}: {_UNUSABLE[code]} ({error})")
    if code == sqlite3.SQLITE_IOERR:
        return StorageUnavailable(f"{path}: reading or writing the file failed ({error})")
    return StorageError(f"{path}: {error}")


FIRST_GAP_S = 400e-6
LONGEST_GAP_S = 4e-3
SHORTEST_GAP_S = 50e-6
"""SQLite's own busy handler sleeps up to 100 ms and starves whole processes; short random gaps are fair."""
SLOW_GAP_S = 25e-3
"""After a second of waiting the file is not just contended but held for long: slower retries spare the CPU."""


class Retrier(Protocol):
    """Decides whether a call that found the file busy tries again."""

    def again(self) -> bool:
        """Sleep briefly before another try. Return False if no time is left for one."""


class BusyRetry:
    """Retries one call for *seconds*, counted from *since* or else from the first retry."""

    def __init__(self, clock: Clock, rng: Rng, seconds: float, since: Micros | None = None) -> None:
        self._clock = clock
        self._rng = rng
        self._limit = micros(seconds)
        self._since = since
        self._gap = FIRST_GAP_S

    def again(self) -> bool:
        now = self._clock.monotonic()
        if self._since is None:
            self._since = now
        waited = now - self._since
        if waited > self._limit:
            return False
        self._clock.sleep(SHORTEST_GAP_S + self._rng.random() * (self._gap - SHORTEST_GAP_S))
        self._gap = min(self._gap * 1.5, LONGEST_GAP_S if waited < SECOND else SLOW_GAP_S)
        return True


def is_of_texts(error: sqlite3.Error) -> bool:
    """Return whether the driver rejects a whole result for a text that is not UTF-8."""
    return "decode" in str(error)


def read_tolerantly(connection: sqlite3.Connection, sql: str, values: Sequence[Any] | dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return all rows of a read, with surrogates in strings that are not UTF-8."""
    before, connection.text_factory = connection.text_factory, lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.text_factory = before

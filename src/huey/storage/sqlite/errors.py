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
"""What the system says when there is no room for more, or not for this user, or not in one file."""
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_UNUSABLE = {
    sqlite3.SQLITE_READONLY: "it is read-only for this process; check the rights of the file and of its folder",
    sqlite3.SQLITE_CORRUPT: "it is damaged; keep a copy and look at it with 'PRAGMA integrity_check'",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database; give another filename=",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check the path and the rights of its folder",
    sqlite3.SQLITE_PERM: "its rights forbid it",
}
_NO_ROOM = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
"""SQLite tells a disk that is full from other trouble, but not a quota that is used up: that is a write that fails."""
BROKEN = (*_UNUSABLE, sqlite3.SQLITE_IOERR)
"""Errors after which connections are reopened: the fault may be theirs, or that of a file that is no longer there."""


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def translated(error: sqlite3.Error, path: str) -> StorageError:
    """Return the driver's error as one of ours; the original becomes its cause."""
    if isinstance(error, sqlite3.ProgrammingError) and "closed database" in str(error):
        return StorageUnavailable(
            f"{path}: it was closed in the middle of this call, by a fork or a close() in a signal handler or destructor; nothing was "
            "written, the same call may be made again"
        )
    code = primary_code(error)
    if code in BUSY:
        return StorageUnavailable(f"{path}: another process keeps the file locked ({error}); the same call may be made again")
    if code == sqlite3.SQLITE_FULL:
        return StorageFull(f"{path}: the disk is full ({error}); nothing was written. Free some space, then try again")
    if getattr(error, "sqlite_errorcode", 0) in _NO_ROOM:
        return StorageFull(
            f"{path}: the file cannot be written ({error}): the disk is full for this user (a quota), a limit on the size of files is "
            "reached, or the disk is broken; nothing was written. Free some space, or look at the system's log, then try again"
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
"""After a second of waiting the file is not just contended, but held: retries need not keep a core busy."""


class Retrier(Protocol):
    """Decides whether a call that met a busy file tries again."""

    def again(self) -> bool:
        """Sleep a little before another try. Returns False when there is no time left for one."""


class BusyRetry:
    """Retries of one call for *seconds*, counted from *since*, or from the first retry."""

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
    """Return all rows of a read, with surrogates where a text is not UTF-8."""
    before, connection.text_factory = connection.text_factory, lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.text_factory = before

"""Coordinate opening and closing a SQLite file between processes: none may have different files open than the names lead to.

guard.py has the rules. A process that has the file open holds SQLite's shared lock on it and a lock on the side file `-open`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import struct
import sys
from collections.abc import Sequence
from typing import Protocol

from huey.exceptions import StorageFull, StorageRefused, StorageUnavailable
from huey.runtime.files import Trust, open_own, shared_like, sqlite_uri
from huey.runtime.logs import SafeLogger
from huey.storage.sqlite import descriptors
from huey.storage.sqlite.descriptors import FileId, open_files
from huey.storage.sqlite.errors import BUSY, FULL, Retrier, primary_code, translated
from huey.storage.sqlite.guard import NAMES, Identity, files_at

log = SafeLogger("huey")
LINE = 200
"""Size in bytes of what is written into the side file."""
_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510
"""The bytes of a file that SQLite locks to read it."""


class OpenFileLock:
    """The side file `-open`, which each process with the queue's file open keeps locked; it records which files are open."""

    def __init__(self, path: str, mode: int) -> None:
        self._path = path
        self._mode = mode
        self._fd: int | None = None

    def wait(self, retrier: Retrier) -> None:
        """Wait until no process has different files open than those that the names lead to.

        Raise StorageUnavailable if one still has, and StorageRefused if the log belongs to a file that was here before.
        """
        while not self._is_free():
            if not retrier.again():
                raise StorageUnavailable(
                    f"{self._path}: its log (-wal, -shm) was deleted or replaced while other processes have it open; they open it anew "
                    "with their next call, and nobody else may until then. Restart those that are idle, or try again"
                )

    def _is_free(self) -> bool:
        main, log, memory = here = files_at(self._path)
        noted, is_live = self._noted()
        if noted and noted[0] != main and log is not None and log == noted[1]:
            if is_live:
                return False
            # SQLite discards the log of an empty file.
            if os.stat(self._path).st_size:
                raise StorageRefused(
                    f"{self._path}-wal: this log belongs to an earlier file, so it is not read. If the file was restored from a "
                    "backup, move -wal and -shm away; if it was replaced by a copy, put the earlier one back"
                )
        if log is not None and memory is not None and not (is_live and noted and noted != here):
            return True
        # Either no process has it open, or one is just opening or closing it, or one has different files open.
        return _is_alone(self._path)

    def _noted(self) -> tuple[tuple[FileId | None, ...], bool]:
        """Return the files that the last process to open it recorded, and whether any process still has it open."""
        try:
            fd = open_own(self._path + "-open", os.O_RDWR, self._mode, self._trust())
        except OSError:
            return (), False
        try:
            words = [int(word) for word in os.pread(fd, LINE, 0).split()]
            is_live = not _is_locked(fd, fcntl.LOCK_EX)
        except (OSError, ValueError):
            return (), False
        finally:
            os.close(fd)
        return tuple((words[at], words[at + 1]) for at in (0, 2, 4)) if len(words) == 6 else (), is_live

    def acquire(self, files: tuple[FileId | None, ...], retrier: Retrier) -> None:
        """Lock the side file and record in it the files that this process has open."""
        self.release()
        try:
            fd = open_own(self._path + "-open", os.O_RDWR | os.O_CREAT, self._mode, self._trust())
        except OSError as error:
            raise StorageUnavailable(f"{self._path}-open: the file cannot be used: {error.strerror}") from error
        try:
            # Other processes lock it exclusively for a moment while they read it.
            while not _is_locked(fd, fcntl.LOCK_SH):
                if not retrier.again():
                    raise StorageUnavailable(f"{self._path}-open: another process keeps it locked; try again")
            line = " ".join(str(number) for file in files if file for number in file).encode().ljust(LINE)
            if os.pread(fd, LINE, 0) != line:
                os.pwrite(fd, line, 0)
        except OSError as error:
            os.close(fd)
            kind = StorageFull if error.errno in FULL else StorageUnavailable
            raise kind(f"{self._path}-open: the file cannot be written: {error.strerror}") from error
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def release(self) -> None:
        """Unlock the side file: this process has closed the queue's file."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        try:
            if _is_locked(fd, fcntl.LOCK_EX):
                # This was the last process: new files may get the same inodes.
                os.ftruncate(fd, 0)
        finally:
            os.close(fd)

    def abandon(self) -> None:
        """Drop the descriptor without closing it, because other code did."""
        self._fd = None

    def _trust(self) -> Trust:
        return shared_like(os.stat(self._path), self._mode)


def _is_locked(fd: int, how: int) -> bool:
    """Take the lock. Return False if another process holds it."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alone(path: str) -> bool:
    """Return whether no connection of any process has *path* open; if so, move the content of its log into the file."""
    try:
        connection = sqlite3.connect(sqlite_uri(path), uri=True, timeout=0, isolation_level=None)
        try:
            # In this mode SQLite locks the file itself and uses no shared memory.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
        finally:
            connection.close()
    except sqlite3.Error as error:
        if primary_code(error) in BUSY:
            return False
        raise translated(error, path) from error
    return True


class Closing(Protocol):
    """An object with a connection that can be closed."""

    def close(self) -> None: ...


def close_all(identity: Identity, connections: Sequence[Closing], retrier: Retrier) -> None:
    """Close *connections* to the file. If the names no longer lead to the open files, save the content of the log, and keep SQLite from
    deleting by name the files that are there now."""
    identity.check_files_next()
    changed = identity.changed() if connections else None
    if changed is None:
        _close_each(connections)
        return
    main, *ours = identity.known
    here = dict(zip(NAMES, files_at(identity.path), strict=True))
    is_saved = _save(identity.path, connections, retrier)
    is_strange = any(here[name] not in (None, known) for name, known in zip(NAMES[1:], ours, strict=True))
    if not changed and not is_strange:
        _close_each(connections)
    elif not _close_quietly(main, connections):
        # This system has no way to close them without touching the other files.
        for connection in connections:
            descriptors.abandon(connection)
    if is_saved and changed and here["-wal"] not in (None, ours[0]):
        os.rename(identity.path + "-wal", identity.path + "-wal-replaced")
        log.warning("%s-wal: this file is not the log that was in use; it was renamed to -wal-replaced and not read", identity.path)


def _close_each(connections: Sequence[Closing]) -> None:
    for connection in connections:
        connection.close()


def _save(path: str, connections: Sequence[Closing], retrier: Retrier) -> bool:
    """Move the content of the open log into the open file. Return False if that is not possible."""
    connection = next((it for it in connections if isinstance(it, sqlite3.Connection)), None)
    if connection is None:
        return False
    try:
        while connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()[0]:
            if not retrier.again():
                log.error("%s: cannot move the content of its log into it: other processes are using it", path)
                return False
    except sqlite3.Error as error:
        log.error("%s: cannot move the content of its log into it: %s", path, error)
        return False
    # If the whole folder was deleted, that was on purpose.
    level = logging.WARNING if os.path.isdir(os.path.dirname(path) or ".") else logging.DEBUG
    log.log(level, "%s: it, its log or its shared memory was deleted or replaced while in use; the log was moved into it", path)
    return True


def _close_quietly(main: FileId | None, connections: Sequence[Closing]) -> bool:
    """Close *connections* to the file *main* so that SQLite neither moves their log nor deletes anything. Return False, and do nothing, if
    the system cannot do that."""
    held = open_files()
    fd = None if held is None or not hasattr(fcntl, "F_OFD_SETLK") or sys.maxsize < 2**32 else held.get(main)
    if fd is None:
        return False
    # A descriptor's lock conflicts with SQLite's locks even in the same process, so SQLite does not assume it is the last to close.
    guard = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    fcntl.fcntl(guard, fcntl.F_OFD_SETLK, _lock(fcntl.F_RDLCK))
    _close_each(connections)
    if main in (open_files(but=guard) or {}):
        # Other code in this process has the file open, and would lose its locks if this descriptor were closed.
        fcntl.fcntl(guard, fcntl.F_OFD_SETLK, _lock(fcntl.F_UNLCK))
    else:
        os.close(guard)
    return True


def _lock(kind: int) -> bytes:
    return struct.pack("@hhqqi4x", kind, os.SEEK_SET, _SHARED_FIRST, _SHARED_SIZE, 0)

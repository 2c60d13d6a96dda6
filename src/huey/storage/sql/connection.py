"""Connections to one SQLite file: how they are opened, how a busy file is waited for, how a fork is survived, how the WAL stays small.

A process has one connection that writes and one that reads, each under a lock of this process. Nothing that another process waits for is
ever held between two steps of Python: every write is one statement in autocommit (see sqlite/turn.sql).
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from huey.clock import SECOND, Clock, Rng
from huey.exceptions import StorageError, StorageFull, StorageRefused, StorageUnavailable

T = TypeVar("T")
log = logging.getLogger("huey")
MIB = 1024 * 1024
LARGEST_LOG = 32 * MIB
CHECKPOINT_EVERY = 400
"""Small commits of one process after which it checkpoints: some 4 MiB of log."""
FIRST_GAP = 400e-6
LONGEST_GAP = 4e-3
SHORTEST_GAP = 50e-6
"""Seconds. SQLite's own busy handler sleeps up to 100 ms and starves whole processes; short random repeats are fair."""

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_REFUSED = {
    sqlite3.SQLITE_READONLY: "it is read-only for this process; check the rights of the file and of its folder",
    sqlite3.SQLITE_CORRUPT: "it is damaged; keep a copy and look at it with 'PRAGMA integrity_check'",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database; give another filename=",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check the path and the rights of its folder",
    sqlite3.SQLITE_PERM: "its rights forbid it",
}

_to_disk = getattr(os, "fdatasync", os.fsync)

_checkpointing = threading.Lock()
"""One checkpoint at a time in this process: the side file's lock belongs to the process, and closing the file anywhere drops it."""


class Closing(Protocol):
    """Something with a connection that can be closed and opens itself again."""

    def close(self) -> None: ...


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def translated(error: sqlite3.Error, path: str) -> StorageError:
    """The driver's error as one of ours; the original becomes its cause (C27)."""
    code = primary_code(error)
    if code in _BUSY:
        return StorageUnavailable(f"{path}: another process keeps the file locked ({error}); the same call may be made again")
    if code == sqlite3.SQLITE_FULL:
        return StorageFull(f"{path}: the disk is full ({error}); nothing was written. Free some space, then try again")
    if code in _REFUSED:
        return StorageRefused(f"{path}: {_REFUSED[code]} ({error})")
    if code == sqlite3.SQLITE_IOERR:
        return StorageUnavailable(f"{path}: reading or writing the file failed ({error})")
    return StorageError(f"{path}: {error}")


class File:
    """One SQLite file and this process's two connections to it."""

    def __init__(
        self,
        path: str,
        *,
        clock: Clock,
        rng: Rng,
        synchronous: str,
        cache_mb: int,
        timeout: float,
        prepare: Callable[[sqlite3.Connection], None],
        mode: int,
        check: Callable[[], None],
    ) -> None:
        self.path = path
        self._units = 0
        """Work committed by this process since its last checkpoint, in units of one small commit."""
        self._clock = clock
        self._rng = rng
        self._synchronous = synchronous
        self._cache_mb = cache_mb
        self._timeout = timeout
        self._prepare = prepare
        self._mode = mode
        self._check = check
        self.watching: weakref.WeakSet[Closing] = weakref.WeakSet()
        """Connections of watches, which have to go with ours."""
        self._forget()
        _survive_forks(self)

    # -- connections --------------------------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        """No connection, fresh locks: at first, and in a forked child."""
        self.write_lock = _Gate(self.path, self._timeout)
        self._read_lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._is_synced = True
        self._reader: sqlite3.Connection | None = None
        self._sync_lock = threading.Lock()
        self._commits = self._commits_on_disk = 0
        self._log: int | None = None
        """The log's descriptor, for ``sync``."""

    def _before_fork(self) -> None:
        """Close all connections, and keep them closed until the fork is over.

        SQLite keeps its locks on a file in a table of the process. A child would inherit that table and take its parent's locks for its
        own, so no connection may be open while a process forks.
        """
        self.write_lock.__enter__()
        self._read_lock.acquire()
        self._sync_lock.acquire()
        self._close()

    def _after_fork(self) -> None:
        self._sync_lock.release()
        self._read_lock.release()
        self.write_lock.__exit__()

    def open(self) -> None:
        """Connect and prepare the schema. Errors are ours."""
        with self.write_lock:
            if self._writer is None:
                self._check()
                writer = self._connect()
                try:
                    self._guarded(lambda: self._prepare(writer))
                except BaseException:
                    writer.close()
                    raise
                self._writer = writer

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256)
        except sqlite3.Error as error:
            raise translated(error, self.path) from error
        try:
            self._guarded(lambda: self._tune(connection))
        except BaseException:
            connection.close()
            raise
        return connection

    def _tune(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA cache_size = {-1024 * self._cache_mb}")

    def close(self) -> None:
        with self.write_lock, self._read_lock, self._sync_lock:
            self._close()

    def _close(self) -> None:
        for connection in (self._writer, self._reader, *self.watching):
            if connection is not None:
                connection.close()
        self._writer = self._reader = None
        if self._log is not None:
            os.close(self._log)
            self._log = None

    # -- statements ---------------------------------------------------------------------------------------------------------------------

    def write(self, sql: str, values: Sequence[Any] | dict[str, Any] = (), units: int = 1, *, is_synced: bool = True) -> int:
        """Run one writing statement; the number of rows it changed. Waits for a busy file up to the timeout.

        *units*: its weight in the log. *is_synced* False: it need not wait for the disk.
        """
        with self.write_lock:
            connection = self._writer or self.writer
            if self._is_synced != is_synced:
                self._sync(is_synced)
            changed = self._guarded(connection.execute, sql, values).rowcount
            self._units += units
            self._commits += 1
            if self._units >= CHECKPOINT_EVERY:
                self._checkpoint_after_commit()
            return changed

    def sync(self) -> None:
        """Wait until the disk has all that this process committed so far, where commits do so at all. Holds no lock that another process
        waits for; threads that ask at the same time share one trip to the disk."""
        if self._synchronous != "FULL":
            return
        mine = self._commits
        with self._sync_lock:
            if self._commits_on_disk >= mine:
                return
            upto = self._commits
            try:
                if self._log is None:
                    self._log = os.open(self.path + "-wal", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                _to_disk(self._log)
            except FileNotFoundError:
                # Closed since, by another thread: the last connection moves the log into the file and syncs that.
                return
            except OSError as error:
                kind = StorageFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageUnavailable
                raise kind(f"{self.path}: it may not be on the disk ({error.strerror}); the same call may be made again") from error
            self._commits_on_disk = upto

    def _checkpoint_after_commit(self) -> None:
        # What was written is written: a log that cannot be moved now must not look like a failed write.
        try:
            self.checkpoint()
        except StorageError as error:
            log.warning("the log of %s could not be moved into the file, it is tried again later: %s", self.path, error)

    @property
    def writer(self) -> sqlite3.Connection:
        """The connection that writes; hold ``write_lock`` while you use it."""
        if self._writer is None:
            self.open()
        assert self._writer is not None
        return self._writer

    def fetch(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a read on the connection that writes, such as of its temp tables. The caller holds the lock."""
        return self._guarded(lambda: self.writer.execute(sql, values).fetchall())

    def rows(self, sql: str, values: Sequence[Any] | dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        """As ``fetch``, row by row, so that the caller may stop."""
        try:
            yield from self.writer.execute(sql, values)
        except sqlite3.Error as error:
            raise translated(error, self.path) from error

    def stage(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Write into temp tables of the connection that writes; takes no lock on the file. The caller holds our own."""
        self._guarded(lambda: self.writer.execute(sql, values))

    def look(self, sql: str, values: Sequence[Any] | dict[str, Any]) -> list[tuple[Any, ...]]:
        """All rows of a read that a write is likely to follow: on the connection that writes, whose cache is then warm."""
        with self.write_lock:
            return self.fetch(sql, values)

    def _sync(self, on: bool) -> None:
        """Whether the next commit waits for the disk, where commits do so at all."""
        if self._synchronous == "FULL":
            self.writer.execute("PRAGMA synchronous = FULL" if on else "PRAGMA synchronous = NORMAL")
        self._is_synced = on

    def read(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one reading statement."""
        if self._writer is None:
            self.open()
        with self._read_lock:
            if self._reader is None:
                self._reader = self._connect()
            reader = self._reader
            return self._guarded(lambda: reader.execute(sql, values).fetchall())

    def _guarded(self, act: Callable[..., T], *args: Any) -> T:
        """Do *act*, again while the file is busy; driver errors come out as ours."""
        deadline, gap = 0, FIRST_GAP
        while True:
            try:
                return act(*args)
            except sqlite3.Error as error:
                now = self._clock.monotonic()
                deadline = deadline or now + round(self._timeout * SECOND)
                if primary_code(error) not in _BUSY or now > deadline:
                    raise translated(error, self.path) from error
            self._clock.sleep(SHORTEST_GAP + self._rng.random() * (gap - SHORTEST_GAP))
            gap = min(gap * 1.5, LONGEST_GAP)

    # -- waking -------------------------------------------------------------------------------------------------------------------------

    def touch(self) -> None:
        """Tell watchers in other processes that something was committed: the file's own time stamp, which no lock depends on."""
        try:
            os.utime(self.path)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOENT):
                raise
            # Watchers look by themselves each second.

    # -- the write-ahead log ------------------------------------------------------------------------------------------------------------

    def checkpoint(self) -> bool:
        """Move the log into the file, unless another process is at it or a reader is in the way; True if that was done.

        The log is then written from its start again, not cut: a commit into blocks that the file has already costs half of one that makes
        it grow. Only a log that has grown large is cut. The first write into a log that was moved is made here, while no other process can
        checkpoint: SQLite before 3.51.3 may damage a file when that write meets a second checkpoint.
        """
        self._units = 0
        if not _checkpointing.acquire(blocking=False):
            return False
        try:
            return self._checkpoint()
        finally:
            _checkpointing.release()

    def _checkpoint(self) -> bool:
        import fcntl

        try:
            side = os.open(self.path + "-checkpoint", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, self._mode)
        except OSError:
            # Not a process that may do this; another one will.
            return False
        try:
            fcntl.lockf(side, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with self.write_lock:
                kind = "TRUNCATE" if self._log_size() > LARGEST_LOG else "RESTART"
                busy, _, _ = self.writer.execute(f"PRAGMA wal_checkpoint({kind})").fetchone()
                # A value that differs: SQLite does not write a row that stays as it was.
                self.writer.execute("INSERT OR REPLACE INTO huey_meta VALUES ('checkpointed', ?)", (str(self._clock.monotonic()),))
            return not busy
        except BlockingIOError:
            return False
        except sqlite3.Error as error:
            if primary_code(error) in _BUSY:
                return False
            raise translated(error, self.path) from error
        finally:
            os.close(side)

    def make_room(self) -> None:
        """Let a young log grow to the size it will have, once, so that the commits to come need not: they cost half then."""
        if self._log_size() >= MIB:
            return
        try:
            self.write("INSERT OR REPLACE INTO huey_meta VALUES ('room', zeroblob(?))", (4 * MIB,))
            self.write("DELETE FROM huey_meta WHERE key = 'room'")
            self.checkpoint()
        except StorageError as error:
            log.warning("%s: its log cannot be made roomy, commits may be slower: %s", self.path, error)

    def _log_size(self) -> int:
        try:
            return os.stat(self.path + "-wal").st_size
        except FileNotFoundError:
            return 0


class _Gate:
    """A lock of this process, for one thread at a time, again and again for the same one. Waited for no longer than the timeout."""

    def __init__(self, path: str, timeout: float) -> None:
        self._lock = threading.RLock()
        self._path = path
        self._timeout = timeout

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=self._timeout):
            raise StorageUnavailable(f"{self._path}: other threads of this process kept it busy for {self._timeout} s; try again")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _new_process() -> None:
    global _checkpointing
    _checkpointing = threading.Lock()


os.register_at_fork(after_in_child=_new_process)


def _survive_forks(file: File) -> None:
    """Hook *file* into forks; weakly, since the list of hooks never shrinks."""
    before, after, in_child = weakref.WeakMethod(file._before_fork), weakref.WeakMethod(file._after_fork), weakref.WeakMethod(file._forget)
    os.register_at_fork(
        before=lambda: (act := before()) and act(),
        after_in_parent=lambda: (act := after()) and act(),
        after_in_child=lambda: (act := in_child()) and act(),
    )

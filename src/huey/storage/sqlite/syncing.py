"""Wait for the disk: track how much this process has committed to a SQLite file, and how much of that is on disk. Keeps the write-ahead log
small, and large enough that commits need not make it grow.

It holds no lock that another process waits for; threads that wait at the same time share one sync.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import get_ident
from typing import Any

from huey.exceptions import StorageError, StorageFull, StorageUnavailable
from huey.runtime.clock import Clock
from huey.runtime.files import open_own, shared_like
from huey.runtime.host import disk_waits
from huey.runtime.logs import SafeLogger
from huey.storage.sqlite.errors import BUSY, FULL, primary_code, translated
from huey.storage.sqlite.guard import LockScope

checkpointing = threading.Lock()
"""Allows one checkpoint at a time in this process: the side file's lock belongs to the process, and closing the file anywhere drops it."""


def _new_process() -> None:
    global checkpointing
    checkpointing = threading.Lock()


os.register_at_fork(after_in_child=_new_process)


class Commits:
    """Counts commits into the log of the file *path*, and waits for the disk. *is_needed* False: commits never wait for it."""

    def __init__(self, path: str, *, is_needed: bool) -> None:
        self.made = 0
        # A call that interrupts a sync of its own thread must not wait for it.
        self.lock = threading.RLock()
        self.is_syncing = False
        self._path = path
        self._is_needed = is_needed
        self._on_disk = 0
        self._closings = 0
        self._log: int | None = None
        """The descriptor of the log."""

    def sync(self, check_log: Callable[[], None]) -> None:
        """Wait until everything committed so far is on disk. *check_log* is called if there is no log."""
        if not self._is_needed:
            return
        mine = self.made
        with self.lock:
            if self._on_disk >= mine:
                return
            upto, is_inner = self.made, self.is_syncing
            try:
                self.is_syncing = True
                self._write_out()
            except FileNotFoundError:
                # Another thread has closed it: the last connection moves the log into the file and syncs that.
                check_log()
                return
            except OSError as error:
                kind = StorageFull if error.errno in FULL else StorageUnavailable
                raise kind(f"{self._path}: the last commits may not be on disk ({error.strerror}); you can safely try again") from error
            finally:
                self.is_syncing = is_inner
            self._on_disk = max(upto, self._on_disk)

    def _write_out(self) -> None:
        closings = -1
        while closings != self._closings:
            closings = self._closings
            log = self._open_log()
            try:
                to_disk(log)
            except OSError:
                # A fork that interrupted this call closed it: try again.
                if closings == self._closings:
                    raise

    def _open_log(self) -> int:
        log = self._log
        if log is None:
            log = os.open(self._path + "-wal", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            other, self._log = self._log, log
            if other is not None:
                # The descriptor of a call that interrupted this one.
                os.close(other)
        return log

    def close(self, *, is_whole: bool) -> None:
        """Close the log. *is_whole* False: its descriptor may belong to another file by now, so leave it open."""
        log, self._log = self._log, None
        self._closings += 1
        if log is not None and is_whole:
            os.close(log)


_numbers = count()
_fsync = getattr(os, "fdatasync", os.fsync)


def to_disk(fd: int) -> None:
    """Wait until everything written to *fd* is on disk, however long that takes. Watchdogs see that this process waits for the disk."""
    me = get_ident()
    disk_waits[me] = next(_numbers)
    try:
        _fsync(fd)
    finally:
        disk_waits.pop(me, None)


@contextmanager
def alone(path: str, mode: int) -> Iterator[bool]:
    """Yield whether this process may checkpoint the file *path* inside the block: True if it got the lock of a side file."""
    import fcntl

    try:
        side = open_own(path + "-checkpoint", os.O_RDWR | os.O_CREAT, mode, shared_like(os.stat(path), mode))
    except OSError:
        # This process has no permission to write there; another one will checkpoint.
        yield False
        return
    try:
        fcntl.lockf(side, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_alone = True
    except BlockingIOError:
        is_alone = False
    try:
        yield is_alone
    finally:
        os.close(side)


def rouse(path: str) -> None:
    """Wake the watchers of the file *path* after a commit: they wait for a reader of its log to close it (watch.py)."""
    try:
        os.close(os.open(path + "-wal", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK))
    except OSError:
        # The commit is made, so the call has succeeded. Watchers check by themselves each second.
        return


log = SafeLogger("huey")
MIB = 1024 * 1024
LARGEST_LOG = 32 * MIB
CHECKPOINT_EVERY = 400
"""How many small commits a process makes between checkpoints: about 4 MiB of log."""


class WriteAheadLog:
    """Checkpoints and preallocates the log of the file *path*. *writer* returns the connection that writes; *lock* must be held for it."""

    def __init__(self, path: str, mode: int, clock: Clock, lock: LockScope, writer: Callable[[], sqlite3.Connection]) -> None:
        self.units = 0
        """The work committed by this process since its last checkpoint, in units of one small commit."""
        self._path = path
        self._mode = mode
        self._clock = clock
        self._lock = lock
        self._writer = writer

    def size(self) -> int:
        try:
            return os.stat(self._path + "-wal").st_size
        except FileNotFoundError:
            return 0

    def checkpoint(self) -> bool:
        """Move the log into the file and restart it. Return False if another process is doing that, or a reader prevents it.

        The log is then overwritten from its start, not truncated: a commit into blocks that the file already has costs half of one that
        makes it grow. Only a large log is truncated. The first write into the restarted log is made here, while no other process can
        checkpoint: SQLite before 3.51.3 may damage a file when that write meets a second checkpoint.
        """
        self.units = 0
        if not checkpointing.acquire(blocking=False):
            return False
        try:
            with alone(self._path, self._mode) as is_alone:
                return is_alone and self._restart()
        finally:
            checkpointing.release()

    def checkpoint_after_commit(self) -> None:
        """Checkpoint, and log errors instead of raising them: the commit succeeded and must not look like a failed write."""
        try:
            self.checkpoint()
        except StorageError as error:
            log.warning("cannot move the log of %s into the file, will try again later: %s", self._path, error)

    def _restart(self) -> bool:
        try:
            with self._lock:
                kind = "TRUNCATE" if self.size() > LARGEST_LOG else "RESTART"
                busy, _, _ = self._writer().execute(f"PRAGMA wal_checkpoint({kind})").fetchone()
                # A different value each time: SQLite does not write an unchanged row.
                now = str(self._clock.monotonic())
                self._writer().execute("INSERT OR REPLACE INTO huey_meta VALUES ('checkpointed', ?)", (now,))
            return not busy
        except sqlite3.Error as error:
            if primary_code(error) in BUSY:
                return False
            raise translated(error, self._path) from error

    def preallocate(self, execute: Callable[..., Any], lock: LockScope) -> None:
        """Let a new log grow to its usual size once, so that later commits, which then cost half, need not extend it."""
        if self.size() >= MIB:
            return
        try:
            execute("INSERT OR REPLACE INTO huey_meta VALUES ('room', zeroblob(?))", (4 * MIB,), lock=lock)
            execute("DELETE FROM huey_meta WHERE key = 'room'", lock=lock)
            self.checkpoint()
        except StorageError as error:
            log.warning("%s: cannot preallocate its log, commits may be slower: %s", self._path, error)

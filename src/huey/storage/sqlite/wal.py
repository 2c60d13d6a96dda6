"""The write-ahead log of a SQLite file: keeps it small, and large enough that commits need not make it grow."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from typing import Any

from huey.exceptions import StorageError
from huey.runtime.clock import Clock
from huey.runtime.logs import SafeLogger
from huey.storage.sqlite import syncing
from huey.storage.sqlite.errors import BUSY, primary_code, translated
from huey.storage.sqlite.guard import LockScope

log = SafeLogger("huey")
MIB = 1024 * 1024
LARGEST_LOG = 32 * MIB
CHECKPOINT_EVERY = 400
"""Small commits of one process after which it checkpoints: some 4 MiB of log."""


class WriteAheadLog:
    """Checkpoints and preallocates the log of the file *path*. *writer* returns the connection that writes; *lock* must be held for it."""

    def __init__(self, path: str, mode: int, clock: Clock, lock: LockScope, writer: Callable[[], sqlite3.Connection]) -> None:
        self.units = 0
        """Work committed by this process since its last checkpoint, in units of one small commit."""
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
        """Move the log into the file and restart it. Returns False if another process does that now, or a reader is in the way.

        The log is then overwritten from its start, not truncated: a commit into blocks that the file already has costs half of one that
        makes it grow. Only a large log is truncated. The first write into the restarted log is made here, while no other process can
        checkpoint: SQLite before 3.51.3 may damage a file when that write meets a second checkpoint.
        """
        self.units = 0
        if not syncing.checkpointing.acquire(blocking=False):
            return False
        try:
            with syncing.alone(self._path, self._mode) as is_alone:
                return is_alone and self._restart()
        finally:
            syncing.checkpointing.release()

    def checkpoint_after_commit(self) -> None:
        """Checkpoint, and log errors instead of raising them: the commit has succeeded and must not look like a failed write."""
        try:
            self.checkpoint()
        except StorageError as error:
            log.warning("the log of %s could not be moved into the file, it is tried again later: %s", self._path, error)

    def _restart(self) -> bool:
        try:
            with self._lock:
                kind = "TRUNCATE" if self.size() > LARGEST_LOG else "RESTART"
                busy, _, _ = self._writer().execute(f"PRAGMA wal_checkpoint({kind})").fetchone()
                # A value that differs: SQLite does not write a row that stays as it was.
                now = str(self._clock.monotonic())
                self._writer().execute("INSERT OR REPLACE INTO huey_meta VALUES ('checkpointed', ?)", (now,))
            return not busy
        except sqlite3.Error as error:
            if primary_code(error) in BUSY:
                return False
            raise translated(error, self._path) from error

    def preallocate(self, execute: Callable[..., Any], lock: LockScope) -> None:
        """Let a young log grow to its usual size once, so that later commits need not: they cost half then."""
        if self.size() >= MIB:
            return
        try:
            execute("INSERT OR REPLACE INTO huey_meta VALUES ('room', zeroblob(?))", (4 * MIB,), lock=lock)
            execute("DELETE FROM huey_meta WHERE key = 'room'", lock=lock)
            self.checkpoint()
        except StorageError as error:
            log.warning("%s: its log could not be preallocated, commits may be slower: %s", self._path, error)

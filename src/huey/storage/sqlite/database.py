"""One SQLite file and the connections of this process to it: `Database.execute` writes, `Database.read` reads.

A process has one write connection and one read connection, each under a lock within this process. No lock that another process waits for is
ever held between two steps of Python: every write is one statement in autocommit (see sql/turn.sql).
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, TypeVar

from huey.exceptions import StorageUnavailable
from huey.runtime.clock import Clock, Rng
from huey.runtime.host import at_fork
from huey.storage.sqlite import descriptors
from huey.storage.sqlite.connection import Opener, SpareConnection, WriteConnection
from huey.storage.sqlite.errors import BROKEN, BUSY, BusyRetry, Retrier, is_of_texts, primary_code, read_tolerantly, translated
from huey.storage.sqlite.guard import LockScope, PatientLock
from huey.storage.sqlite.open_files import Closing
from huey.storage.sqlite.syncing import CHECKPOINT_EVERY, Commits, WriteAheadLog

T = TypeVar("T")
Values = Sequence[Any] | dict[str, Any]
TURN_TIMEOUT = 2.0
"""Seconds that a consumer's own calls wait for a busy file: few, since it repeats them, enforces time limits, and may have to stop."""


class Database:
    """One SQLite file and this process's two connections to it.

    *timeout*, *enqueue_timeout*: seconds that a call, or an enqueue, waits for a busy file. *is_synchronous*: commits wait
    for the disk.
    """

    def __init__(self, opener: Opener, *, clock: Clock, rng: Rng, is_synchronous: bool, timeout: float, enqueue_timeout: float) -> None:
        self.path, self.mode = opener.path, opener.mode
        self.queue_ids: dict[str, int] = {}
        """Numbers of the queues in the open file, by name. Any other queue has to be opened first."""
        self.watching: weakref.WeakSet[Closing] = weakref.WeakSet()
        """Connections of watches, which have to be closed together with these connections."""
        self._clock = clock
        self._rng = rng
        self._is_synchronous = is_synchronous
        self._timeout = timeout
        self._enqueue_timeout = enqueue_timeout
        self._opener = opener
        self.state = opener.new_state()
        """The state of the write connection; hold `write_lock` while you use it."""
        self._reader: sqlite3.Connection | None = None
        self._is_reading = False
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        """The storages that have the file open."""
        self._reset()
        at_fork(before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._reset)

    # -- statements ---------------------------------------------------------------------------------------------------------------------

    def execute(self, sql: str, values: Values = (), units: int = 1, *, is_durable: bool = True, lock: LockScope | None = None) -> int:
        """Run one writing statement in autocommit and return the number of rows it changed.

        *units*: its weight in the log. *is_durable* False: the commit does not wait for the disk. *lock*: decides how long the call waits
        for a busy file. Raise StorageUnavailable when that time is over, or if the path no longer leads to the open file.
        """
        with lock or self.write_lock:  # The first scope of a call also runs `_before_call`.
            connection = self.state.connection or self._open()
            while True:
                try:
                    if self.state.is_durable != is_durable:
                        if self._is_synchronous:
                            connection.execute("PRAGMA synchronous = FULL" if is_durable else "PRAGMA synchronous = NORMAL")
                        self.state.is_durable = is_durable
                    changed = connection.execute(sql, values).rowcount
                    break
                except sqlite3.Error as error:
                    self._again(error, self._lock)
            self._commits.made += 1
            self._verify_commit()
            self.log.units += units
            if self.log.units >= CHECKPOINT_EVERY:
                self.log.checkpoint_after_commit()
            return changed

    def _again(self, error: sqlite3.Error, retrier: Retrier) -> None:
        """Sleep until the next try if the file is busy. If it is not, or the time is over, raise *error* translated to huey's."""
        code = primary_code(error)
        if code not in BUSY or not retrier.again():
            self.state.must_reopen |= code in BROKEN
            raise translated(error, self.path) from error

    def _retrying(self, retrier: Retrier | None, act: Callable[..., T], *args: Any) -> T:
        """Call *act* until the file is not busy, within the time of *retrier* (None: the timeout). Translate driver errors to huey's."""
        while True:
            try:
                return act(*args)
            except sqlite3.Error as error:
                retrier = retrier or BusyRetry(self._clock, self._rng, self._timeout)
                self._again(error, retrier)

    def fetch(self, sql: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a read on the write connection, such as of its temp tables. The caller holds the lock."""
        return self._retrying(self._lock, _all_of, self.writer, sql, values)

    def stage(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Write into temp tables, which takes no lock on the file. The caller holds the lock of this process."""
        self._retrying(self._lock, self.writer.execute, sql, values)

    def read(self, sql: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Return all rows of one reading statement on the read connection, which serves one thread at a time."""
        if self.state.connection is None or self.state.must_reopen:
            with self.write_lock:
                self._open()
        self._check_descriptors()
        with self._read_lock:
            if self._is_reading:
                # This thread's interrupted call is inside, perhaps while connecting.
                with closing(self._opener.connect(self._retrying)) as own:
                    found = self._retrying(None, _all_of, own, sql, values)
            else:
                try:
                    self._is_reading = True
                    if self._reader is None:
                        self.state.present_file()
                        self._reader = self._opener.connect(self._retrying)
                    found = self._retrying(None, _all_of, self._reader, sql, values)
                finally:
                    self._is_reading = False
        self.verify_same_file()
        return found

    def sync(self) -> None:
        """Wait until all commits of this process are on disk, unless commits never wait for the disk."""
        self._commits.sync(self.verify_same_file)

    # -- checks: is it still the same file, and are the descriptors still huey's?
    # --------------------------------------------------------------

    def _before_call(self) -> None:
        """Prepare a new call: replace connections that have become unusable."""
        self._check_descriptors()
        state = self.state
        if state.must_reopen or state.is_missing:
            found = state.present_file()
            if state.must_reopen or found != state.file_id:
                self._close()
            state.is_missing = False

    def _check_descriptors(self) -> None:
        canary = self.state.canary
        if canary is not None and not canary.is_alive:
            descriptors.note_loss(self.path)
            descriptors.check(self.path)

    def verify_same_file(self) -> None:
        """Raise StorageUnavailable if the paths no longer lead to the open files: other processes may not see their content."""
        changed = self.state.identity.changed()
        if changed is None:
            return
        if not changed:
            self.state.present_file()
            self.queue_ids.clear()
        self.state.must_reopen = True
        raise self.state.identity.error(changed)

    def _verify_commit(self) -> None:
        """Verify like `verify_same_file` while holding the lock: save the content of the log at once, while this process lives."""
        try:
            self.verify_same_file()
        except StorageUnavailable:
            if self.state.must_reopen and not self._lock.is_interrupting:
                self._close()
            raise

    def verify_log(self) -> None:
        """Check the files themselves, and at once save the content of a log that was deleted or replaced."""
        with self.turn_lock:
            self.state.identity.check_files_next()
            self._verify_commit()

    # -- open, close, fork --------------------------------------------------------------------------------------------------------------

    def open(self, name: str, user: object, lock: LockScope | None = None) -> None:
        """Connect, create the schema if it is missing, and register the queue *name*. *user* will call `close`; *lock* as in `execute`."""
        with lock or self.write_lock:
            connection = self._open(name)
            if name not in self.queue_ids:
                self.queue_ids[name] = self._retrying(self._lock, self._opener.prepare, connection, name)
            self._users.add(user)

    def _open(self, name: str = "") -> sqlite3.Connection:
        """Return the write connection; the caller holds the lock. *name*: one of the queues in the file."""
        state = self.state
        if state.connection is None:
            name = name or next(iter(self.queue_ids), "")
            opened, number = self._opener.open(state, name, self._lock, self._retrying)
            if opened != state.file_id:
                self.queue_ids.clear()
            if name:
                self.queue_ids[name] = number
            state.file_id = opened
        assert state.connection is not None
        return state.connection

    @property
    def writer(self) -> sqlite3.Connection:
        """The write connection; hold `write_lock` while you use it."""
        return self.state.connection or self._open()

    def close(self, user: object = None) -> None:
        """Close the connections unless other users than *user* have them open. The next call opens them again."""
        if user is not None:
            self._users.discard(user)
            if self._users:
                return
        with self._bare_lock, self._read_lock, self._commits.lock:
            if self._lock.depth > 1 or self._is_reading or self._commits.is_syncing:
                # A call of this thread is inside and needs them until its end; the next call closes them.
                self.state.must_reopen = True
                return
            self._close()
            self.state.file_id = None
            self.queue_ids.clear()

    def __del__(self) -> None:
        if hasattr(self, "_commits"):
            self._close()

    def _close(self) -> None:
        with self._read_lock, self._commits.lock:
            readers = [*self.watching, self._reader] if self._reader is not None else list(self.watching)
            self._reader = None
            self._spare.close()
            self.state.generation += 1
            is_whole = self.state.close_with(readers, BusyRetry(self._clock, self._rng, TURN_TIMEOUT))
            self._commits.close(is_whole=is_whole)

    def _reset(self) -> None:
        """Start without connections and with fresh locks: initially, and in a forked child."""
        self._spare = SpareConnection(self._opener)
        lock = self._lock = PatientLock(self.path, self._clock, self._rng, self._before_call, self._set_aside, self._take_back)
        # One lock; the scopes differ in how long they wait for it, and then for the file.
        self.write_lock = lock.scope(self._timeout)
        self.enqueue_lock = lock.scope(self._enqueue_timeout)
        self.turn_lock = lock.scope(min(self._timeout, TURN_TIMEOUT))
        self.held = lock.nested_scope(self._timeout)
        self._bare_lock = lock.nested_scope(self._timeout, is_call=False)
        # A call that interrupts a read of its own thread must not wait for it.
        self._read_lock = threading.RLock()
        self._reader, self._is_reading = None, False
        self._commits = Commits(self.path, is_needed=self._is_synchronous)
        self.log = WriteAheadLog(self.path, self.mode, self._clock, self.held, lambda: self.writer)
        self.state.reset()

    def _set_aside(self) -> WriteConnection:
        outer = self.state
        self.state = self._spare.take(outer)
        return outer

    def _take_back(self, outer: WriteConnection) -> None:
        inner, self.state = self.state, outer
        self._spare.keep(inner)

    def _before_fork(self) -> None:
        """Close all connections, and keep them closed until the fork is over.

        SQLite keeps its locks on a file in a table of the process. A child would inherit that table and take its parent's locks for its
        own, so no connection may be open while a process forks.
        """
        for lock in (self._bare_lock, self._read_lock, self._commits.lock):
            lock.__enter__()
        self._close()

    def _after_fork(self) -> None:
        for lock in (self._commits.lock, self._read_lock, self._bare_lock):
            lock.__exit__(None, None, None)


def _all_of(connection: sqlite3.Connection, sql: str, values: Values) -> list[tuple[Any, ...]]:
    try:
        return connection.execute(sql, values).fetchall()
    except sqlite3.OperationalError as error:
        if not is_of_texts(error):
            raise
        return read_tolerantly(connection, sql, values)

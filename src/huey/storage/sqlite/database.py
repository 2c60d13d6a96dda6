"""Connections to one SQLite file: how they are opened, how a busy file is waited for, how a fork is survived, how the WAL stays small.

A process has one connection that writes and one that reads, each under a lock of this process. Nothing that another process waits for is
ever held between two steps of Python: every write is one statement in autocommit (see sqlite/turn.sql).
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, NoReturn, TypeVar

from huey.exceptions import StorageError, StorageUnavailable
from huey.runtime.clock import Clock, Rng
from huey.runtime.files import OPENINGS, Replaced, file_id, sqlite_uri, unchanged_beside
from huey.runtime.host import at_fork
from huey.runtime.logs import SafeLogger
from huey.storage.sqlite import descriptors, syncing
from huey.storage.sqlite.busy import Door, Gate, Patient, Waiting
from huey.storage.sqlite.descriptors import Canary
from huey.storage.sqlite.errors import BROKEN, BUSY, primary_code, translated
from huey.storage.sqlite.identity import Closing, Entry, Identity, close_all
from huey.storage.sqlite.spare import Spare
from huey.storage.sqlite.syncing import Commits
from huey.storage.sqlite.texts import all_of

T = TypeVar("T")
log = SafeLogger("huey")
MIB = 1024 * 1024
LARGEST_LOG = 32 * MIB
CHECKPOINT_EVERY = 400
"""Small commits of one process after which it checkpoints: some 4 MiB of log."""
TURN_TIMEOUT = 2.0
"""Seconds that a consumer's own calls wait for a busy file: it repeats them, has limits to keep, and may be asked to stop."""


class File:
    """One SQLite file and this process's two connections to it."""

    def __init__(
        self,
        path: str,
        *,
        clock: Clock,
        rng: Rng,
        synchronous: str,
        pragmas: str,
        timeout: float,
        enqueue_timeout: float,
        prepare: Callable[[sqlite3.Connection, str], int],
        mode: int,
        check: Callable[[], None],
    ) -> None:
        self.path = path
        self._units = 0
        """Work committed by this process since its last checkpoint, in units of one small commit."""
        self._clock = clock
        self._rng = rng
        self._synchronous = synchronous
        self._pragmas = pragmas
        self._timeout = timeout
        self._enqueue_timeout = enqueue_timeout
        self._prepare = prepare
        self._mode = mode
        self._check = check
        self.watching: weakref.WeakSet[Closing] = weakref.WeakSet()
        """Connections of watches, which have to go with ours."""
        self._place: tuple[int, int] | None = None
        """Which file is open: its inode and device. A forked child keeps it, so that it makes no new file either where one is missing."""
        self._identity = Identity(path, clock)
        self._entry = Entry(path, mode)
        self._numbers: dict[str, int] = {}  # Of the queues in it, by name.
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        """Storages that opened it and did not close it."""
        self.era = 0
        """Grows when another file than before is opened."""
        self._forget()
        at_fork(before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._forget)

    # -- connections --------------------------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        """No connection, fresh locks: at first, and in a forked child."""
        spare = self._spare = Spare(self)
        gate = self._gate = Gate(self.path, self._clock, self._rng, self._begin, spare.set_aside, spare.take_back)
        # One lock: who waits for it, and then for the file, differs in patience.
        self.write_lock = gate.within(self._timeout)
        self.enqueue_lock = gate.within(self._enqueue_timeout)
        self.held = gate.held(self._timeout)
        self._bare_lock = gate.held(self._timeout, begins=False)
        self.turn_lock = gate.within(min(self._timeout, TURN_TIMEOUT))
        # A call that interrupts a read of its own thread must not wait for it.
        self._read_lock = threading.RLock()
        self._is_reading = False
        self._commits = Commits(self.path, is_needed=self._synchronous == "FULL")
        self._writer: sqlite3.Connection | None = None
        self._is_synced = True
        self._reader: sqlite3.Connection | None = None
        self.has_stage = False
        """The connection that writes has its temp tables and triggers."""
        self.is_dirty = False
        """There may be rows in them."""
        self._is_stale = self._is_gone = False
        self._canary: Canary | None = None

    def _before_fork(self) -> None:
        """Close all connections, and keep them closed until the fork is over.

        SQLite keeps its locks on a file in a table of the process. A child would inherit that table and take its parent's locks for its
        own, so no connection may be open while a process forks.
        """
        self._bare_lock.__enter__()
        self._read_lock.acquire()
        self._commits.lock.acquire()
        self._close()

    def _after_fork(self) -> None:
        self._commits.lock.release()
        self._read_lock.release()
        self._bare_lock.__exit__()

    def open(self, name: str, user: object, door: Door | None = None) -> None:
        """Connect and prepare the schema, with a queue *name*. *user* is who will close it, *door* has the patience of the call that needs
        it. Errors are ours."""
        with door or self.write_lock:
            connection = self._open(name)
            if name not in self._numbers:
                self._numbers[name] = self._guarded(self._gate, self._prepare, connection, name)
            self._users.add(user)

    def number(self, name: str) -> int | None:
        """That of the queue *name* in the file that is open; None: it has to be opened."""
        return self._numbers.get(name)

    def _open(self, name: str = "") -> sqlite3.Connection:
        """The connection that writes. The caller holds the lock. *name*: one of the queues in it."""
        if self._writer is not None:
            return self._writer
        for _ in range(OPENINGS - 1):
            try:
                return self._open_once(name)
            except Replaced:
                continue
        return self._open_once(name)

    def _open_once(self, name: str) -> sqlite3.Connection:
        descriptors.check(self.path)
        self._found()
        self._check()
        self._canary = self._canary or descriptors.canary(self.path)
        self._entry.wait(self._gate)
        before = file_id(self.path)
        writer = self._connect(self._gate)
        try:
            name = name or next(iter(self._numbers), "")
            number = self._guarded(self._gate, self._prepare, writer, name)
            self._identity.note()
            if self._identity.known[0] != before or not self._identity.is_held_here:
                raise Replaced(f"{self.path}: another file was put there, or beside it, while it was opened; try again")
            self._entry.enter(self._identity.known, self._gate)
        except BaseException:
            writer.close()
            raise
        self._writer, self.has_stage = writer, False
        if before != self._place:
            self.era += 1
            self._numbers.clear()
        if name:
            self._numbers[name] = number
        self._place = before
        return writer

    def _connect(self, waiting: Patient | None = None) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                sqlite_uri(self.path), uri=True, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256
            )
        except sqlite3.Error as error:
            raise translated(error, self.path) from error
        try:
            with unchanged_beside(self.path, self._mode):
                self._guarded(waiting, self._tune, connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _tune(self, connection: sqlite3.Connection) -> None:
        # As a script: a pragma whose row is not fetched yet holds the file, and a destructor may run at that moment and use it too.
        connection.executescript(
            f"{self._pragmas}; PRAGMA journal_mode = WAL; PRAGMA synchronous = {self._synchronous}; PRAGMA wal_autocheckpoint = 0; "
            "PRAGMA temp_store = MEMORY"
        )

    def new_identity(self) -> dict[str, Any]:
        """That of a connection that is not open yet."""
        return {"_identity": Identity(self.path, self._clock), "_entry": Entry(self.path, self._mode)}

    def _begin(self) -> None:
        """Before the first step of a call: make anew what turned out to be unusable."""
        self._check_descriptors()
        if self._is_stale or self._is_gone:
            found = self._found()
            if self._is_stale or found != self._place:
                with self._read_lock, self._commits.lock:
                    self._close()
            self._is_gone = False

    def _check_descriptors(self) -> None:
        if self._canary is not None and not self._canary.is_alive:
            descriptors.note_loss(self.path)
            descriptors.check(self.path)

    def _found(self) -> tuple[int, int] | None:
        """Which file the path names. StorageUnavailable when the one in use is gone: a new one in its place would hide that."""
        found = file_id(self.path)
        if found is None and self._place is not None:
            raise self.missing()
        return found

    def missing(self) -> StorageUnavailable:
        """The error of a file that is not where it was. Notes it: from now on every thread looks before its next step."""
        self._is_gone = True
        self._identity.look_again()
        return StorageUnavailable(
            f"{self.path}: the file is gone: it was moved or deleted while in use. Put it back and all goes on; "
            "a process that is started now makes a new, empty one"
        )

    def check_place(self) -> None:
        """StorageUnavailable when the names no longer lead to the files that are open: what is written there others may never see."""
        changed = self._identity.changed()
        if changed is not None:
            self._refuse(changed)

    def _refuse(self, changed: str) -> NoReturn:
        if not changed:
            self._found()
            self._numbers.clear()
        self._is_stale = True
        raise self._identity.error(changed)

    def check_log(self) -> None:
        """As ``check_place``, but look at the files themselves, and save what a log that was deleted or replaced holds at once."""
        with self.turn_lock:
            self._identity.look_again()
            self._check_commit()

    def _check_commit(self) -> None:
        """As ``check_place``. The caller holds the lock: what the log holds is saved at once, while this process lives."""
        changed = self._identity.changed()
        if changed is None:
            return
        try:
            self._refuse(changed)
        finally:
            if self._is_stale and not self._gate.is_interrupting:
                with self._read_lock, self._commits.lock:
                    self._close()

    def close(self, user: object = None) -> None:
        """Close the connections, unless others than *user* have opened them too; the next call opens them again."""
        if user is not None:
            self._users.discard(user)
            if self._users:
                return
        with self._bare_lock, self._read_lock, self._commits.lock:
            if self._gate.depth > 1 or self._is_reading or self._commits.is_syncing:
                # From inside a call of this thread, which needs them to its end; the next call closes them.
                self._is_stale = True
                return
            self._close()
            self._place = None
            self._numbers.clear()

    def __del__(self) -> None:
        if hasattr(self, "_commits"):
            self._close()

    def close_if_changed(self) -> None:
        """At the end of the process: SQLite would delete, by name, what may be somebody else's by now."""
        self._identity.look_again()
        if self._identity.changed() is not None:
            self.close()

    def _close(self) -> None:
        is_whole = self._canary is None or self._canary.is_alive
        connections = [it for it in (self._writer, self._reader, *self.watching) if it is not None]
        self._writer = self._reader = None
        self._spare.close()
        if is_whole:
            close_all(self._identity, connections, Waiting(self._clock, self._rng, TURN_TIMEOUT))
            self._entry.leave()
            if self._canary is not None:
                self._canary.let_go()
        else:
            for connection in connections:
                descriptors.abandon(connection)
            descriptors.note_loss(self.path)
            self._entry.abandon()
        self._canary = None
        self._identity.forget()
        self._is_synced, self._is_stale, self.has_stage = True, False, False
        self._commits.close(is_whole=is_whole)

    # -- statements ---------------------------------------------------------------------------------------------------------------------

    def write(
        self,
        sql: str,
        values: Sequence[Any] | dict[str, Any] = (),
        units: int = 1,
        *,
        is_synced: bool = True,
        door: Door | None = None,
    ) -> int:
        """Run one writing statement; the number of rows it changed. Waits for a busy file up to the timeout, or that of *door*.

        *units*: its weight in the log. *is_synced* False: it need not wait for the disk.
        """
        with door or self.write_lock:
            connection = self._writer or self.writer
            if self._is_synced != is_synced:
                self._sync(is_synced)
            changed = self._guarded(self._gate, connection.execute, sql, values).rowcount
            self._units += units
            self._commits.made += 1
            self._check_commit()
            if self._units >= CHECKPOINT_EVERY:
                self._checkpoint_after_commit()
            return changed

    def sync(self) -> None:
        """Wait until the disk has all that this process committed so far, where commits do so at all."""
        self._commits.sync(self.check_place)

    def _checkpoint_after_commit(self) -> None:
        # What was written is written: a log that cannot be moved now must not look like a failed write.
        try:
            self.checkpoint()
        except StorageError as error:
            log.warning("the log of %s could not be moved into the file, it is tried again later: %s", self.path, error)

    @property
    def writer(self) -> sqlite3.Connection:
        """The connection that writes; hold ``write_lock`` while you use it."""
        return self._writer or self._open()

    def fetch(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a read on the connection that writes, such as of its temp tables. The caller holds the lock."""
        return self._guarded(self._gate, lambda: all_of(self.writer, sql, values))

    def stage(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Write into temp tables of the connection that writes; takes no lock on the file. The caller holds our own."""
        self._guarded(self._gate, self.writer.execute, sql, values)

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
        if self._writer is None or self._is_stale:
            with self.write_lock:
                self._open()
        self._check_descriptors()
        with self._read_lock:
            found = self._read(sql, values)
        self.check_place()
        return found

    def _read(self, sql: str, values: Sequence[Any] | dict[str, Any]) -> list[tuple[Any, ...]]:
        if self._is_reading:
            # By a call of this thread that this one interrupted, maybe while it connects.
            with closing(self._connect()) as own:
                return self._guarded(None, lambda: all_of(own, sql, values))
        try:
            self._is_reading = True
            if self._reader is None:
                self._found()
                self._reader = self._connect()
            reader = self._reader
            return self._guarded(None, lambda: all_of(reader, sql, values))
        finally:
            self._is_reading = False

    def _guarded(self, waiting: Patient | None, act: Callable[..., T], *args: Any) -> T:
        """Do *act*, again while the file is busy and *waiting* lasts (None: up to the timeout); driver errors come out as ours."""
        while True:
            try:
                return act(*args)
            except sqlite3.Error as error:
                waiting = waiting or Waiting(self._clock, self._rng, self._timeout)
                if primary_code(error) not in BUSY or not waiting.again():
                    self._is_stale |= primary_code(error) in BROKEN
                    raise translated(error, self.path) from error

    # -- waking -------------------------------------------------------------------------------------------------------------------------

    def touch(self) -> None:
        """Tell watchers in other processes that something was committed: the file's own time stamp, which no lock depends on."""
        syncing.touch(self.path)

    # -- the write-ahead log ------------------------------------------------------------------------------------------------------------

    def checkpoint(self) -> bool:
        """Move the log into the file, unless another process is at it or a reader is in the way; True if that was done.

        The log is then written from its start again, not cut: a commit into blocks that the file has already costs half of one that makes
        it grow. Only a log that has grown large is cut. The first write into a log that was moved is made here, while no other process can
        checkpoint: SQLite before 3.51.3 may damage a file when that write meets a second checkpoint.
        """
        self._units = 0
        if not syncing.checkpointing.acquire(blocking=False):
            return False
        try:
            with syncing.alone(self.path, self._mode) as is_alone:
                return is_alone and self._move_log()
        finally:
            syncing.checkpointing.release()

    def _move_log(self) -> bool:
        try:
            with self.held:
                kind = "TRUNCATE" if self.log_size() > LARGEST_LOG else "RESTART"
                busy, _, _ = self.writer.execute(f"PRAGMA wal_checkpoint({kind})").fetchone()
                # A value that differs: SQLite does not write a row that stays as it was.
                self.writer.execute("INSERT OR REPLACE INTO huey_meta VALUES ('checkpointed', ?)", (str(self._clock.monotonic()),))
            return not busy
        except sqlite3.Error as error:
            if primary_code(error) in BUSY:
                return False
            raise translated(error, self.path) from error

    def log_size(self) -> int:
        try:
            return os.stat(self.path + "-wal").st_size
        except FileNotFoundError:
            return 0

"""The connection that writes: its state, how it is opened, and the spare one of calls that interrupt others.

A signal handler, a destructor or a trace function may run between any two lines of huey. Its calls must not see what the interrupted call
of the same thread has under way, nor wait for it. So `SpareConnection` gives them a `WriteConnection` of their own.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from huey.runtime.clock import Clock
from huey.runtime.files import OPENINGS, Replaced, file_id, sqlite_uri, unchanged_neighbours
from huey.storage.sqlite import descriptors
from huey.storage.sqlite.busy import PatientLock, Retrier
from huey.storage.sqlite.errors import translated
from huey.storage.sqlite.identity import Canary, FileId, Identity, new_canary
from huey.storage.sqlite.open_files import OpenFileLock
from huey.storage.sqlite.texts import all_of

_SETTINGS = "; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = MEMORY"


@dataclass(slots=True)
class WriteConnection:
    """The state of the connection that writes, and of the file that it has open."""

    identity: Identity
    open_lock: OpenFileLock
    file_id: FileId | None = None
    """Of the file that is open, or was open last: a new file must not silently take its place. A forked child keeps it for that reason."""
    generation: int = 0
    """Grows when another file than before is opened."""
    connection: sqlite3.Connection | None = None
    canary: Canary | None = None
    is_durable: bool = True
    """Whether commits wait for the disk, where they do so at all."""
    must_reopen: bool = False
    """The connection cannot be used any more: the next call opens a new one."""
    is_missing: bool = False
    """The file was not where it should be: the next call looks for it."""
    has_temp_schema: bool = False
    """The temp tables and triggers have been created."""
    has_staged_rows: bool = False
    """The temp tables may hold rows of a call that failed."""

    @property
    def is_whole(self) -> bool:
        """Whether the descriptors of this process are still what they were when the file was opened."""
        return self.canary is None or self.canary.is_alive

    def reset(self) -> None:
        """Forget the connection, which was closed; keep which file it had open."""
        self.connection = self.canary = None
        self.is_durable, self.must_reopen, self.is_missing, self.has_temp_schema, self.has_staged_rows = True, False, False, False, False

    def close(self) -> None:
        """Close the connection, or leave it alone if its descriptors were closed by someone else."""
        is_whole = self.is_whole
        self.open_lock.release() if is_whole else self.open_lock.abandon()
        if self.connection is not None:
            self.connection.close() if is_whole else descriptors.abandon(self.connection)
        if self.canary is not None:
            self.canary.close()


class Opener:
    """Opens connections to one file. *retry* runs an SQLite call while the file is busy and translates its errors; *prepare* creates or
    checks the schema and returns the number of a queue; *check* refuses files that huey must not use."""

    def __init__(
        self,
        path: str,
        *,
        clock: Clock,
        mode: int,
        settings: str,
        prepare: Callable[[sqlite3.Connection, str], int],
        check: Callable[[], None],
        retry: Callable[..., Any],
    ) -> None:
        self.path = path
        self.prepare = prepare
        self._clock = clock
        self._mode = mode
        self._settings = settings
        self._check = check
        self._retry = retry

    def new_state(self, former: WriteConnection | None = None) -> WriteConnection:
        """Return the state of a connection that is not open yet. *former*: that of another connection of this process to the same file."""
        identity, open_lock = Identity(self.path, self._clock), OpenFileLock(self.path, self._mode)
        return (
            WriteConnection(identity, open_lock)
            if former is None
            else WriteConnection(identity, open_lock, former.file_id, former.generation)
        )

    def open(self, state: WriteConnection, name: str, lock: PatientLock, verify_present: Callable[[], object]) -> tuple[FileId | None, int]:
        """Open the connection that writes, held by *lock*. Returns the identity of the file and the number of the queue *name* in it."""
        for _ in range(OPENINGS - 1):
            try:
                return self._open_once(state, name, lock, verify_present)
            except Replaced:
                continue
        return self._open_once(state, name, lock, verify_present)

    def _open_once(
        self, state: WriteConnection, name: str, lock: PatientLock, verify_present: Callable[[], object]
    ) -> tuple[FileId | None, int]:
        descriptors.check(self.path)
        verify_present()
        self._check()
        state.canary = state.canary or new_canary(self.path)
        state.open_lock.wait(lock)
        opened = file_id(self.path)
        connection = self.connect(lock)
        try:
            number = self._retry(lock, self.prepare, connection, name)
            state.identity.note()
            if state.identity.known[0] != opened or not state.identity.is_held_here:
                raise Replaced(f"{self.path}: another file was put there, or beside it, while it was opened; try again")
            state.open_lock.acquire(state.identity.known, lock)
        except BaseException:
            connection.close()
            raise
        state.connection, state.has_temp_schema = connection, False
        return opened, number

    def connect(self, retrier: Retrier | None = None) -> sqlite3.Connection:
        """Return a new connection with the settings of this file."""
        try:
            connection = sqlite3.connect(
                sqlite_uri(self.path), uri=True, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256
            )
        except sqlite3.Error as error:
            raise translated(error, self.path) from error
        try:
            with unchanged_neighbours(self.path, self._mode):
                # As a script: a pragma whose row is not fetched yet holds the file, and a destructor may run at that moment and use it too.
                self._retry(retrier, connection.executescript, self._settings + _SETTINGS)
        except BaseException:
            connection.close()
            raise
        return connection


class ReadConnection:
    """The connection that reads, for one thread at a time. *verify_present* raises an error if the file is gone; *retry* as in `Opener`."""

    def __init__(self, opener: Opener, verify_present: Callable[[], object], retry: Callable[..., Any]) -> None:
        # A call that interrupts a read of its own thread must not wait for it.
        self.lock = threading.RLock()
        self.connection: sqlite3.Connection | None = None
        self.is_busy = False
        self._opener = opener
        self._verify_present = verify_present
        self._retry = retry

    def fetch(self, sql: str, values: Sequence[Any] | dict[str, Any]) -> list[tuple[Any, ...]]:
        """Return all rows of one reading statement."""
        with self.lock:
            if self.is_busy:
                # In a call of this thread that this one interrupted, maybe while it connects.
                with closing(self._opener.connect()) as own:
                    return self._rows(own, sql, values)
            try:
                self.is_busy = True
                if self.connection is None:
                    self._verify_present()
                    self.connection = self._opener.connect()
                return self._rows(self.connection, sql, values)
            finally:
                self.is_busy = False

    def _rows(self, connection: sqlite3.Connection, sql: str, values: Sequence[Any] | dict[str, Any]) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._retry(None, all_of, connection, sql, values)
        return rows


class SpareConnection:
    """Keeps the connection of the last inner call for the next one: to open a file costs as much as a hundred small commits."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._kept: WriteConnection | None = None

    def take(self, outer: WriteConnection) -> WriteConnection:
        """Return the state with which a call begins that interrupts the one of *outer*: the spare connection, or none."""
        kept, self._kept = self._kept, None
        if kept is not None and kept.file_id != file_id(self._opener.path):
            kept.close()
            kept = None
        if kept is None:
            return self._opener.new_state(outer)
        kept.generation = outer.generation
        return kept

    def keep(self, inner: WriteConnection) -> None:
        """Keep the connection of a call that interrupted another one and is over, if it can be used again."""
        if inner.connection is not None and self._kept is None and not (inner.must_reopen or inner.is_missing):
            self._kept = inner
        else:
            inner.close()

    def close(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

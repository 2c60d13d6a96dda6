"""The write connection: its state, how it is opened, and the spare connection for calls that interrupt others.

A signal handler, a destructor or a trace function may run between any two lines of huey. Its calls must neither see the unfinished work of
the interrupted call in the same thread, nor wait for it. So `SpareConnection` gives them a `WriteConnection` of their own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from huey.exceptions import StorageUnavailable
from huey.runtime.clock import Clock
from huey.runtime.files import OPENINGS, Replaced, sqlite_uri, unchanged_neighbours
from huey.storage.sqlite import descriptors
from huey.storage.sqlite.descriptors import FileId
from huey.storage.sqlite.errors import Retrier, translated
from huey.storage.sqlite.guard import Canary, Identity, PatientLock, file_at
from huey.storage.sqlite.open_files import Closing, OpenFileLock, close_all

Retry = Callable[..., Any]
_SETTINGS = "; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = MEMORY"


@dataclass(slots=True)
class WriteConnection:
    """The state of the write connection, and of the file that it has open."""

    identity: Identity
    open_lock: OpenFileLock
    file_id: FileId | None = None
    """Identity of the file that is open, or was open last, so that a new file cannot silently take its place. A forked child keeps it."""
    generation: int = 0
    """How often the file was closed. The last connection to it removes the log, so watches are replaced."""
    connection: sqlite3.Connection | None = None
    canary: Canary | None = None
    is_durable: bool = True
    """Whether commits wait for the disk now, if they ever do."""
    must_reopen: bool = False
    """True if the connection is unusable; the next call opens a new one."""
    is_missing: bool = False
    """True if the file was not at its path; the next call checks for it."""
    has_temp_schema: bool = False
    """True once the temp tables and triggers have been created."""
    has_staged_rows: bool = False
    """True if the temp tables may hold rows of a call that failed."""

    @property
    def is_whole(self) -> bool:
        """True if the descriptors of this process still refer to the files that were opened."""
        return self.canary is None or self.canary.is_alive

    def present_file(self) -> FileId | None:
        """Return the identity of the file at the path. Raise StorageUnavailable if the one in use is gone: a new file would hide that."""
        found = file_at(self.identity.path)
        if found is None and self.file_id is not None:
            raise self.missing()
        return found

    def missing(self) -> StorageUnavailable:
        """Return the error for a file that has disappeared. From now on every thread checks for it before its next step."""
        self.is_missing = True
        self.identity.check_files_next()
        return self.identity.gone()

    def reset(self) -> None:
        """Clear the state of a connection that was closed, except for the identity of its file."""
        self.connection = self.canary = None
        self.is_durable, self.must_reopen, self.is_missing, self.has_temp_schema, self.has_staged_rows = True, False, False, False, False

    def close(self) -> None:
        """Close the connection, or leave it open if other code has closed its descriptors."""
        is_whole = self.is_whole
        self.open_lock.release() if is_whole else self.open_lock.abandon()
        if self.connection is not None:
            self.connection.close() if is_whole else descriptors.abandon(self.connection)
        if self.canary is not None:
            self.canary.close()

    def close_with(self, others: Sequence[Closing], retrier: Retrier) -> bool:
        """Close this connection and *others* to the same file. Return whether the descriptors were still huey's; if not, nothing is closed,
        and this process never uses the file again."""
        is_whole, connections = self.is_whole, others if self.connection is None else [self.connection, *others]
        self.connection = None
        if is_whole:
            close_all(self.identity, connections, retrier)
        else:
            for connection in connections:
                descriptors.abandon(connection)
            descriptors.note_loss(self.identity.path)
        self.close()
        self.identity.forget()
        self.reset()
        return is_whole


class Opener:
    """Opens connections to one file. *prepare* creates or checks the schema and returns the number of a queue; *check* rejects files that
    huey must not use. The *retry* of its methods repeats an SQLite call while the file is busy, and translates its errors."""

    def __init__(
        self,
        path: str,
        *,
        clock: Clock,
        mode: int,
        settings: str,
        prepare: Callable[[sqlite3.Connection, str], int],
        check: Callable[[], None],
    ) -> None:
        self.path = path
        self.prepare = prepare
        self._clock = clock
        self.mode = mode
        self._settings = settings
        self._check = check

    def new_state(self, former: WriteConnection | None = None) -> WriteConnection:
        """Return the state of a connection that is not open yet. *former*: that of an earlier connection to the same file."""
        identity, open_lock = Identity(self.path, self._clock), OpenFileLock(self.path, self.mode)
        if former is None:
            return WriteConnection(identity, open_lock)
        return WriteConnection(identity, open_lock, former.file_id, former.generation)

    def open(self, state: WriteConnection, name: str, lock: PatientLock, retry: Retry) -> tuple[FileId | None, int]:
        """Open the write connection, held by *lock*. Return the identity of the file and the number of the queue *name* in it."""
        for _ in range(OPENINGS - 1):
            try:
                return self._open_once(state, name, lock, retry)
            except Replaced:
                continue
        return self._open_once(state, name, lock, retry)

    def _open_once(self, state: WriteConnection, name: str, lock: PatientLock, retry: Retry) -> tuple[FileId | None, int]:
        descriptors.check(self.path)
        state.present_file()
        self._check()
        state.canary = state.canary or Canary(self.path)
        state.open_lock.wait(lock)
        opened = file_at(self.path)
        connection = self.connect(retry, lock)
        try:
            number = retry(lock, self.prepare, connection, name)
            state.identity.note()
            if state.identity.known[0] != opened or not state.identity.is_held_here:
                raise Replaced(f"{self.path}: the file, or one beside it, was replaced while it was being opened; try again")
            state.open_lock.acquire(state.identity.known, lock)
        except BaseException:
            connection.close()
            raise
        state.connection, state.has_temp_schema = connection, False
        return opened, number

    def connect(self, retry: Retry, retrier: Retrier | None = None) -> sqlite3.Connection:
        """Return a new connection with the settings of this file."""
        try:
            connection = sqlite3.connect(
                sqlite_uri(self.path), uri=True, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256
            )
        except sqlite3.Error as error:
            raise translated(error, self.path) from error
        try:
            with unchanged_neighbours(self.path, self.mode):
                # As a script: a pragma whose row is not fetched yet locks the file, and a destructor that runs meanwhile may use it too.
                retry(retrier, connection.executescript, self._settings + _SETTINGS)
        except BaseException:
            connection.close()
            raise
        return connection


class SpareConnection:
    """Keeps the connection of the last inner call for the next one: opening a file costs as much as a hundred small commits."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._kept: WriteConnection | None = None

    def take(self, outer: WriteConnection) -> WriteConnection:
        """Return the state for a call that interrupts the one of *outer*: the spare connection, or a state without one."""
        kept, self._kept = self._kept, None
        if kept is not None and kept.file_id != file_at(self._opener.path):
            kept.close()
            kept = None
        if kept is None:
            return self._opener.new_state(outer)
        kept.generation = outer.generation
        return kept

    def keep(self, inner: WriteConnection) -> None:
        """Keep the connection of an inner call that has ended, if it can be reused."""
        if inner.connection is not None and self._kept is None and not (inner.must_reopen or inner.is_missing):
            self._kept = inner
        else:
            inner.close()

    def close(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

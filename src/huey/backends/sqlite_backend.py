"""The components of a 0.4.9 queue in a SQLite file: the tables ``huey_part_*``. Components of one file and name make one queue.

Each method is one statement in autocommit, so it is atomic; the queue and the schedule hold claimed messages.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import weakref
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

from huey.backends import base, older
from huey.backends.base import Acknowledging, BaseDataStore, BaseQueue, BaseSchedule, Data, Part, Ticking, micros_of
from huey.exceptions import ConfigurationError
from huey.runtime import files
from huey.runtime.host import at_fork
from huey.utils import EmptyData

BUSY_TIMEOUT_S = 30.0
"""Seconds that a statement waits for a file that another process is writing to."""
MODE = 0o600

SCHEMA = (
    # A waiting message has no holder. Messages of a queue have the time 0; of several with one time the smallest id comes first.
    "CREATE TABLE IF NOT EXISTS huey_part_message"
    " (id INTEGER PRIMARY KEY, part TEXT NOT NULL, name TEXT NOT NULL, at INTEGER NOT NULL, holder TEXT, data NOT NULL)",
    "CREATE INDEX IF NOT EXISTS huey_part_message_order ON huey_part_message (part, name, holder, at, id)",
    "CREATE TABLE IF NOT EXISTS huey_part_holder"
    " (part TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (part, name, id)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS huey_part_result (name TEXT NOT NULL, key TEXT NOT NULL, value, PRIMARY KEY (name, key)) WITHOUT ROWID",
    # The message of a tick is written by a trigger, so that both are one statement.
    "CREATE TABLE IF NOT EXISTS huey_part_tick"
    " (name TEXT NOT NULL, task TEXT NOT NULL, at INTEGER NOT NULL, data, PRIMARY KEY (name, task)) WITHOUT ROWID",
    "CREATE TRIGGER IF NOT EXISTS huey_part_first_tick AFTER INSERT ON huey_part_tick WHEN NEW.data IS NOT NULL BEGIN"
    " INSERT INTO huey_part_message (part, name, at, data) VALUES ('queue', NEW.name, 0, NEW.data); END",
    "CREATE TRIGGER IF NOT EXISTS huey_part_next_tick AFTER UPDATE ON huey_part_tick WHEN NEW.data IS NOT NULL BEGIN"
    " INSERT INTO huey_part_message (part, name, at, data) VALUES ('queue', NEW.name, 0, NEW.data); END",
)


class _File:
    """The connection of this process to a file, shared by all its components."""

    def __init__(self, path: str) -> None:
        self.path = path
        # A call that interrupts another one in its thread (a signal handler, a destructor) must not wait for it.
        self._lock = threading.RLock()
        self._is_busy = False
        self._connection: sqlite3.Connection | None = None
        # SQLite's locks must not reach a forked child: the connection is closed before the fork, and reopened when needed.
        at_fork(before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._after_fork)

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        with self._lock:
            if self._is_busy:
                with closing(self._connect()) as own:
                    return own.execute(statement, values).fetchall()
            try:
                self._is_busy = True
                connection = self._connection = self._connection or self._connect()
                return connection.execute(statement, values).fetchall()
            finally:
                self._is_busy = False

    def _connect(self) -> sqlite3.Connection:
        files.check_before_open(self.path, MODE)
        connection = sqlite3.connect(files.sqlite_uri(self.path), BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, uri=True)
        try:
            with files.unchanged_neighbours(self.path, MODE):
                # In one script: a pragma that is not fetched yet holds the file, and a destructor may use it at that moment.
                connection.executescript(";\n".join(("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", *SCHEMA)))
        except BaseException:
            connection.close()
            raise
        return connection

    def _before_fork(self) -> None:
        self._lock.acquire()
        self._close()

    def _after_fork(self) -> None:
        self._lock.release()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __del__(self) -> None:
        self._close()


_files: weakref.WeakValueDictionary[str, _File] = weakref.WeakValueDictionary()
_opening = threading.RLock()


def _file_at(location: Any) -> _File:
    """Return the file at that path, which is created if missing. Raise ConfigurationError without a path, StorageRefused if it cannot be
    used."""
    if not location or str(location) == ":memory:":
        raise ConfigurationError(
            f"location={location!r}: give the path of a file; for a queue in memory, which only one process sees, use huey.backends.dummy"
        )
    path = os.path.abspath(os.fspath(location))
    with _opening:
        file = _files.get(path)
        if file is None:
            file = _files[path] = _File(path)
    file.rows("SELECT 1")
    return file


class _InFile(Part):
    """A component in a file. *location* is its path; it is created if missing."""

    def __init__(self, name: str, location: str | os.PathLike[str]) -> None:
        super().__init__(name, location=location)
        self._file = _file_at(location)
        self.location = self._file.path

    @property
    def is_trusted(self) -> bool:
        return files.is_private(self.location, MODE)


class _Messages(_InFile, Acknowledging):
    """Common base of queue and schedule."""

    _part: str

    _ONE = "(SELECT id FROM huey_part_message WHERE part = ? AND name = ? AND holder = ? AND data = ? LIMIT 1)"

    def _put(self, data: Data, at: int) -> None:
        self._file.rows("INSERT INTO huey_part_message (part, name, at, data) VALUES (?, ?, ?, ?)", self._part, self.name, at, data)

    def _take(self, holder: str | None, limit: int, until: int) -> list[Data]:
        """Claim the first messages for *holder*, or remove them."""
        what = "DELETE FROM huey_part_message" if holder is None else "UPDATE huey_part_message SET holder = ?"
        rows = self._file.rows(
            f"{what} WHERE id IN (SELECT id FROM huey_part_message WHERE part = ? AND name = ? AND holder IS NULL AND at <= ?"
            " ORDER BY at, id LIMIT ?) RETURNING at, id, data",
            *([] if holder is None else [holder]),
            *(self._part, self.name, until, limit),
        )
        return [data for _, _, data in sorted(rows, key=lambda row: row[:2])]

    def claim(self, holder: str, limit: int, timestamp: datetime | None = None) -> list[Data]:
        return self._take(holder, limit, 0 if timestamp is None else micros_of(timestamp))

    def ack(
        self,
        holder: str,
        data: Data,
        instead: Data | None = None,
        *,
        first: bool = False,
        successor: str | None = None,
        timestamp: datetime | None = None,
    ) -> bool:
        one = (self._part, self.name, holder, data)
        if instead is None:
            return bool(self._file.rows(f"DELETE FROM huey_part_message WHERE id = {self._ONE} RETURNING id", *one))
        position = "(SELECT MIN(id) - 1 FROM huey_part_message)" if first else "(SELECT MAX(id) + 1 FROM huey_part_message)"
        return bool(
            self._file.rows(
                f"UPDATE huey_part_message SET data = ?, holder = ?, at = COALESCE(?, at), id = {'id' if successor else position}"
                f" WHERE id = {self._ONE} RETURNING id",
                *(instead, successor, micros_of(timestamp) if timestamp is not None and self._part == "schedule" else None),
                *one,
            )
        )

    def held(self, holder: str) -> list[Data]:
        return self._listed("holder = ?", holder)

    def waiting(self, limit: int) -> list[Data]:
        return self._listed("holder IS NULL", limit=limit)

    def _listed(self, which: str, *values: Any, limit: int = -1) -> list[Data]:
        statement = f"SELECT data FROM huey_part_message WHERE part = ? AND name = ? AND {which} ORDER BY at, id LIMIT ?"
        return [data for (data,) in self._file.rows(statement, self._part, self.name, *values, limit)]

    def register(self, holder: str, text: str) -> None:
        self._file.rows("INSERT OR REPLACE INTO huey_part_holder VALUES (?, ?, ?, ?)", self._part, self.name, holder, text)

    def registered(self) -> dict[str, str]:
        rows = self._file.rows("SELECT id, text FROM huey_part_holder WHERE part = ? AND name = ?", self._part, self.name)
        return {id: text for id, text in rows}

    def deregister(self, holder: str) -> None:
        self._file.rows(
            "DELETE FROM huey_part_holder WHERE part = ?1 AND name = ?2 AND id = ?3 AND NOT EXISTS"
            " (SELECT 1 FROM huey_part_message WHERE part = ?1 AND name = ?2 AND holder = ?3)",
            *(self._part, self.name, holder),
        )

    def flush(self) -> None:
        self._file.rows("DELETE FROM huey_part_message WHERE part = ? AND name = ?", self._part, self.name)

    def __len__(self) -> int:
        statement = "SELECT COUNT(*) FROM huey_part_message WHERE part = ? AND name = ? AND holder IS NULL"
        return int(self._file.rows(statement, self._part, self.name)[0][0])

    def __bool__(self) -> bool:
        return True


class SqliteQueue(_Messages, BaseQueue, Ticking):
    """A queue in the table ``huey_part_message``; polled."""

    _part = "queue"

    def startup_warnings(self) -> list[str]:
        return older.in_file(self._file.rows, self.location)

    def write(self, data: Data) -> None:
        self._put(data, 0)

    def write_many(self, messages: Sequence[Data]) -> None:
        """Append messages in order, atomically. They are ASCII."""
        texts = json.dumps([data if isinstance(data, str) else data.decode("ascii") for data in messages])
        statement = "INSERT INTO huey_part_message (part, name, at, data) SELECT 'queue', ?, 0, value FROM json_each(?) ORDER BY key"
        self._file.rows(statement, self.name, texts)

    def read(self) -> Data | None:
        taken = self._take(None, 1, 0)
        return taken[0] if taken else None

    def remove(self, data: Data) -> int:
        statement = "DELETE FROM huey_part_message WHERE part = 'queue' AND name = ? AND holder IS NULL AND data = ? RETURNING id"
        return len(self._file.rows(statement, self.name, data))

    def tick(self, task: str, at: int, data: Data | None) -> bool:
        statement = (
            "INSERT INTO huey_part_tick (name, task, at, data) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (name, task) DO UPDATE SET at = excluded.at, data = excluded.data"
            " WHERE excluded.at > huey_part_tick.at RETURNING at"
        )
        return bool(self._file.rows(statement, self.name, task, at, data))

    def ticks(self) -> dict[str, int]:
        return {task: at for task, at in self._file.rows("SELECT task, at FROM huey_part_tick WHERE name = ?", self.name)}

    def flush(self) -> None:
        super().flush()
        self._file.rows("DELETE FROM huey_part_tick WHERE name = ?", self.name)


class SqliteDataStore(_InFile, BaseDataStore):
    """A result store in the table ``huey_part_result``."""

    def put(self, key: str, value: Any) -> None:
        self._file.rows("INSERT OR REPLACE INTO huey_part_result VALUES (?, ?, ?)", self.name, key, value)

    def put_if_empty(self, key: str, value: Any) -> bool:
        """Store *value* if there is none, atomically. Return whether it was stored."""
        return bool(self._file.rows("INSERT OR IGNORE INTO huey_part_result VALUES (?, ?, ?) RETURNING key", self.name, key, value))

    def peek(self, key: str) -> Any:
        return _first(self._file.rows("SELECT value FROM huey_part_result WHERE name = ? AND key = ?", self.name, key))

    def get(self, key: str) -> Any:
        return _first(self._file.rows("DELETE FROM huey_part_result WHERE name = ? AND key = ? RETURNING value", self.name, key))

    def items(self) -> dict[str, Any]:
        """Return all values by key."""
        return {key: value for key, value in self._file.rows("SELECT key, value FROM huey_part_result WHERE name = ?", self.name)}

    def flush(self) -> None:
        self._file.rows("DELETE FROM huey_part_result WHERE name = ?", self.name)


class SqliteSchedule(_Messages, BaseSchedule):
    """A schedule in the table ``huey_part_message``."""

    _part = "schedule"

    def add(self, data: Data, timestamp: datetime) -> None:
        self._put(data, micros_of(timestamp))

    def read(self, timestamp: datetime) -> list[Any]:
        return self._take(None, -1, micros_of(timestamp))


Components = base.Components(SqliteQueue, SqliteDataStore, SqliteSchedule, None)
"""The classes of this module by role, as Django's settings name them."""


def _first(rows: list[tuple[Any, ...]]) -> Any:
    return rows[0][0] if rows else EmptyData

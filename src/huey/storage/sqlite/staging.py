"""The temp tables and triggers of the connection that writes: stage rows, fire a trigger with one statement, read what it left.

sql/turn.sql has the rules and the reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from huey.storage.helpers import CHUNK
from huey.storage.sqlite.bulk_insert import multi_row, pad_to_size
from huey.storage.sqlite.database import Database, Values
from huey.storage.sqlite.guard import LockScope

UNIT = 128
UNIT_BYTES = 32 * 1024
"""Tasks, and bytes, that weigh as much in the log as one small commit."""
_TABLES = ("successes", "other_finishes", "incoming", "outputs", "workflow_task", "workflow_edge", "workflow_replacement")
_INSERT = {table: f"INSERT OR IGNORE INTO {table} VALUES {{}}" for table in _TABLES}


class Staging:
    """Staged rows and triggers of *database*; *sql* has its statements by name. Its methods need the lock of the database."""

    def __init__(self, database: Database, sql: Mapping[str, str]) -> None:
        self._database = database
        self._sql = sql

    def begin(self) -> None:
        """Create the temp tables and triggers if this connection has none, and remove rows that a failed call left."""
        database = self._database
        # In this order: to open a new connection makes a new state.
        if not (database.writer and database.state.has_temp_schema):
            database.writer.executescript(self._sql["temporary"] + self._sql["temporary_constraints"] + self._sql["temporary_edges"])
            database.state.has_temp_schema = True
        elif database.state.has_staged_rows:
            for table in _INSERT:
                database.stage(f"DELETE FROM {table}")
        database.state.has_staged_rows = True

    def add(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Stage *rows* for the next statement."""
        for start in range(0, len(rows), CHUNK):
            full = pad_to_size(rows[start : start + CHUNK])
            self._database.stage(multi_row(_INSERT[table], len(full[0]), len(full)), list(chain.from_iterable(full)))

    def execute(self, statement: str, values: Values, units: int = 1, *, is_durable: bool = True) -> None:
        """Run the statement that fires a trigger, which consumes the staged rows."""
        self._database.execute(self._sql[statement], values, units, is_durable=is_durable, lock=self._database.held)
        self._database.state.has_staged_rows = False

    def clear(self, statement: str) -> None:
        """Run a statement that removes what a trigger left."""
        self._database.stage(self._sql[statement])

    def fetch(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a statement that reads what a trigger left."""
        return self._database.fetch(self._sql[statement], values)

    def fire(
        self,
        statement: str,
        values: Values,
        answer: tuple[str, Values] | None = None,
        *,
        is_durable: bool = True,
        lock: LockScope | None = None,
    ) -> list[tuple[Any, ...]]:
        """Run a statement that fires a trigger without staged rows. Returns the rows of the statement *answer*, read before another trigger
        fires. *lock*: by default that of a consumer."""
        with lock or self._database.turn_lock:
            self.begin()
            self.execute(statement, values, is_durable=is_durable)
            return self.fetch(*answer) if answer is not None else []

"""Enqueue inside a transaction of the caller: the task exists once the caller commits, and never if it rolls back.

As with any write, the caller's connection holds the write lock of the file until it commits. All statements here run on that connection:
nothing is committed, and nothing needs the temp tables of huey.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from huey.exceptions import ConfigurationError
from huey.runtime.clock import Micros
from huey.runtime.owned_blocks import Block
from huey.storage.rows import EventFactory
from huey.storage.sqlite.errors import translated
from huey.storage.sqlite.staging import build_enqueue
from huey.task.record import Record
from huey.task.record_options import read_constraints


class CallerTransaction(Block):
    """An open block of `using(connection)`. Its constructor raises ConfigurationError if *connection* is not to the file *path*."""

    def __init__(self, of: object, connection: Any, path: str, sql: Mapping[str, str]) -> None:
        super().__init__(of)
        self._connection = _driver_connection(connection)
        self._path = path
        self._sql = sql
        self._check_file()

    def _check_file(self) -> None:
        files = {name: file for _, name, file in self._run("PRAGMA database_list")}
        theirs = files.get("main") or ""
        if not theirs or not os.path.exists(theirs) or not os.path.samefile(theirs, self._path):
            raise ConfigurationError(
                f"using(connection): the connection is to {theirs or 'a database in memory'!r}, but the queue is in {self._path!r}; "
                "one transaction needs one file: give the Huey filename= of that database"
            )

    def enqueue(self, name: str, queue: int | None, records: Sequence[Record], make_events: EventFactory | None, now: Micros) -> None:
        """Enqueue *records* in the queue *name* as part of the caller's transaction. *queue*: its number, if known.

        Raise ConfigurationError for records with unique keys, concurrency limits or rates, and in a thread or asyncio task that only
        inherited the block.
        """
        if not self.is_mine:
            raise ConfigurationError(
                "using(connection): another thread, asyncio task or context opened this block, and a transaction has one owner; nothing "
                "was enqueued. Enqueue where the block was opened, or after it has ended"
            )
        if any(
            constraints.unique is not None or constraints.concurrency_key is not None
            for constraints in map(read_constraints, {record.options for record in records})
        ):
            raise ConfigurationError("using(connection): a task with unique=, concurrency= or rate= cannot be part of another transaction")
        queue = queue or self._register(name)
        asked = {"queue": queue, "ids": json.dumps([record.id for record in records])}
        again = {"queue": queue, "ids": json.dumps([record.id for record in records if read_constraints(record.options).own is not None])}
        if again["ids"] != "[]":
            # Nothing remains of earlier runs of these ids, except that the new tokens start above theirs.
            for statement in ("note_tokens_of_ended", "drop_results_of_ended", "drop_ended"):
                self._run(self._sql[statement], again)
        which = json.dumps([id for (id,) in self._run(self._sql["unheld"], asked)])
        self._run(*build_enqueue(queue, records, now, only_if_unobserved=False))
        if again["ids"] != "[]":
            self._run(self._sql["start_tokens"], again | {"unheld": which})
        ((is_followed, has_revocations),) = self._run(self._sql["enqueue_context"], {"queue": queue, "now": now})
        if is_followed and make_events is not None:
            self._run(self._sql["publish"], {"queue": queue, "now": now, "body": "\n".join(make_events())})
        if has_revocations:
            revocations = {"queue": queue, "ids": which, "now": now}
            self._run(self._sql["attach_revocations"], revocations)
            self._run(self._sql["drop_attached_revocations"], revocations)

    def _register(self, name: str) -> int:
        # Not cached: a rollback removes what is registered here.
        self._run(self._sql["queue_make"], (name,))
        ((number,),) = self._run(self._sql["queue_id"], (name,))
        return int(number)

    def _run(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        try:
            cursor = self._connection.cursor()
            # huey reads these rows, whatever row factory the caller uses.
            cursor.row_factory = None
            return cursor.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise translated(error, self._path) from error


def _driver_connection(connection: Any) -> sqlite3.Connection:
    """Return the driver's connection inside one of Django or SQLAlchemy. Raise ConfigurationError if there is none of SQLite."""
    found = connection
    for _ in range(4):
        if isinstance(found, sqlite3.Connection):
            return found
        if callable(ensure := getattr(found, "ensure_connection", None)):
            ensure()
        names = ("driver_connection", "dbapi_connection", "connection")
        found = next((it for name in names if (it := getattr(found, name, None)) is not None), None)
    raise ConfigurationError(f"using({connection!r}): give a connection of sqlite3, or one of Django or SQLAlchemy that wraps it")

"""Enqueueing inside a transaction of the caller: the task is there if and when the caller commits, and not if he rolls back.

The caller's connection holds the file's write lock from his first write to his commit, as for any other write of his; that is his business.
Whatever is done here is plain statements on his connection: nothing is committed, nothing needs the temp tables of ours.
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
from huey.storage.sqlite.bulk_insert import enqueueing
from huey.storage.sqlite.errors import translated
from huey.task.record import Record
from huey.task.record_options import read_constraints


class Caller(Block):
    """A connection of the caller, which must be to the file *path*: for as long as the block lasts, and for who opened that."""

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
                f"using(connection): it is to {theirs or 'a database in memory'!r}, and the queue is in {self._path!r}; "
                "one transaction needs one file: give the Huey filename= of that database"
            )

    def enqueue(self, name: str, queue: int | None, records: Sequence[Record], tell: EventFactory | None, now: Micros) -> None:
        """Put *records* into the queue *name* (*queue*: its number, if that is known), as part of what the caller will commit.

        ConfigurationError: they have terms that look at other tasks; or who asks only inherited the block.
        """
        if not self.is_mine:
            raise ConfigurationError(
                "using(connection): another thread, asyncio task or context opened this block, and a transaction has one owner; nothing "
                "was enqueued. Enqueue where the block was opened, or after it has ended"
            )
        if any(
            terms.unique is not None or terms.concurrency_key is not None
            for terms in map(read_constraints, {record.options for record in records})
        ):
            raise ConfigurationError("using(connection): a task with unique= or concurrency= cannot be part of another transaction")
        queue = queue or self._number(name)
        asked = {"queue": queue, "ids": json.dumps([record.id for record in records])}
        again = {"queue": queue, "ids": json.dumps([record.id for record in records if read_constraints(record.options).own is not None])}
        if again["ids"] != "[]":
            # Nothing is left of former runs of these ids, but that the new ones begin above all their tokens.
            for statement in ("note_tokens_of_ended", "drop_results_of_ended", "drop_ended"):
                self._run(self._sql[statement], again)
        which = json.dumps([id for (id,) in self._run(self._sql["unheld"], asked)])
        self._run(*enqueueing(queue, records, now, if_unnoticed=False))
        if again["ids"] != "[]":
            self._run(self._sql["start_tokens"], again | {"unheld": which})
        ((is_followed, has_marks),) = self._run(self._sql["enqueue_context"], {"queue": queue, "now": now})
        if is_followed and tell is not None:
            self._run(self._sql["publish"], {"queue": queue, "now": now, "body": "\n".join(tell())})
        if has_marks:
            marks = {"queue": queue, "ids": which, "now": now}
            self._run(self._sql["attach_revocations"], marks)
            self._run(self._sql["drop_attached_revocations"], marks)

    def _number(self, name: str) -> int:
        # Not kept: what is made here goes with a rollback.
        self._run(self._sql["queue_make"], (name,))
        ((number,),) = self._run(self._sql["queue_id"], (name,))
        return int(number)

    def _run(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        try:
            cursor = self._connection.cursor()
            # Whatever rows the caller is used to, these are for us.
            cursor.row_factory = None
            return cursor.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise translated(error, self._path) from error


def _driver_connection(connection: Any) -> sqlite3.Connection:
    """The driver's own connection inside what Django or SQLAlchemy give. ConfigurationError: there is none of SQLite."""
    found = connection
    for _ in range(4):
        if isinstance(found, sqlite3.Connection):
            return found
        if callable(ensure := getattr(found, "ensure_connection", None)):
            ensure()
        names = ("driver_connection", "dbapi_connection", "connection")
        found = next((it for name in names if (it := getattr(found, name, None)) is not None), None)
    raise ConfigurationError(f"using({connection!r}): give a connection of sqlite3, or what Django or SQLAlchemy have around one")

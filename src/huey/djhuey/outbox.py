"""The time at which a task enqueued inside a database transaction is written.

In the database's own SQLite file it joins the transaction: both commit, or neither. Elsewhere it is written at once, or after the commit if
``on_commit_task`` or ``HUEY['enqueue_on_commit']`` asks for it, and then never if the transaction is rolled back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import connections, transaction

from huey.api import Huey
from huey.client.workflows import WorkflowWrite
from huey.exceptions import StorageUnavailable
from huey.runtime.method_masking import Masked
from huey.runtime.owned_blocks import Block, find
from huey.storage.sqlite.syncing import rouse


class WaitingBlock(Block):
    """A block whose enqueues wait for the commit of the database *alias*."""

    def __init__(self, of: object, alias: str) -> None:
        super().__init__(of)
        self.alias = alias


class Outbox(Masked):
    """The ``outbox`` of a project's Huey.

    *on_commit* is the alias of the database whose commit every enqueue waits for, or None. *way_out* is added to the error if the storage
    is unreachable.
    """

    def __init__(self, huey: Huey, on_commit: str | None = None, way_out: str = "") -> None:
        self._huey = huey
        self._on_commit = on_commit
        self._way_out = way_out
        self._seen: tuple[str | None, str | None] = (None, None)
        """The queue's file at the last check, and the alias of the database in it."""
        self._is_prepared = False

    def __call__(self, write: Callable[[], Any]) -> Any:
        """Call *write* now, in the transaction, or after it. Return its value, or None if it is still to be called or committed."""
        try:
            return self._write(write)
        except StorageUnavailable as error:
            if not self._way_out:
                raise
            raise StorageUnavailable(f"{error}. {self._way_out}") from error

    @property
    def transaction(self) -> str | None:
        """Alias of the database with whose commit an enqueue of the caller takes effect, or None if it is written at once."""
        waits, own = find(WaitingBlock, self), self._own()
        # A thread or task that inherited the block has transactions of its own.
        alias = waits.alias if waits is not None and waits.is_mine else self._on_commit
        if own is not None and alias in (None, own):
            alias = own
        return alias if alias is not None and connections[alias].in_atomic_block else None

    def _write(self, write: Callable[[], Any]) -> Any:
        alias = self.transaction
        if alias is None:
            return write()
        # Where it cannot join, a connection of our own would wait for this transaction, which waits for it.
        if alias != self._own() or not self._joins(alias) or isinstance(write, WorkflowWrite):
            transaction.on_commit(write, using=alias)
            return None
        transaction.on_commit(self._wake, using=alias)
        with self._huey.using(connections[alias].connection):
            write()
        return None

    def prepare(self, alias: str) -> None:
        """Create the tables of a queue that is in this database's file, and of no other."""
        if self._own() == alias:
            self._huey.storage.open()

    @contextmanager
    def waiting(self, alias: str | None) -> Iterator[None]:
        """Make what this thread enqueues inside the block wait for the commit of that database; None: the default one."""
        with WaitingBlock(self, alias or "default"):
            yield

    def _own(self) -> str | None:
        """Return the alias of the database whose file holds the queue, or None."""
        file: str | None = getattr(self._huey.storage, "filename", None)
        if file is None:
            return None
        if self._seen[0] != file:
            self._seen = file, _database_in(file)
        return self._seen[1]

    def _joins(self, own: str) -> bool:
        """Return True if a task can be part of the caller's transaction. A task that runs in the caller, on its own connection, cannot; nor
        can any before the queue has its tables, since they too are created on a separate connection."""
        if not hasattr(self._huey.storage, "using") or self._huey.immediate:
            return False
        self._is_prepared = self._is_prepared or _has_queue(connections[own], self._huey.name)
        return self._is_prepared

    def _wake(self) -> None:
        """Wake consumers after a commit by Django; without this they notice within a second."""
        rouse(self._huey.storage.filename)  # type: ignore[attr-defined]


def _has_queue(connection: Any, name: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM sqlite_master WHERE name = 'huey_queue'")
        if cursor.fetchone() is None:
            return False
        cursor.execute("SELECT 1 FROM huey_queue WHERE name = %s", [name])
        return cursor.fetchone() is not None


def _database_in(file: str) -> str | None:
    for alias, database in settings.DATABASES.items():
        name = database.get("NAME")
        is_sqlite = str(database.get("ENGINE", "")).endswith("sqlite3")
        if is_sqlite and name and os.path.realpath(str(name)) == os.path.realpath(file):
            return str(alias)
    return None

"""Check that a SQLite file belongs to huey and has the schema of this release; create the tables in a new file."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from huey.exceptions import StorageRefused
from huey.storage.sqlite.errors import primary_code

SCHEMA_VERSION = 12
"""The schema version, which grows with each change of schema.sql. Before the first release older files are rejected, not migrated."""


def prepare(connection: sqlite3.Connection, name: str, *, path: str, sql: Mapping[str, str]) -> int:
    """Check the schema of the file, or create it in a file without one. Return the number of the queue *name*, or 0 if the name is empty.

    Raise StorageRefused if the file was written by another version of huey, or its tables are not huey's.
    """
    if sqlite3.sqlite_version_info < (3, 35):
        raise StorageRefused(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 or newer is needed; upgrade Python or its SQLite")
    version = _version(connection, path)
    if version > SCHEMA_VERSION:
        raise StorageRefused(
            f"{path}: a newer huey wrote this file (version {version}, this one knows {SCHEMA_VERSION}); upgrade huey here"
        )
    if 0 < version < SCHEMA_VERSION:
        raise StorageRefused(
            f"{path}: this file has schema {version}, but this huey needs schema {SCHEMA_VERSION}; before the first release files are not "
            "migrated. Let the huey that wrote it finish its tasks, then delete the file or give another filename="
        )
    if version == 0:
        _create_schema(connection, sql["schema"])
    if connection.execute("SELECT 1 FROM huey_meta WHERE key = 'room'").fetchone():
        # A process was killed while it preallocated the write-ahead log.
        connection.execute("DELETE FROM huey_meta WHERE key = 'room'")
    if not name:
        return 0
    found = connection.execute(sql["queue_id"], (name,)).fetchone()
    if found is None:
        connection.execute(sql["queue_make"], (name,))
        found = connection.execute(sql["queue_id"], (name,)).fetchone()
    return int(found[0])


def _version(connection: sqlite3.Connection, path: str) -> int:
    """Return the schema version of the file, or 0 if it has no tables of huey yet."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'huey_meta'").fetchone():
        return 0
    try:
        row = connection.execute("SELECT value FROM huey_meta WHERE key = 'version'").fetchone()
        return int(row[0]) if row else 0
    except (sqlite3.OperationalError, ValueError) as error:
        if isinstance(error, sqlite3.Error) and primary_code(error) != sqlite3.SQLITE_ERROR:
            raise
        raise StorageRefused(
            f"{path}: its table huey_meta was not made by huey, or its version cannot be read ({error}); give another filename="
        ) from error


def _create_schema(connection: sqlite3.Connection, schema: str) -> None:
    # The only transaction of several statements, once in the life of a file. It is one script, so one step of Python: a call that
    # interrupted it in the same thread would wait for the file for ever.
    version = f"INSERT OR REPLACE INTO huey_meta VALUES ('version', '{SCHEMA_VERSION}')"
    try:
        connection.executescript(";\n".join(["BEGIN IMMEDIATE", schema.rstrip().removesuffix(";"), version, "COMMIT"]))
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise

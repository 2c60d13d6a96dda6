"""What a SQLite file must be before a queue uses it: ours, of a version we know, with all tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from huey.exceptions import StorageRefused
from huey.storage.sqlite.errors import primary_code

SCHEMA_VERSION = 6
_ADDED = {
    "huey_task": ("wish TEXT", "limit_key TEXT", "at_most INTEGER"),
    "huey_queue": ("top_token INTEGER NOT NULL DEFAULT 1",),
    "huey_lock": ("ends INTEGER",),
}
"""Columns that earlier versions did not have."""


def prepare(connection: sqlite3.Connection, name: str, *, path: str, sql: Mapping[str, str]) -> int:
    """Check whose file it is, make what is missing; the number of the queue *name*, 0 for none."""
    if sqlite3.sqlite_version_info < (3, 35):
        raise StorageRefused(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 or newer is needed; upgrade Python or its SQLite")
    version = _version(connection, path)
    if version > SCHEMA_VERSION:
        raise StorageRefused(
            f"{path}: a newer huey wrote this file (version {version}, this one knows {SCHEMA_VERSION}); upgrade huey here"
        )
    if version < SCHEMA_VERSION:
        _make_schema(connection, sql["schema"])
    if connection.execute("SELECT 1 FROM huey_meta WHERE key = 'room'").fetchone():
        connection.execute("DELETE FROM huey_meta WHERE key = 'room'")
    if not name:
        return 0
    found = connection.execute(sql["queue_id"], (name,)).fetchone()
    if found is None:
        connection.execute(sql["queue_make"], (name,))
        found = connection.execute(sql["queue_id"], (name,)).fetchone()
    return int(found[0])


def _version(connection: sqlite3.Connection, path: str) -> int:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'huey_meta'").fetchone():
        return 0
    try:
        row = connection.execute("SELECT value FROM huey_meta WHERE key = 'version'").fetchone()
        return int(row[0]) if row else 0
    except (sqlite3.OperationalError, ValueError) as error:
        if isinstance(error, sqlite3.Error) and primary_code(error) != sqlite3.SQLITE_ERROR:
            raise
        raise StorageRefused(
            f"{path}: its table huey_meta is not ours, or its version cannot be read ({error}); give another filename="
        ) from error


def _make_schema(connection: sqlite3.Connection, schema: str) -> None:
    # The one place that holds the file over several statements: once in its life. In one step, as far as Python can tell: a call that
    # interrupts this one in its own thread would wait for the file for ever.
    added: list[str] = []
    for table, columns in _ADDED.items():
        there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        added += [f"ALTER TABLE {table} ADD COLUMN {column}" for column in columns if there and column.split()[0] not in there]
    version = f"INSERT OR REPLACE INTO huey_meta VALUES ('version', '{SCHEMA_VERSION}')"
    try:
        connection.executescript(";\n".join(["BEGIN IMMEDIATE", *added, schema.rstrip().removesuffix(";"), version, "COMMIT"]))
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise

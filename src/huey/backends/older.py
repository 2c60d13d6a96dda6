"""Messages of huey 3.x and 0.4.9 in the file, folder or server of a queue.

They are not decoded, run, moved or removed here. A consumer logs at startup how many there are and what to do about them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

_TABLES = {"task": {"queue", "data", "priority"}, "schedule": {"queue", "data", "timestamp"}}
"""Tables of 3.x and the columns by which they are recognized: an application may have a ``task`` table of its own."""
_TABLE_OF_A_QUEUE = re.compile(r"huey_(?:queue|schedule)_(\w+)")
"""Tables of 0.4.9: two for each name, with a column ``item``."""
_FILE = re.compile(r"[0-9a-f]+(-[0-9a-f]+)?")
_TEXTS = {
    "file": "let the consumer of that release run until none is left, or give this queue another filename=",
    "folder": "let the consumer of that release run until none is left, or give this queue another path=",
    "server": "let the consumer of that release run until none is left, or give this queue another name or db=",
}

Found = Iterable[tuple[str, int]]
"""Descriptions of where messages were found, each with their number."""


def in_file(read: Callable[[str], list[tuple[Any, ...]]], path: str) -> list[str]:
    """Return the log lines for a SQLite file; *read* runs one statement in it."""
    return _report(path, "file", [*_in_tables(read)])


def _in_tables(read: Callable[[str], list[tuple[Any, ...]]]) -> Found:
    names = [name for (name,) in read("SELECT name FROM sqlite_master WHERE type = 'table'") if isinstance(name, str)]
    for table, columns in _TABLES.items():
        if table in names and columns <= _columns(read, table):
            for queue, count in read(f"SELECT queue, count(*) FROM {table} GROUP BY queue ORDER BY queue"):
                yield f"{count} of queue {queue!r} in table {table}", count
    for table in names:
        if (match := _TABLE_OF_A_QUEUE.fullmatch(table)) and "item" in _columns(read, table):
            [(count,)] = read(f'SELECT count(*) FROM "{table}"')
            yield f"{count} of queue {match[1]!r} in table {table}", count


def _columns(read: Callable[[str], list[tuple[Any, ...]]], table: str) -> set[str]:
    return {row[1] for row in read(f'PRAGMA table_info("{table}")')}


def in_folder(folder: str) -> list[str]:
    """Return the log lines for a folder in which 3.x kept a queue, one file for each message."""
    found = []
    # That file is made by 3.x beside them: other programs may have folders of these names.
    for part in ("queue", "schedule") if os.path.exists(os.path.join(folder, ".lock")) else ():
        with suppress(OSError):
            count = sum(_FILE.fullmatch(name) is not None for name in os.listdir(os.path.join(folder, part)))
            found.append((f"{count} in {part}", count))
    return _report(folder, "folder", found)


def on_server(ask: Callable[..., Any], name: str, where: str) -> list[str]:
    """Return the log lines for the keys of the queue *name* in Redis; *ask* sends one command."""
    found = []
    # Some characters of a name were left out of its keys, unless the application asked for the name unchanged.
    for key_name in dict.fromkeys((re.sub(r"[^A-Za-z0-9_]", "", name), name)):
        for key in (f"huey.redis.{key_name}", f"huey.schedule.{key_name}"):
            kind = ask("TYPE", key)
            verb = {"list": "LLEN", "zset": "ZCARD"}.get(kind.decode() if isinstance(kind, bytes) else kind)
            if verb is not None:
                count = int(ask(verb, key))
                found.append((f"{count} in {key}", count))
    return _report(where, "server", found)


def _report(where: str, kind: str, found: list[tuple[str, int]]) -> list[str]:
    where_found = [text for text, count in found if count]
    count = sum(count for _, count in found)
    if not count:
        return []
    wait = "1 message of an earlier release of huey waits" if count == 1 else f"{count} messages of an earlier release of huey wait"
    return [
        f"{where}: {wait} here ({', '.join(where_found)}); this release cannot read such messages and leaves them alone: {_TEXTS[kind]}"
    ]

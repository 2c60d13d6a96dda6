"""The SQLite files that this process has open: all queues in one file with the same options share its connections."""

from __future__ import annotations

import atexit
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from huey.runtime.clock import Clock, Rng
from huey.runtime.files import check_before_open
from huey.storage.sqlite.connection import Opener
from huey.storage.sqlite.database import Database

_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_shared: weakref.WeakValueDictionary[tuple[object, ...], Database] = weakref.WeakValueDictionary()
_sharing = threading.RLock()


def database_of(path: str, clock: Clock, rng: Rng, prepare: Callable[[sqlite3.Connection, str], int], **options: Any) -> Database:
    """Return this process's `Database` for a path and its options; all queues in it share the connections."""
    allow_network = options.pop("allow_network")
    key = (path, id(clock), id(rng), allow_network, *options.values())
    with _sharing:
        found = _shared.get(key)
        if found is None:
            mode, pragmas, synchronous = (options.pop(name) for name in ("mode", "pragmas", "synchronous"))
            check = partial(check_before_open, path, mode, allow_network=allow_network)
            settings = f"{pragmas}; PRAGMA synchronous = {synchronous}"
            opener = Opener(path, clock=clock, mode=mode, settings=settings, prepare=prepare, check=check)
            found = _shared[key] = Database(opener, clock=clock, rng=rng, is_synchronous=synchronous == "FULL", **options)
            _databases.add(found)
        return found


def close_if_changed(database: Database) -> None:
    """Close the file at the end of the process if its names lead elsewhere: SQLite would delete, by name, files of another process."""
    database.state.identity.check_files_next()
    if database.state.identity.changed() is not None:
        database.close()


def _new_process() -> None:
    global _sharing
    _sharing = threading.RLock()


@atexit.register
def _leave_what_is_not_ours() -> None:
    for database in list(_databases):
        close_if_changed(database)


os.register_at_fork(after_in_child=_new_process)

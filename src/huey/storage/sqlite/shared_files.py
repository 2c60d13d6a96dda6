"""The files that this process has open: all queues that are in one file, and wish the same of it, share its connections."""

from __future__ import annotations

import atexit
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from huey.exceptions import StorageError
from huey.runtime.clock import Clock, Rng
from huey.runtime.files import check_before_open
from huey.runtime.logs import SafeLogger
from huey.storage.sqlite.database import MIB, File

log = SafeLogger("huey")

_files: weakref.WeakSet[File] = weakref.WeakSet()
_shared: weakref.WeakValueDictionary[tuple[object, ...], File] = weakref.WeakValueDictionary()
_sharing = threading.RLock()


def file_of(path: str, clock: Clock, rng: Rng, prepare: Callable[[sqlite3.Connection, str], int], **options: Any) -> File:
    """The ``File`` of that path and those *options* in this process: all its queues share the connections."""
    allow_network = options.pop("allow_network")
    key = (path, id(clock), id(rng), allow_network, *options.values())
    with _sharing:
        found = _shared.get(key)
        if found is None:
            check = partial(check_before_open, path, options["mode"], allow_network=allow_network)
            found = _shared[key] = File(path, clock=clock, rng=rng, prepare=prepare, check=check, **options)
            _files.add(found)
        return found


def make_room(file: File) -> None:
    """Let a young log grow to the size it will have, once, so that the commits to come need not: they cost half then."""
    if file.log_size() >= MIB:
        return
    try:
        file.write("INSERT OR REPLACE INTO huey_meta VALUES ('room', zeroblob(?))", (4 * MIB,), door=file.turn_lock)
        file.write("DELETE FROM huey_meta WHERE key = 'room'", door=file.turn_lock)
        file.checkpoint()
    except StorageError as error:
        log.warning("%s: its log cannot be made roomy, commits may be slower: %s", file.path, error)


def _new_process() -> None:
    global _sharing
    _sharing = threading.RLock()


@atexit.register
def _leave_what_is_not_ours() -> None:
    for file in list(_files):
        file.close_if_changed()


os.register_at_fork(after_in_child=_new_process)

"""Wait on a SQLite file for tasks, results and events. The wake-ups are in watch.py."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

from huey.backends import older
from huey.runtime.clock import SECOND, Clock, Micros, micros
from huey.runtime.masking import checkpoint
from huey.storage.base import FOLLOWER, Waker
from huey.storage.helpers import Retention
from huey.storage.rows import Worker
from huey.storage.sql.storage import SqlStorage, load_statements
from huey.storage.sqlite.database import Database
from huey.storage.sqlite.settled import settled
from huey.storage.sqlite.watch import Watch, watch

SAFETY_CHECK_S = 1.0
"""Seconds after which a waiting thread checks by itself, in case a wake-up was lost."""
_SQL = load_statements("sqlite")


class WakingStorage(SqlStorage):
    """The methods of `SqliteStorage` that wait."""

    def __init__(self, name: str, clock: Clock, result_ttl: float | None, retention: Retention, database: Database) -> None:
        super().__init__(name, clock, result_ttl, retention)
        self._database = database
        self._local = threading.local()

    @classmethod
    def from_options(cls, name: str, **options: Any) -> Self:
        return cls(name, **settled(options))

    def startup_warnings(self, processes: int, periodic: bool) -> list[str]:
        return older.in_file(self._database.read, self._database.path) + older.in_folder(os.path.dirname(self._database.path))

    @property
    def _watch(self) -> Watch:
        """The watch of this thread; it is replaced after a fork, and after the file was closed."""
        mine: tuple[tuple[int, int], Watch] | None = getattr(self._local, "watch", None)
        if mine is None or mine[0] != (os.getpid(), self._database.state.generation):
            self.open()
            mine = self._local.watch = ((os.getpid(), self._database.state.generation), watch(self._database, self._clock))
        return mine[1]

    def listen(self, worker: Worker, timeout: float, waker: Waker, prefetch: bool = False, report_promoted: bool = False) -> bool:
        deadline = self._clock.monotonic() + micros(timeout)
        lanes = {"queue": self._queue, "suspects": worker.takes_suspects, "others": worker.takes_others}
        while True:
            watching = self._watch
            due: Micros | None = None
            # On the write connection, whose cache is warm: a turn is likely to follow.
            with self._database.write_lock:
                found = self._database.fetch(_SQL["is_claimable"], lanes)
            for is_ready, due in found:
                if is_ready or (due is not None and due <= self._clock.now()):
                    return True
            left = (deadline - self._clock.monotonic()) / SECOND
            if left <= 0:
                return False
            until_due = left if due is None else (due - self._clock.now()) / SECOND
            if watching.wait(min(left, max(until_due, 0.0), SAFETY_CHECK_S), waker):
                return False

    def wait(self, ids: Sequence[str], timeout: float | None) -> bool:
        which = json.dumps(list(ids))
        return bool(self._wait_until(lambda: self._read("has_result", (self._queue, which, self._clock.now())), timeout))

    def follow(self, after: int | None, timeout: float = 0.0) -> tuple[int, list[str]]:
        queue, follower = self._queue, f"{os.getpid()}-{threading.get_ident()}-{id(self)}"
        self._write("follow", (follower, queue, self._clock.now() + FOLLOWER), is_durable=False)
        if after is None:
            rows = self._read("event_position")
            return (rows[0][0] if rows else 0), []
        rows = self._wait_until(lambda: self._read("event_read", (queue, after)), timeout)
        return (rows[-1][0] if rows else after), [text for _, body in rows for text in body.split("\n")]

    def _wait_until(self, find: Callable[[], list[tuple[Any, ...]]], timeout: float | None) -> list[tuple[Any, ...]]:
        """Return the rows that *find* reads as soon as there are any, or none after *timeout* seconds."""
        deadline = None if timeout is None else self._clock.monotonic() + micros(timeout)
        while True:
            watching = self._watch
            if rows := find():
                break
            left = SAFETY_CHECK_S if deadline is None else (deadline - self._clock.monotonic()) / SECOND
            if left <= 0:
                break
            checkpoint()
            watching.wait(min(left, SAFETY_CHECK_S))
        return rows

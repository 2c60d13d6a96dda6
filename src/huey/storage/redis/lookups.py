"""Read a queue (tasks, counts, statistics, workers, events) and wait for results, without changing the data."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice

from huey.exceptions import StorageRefused
from huey.runtime.clock import SECOND, Micros, micros
from huey.runtime.masking import checkpoint
from huey.storage.base import FOLLOWER, Storage
from huey.storage.helpers import CHUNK, in_chunks
from huey.storage.redis import keys
from huey.storage.redis.finishes import ROW, worker_of
from huey.storage.redis.messages import Arg, row_of, text_of, whole_or
from huey.storage.redis.queue import RedisQueue
from huey.storage.redis.shared_listeners import SAFETY_INTERVAL_S, EventListener, ResultListener, Wait
from huey.storage.redis.workflows import edge_of, parent_ends_from
from huey.storage.rows import Counts, Missing, TaskRow, WorkerRow
from huey.storage.stats import MINUTE, Stat, stat, with_waiting
from huey.task.lifecycle import State
from huey.task.workflow import PIECE, EdgeRow, ParentEnd

_KINDS = {
    "suspect": ("suspect",),
    "ready": ("suspect", "ready"),
    "scheduled": ("scheduled",),
    State.QUEUED: ("suspect", "ready", "scheduled"),
    "kept": ("kept",),
}
"""The kinds of queued tasks, in claim order, and those that are kept until they are due."""
_ALL = ("suspect", "ready", "scheduled", "blocked", State.WAITING, State.RUNNING, State.SUCCEEDED, "kept", State.FAILED, State.CANCELLED)


class ReadingStorage(Storage):
    """The methods of ``RedisStorage`` that read data or wait for it."""

    def __init__(self, queue: RedisQueue) -> None:
        self.name = queue.name
        self._queue = queue

    # -- tasks, counts, workers ---------------------------------------------------------------------------------------------------------

    def find(self, state: str | None = None, name: str | None = None, limit: int = 100, ids: Sequence[str] | None = None) -> list[TaskRow]:
        """Find tasks as the contract says, but not in one step: a task that changes its state meanwhile may be missing."""
        if ids is not None:
            return self._rows(ids)
        if limit <= 0:
            return []
        if state in _KINDS:
            rows: list[TaskRow] = []
            for kind in _KINDS[state]:
                if len(rows) < limit:
                    rows += self._in_order(kind, name, limit - len(rows))
            return rows
        kinds = _ALL if state is None else (state, "kept") if state == State.SUCCEEDED else (state,)
        found = (row for kind in kinds for page in self._pages(kind) for row in page if name in (None, row.name))
        return heapq.nsmallest(limit, {row.id: row for row in found}.values(), key=lambda row: (row.created, row.id))

    def _in_order(self, kind: str, name: str | None, limit: int) -> list[TaskRow]:
        """Return the tasks of one kind, the best or the first that is due first."""
        if kind in ("scheduled", "kept"):
            # They are already in order of time, and include those that no worker could run so far.
            soonest = (row for page in self._pages(kind) for row in page if row.state != State.BLOCKED and name in (None, row.name))
            return sorted(islice(soonest, limit), key=lambda row: (row.due or 0, row.id))
        # Without a name the first page is enough: it has up to *limit* tasks of each priority.
        pages = islice(self._pages(kind, limit), 1) if name is None else self._pages(kind)
        found = [row for page in pages for row in page if name in (None, row.name)]
        return sorted(found, key=lambda row: (-row.priority, row.ready_at, row.id))[:limit]

    def _pages(self, kind: str, size: int = CHUNK) -> Iterator[list[TaskRow]]:
        """Yield tasks of one kind, a page at a time."""
        for start in count(0, size):
            ids = self._queue.call("list_ids", kind, start, start + size - 1)
            if not ids:
                return
            yield self._rows(ids)

    def _rows(self, ids: Sequence[Arg]) -> list[TaskRow]:
        found = [each for some in in_chunks(ids) for each in self._queue.call("get_tasks", *some)]
        return [row_of(each) for each in found if each]

    def missing(self) -> list[Missing]:
        try:
            found = self._queue.command("HKEYS", self._queue.prefix + keys.MISSING_COUNTS)
        except StorageRefused:
            # A key of the wrong type: the next script that uses it sets it aside, and ``prune`` restores its content.
            return []
        return sorted(Missing(*text_of(what).split("\0", 1)) for what in found)

    def parent_ends(self, id: str, after: int = -1) -> list[ParentEnd]:
        return parent_ends_from(self._queue.call("parent_ends", id, after, PIECE, 5 * CHUNK))

    def edges(self, ids: Sequence[str]) -> list[EdgeRow]:
        return sorted((edge_of(found) for found in self._queue.call("edges", *ids)), key=lambda row: (row.child, row.position))

    def counts(self) -> Counts:
        *numbers, is_paused, waiting = self._queue.call("counts")
        return Counts._make([*numbers, bool(is_paused), waiting])

    def queues(self) -> list[str]:
        self.open()
        return sorted(name.decode() for name in self._queue.command("SMEMBERS", keys.QUEUES))

    def stats(self, since: Micros) -> list[Stat]:
        rows, living = self._queue.call("read_stats", since)
        waiting = []
        for field, number in zip(living[::2], living[1::2], strict=True):
            start, _, name = text_of(field).partition(":")
            began, how_many = whole_or(int, start, 0), whole_or(int, number, 0)
            if began + MINUTE * SECOND > since and how_many > 0:
                waiting.append((name, began, how_many))
        counted = [
            stat(text_of(name), int(float(start)), span, *(whole_or(int, number, 0) for number in ROW.unpack(numbers)))
            for span, start, name, numbers in rows
            if len(numbers) == ROW.size
        ]
        return with_waiting(counted, waiting)

    def workers(self) -> list[WorkerRow]:
        found = self._queue.call("workers", self._queue.lease_time())
        return [WorkerRow(worker_of(id, details), int(until), bool(is_expired), holds) for id, details, until, is_expired, holds in found]

    def ticks(self) -> dict[str, Micros]:
        found = self._queue.command("HGETALL", self._queue.prefix + keys.TICKS)
        # RESP3 answers with a map, RESP2 with a list, and the application may have chosen the protocol.
        pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
        return {text_of(name): whole_or(int, tick.partition(b" ")[0], 0) for name, tick in pairs}

    # -- waiting for results and events -------------------------------------------------------------------------------------------------

    def wait(self, ids: Sequence[str], timeout: float | None) -> bool:
        if timeout is None or timeout > 0:
            shared_listener = self._queue.pool.shared_listener(ResultListener)
            mine = Wait(self._queue, tuple(ids))
            if shared_listener.wait(mine, self._time_left(timeout)):
                return True
            shared_listener.forget(mine)
        return any(self._queue.call("watch_results", "", *some) for some in in_chunks(ids))

    def follow(self, after: int | None, timeout: float = 0.0) -> tuple[int, list[str]]:
        left = self._time_left(timeout)
        while True:
            checkpoint()
            position, *events = self._queue.call("follow", FOLLOWER, "" if after is None else after)
            if after is None or events:
                return position, [event.decode() for event in events]
            seconds = left()
            if seconds <= 0:
                return position, []
            # The stream is read each second, in case a wake-up was lost.
            a_second = self._time_left(min(seconds, SAFETY_INTERVAL_S))
            self._queue.pool.shared_listener(EventListener).wait(Wait(self._queue, (position,)), a_second)

    def _time_left(self, timeout: float | None) -> Callable[[], float]:
        """Return a function that returns the seconds left of *timeout*."""
        if timeout is None:
            return lambda: math.inf
        clock = self._queue.clock
        deadline = clock.monotonic() + micros(timeout)
        return lambda: (deadline - clock.monotonic()) / SECOND

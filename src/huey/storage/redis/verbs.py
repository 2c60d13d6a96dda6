"""The verbs that are one script each, with nothing more to it: will, looking, marks, house."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator, Sequence
from itertools import count, islice

from huey.exceptions import StorageRefused
from huey.runtime.clock import SECOND, Micros, micros
from huey.storage.base import DEAD_LETTERS_KEPT, EVENTS_KEPT, FOREVER, MARK_KEPT, Storage
from huey.storage.helpers import CHUNK, check_keys, parts_of
from huey.storage.redis import keys
from huey.storage.redis.finishes import ROW, worker_of
from huey.storage.redis.messages import Arg, mark_of, row_of, text_of, whole_or
from huey.storage.redis.queue import RedisQueue
from huey.storage.retention import Retention, parse_result_ttl
from huey.storage.rows import Counts, Missing, Revocation, TaskIds, TaskName, TaskRow, WorkerRow
from huey.storage.stats import HOURS_KEPT, MINUTE, MINUTES_KEPT, Stat, stat, with_waiting
from huey.task.lifecycle import State

log = logging.getLogger("huey")

STAMP = 16
"""Digits before a small value that say when it goes."""
PRUNE = 500
"""Things of one kind that one prune removes."""
_KINDS = {
    "suspect": ("suspect",),
    "ready": ("suspect", "ready"),
    "scheduled": ("scheduled",),
    State.QUEUED: ("suspect", "ready", "scheduled"),
}
"""The kinds of queued tasks, in claim order."""
_ALL = ("suspect", "ready", "scheduled", "blocked", State.RUNNING, State.SUCCEEDED, State.FAILED, State.CANCELLED)


class PlainVerbs(Storage):
    """Verbs over scripts. A queue's storage gives ``_connections`` and the rest."""

    def __init__(self, queue: RedisQueue, result_ttl: float | None, retention: Retention) -> None:
        self.name = queue.name
        self._queue = queue
        self._connections = queue.connections
        self._prefix = queue.prefix
        self._now = queue.now
        self._lease_time = queue.lease_time
        self.result_ttl = parse_result_ttl(result_ttl)
        self._retention = retention

    # -- will ---------------------------------------------------------------------------------------------------------------------------

    def revoke(self, target: TaskIds | TaskName, until: Micros | None = None, once: bool = False) -> None:
        limit, flag = _mark(until, once)
        if isinstance(target, TaskName):
            self._connections.command("HSET", self._prefix + keys.REVOKED_NAMES, target.name, f"{limit} {flag}")
            return
        for some in _parts(target.ids):
            self._connections.call("revoke", self._prefix, self._now(), limit, flag, MARK_KEPT, _or_any(target.enqueue), *some)

    def restore(self, target: TaskIds | TaskName) -> list[str]:
        if isinstance(target, TaskName):
            return [target.name] if self._connections.command("HDEL", self._prefix + keys.REVOKED_NAMES, target.name) else []
        head = (self._prefix, self._now(), _or_any(target.enqueue))
        return [id.decode() for some in _parts(target.ids) for id in self._connections.call("restore", *head, *some)]

    def get_revocation(self, *targets: TaskIds | TaskName) -> Revocation | None:
        id, name, enqueue = parts_of(targets)
        which = ("" if id is None else f"+{id}", "" if name is None else f"+{name}", _or_any(enqueue))
        mark = self._connections.call("get_revocation", self._prefix, self._now(), *which)
        return None if mark is None else mark_of(mark)

    def retry(self, ids: Sequence[str], now: Micros | None = None) -> list[str]:
        return [id.decode() for some in _parts(ids) for id in self._connections.call("retry", self._prefix, self._now(now), *some)]

    def discard(self, ids: Sequence[str]) -> list[str]:
        return [id.decode() for some in _parts(ids) for id in self._connections.call("discard", self._prefix, self._now(), *some)]

    def drop_waiting(self, *, scheduled: bool) -> int:
        kind, total, gone = "scheduled" if scheduled else "ready", 0, 1
        while gone:
            gone = self._connections.call("drop_queued", self._prefix, self._now(), kind, CHUNK)
            total += gone
        return total

    def pause(self, on: bool) -> None:
        self._connections.call("pause", self._prefix, self._now(), int(on))

    def is_paused(self) -> bool:
        return bool(self._connections.command("HGET", self._prefix + keys.CONTROL, "paused") == b"1")

    # -- periodic -----------------------------------------------------------------------------------------------------------------------

    def ticks(self) -> dict[str, Micros]:
        found = self._connections.command("HGETALL", self._prefix + keys.TICKS)
        # RESP3 answers with a map, RESP2 with a list: the connection may be of the user's making.
        pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
        return {text_of(name): whole_or(int, tick.partition(b" ")[0], 0) for name, tick in pairs}

    # -- looking ------------------------------------------------------------------------------------------------------------------------

    def get(self, id: str) -> TaskRow | None:
        return next(iter(self._look([id])), None)

    def _look(self, ids: Sequence[Arg]) -> list[TaskRow]:
        found = [each for some in _parts(ids) for each in self._connections.call("get_tasks", self._prefix, self._now(), *some)]
        return [row_of(each) for each in found if each]

    def find(self, state: str | None = None, name: str | None = None, limit: int = 100) -> list[TaskRow]:
        """As the contract says. Not one step: what changes its state meanwhile may be missing, or come twice."""
        if limit <= 0:
            return []
        if state in _KINDS:
            rows: list[TaskRow] = []
            for kind in _KINDS[state]:
                if len(rows) < limit:
                    rows += self._in_order(kind, name, limit - len(rows))
            return rows
        kinds = _ALL if state is None else (state,)
        found = (row for kind in kinds for page in self._pages(kind) for row in page if name in (None, row.name))
        return heapq.nsmallest(limit, {row.id: row for row in found}.values(), key=lambda row: (row.created, row.id))

    def _in_order(self, kind: str, name: str | None, limit: int) -> list[TaskRow]:
        """Tasks of one kind of queued, best first."""
        if kind == "scheduled":
            # In order of time already; among them are those that wait for a worker that can run them.
            soonest = (row for page in self._pages(kind) for row in page if row.state == State.QUEUED and name in (None, row.name))
            return sorted(islice(soonest, limit), key=lambda row: (row.due or 0, row.id))
        # Without a name the first page has them: it brings so many of each priority.
        pages = islice(self._pages(kind, limit), 1) if name is None else self._pages(kind)
        found = [row for page in pages for row in page if name in (None, row.name)]
        return sorted(found, key=lambda row: (-row.priority, row.ready_at, row.id))[:limit]

    def _pages(self, kind: str, size: int = CHUNK) -> Iterator[list[TaskRow]]:
        """Tasks in one kind of place, a page at a time."""
        for start in count(0, size):
            ids = self._connections.call("list_ids", self._prefix, self._now(), kind, start, start + size - 1)
            if not ids:
                return
            yield self._look(ids)

    def missing(self) -> list[Missing]:
        try:
            found = self._connections.command("HKEYS", self._prefix + keys.MISSING_COUNTS)
        except StorageRefused:
            # A key of a wrong type; the next script that comes upon it sets it aside, and ``prune`` mends what stood in it.
            return []
        return sorted(Missing(*text_of(what).split("\0", 1)) for what in found)

    def counts(self) -> Counts:
        return Counts._make(self._connections.call("counts", self._prefix, self._now()))

    def queues(self) -> list[str]:
        self.open()
        return sorted(name.decode() for name in self._connections.command("SMEMBERS", keys.QUEUES))

    def stats(self, since: Micros) -> list[Stat]:
        rows, living = self._connections.call("read_stats", self._prefix, self._now(), since)
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
        found = self._connections.call("workers", self._prefix, self._now(), self._lease_time())
        return [WorkerRow(worker_of(id, details), int(until), bool(is_expired), holds) for id, details, until, is_expired, holds in found]

    # -- marks --------------------------------------------------------------------------------------------------------------------------

    def put(self, kind: str, key: str, value: bytes, ttl: float | None = None, if_absent: bool = False) -> bool:
        ttl = self.result_ttl if ttl is None and kind == "result" else ttl
        length = "" if ttl is None else micros(ttl)
        return bool(
            self._connections.call("put_value", self._prefix, self._now(), kind, key, value, length, int(if_absent), once=if_absent)
        )

    def take(self, kind: str, keys: Sequence[str] | None = None, remove: bool = False) -> dict[str, bytes]:
        if keys is None:
            return self._take_all(kind)
        if not keys:
            return {}
        check_keys(keys)
        values = self._connections.call("take_values", self._prefix, self._now(), kind, int(remove), *keys)
        return {key: value[STAMP:] for key, value in zip(keys, values, strict=True) if value is not None}

    def _take_all(self, kind: str) -> dict[str, bytes]:
        found, now = self._connections.call("list_values", self._prefix, self._now(), kind)
        pairs = zip(found[::2], found[1::2], strict=True)
        return {text_of(key): value[STAMP:] for key, value in pairs if not 0 < whole_or(int, value[:STAMP], 0) <= int(now)}

    # -- house --------------------------------------------------------------------------------------------------------------------------

    def prune(self, now: Micros | None = None) -> int:
        ages = (DEAD_LETTERS_KEPT, EVENTS_KEPT, MINUTES_KEPT, HOURS_KEPT)
        kept = (*ages, self._retention.most, self._retention.age, PRUNE)
        gone: int
        gone, damaged = self._connections.call("prune", self._prefix, self._now(now), self._lease_time(), *kept)
        if damaged:
            names = ", ".join(sorted(self._prefix + text_of(name) for name in damaged))
            found = self._connections.call("repair", self._prefix, self._now(now), self._lease_time())
            log.critical(
                "%s: keys of this queue held what huey did not put there and were set aside under %sdamaged: (%s); %d tasks that stood in "
                "them were put back",
                self._connections.where, self._prefix, names, found,
            )  # fmt: skip
        return gone

    def flush(self) -> None:
        self._connections.call("flush", self._prefix, self._now())


def _mark(until: Micros | None, once: bool) -> tuple[Micros, int]:
    return FOREVER if until is None else until, int(once)


def _or_any(enqueue: Micros | None) -> Arg:
    """Which enqueue of an id is meant, for a script."""
    return "" if enqueue is None else enqueue


def _parts(ids: Sequence[Arg]) -> Iterator[Sequence[Arg]]:
    """*ids*, as many at a time as one script takes."""
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]

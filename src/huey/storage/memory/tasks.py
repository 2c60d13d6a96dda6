"""The tasks of a MemoryStorage, by state; concurrency limits and rates decide which of the due ones are ready to be claimed."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from huey.runtime.clock import Micros
from huey.storage.base import PROMOTE, PRUNE, RATE_AHEAD, TURN_BYTES
from huey.storage.helpers import Retention
from huey.storage.memory.row import Row
from huey.storage.rows import TaskRow, Worker
from huey.task.lifecycle import State
from huey.task.record_options import Constraints

Rank = tuple[int, Micros, str]


@dataclass
class Window:
    """The last window of a rate, and how many tasks were claimed in it."""

    start: Micros
    end: Micros
    used: int = 0


class Limit:
    """The rows of one concurrency key: ids of the running and of the ready ones, and a heap of the blocked ones."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.ready: set[str] = set()
        self.blocked: list[Rank] = []


class Ready:
    """The ready rows in two heaps, and the limits by concurrency key. *rows*: every row by its id."""

    def __init__(self, rows: dict[str, Row]) -> None:
        self.rows = rows
        self.suspects: list[Rank] = []
        self.others: list[Rank] = []
        self.limits: defaultdict[str, Limit] = defaultdict(Limit)
        self.windows: dict[str, Window] = {}
        """The windows in which rows were claimed, by concurrency key."""

    def __len__(self) -> int:
        return len(self.suspects) + len(self.others)

    def heaps(self, worker: Worker) -> list[list[Rank]]:
        """Return the heaps that *worker* claims from, in that order."""
        return [self.suspects] * worker.takes_suspects + [self.others] * worker.takes_others

    def take(self, worker: Worker) -> Iterator[Row]:
        """Remove and yield what *worker* may claim, best first."""
        for heap in self.heaps(worker):
            while heap:
                yield self.rows[heapq.heappop(heap)[2]]

    def add(self, row: Row) -> None:
        """Add a due row: ready, or blocked until it is among the best of its key."""
        limit = self._limit_of(row)
        if limit is None:
            heapq.heappush(self._heap_of(row), row.rank)
        else:
            row.state = State.BLOCKED
            heapq.heappush(limit.blocked, row.rank)
            self.rebalance(row)

    def start(self, row: Row) -> None:
        """Count a row that was claimed as running."""
        if limit := self._limit_of(row):
            limit.ready.discard(row.id)
            limit.running.add(row.id)

    def after_claim(self, rows: Sequence[Row], now: Micros) -> None:
        """Spend uses of the rates of those *rows* that run; those that were cancelled make room for others."""
        for row in rows:
            key, rate = row.constraints.concurrency_key, row.constraints.rate
            if key is not None and rate is not None and row.state == State.RUNNING:
                start = now - now % rate[1]
                if key not in self.windows or self.windows[key].start < start:
                    self.windows[key] = Window(start, start + rate[1])
                self.windows[key].used += 1
                row.spent = self.windows[key].start
        for row in rows:
            if row.is_ended or row.constraints.rate is not None:
                self.rebalance(row)

    def refund(self, row: Row) -> None:
        """Give back the use that the claim of a row spent, while its window lasts."""
        window = self.windows.get(row.constraints.concurrency_key or "")
        if window is not None and window.start == row.spent:
            window.used -= 1

    def awaited_windows(self) -> list[tuple[Micros, str]]:
        """Return the ends and keys of the windows for whose end rows are blocked."""
        return [(window.end, key) for key, window in self.windows.items() if key in self.limits and self.limits[key].blocked]

    def end_windows(self, now: Micros) -> None:
        """End the awaited windows that are over, at most PROMOTE."""
        for _, key in sorted(window for window in self.awaited_windows() if window[0] <= now)[:PROMOTE]:
            del self.windows[key]
            self.rebalance(self.rows[self.limits[key].blocked[0][2]])

    def prune(self, now: Micros) -> int:
        """Remove the other windows that are over, at most PRUNE."""
        awaited = {key for _, key in self.awaited_windows()}
        over = [key for key, window in self.windows.items() if window.end <= now and key not in awaited][:PRUNE]
        for key in over:
            del self.windows[key]
        return len(over)

    def stop(self, row: Row) -> None:
        """Stop counting a row as running. The caller rebalances if its task has ended for good."""
        if limit := self._limit_of(row):
            limit.running.discard(row.id)

    def rebalance(self, row: Row) -> None:
        """Make the best rows of this row's key ready, as many as the limit allows beside the running ones, and block the others."""
        limit = self._limit_of(row)
        if limit is None:
            return
        # The first one's limit applies, or tasks with different limits would swap places endlessly.
        room = self._room(limit, self.rows[limit.blocked[0][2]].constraints) if limit.blocked else 0
        while limit.blocked:
            best = limit.blocked[0]
            worst = max((self.rows[id].rank for id in limit.ready), default=None)
            if len(limit.ready) < room:
                self._unblock(limit, self.rows[best[2]])
            elif worst is not None and (len(limit.ready) > max(room, 0) or best < worst):
                self._block(limit, self.rows[worst[2]])
            else:
                self._set_end(self.rows[best[2]].constraints)
                return
        if not limit.running and not limit.ready:
            del self.limits[row.constraints.concurrency_key or ""]

    def _room(self, limit: Limit, constraints: Constraints) -> int:
        """Return how many rows may be ready, if *constraints* are those of the best blocked one."""
        most, rate = constraints.max_running, constraints.rate
        room = RATE_AHEAD if most is None else most - len(limit.running)
        window = self.windows.get(constraints.concurrency_key or "")
        return room if rate is None else min(room, rate[0] - (0 if window is None else window.used))

    def _set_end(self, constraints: Constraints) -> None:
        """Let the window end as the best blocked row says: an earlier one may have had another rate."""
        window, rate = self.windows.get(constraints.concurrency_key or ""), constraints.rate
        if window is not None and rate is not None:
            window.end = window.start - window.start % rate[1] + rate[1]

    def clear(self) -> None:
        """Remove all ready and blocked rows; running ones still count."""
        self.suspects.clear()
        self.others.clear()
        for key, limit in list(self.limits.items()):
            limit.ready.clear()
            limit.blocked.clear()
            if not limit.running:
                del self.limits[key]

    def _heap_of(self, row: Row) -> list[Rank]:
        return self.suspects if row.solo_crashes else self.others

    def _limit_of(self, row: Row) -> Limit | None:
        key = row.constraints.concurrency_key
        return None if key is None else self.limits[key]

    def _unblock(self, limit: Limit, row: Row) -> None:
        heapq.heappop(limit.blocked)
        limit.ready.add(row.id)
        row.state = State.QUEUED
        heapq.heappush(self._heap_of(row), row.rank)

    def _block(self, limit: Limit, row: Row) -> None:
        limit.ready.discard(row.id)
        heap = self._heap_of(row)
        heap.remove(row.rank)
        heapq.heapify(heap)
        row.state = State.BLOCKED
        heapq.heappush(limit.blocked, row.rank)


class Tasks:
    """The rows of all tasks. Each is ready or blocked by a limit (``ready``), scheduled (including those that wait for a worker that can
    run them), held by a worker, or ended, when it is only in ``rows``."""

    def __init__(self, top_token: int = 1) -> None:
        self.rows: dict[str, Row] = {}
        self.top_token = top_token
        """Higher than the token of every removed row whose id may be reused; 1 if there was none."""
        self.ready = Ready(self.rows)
        self.scheduled: list[tuple[Micros, str]] = []
        self.missing: set[str] = set()
        """The scheduled rows that wait for a worker that can run them."""
        self.held: dict[str, set[str]] = {}

    def queue(self, row: Row) -> None:
        """Queue *row*: for a worker, or for its time."""
        row.state, row.lost_by = State.QUEUED, None
        self.rows[row.id] = row
        if row.due is None:
            self.ready.add(row)
            return
        heapq.heappush(self.scheduled, (row.due, row.id))
        if row.is_missing:
            self.missing.add(row.id)
        self.ready.rebalance(row)

    def wait(self, row: Row) -> None:
        """Keep *row* out of the queue until its parents have ended."""
        row.state = State.WAITING
        self.rows[row.id] = row

    def promote(self, now: Micros) -> list[Row]:
        """Make due rows ready, soonest first, at most PROMOTE."""
        promoted: list[Row] = []
        while self.is_due(now) and len(promoted) < PROMOTE:
            due, id = heapq.heappop(self.scheduled)
            row = self.rows[id]
            row.ready_at, row.due = due, None
            self.missing.discard(id)
            self.queue(row)
            promoted.append(row)
        return promoted

    def is_due(self, now: Micros) -> bool:
        """Return True if a scheduled row is due."""
        return bool(self.scheduled) and self.scheduled[0][0] <= now

    @property
    def next_due(self) -> Micros | None:
        """When a scheduled row is due, or a blocked one may start because a window of its rate ends."""
        times = [end for end, _ in self.ready.awaited_windows()]
        return min(times + [due for due, _ in self.scheduled[:1]], default=None)

    def claim(self, worker: Worker, want: int) -> list[Row]:
        """Lease the best *want* ready tasks to *worker*, until they exceed ``TURN_BYTES``."""
        claimed = up_to_byte_limit(islice(self.ready.take(worker), want))
        for row in claimed:
            self.lease_to(worker.id, row)
        return claimed

    def lease_to(self, worker: str, row: Row) -> None:
        """Begin a lease with a new token."""
        row.state, row.worker, row.reason = State.RUNNING, worker, None
        row.token += 1
        self.held.setdefault(worker, set()).add(row.id)
        self.ready.start(row)

    def held_by(self, worker: str) -> list[Row]:
        return [self.rows[id] for id in sorted(self.held.get(worker, ()))]

    def end_lease(self, row: Row) -> None:
        """End the lease. The row is in no collection but ``rows`` until it is queued, ended or removed."""
        assert row.worker is not None
        holds = self.held[row.worker]
        holds.remove(row.id)
        if not holds:
            del self.held[row.worker]
        row.worker = None
        self.ready.stop(row)

    def remove(self, ids: Iterable[str]) -> int:
        """Remove the rows of *ids*; return how many."""
        gone = [self.rows.pop(id) for id in ids]
        self.top_token = max(self.top_token, *(row.token for row in gone), 0)
        return len(gone)

    def remove_waiting(self, *, scheduled: bool) -> list[Row]:
        """Remove the scheduled rows, or all other waiting rows; return them."""
        pending = (row for row in self.living() if row.state in (State.QUEUED, State.BLOCKED))
        gone = [row for row in pending if (row.due is not None and not row.is_missing) == scheduled]
        self.scheduled = [each for each in self.scheduled if (each[1] in self.missing) == scheduled]
        heapq.heapify(self.scheduled)
        if not scheduled:
            self.missing.clear()
            self.ready.clear()
        self.remove([row.id for row in gone])
        return gone

    def prune_failed(self, ended: Micros) -> int:
        """Remove tasks that ended without success by that time, at most PRUNE."""
        return self.remove(list(islice((id for id, row in self.rows.items() if row.has_failed and row.is_older(ended)), PRUNE)))

    def prune_succeeded(self, retention: Retention, now: Micros) -> int:
        """Remove succeeded tasks whose own time is over, and the oldest others that exceed the retention, at most PRUNE of each."""
        late = [row.id for row in self._listed("kept") if row.due is not None and row.due <= now]
        succeeded = (row for row in self.rows.values() if row.state == State.SUCCEEDED and not row.is_kept)
        kept = sorted(succeeded, key=lambda row: (row.finished, row.id))
        beyond = len(kept) - retention.most
        old = [row.id for n, row in enumerate(kept) if n < beyond or row.is_older(now - retention.age)]
        return self.remove([*late[:PRUNE], *old[:PRUNE]])

    def living(self) -> list[Row]:
        """Return the rows that have not ended."""
        return [row for row in self.rows.values() if not row.is_ended]

    def find(self, state: str | None, name: str | None, limit: int, ids: Sequence[str] | None) -> list[TaskRow]:
        if ids is not None:
            return [self.rows[id].to_task_row() for id in ids if id in self.rows]
        rows = [row for row in self._listed(state) if name is None or row.record.name == name]
        return [row.to_task_row() for row in rows[:limit]]

    def _listed(self, state: str | None) -> list[Row]:
        if state == "suspect":
            return [self.rows[id] for _, _, id in sorted(self.ready.suspects)]
        if state == "ready":
            return self._listed("suspect") + [self.rows[id] for _, _, id in sorted(self.ready.others)]
        if state == "scheduled":
            return [self.rows[id] for _, id in sorted(self.scheduled) if id not in self.missing]
        if state == "kept":
            return sorted((row for row in self.rows.values() if row.is_kept), key=lambda row: (row.due, row.id))
        if state == State.QUEUED:
            return self._listed("ready") + self._listed("scheduled")
        rows = [row for row in self.rows.values() if state is None or row.state == state or (state == State.BLOCKED and row.is_missing)]
        return sorted(rows, key=lambda row: (row.created, row.id))


def up_to_byte_limit(rows: Iterable[Row]) -> list[Row]:
    """Return the first of *rows*, up to the one with which they exceed ``TURN_BYTES``."""
    taken, size = list[Row](), 0
    for row in rows:
        taken.append(row)
        size += len(row.record.payload)
        if size > TURN_BYTES:
            break
    return taken

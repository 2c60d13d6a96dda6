"""The state of a MemoryStorage: one value, which the functions of this folder read and change under the storage's lock."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, TypeVar

from huey.runtime.clock import FOREVER, SECOND, Micros, micros
from huey.storage.base import EVENTS_KEPT, FOLLOWER, PRUNE
from huey.storage.helpers import Retention
from huey.storage.locks import Held
from huey.storage.memory.row import Row
from huey.storage.memory.tasks import Tasks
from huey.storage.rows import Counts, Revocation, Worker, WorkerRow
from huey.storage.stats import HOUR, HOURS_KEPT, MINUTE, MINUTES_KEPT, NOTHING, TOOK, Stat, add, measured, start_of, stat, with_waiting
from huey.task.lifecycle import State
from huey.task.workflow import SUCCEEDED, THEN, Edge, TaskRef

K = TypeVar("K")
V = TypeVar("V")
Expiring = dict[K, tuple[V, Micros]]
"""Each value with the time at which it expires."""
StatisticsKey = tuple[Micros, str, int]
"""Start, name, span: the order in which rows of statistics are listed."""


class Outcome(NamedTuple):
    """The end of a parent, for its children."""

    outcome: str
    value: bytes | None = None
    error: str | None = None
    failed: TaskRef | None = None
    """The task that failed."""


class Link:
    """An edge to a child, with the end of its parent."""

    def __init__(self, parent: TaskRef, kind: str) -> None:
        self.parent = parent
        self.kind = kind
        self.end: Outcome | None = None

    @property
    def is_broken(self) -> bool:
        """Whether its child cannot run because the parent ended without success."""
        return self.kind == THEN and self.end is not None and self.end.outcome != SUCCEEDED


class Events:
    """A log of the events that were published while there were followers: texts by position. Positions only grow."""

    def __init__(self, last_position: int = 0) -> None:
        self.last_position = last_position
        self.kept: list[tuple[int, Micros, str]] = []
        self.followed_until: Micros = 0

    def follow(self, now: Micros) -> None:
        self.followed_until = now + FOLLOWER

    def are_followed(self, now: Micros) -> bool:
        return now < self.followed_until

    def publish(self, texts: Sequence[str], now: Micros) -> None:
        if self.are_followed(now):
            self.kept += [(position, now, text) for position, text in enumerate(texts, self.last_position + 1)]
            self.last_position += len(texts)

    def since(self, position: int) -> list[str]:
        return [text for at, _, text in self.kept if at > position]

    def prune(self, now: Micros) -> int:
        if not self.are_followed(now):
            self.followed_until = 0
        # Not always the first ones: the clock may have been set back.
        late = set(islice((event for event in self.kept if event[1] <= now - EVENTS_KEPT), PRUNE))
        self.kept = [event for event in self.kept if event not in late]
        return len(late)


class Statistics:
    """The counts of one queue by time and task name."""

    def __init__(self) -> None:
        self.rows: dict[StatisticsKey, list[int]] = {}

    def count(self, name: str, what: int, now: Micros, took: Micros = 0) -> None:
        one = [0] * TOOK
        one[what] = 1
        add(self._row(name, now, MINUTE), [*one, *measured([took])])

    def _row(self, name: str, at: Micros, span: int) -> list[int]:
        return self.rows.setdefault((start_of(at, span), name, span), list(NOTHING))

    def since(self, since: Micros) -> list[Stat]:
        return [
            stat(name, start, span, *numbers) for (start, name, span), numbers in sorted(self.rows.items()) if start + span * SECOND > since
        ]

    def prune(self, now: Micros) -> int:
        """Roll up old rows and remove very old ones, at most PRUNE of each."""
        minutes = self._until(now - MINUTES_KEPT, MINUTE)
        for start, name, span in minutes:
            add(self._row(name, start, HOUR), self.rows.pop((start, name, span)))
        hours = self._until(now - HOURS_KEPT, HOUR)
        for key in hours:
            del self.rows[key]
        return len(minutes) + len(hours)

    def _until(self, time: Micros, span: int) -> list[StatisticsKey]:
        """Return the rows of that span that had begun by *time*, oldest first."""
        return sorted(key for key in self.rows if key[2] == span and key[0] <= time)[:PRUNE]


@dataclass
class Tables:
    """The state of one queue."""

    name: str
    retention: Retention
    """Which succeeded tasks are kept."""
    edges: Edges
    """The edges of this queue and of those that share them."""
    tasks: Tasks = field(default_factory=Tasks)
    workers: Expiring[str, Worker] = field(default_factory=dict)
    """Workers by id, each with the end of its lease."""
    values: defaultdict[str, Expiring[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    """Results and user data: by kind and key."""
    ticks: dict[str, tuple[Micros, Micros]] = field(default_factory=dict)
    """The last tick of each periodic task, and when it fired."""
    revoked_ids: Expiring[tuple[str, Micros | None], Revocation] = field(default_factory=dict)
    """Revocations of ids that are not held, or of one enqueue of such an id."""
    revoked_names: dict[str, Revocation] = field(default_factory=dict)
    key_holders: dict[str, str] = field(default_factory=dict)
    """The id of the row that holds each unique key."""
    kept_keys: Expiring[str, str] = field(default_factory=dict)
    """Unique keys that are held for a time, each with the id of the task that took it."""
    kept_ids: Expiring[str, str] = field(default_factory=dict)
    """Ids that stay reserved."""
    locks: dict[str, tuple[Held, Micros, Micros]] = field(default_factory=dict)
    """Locks by name, each with the end of its holder's lease, and its own."""
    lock_token: int = 0
    """The token of the lock that was taken last."""
    rates: dict[str, tuple[Micros, Micros, int]] = field(default_factory=dict)
    """By name, the start and end of the window and the number of uses in it, refused ones included."""
    statistics: Statistics = field(default_factory=Statistics)
    events: Events = field(default_factory=Events)
    is_paused: bool = False

    def flushed(self) -> Tables:
        """Return what is left when the queue is flushed: workers, and the numbers that only grow."""
        # A worker may still return with a lease of a task that is removed here.
        self.tasks.remove(list(self.tasks.rows))
        tasks, events = Tasks(self.tasks.top_token), Events(self.events.last_position)
        return Tables(self.name, self.retention, self.edges, tasks, self.workers, lock_token=self.lock_token, events=events)

    def seconds_until_due(self, worker: Worker, now: Micros) -> float:
        """Return the seconds until a turn of *worker* finds a task; 0 or less: now; infinity: none is known, or the queue is paused."""
        if not self.is_paused and any(self.tasks.ready.heaps(worker)):
            return 0.0
        due = None if self.is_paused else self.tasks.next_due
        return math.inf if due is None else (due - now) / SECOND

    def has_result(self, ids: Sequence[str], now: Micros) -> bool:
        """Return True if there is a result of one of the tasks."""
        return any(peek(self.values["result"], id, now) is not None for id in ids)

    def counts(self, now: Micros) -> Counts:
        states = Counter(row.state for row in self.tasks.rows.values())
        return Counts(
            ready=len(self.tasks.ready),
            scheduled=len(self.tasks.scheduled) - len(self.tasks.missing),
            running=states[State.RUNNING],
            failed=states[State.FAILED],
            cancelled=states[State.CANCELLED],
            results=len(items(self.values["result"], now)),
            succeeded=states[State.SUCCEEDED],
            blocked=states[State.BLOCKED] + len(self.tasks.missing),
            is_paused=self.is_paused,
            waiting=states[State.WAITING],
        )

    def worker_rows(self, now: Micros) -> list[WorkerRow]:
        """Return the workers; *now*: monotonic."""
        return [WorkerRow(worker, until, until <= now, len(self.tasks.held_by(id))) for id, (worker, until) in self.workers.items()]

    def stats(self, since: Micros) -> list[Stat]:
        waiting = Counter((row.record.name, start_of(row.created, MINUTE)) for row in self.tasks.living())
        recent = [(*key, n) for key, n in waiting.items() if key[1] + MINUTE * SECOND > since]
        return with_waiting(self.statistics.since(since), recent)


@dataclass
class Edges:
    """The edges of all queues that share them."""

    queues: dict[str, Tables] = field(default_factory=dict)
    links: dict[TaskRef, dict[int, Link]] = field(default_factory=dict)
    """Edges by child and position."""
    open: dict[TaskRef, dict[tuple[TaskRef, int], None]] = field(default_factory=dict)
    """Edges that have not ended, as children and positions by parent."""
    ended: dict[TaskRef, Outcome] = field(default_factory=dict)
    """Parents that have ended while edges from them are still open."""

    def row(self, ref: TaskRef) -> Row | None:
        """Return the row of a task, or None if it is not held."""
        return self.queues[ref.queue].tasks.rows.get(ref.id) if ref.queue in self.queues else None

    def is_live(self, ref: TaskRef) -> bool:
        return (row := self.row(ref)) is not None and not row.is_ended

    def add(self, edge: Edge) -> None:
        self.links.setdefault(edge.child, {})[edge.position] = Link(edge.parent, edge.kind)
        self.open.setdefault(edge.parent, {})[edge.child, edge.position] = None

    def end(self, ref: TaskRef, outcome: Outcome) -> None:
        """Record that a task has ended, if others wait for it."""
        if ref in self.open:
            self.ended[ref] = outcome


# -- values that expire -------------------------------------------------------------------------------------------------------------------


def end_of(ttl: float | None, now: Micros) -> Micros:
    """Return the end of *ttl* seconds from *now*; None: no limit."""
    return FOREVER if ttl is None else now + micros(ttl)


def peek(things: Expiring[K, V], key: K, now: Micros) -> V | None:
    value, expires = things.get(key, (None, 0))
    return value if now < expires else None


def pop(things: Expiring[K, V], key: K, now: Micros) -> V | None:
    # An expired one stays until it is pruned: the clock may be set back.
    value = peek(things, key, now)
    if value is not None:
        del things[key]
    return value


def items(things: Expiring[K, V], now: Micros) -> dict[K, V]:
    return {key: value for key, (value, expires) in things.items() if now < expires}


def expire(things: Expiring[K, V], now: Micros) -> int:
    """Remove expired values, at most PRUNE; return how many."""
    return remove(things, lambda thing: thing[1] <= now)


def remove(things: dict[K, V], is_past: Callable[[V], bool]) -> int:
    """Remove the values for which *is_past* is true, at most PRUNE; return how many."""
    late = list(islice((key for key, thing in things.items() if is_past(thing)), PRUNE))
    for key in late:
        del things[key]
    return len(late)

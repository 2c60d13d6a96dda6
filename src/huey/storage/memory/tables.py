"""What a MemoryStorage keeps: tasks in their order, and small values. No lock here: the storage holds it around every verb."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import accumulate, islice
from typing import NamedTuple, TypeVar

from huey.runtime.clock import Micros
from huey.runtime.times import EARLIEST_ZONE
from huey.storage.base import EVENTS_KEPT, FOLLOWER, PROMOTE, PRUNE, REVOCATION_KEPT, TURN_BYTES
from huey.storage.memory.constraints import ConcurrencyLimits, Rank
from huey.storage.memory.row import Row
from huey.storage.retention import Retention
from huey.storage.rows import Missing, Revocation, Worker
from huey.task.lifecycle import State

K = TypeVar("K")
V = TypeVar("V")


class Tasks:
    """Every row is in exactly one of these: the ready heap, that of suspects, the scheduled heap (those that wait for a worker that can
    run them too), those that wait for a limit, what a worker holds, what has ended."""

    def __init__(self, top_token: int = 1) -> None:
        self.rows: dict[str, Row] = {}
        self.top_token = top_token
        """No row that has gone had a higher one. 1: that of most, which never come again."""
        self.ready: list[Rank] = []
        self.suspects: list[Rank] = []
        self.scheduled: list[tuple[Micros, str]] = []
        self.missing: set[str] = set()
        """Of the scheduled ones those that wait for a worker that can run them."""
        self.held: dict[str, set[str]] = {}
        self.limits = ConcurrencyLimits(self.rows, self._make_ready, self._take_out)

    def queue(self, row: Row) -> None:
        """Let *row* wait: for a worker, or for its time."""
        row.state, row.lost_by = State.QUEUED, None
        self.rows[row.record.id] = row
        if row.due is not None:
            heapq.heappush(self.scheduled, (row.due, row.record.id))
            if row.is_missing:
                self.missing.add(row.record.id)
            self.limits.level(row)
        elif self.limits.is_open_to(row):
            self._make_ready(row)
        else:
            self.limits.enter(row)

    def _lane(self, row: Row) -> list[Rank]:
        return self.suspects if row.solo_crashes else self.ready

    def _make_ready(self, row: Row) -> None:
        heapq.heappush(self._lane(row), row.rank)

    def _take_out(self, row: Row) -> None:
        lane = self._lane(row)
        lane.remove(row.rank)
        heapq.heapify(lane)

    def promote(self, now: Micros) -> list[Row]:
        """Make ready what is due, soonest first, at most PROMOTE."""
        promoted: list[Row] = []
        while self.is_due(now) and len(promoted) < PROMOTE:
            due, id = heapq.heappop(self.scheduled)
            row = self.rows[id]
            row.ready_at, row.due = due, None
            self.missing.discard(id)
            self.queue(row)
            promoted.append(row)
        return promoted

    def claim_missing(
        self, worker: str, missing: Collection[Missing], want: int, is_plain: Callable[[Row], bool], now: Micros
    ) -> list[Row]:
        """Hand those that wait for one of these to a worker, best first; those that are not plain are due."""
        waiting = [row for id in self.missing if (row := self.rows[id]).missing in missing and row.due is not None and row.due > now]
        rows = sorted(waiting, key=lambda row: row.rank)[:want]
        # Of heavy ones only so many as come before the limit, and the one that passes it.
        sizes = list(accumulate((len(row.record.payload) for row in rows), initial=0))
        rows = [row for row, before in zip(rows, sizes, strict=False) if before <= TURN_BYTES]
        taken = {row.record.id for row in rows}
        self.scheduled = [each for each in self.scheduled if each[1] not in taken]
        plain = [row for row in rows if is_plain(row)]
        for row in rows:
            if row in plain:
                row.due = None
                self.missing.remove(row.record.id)
                self.hand_to(worker, row)
            else:
                row.due = now
                self.scheduled.append((now, row.record.id))
        heapq.heapify(self.scheduled)
        return plain

    def is_due(self, now: Micros) -> bool:
        return self.next_due is not None and self.next_due <= now

    @property
    def next_due(self) -> Micros | None:
        return self.scheduled[0][0] if self.scheduled else None

    def lanes(self, worker: Worker) -> list[list[Rank]]:
        """What a worker takes from, the first first."""
        return [self.suspects] * worker.takes_suspects + [self.ready] * worker.takes_others

    def claim(self, worker: Worker, want: int) -> list[Row]:
        """Hand the best *want* of what is ready to a worker, up to that with which they weigh more than ``TURN_BYTES``."""
        claimed, size = list[Row](), 0
        for lane in self.lanes(worker):
            while lane and len(claimed) < want and size <= TURN_BYTES:
                claimed.append(self.rows[heapq.heappop(lane)[2]])
                size += len(claimed[-1].record.payload)
        for row in claimed:
            self.hand_to(worker.id, row)
        return claimed

    def hand_to(self, worker: str, row: Row) -> None:
        """A new lease: its token tells it from all earlier ones."""
        row.state, row.worker, row.reason = State.RUNNING, worker, None
        row.token += 1
        self.held.setdefault(worker, set()).add(row.record.id)
        self.limits.start(row)

    def held_by(self, worker: str) -> list[Row]:
        return [self.rows[id] for id in sorted(self.held.get(worker, ()))]

    def end_lease(self, row: Row) -> None:
        """End the lease. The row is in no place until it is queued, ended or removed."""
        assert row.worker is not None
        holds = self.held[row.worker]
        holds.remove(row.record.id)
        if not holds:
            del self.held[row.worker]
        row.worker = None
        self.limits.stop(row)

    def remove(self, ids: Iterable[str]) -> int:
        """These rows go. Returns how many."""
        gone = [self.rows.pop(id) for id in ids]
        self.top_token = max(self.top_token, *(row.token for row in gone), 0)
        return len(gone)

    def drop_waiting(self, *, scheduled: bool) -> list[Row]:
        """Those that wait for their time go, or all others that wait; which."""
        gone = [row for row in self.living() if row.state != State.RUNNING and (row.due is not None and not row.is_missing) == scheduled]
        self.scheduled = [each for each in self.scheduled if (each[1] in self.missing) == scheduled]
        heapq.heapify(self.scheduled)
        if not scheduled:
            self.missing.clear()
            self.ready.clear()
            self.suspects.clear()
            self.limits.clear_waiting()
        self.remove([row.record.id for row in gone])
        return gone

    def prune_failed(self, ended: Micros) -> int:
        """Remove those that ended without success by that time, at most PRUNE."""
        return self.remove(list(islice((id for id, row in self.rows.items() if row.has_failed and row.is_older(ended)), PRUNE)))

    def prune_succeeded(self, retention: Retention, now: Micros) -> int:
        """Remove the oldest of those that are too many or too old, at most PRUNE."""
        kept = sorted((row for row in self.rows.values() if row.state == State.SUCCEEDED), key=lambda row: (row.finished, row.record.id))
        beyond = len(kept) - retention.most
        late = [row.record.id for n, row in enumerate(kept) if n < beyond or row.is_older(now - retention.age)]
        return self.remove(late[:PRUNE])

    def living(self) -> list[Row]:
        """Those that have not ended."""
        return [row for row in self.rows.values() if not row.is_ended]

    def listed(self, state: str | None) -> list[Row]:
        """Rows of a state: queued in claim order and then in order of time, others by age."""
        if state == "suspect":
            return [self.rows[id] for _, _, id in sorted(self.suspects)]
        if state == "ready":
            return self.listed("suspect") + [self.rows[id] for _, _, id in sorted(self.ready)]
        if state == "scheduled":
            return [self.rows[id] for _, id in sorted(self.scheduled) if id not in self.missing]
        if state == State.QUEUED:
            return self.listed("ready") + self.listed("scheduled")
        rows = [row for row in self.rows.values() if state is None or row.state == state or (state == State.BLOCKED and row.is_missing)]
        return sorted(rows, key=lambda row: (row.created, row.record.id))


class Value(NamedTuple):
    """A small value; it is there before ``expires``."""

    content: bytes
    expires: Micros


class Values:
    """Small values by kind and key."""

    def __init__(self) -> None:
        self.kinds: dict[str, dict[str, Value]] = {}

    def put(self, kind: str, key: str, content: bytes, expires: Micros) -> None:
        self.kinds.setdefault(kind, {})[key] = Value(content, expires)

    def peek(self, kind: str, key: str, now: Micros) -> bytes | None:
        return _live(self.kinds.get(kind, {}).get(key), now)

    def pop(self, kind: str, key: str, now: Micros) -> bytes | None:
        found = self.peek(kind, key, now)
        if found is not None:
            del self.kinds[kind][key]
        return found

    def items(self, kind: str, now: Micros) -> dict[str, bytes]:
        return {key: value.content for key, value in self.kinds.get(kind, {}).items() if now < value.expires}

    def prune(self, now: Micros) -> int:
        return sum(remove(values, lambda value: value.expires <= now) for values in self.kinds.values())


class Revocations:
    """Revocations that stand apart from a task: of ids that nobody holds, of one enqueue of such an id, and of names."""

    def __init__(self) -> None:
        self.ids: dict[tuple[str, Micros | None], tuple[Revocation, Micros]] = {}
        self.names: dict[str, Revocation] = {}

    def put(self, id: str, enqueue: Micros | None, revocation: Revocation, now: Micros) -> None:
        self.ids[id, enqueue] = revocation, now + REVOCATION_KEPT

    def take(self, id: str, enqueue: Micros | None, now: Micros) -> Revocation | None:
        """The mark of an id, or of one enqueue of it; it is not kept here any more."""
        # One that is past its time stays for prune: the clock may be set back.
        if (id, enqueue) not in self.ids or self.ids[id, enqueue][1] <= now:
            return None
        return self.ids.pop((id, enqueue))[0]

    def hand_over(self, id: str, enqueue: Micros | None, now: Micros) -> Revocation | None:
        """The mark for a task to carry that is put in: of that enqueue before that of its id."""
        of_id = self.take(id, None, now)
        return (self.take(id, enqueue, now) if enqueue is not None else None) or of_id

    def obey_name(self, name: str, now: Micros, offset: Micros) -> bool:
        """Whether a task of that name must not run. One for once is used up."""
        revocation = self.names.get(name)
        if revocation is None or not revocation.holds(now, offset):
            return False
        if revocation.once:
            del self.names[name]
        return True

    def find(self, id: str | None, enqueue: Micros | None, name: str | None, now: Micros) -> Revocation | None:
        if id is not None and (id, enqueue) in self.ids and now < self.ids[id, enqueue][1]:
            return self.ids[id, enqueue][0]
        return None if name is None else self.names.get(name)

    def prune(self, now: Micros) -> int:
        gone = remove(self.ids, lambda kept: kept[1] <= now or not kept[0].holds(now, -EARLIEST_ZONE))
        return gone + remove(self.names, lambda revocation: not revocation.holds(now, -EARLIEST_ZONE))


class Events:
    """The events published while there were followers. Positions only grow."""

    def __init__(self) -> None:
        self.last_position = 0
        self.clear()

    def clear(self) -> None:
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


def _live(value: Value | None, now: Micros) -> bytes | None:
    return value.content if value is not None and now < value.expires else None


def remove(things: dict[K, V], is_past: Callable[[V], bool]) -> int:
    """Remove those past their time, at most PRUNE. Returns how many went."""
    late = list(islice((key for key, thing in things.items() if is_past(thing)), PRUNE))
    for key in late:
        del things[key]
    return len(late)

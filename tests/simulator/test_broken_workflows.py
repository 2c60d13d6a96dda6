"""The simulator finds what is broken on purpose in tasks that wait: for others, for limits, for their rate."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from huey.storage.memory import MemoryStorage, edges
from huey.storage.memory.row import Row
from huey.storage.memory.tables import Edges, Outcome
from huey.storage.memory.tasks import Ready
from huey.storage.rows import Turn, Worker
from huey.task.lifecycle import FINAL, Finish
from huey.task.workflow import JOIN, SUCCEEDED, TaskRef
from tests.simulator.world import Simulation

STEPS = 120
MOST = 500
"""Within this many seeds, from 0 on, each fault is found."""


@pytest.fixture(autouse=True)
def _no_log() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class JoinNotFenced(MemoryStorage):
    """A finish whose lease is gone still ends the edges of its task."""

    def turn(self, worker: Worker, finishes: Sequence[Finish], *more: Any, **options: Any) -> Turn:
        for finish in finishes:
            row = self.tables.tasks.rows.get(finish.lease.id)
            if row is not None and not row.is_held_by(worker, finish.lease) and finish.state in FINAL:
                self.tables.edges.end(TaskRef(self.name, row.id), Outcome(SUCCEEDED, finish.value))
        return super().turn(worker, finishes, *more, **options)


class JoinCountedTwice(MemoryStorage):
    """A finish that is sent again, since its answer was lost, is counted again in each callback that waits."""

    def turn(self, worker: Worker, finishes: Sequence[Finish], *more: Any, **options: Any) -> Turn:
        turn = super().turn(worker, finishes, *more, **options)
        for finish in finishes:
            if finish.lease.id in turn.stale:
                self._count_again(TaskRef(self.name, finish.lease.id))
        return turn

    def _count_again(self, parent: TaskRef) -> None:
        for child, links in self.tables.edges.links.items():
            row = self.tables.edges.row(child)
            if row is not None and any(link.parent == parent and link.kind == JOIN and link.end is not None for link in links.values()):
                row.open_parents -= 1
                edges._open(self.tables.edges, child, row, self._clock.now())


class FollowUpsNotFenced(MemoryStorage):
    """The handler of a failure is put in although the lease is gone."""

    def turn(self, worker: Worker, finishes: Sequence[Finish], *more: Any, **options: Any) -> Turn:
        turn = super().turn(worker, finishes, *more, **options)
        for finish in finishes:
            if finish.lease.id in turn.stale and finish.follow_ups is not None:
                self.enqueue_workflow(finish.follow_ups)
        return turn


class ReclaimForgetsGifts(MemoryStorage):
    """A task whose worker dies has lost what its parents gave."""

    def reclaim(self, *given: Any) -> Any:
        leases = super().reclaim(*given)
        for lease in leases:
            for link in self.tables.edges.links.get(TaskRef(self.name, lease.id), {}).values():
                link.end = None
        return leases


class RetriesOneByOne(MemoryStorage):
    """A callback that is retried together with its member does not wait for it."""

    def retry(self, ids: Sequence[str], now: Any = None) -> list[str]:
        return [id for each in ids for id in super(RetriesOneByOne, self).retry([each], now)]


class StaysRevoked(MemoryStorage):
    """What waits again is still revoked, so that a flow that was cancelled does not complete."""

    def retry(self, ids: Sequence[str], now: Any = None) -> list[str]:
        marks = {id: row.revoked for id, row in self.tables.tasks.rows.items() if row.is_cancelled_by_parent}
        requeued = super().retry(ids, now)
        for id, mark in marks.items():
            self.tables.tasks.rows[id].revoked = mark
        return requeued


def join_lost_on_revoke(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that are revoked, or have expired, end without their edges."""
    monkeypatch.setattr(edges, "skip", lambda tables, ids: None)


def cancelling_forgets_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The children of a task that failed are cancelled, theirs are not."""
    cancel = edges._cancel

    def forget(all: Edges, ref: TaskRef, row: Row, end: Outcome, now: int) -> None:
        cancel(all, ref, row, end, now)
        all.open.pop(ref, None), all.ended.pop(ref, None)

    monkeypatch.setattr(edges, "_cancel", forget)


def retry_reopens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edges, "reopen", lambda tables, ids: None)


def running_tasks_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Ready.start

    def forget(ready: Ready, row: Row) -> None:
        start(ready, row)
        ready.stop(row)

    monkeypatch.setattr(Ready, "start", forget)


def no_use_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    def rebalance(ready: Ready, rows: Sequence[Row], now: int) -> None:
        for row in rows:
            ready.rebalance(row)

    monkeypatch.setattr(Ready, "after_claim", rebalance)


def no_window_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ready, "end_windows", lambda ready, now: None)


STORAGES: dict[type[MemoryStorage], tuple[int, set[str]]] = {
    JoinNotFenced: (21, {"I13", "I14"}),
    JoinCountedTwice: (442, {"I13", "I14"}),
    FollowUpsNotFenced: (159, {"I2"}),
    ReclaimForgetsGifts: (2, {"I14"}),
    RetriesOneByOne: (0, {"I13", "I14"}),
    StaysRevoked: (0, {"I1", "I13", "I14", "will"}),
}
PARTS: dict[Callable[[pytest.MonkeyPatch], None], tuple[int, set[str]]] = {
    join_lost_on_revoke: (0, {"I1", "I13", "I14"}),
    cancelling_forgets_the_rest: (0, {"I1", "I13", "I14"}),
    retry_reopens_nothing: (6, {"I13", "I14"}),
    running_tasks_do_not_count: (0, {"I9", "I10"}),
    no_use_is_spent: (32, {"I9", "I10"}),
    no_window_ends: (8, {"I9", "I10"}),
}
"""For each fault the first seed that shows it, and the properties that it may break. Where a change gives the seeds other histories, the
search goes on from there."""


def first_broken_rule(first: int, **options: Any) -> tuple[int, str]:
    for seed in range(first, MOST):
        violation = Simulation(seed, STEPS, **options).run().violation
        if violation is not None:
            return seed, violation.rule
    return MOST, "none"


@pytest.mark.parametrize("mutant", STORAGES, ids=lambda mutant: mutant.__name__)
def test_a_broken_storage_of_workflows_is_found(mutant: type[MemoryStorage]) -> None:
    first, rules = STORAGES[mutant]

    assert first_broken_rule(first, storage=mutant)[1] in rules


@pytest.mark.parametrize("mutate", PARTS, ids=lambda mutate: mutate.__name__)
def test_a_broken_part_of_workflows_is_found(mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch)
    first, rules = PARTS[mutate]

    assert first_broken_rule(first)[1] in rules

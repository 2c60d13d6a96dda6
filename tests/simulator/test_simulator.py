"""Histories with every kind of bad luck keep their properties, and the simulator finds what is broken on purpose."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from huey.consumer import janitor
from huey.engine.engine import Engine
from huey.runtime.clock import Micros
from huey.storage.memory import MemoryStorage
from huey.storage.memory.row import Row
from huey.storage.memory.tasks import Tasks
from huey.storage.rows import EventFactory, TaskIds, TaskName, Turn, Worker, WorkerRow
from huey.storage.sqlite.storage import SqliteStorage
from huey.task import lifecycle
from huey.task.lifecycle import Finish, State
from huey.task.record import Lease, Record
from huey.testing.clock import FakeClock
from tests.simulator.__main__ import main
from tests.simulator.world import CALL_FAULTS, Simulation

STEPS = 150
SEEDS = [*range(20), 28, 30, 36, 49, 54]
"""The last ones have what is rare."""


@pytest.fixture(autouse=True)
def _no_log() -> Iterator[None]:
    """Thousands of outages and deaths are told; nobody reads it."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


# -- what holds ---------------------------------------------------------------------------------------------------------------------------


def broken(histories: list[Simulation]) -> list[str]:
    return [f"seed {history.seed}: {history.violation}" for history in histories if history.violation]


def test_no_history_breaks_a_property_whatever_happens() -> None:
    """Every transition and every fault happens sometimes."""
    histories = [Simulation(seed, STEPS).run() for seed in SEEDS]

    assert broken(histories) == []
    counts: Counter[str] = Counter()
    for history in histories:
        counts.update(history.counts)
    transitions = [
        *("claimed", "promoted", "released", "reclaimed", "finish refused", "cut short", "put back by hand", "restored", "tick fired"),
        *("enqueued again", "enqueued while it was held", "taken up", "revoked another enqueue"),
        *("workflow", "opened", "joined", "opened in another queue", "joined in another queue", "waits again", "followed up", "blocked"),
        *("replaced", "replaced while it waited", "cancelled: parent failed", "cancelled: parent skipped"),
        *("succeeded", "failed: error", "failed: undecodable", "failed: result not storable", "failed: unknown task", "failed: poison"),
        *("cancelled: revoked", "cancelled: expired", "cancelled: cancelled", "cancelled while running"),
        *("queued: error", "queued: limit", "queued: unknown task", "queued: worker died", "queued: shutdown"),
    ]
    faults = [
        *CALL_FAULTS,
        *("crash", "paused", "paused beyond the lease", "stalled beyond the lease", "stop", "storage away"),
        *("clock set back", "clock set ahead", "client calls again", "service failed"),
    ]

    assert {name: counts[name] for name in [*transitions, *faults] if counts[name] < 3} == {}
    assert counts["dies after of janitor.reclaim"] > 0, "a janitor that dies between reclaim and finish"
    assert counts["lost reply of janitor.reclaim"] > 0, "a janitor that does not know what it took over"
    assert counts["lost reply of engine.turn"] > 0, "an engine that does not know what it claimed"
    assert counts["tick refused"] > 0, "two schedulers that fire the same tick"
    assert counts["workflow put in already"] > 0, "a client that does not know that its workflow is in"


@pytest.mark.chaos
@pytest.mark.parametrize("first", range(100, 500, 50))
def test_no_long_history_breaks_a_property(first: int) -> None:
    assert broken([Simulation(seed, 500).run() for seed in range(first, first + 50)]) == []


def test_the_same_seed_is_the_same_history() -> None:
    assert Simulation(3, STEPS).run().trace == Simulation(3, STEPS).run().trace
    assert Simulation(3, STEPS).run().digest != Simulation(4, STEPS).run().digest


def test_the_same_seed_is_the_same_history_in_every_process() -> None:
    code = "import logging; logging.disable(50); from tests.simulator.world import Simulation; print(Simulation(5, 200).run().digest)"
    told = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() for _ in range(2)]

    assert told == [Simulation(5, 200).run().digest] * 2


@pytest.mark.parametrize("seed", [900, 901, 902, *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(903, 930))])
def test_the_same_seed_is_the_same_history_on_sqlite(seed: int, tmp_path: Path) -> None:
    def on_sqlite(name: str, clock: FakeClock) -> SqliteStorage:
        return SqliteStorage(name, tmp_path / "queue.db", fsync=False, clock=clock, rng=random.Random(seed))

    history = Simulation(seed, STEPS, storage=on_sqlite).run()
    history.storage.close()

    assert history.violation is None
    assert history.trace == Simulation(seed, STEPS).run().trace


# -- what it must find --------------------------------------------------------------------------------------------------------------------


class NoFence(MemoryStorage):
    """A finish is written whoever sends it."""

    def turn(self, worker: Worker, finishes: Sequence[Finish], *more: Any, **options: Any) -> Turn:
        for finish in finishes:
            row = self.tables.tasks.rows.get(finish.lease.id)
            if row is not None and row.state == State.RUNNING and not row.is_held_by(worker, finish.lease):
                self.tables.tasks.end_lease(row)
                self.tables.tasks.lease_to(worker.id, row)
                row.token = finish.lease.token
        return super().turn(worker, finishes, *more, **options)


class ReleaseMovesBack(MemoryStorage):
    """What is given back queues behind all others."""

    def release(self, worker: Worker, leases: Sequence[Lease]) -> None:
        for lease in leases:
            row = self.tables.tasks.rows.get(lease.id)
            if row is not None and row.is_held_by(worker, lease):
                row.ready_at = self._clock.now()
        super().release(worker, leases)


class ReclaimKeepsToken(MemoryStorage):
    """Who takes over gets the token of the dead."""

    def reclaim(self, dead: WorkerRow, worker: Worker) -> list[Lease]:
        leases = super().reclaim(dead, worker)
        for lease in leases:
            self.tables.tasks.rows[lease.id].token -= 1
        return [self.tables.tasks.rows[lease.id].lease() for lease in leases]


class ReclaimForgetsOne(MemoryStorage):
    """One of many stays behind."""

    def reclaim(self, dead: WorkerRow, worker: Worker) -> list[Lease]:
        return super().reclaim(dead, worker)[:2]


class ReclaimFromTheLiving(MemoryStorage):
    """A sign of life between the look and the reclaim is not noticed."""

    def reclaim(self, dead: WorkerRow, worker: Worker) -> list[Lease]:
        known = self.tables.workers.get(dead.worker.id)
        return super().reclaim(dead if known is None else dead._replace(until=known[1]), worker)


class TickTwice(MemoryStorage):
    """The last tick may fire again: < where <= belongs."""

    def tick(self, name: str, tick: Micros, record: Record | None, events: Sequence[str] = (), now: Micros | None = None) -> bool:
        if name in self.tables.ticks and self.tables.ticks[name][0] == tick:
            del self.tables.ticks[name]
        return super().tick(name, tick, record, events, now)


class RevokedRunsAgain(MemoryStorage):
    """A running task that was revoked goes back to the queue."""

    def turn(self, worker: Worker, finishes: Sequence[Finish], *more: Any, **options: Any) -> Turn:
        rows = [row for finish in finishes if (row := self.tables.tasks.rows.get(finish.lease.id)) is not None]
        marks = [row.revoked for row in rows]
        for row in rows:
            row.revoked = None
        turn = super().turn(worker, finishes, *more, **options)
        for row, mark in zip(rows, marks, strict=True):
            row.revoked = mark
        return turn


class NoResult(MemoryStorage):
    """The state is written, the result is not."""

    def turn(self, worker: Worker, finishes: Sequence[Finish], *more: Any, **options: Any) -> Turn:
        return super().turn(worker, [finish._replace(value=None) for finish in finishes], *more, **options)


class ForgetsHolders(MemoryStorage):
    """A worker that says goodbye is forgotten with all it holds."""

    def deregister(self, worker: Worker) -> None:
        self.tables.workers.pop(worker.id, None)


class EnqueuedTwice(MemoryStorage):
    """The same call again queues the task again."""

    def enqueue(self, records: Sequence[Record], make_events: EventFactory | None = None, now: Micros | None = None) -> dict[str, str]:
        held = [row for record in records if (row := self.tables.tasks.rows.get(record.id)) is not None and row.state == State.QUEUED]
        duplicates = super().enqueue(records, make_events, now)
        for row in held:
            self.tables.tasks.queue(row)
        return duplicates


class TokensBeginAnew(MemoryStorage):
    """An id that comes again has the tokens of its former runs again."""

    def enqueue(self, records: Sequence[Record], make_events: EventFactory | None = None, now: Micros | None = None) -> dict[str, str]:
        former = dict(self.tables.tasks.rows)
        duplicates = super().enqueue(records, make_events, now)
        for id, row in self.tables.tasks.rows.items():
            if row is not former.get(id):
                row.token = 0
        return duplicates


class RevokesAnyEnqueue(MemoryStorage):
    """A revocation of one enqueue is taken for one of its id."""

    def revoke(self, target: TaskIds | TaskName, until: Micros | None = None, once: bool = False) -> None:
        super().revoke(TaskIds(target.ids) if isinstance(target, TaskIds) else target, until, once)


STORAGES: dict[type[MemoryStorage], set[str]] = {
    TokensBeginAnew: {"I2"},
    RevokesAnyEnqueue: {"I1", "I9", "will", "I11"},
    NoFence: {"I2"},
    ReleaseMovesBack: {"I9"},
    ReclaimKeepsToken: {"I2"},
    ReclaimForgetsOne: {"I1"},
    ReclaimFromTheLiving: {"I3", "C11"},
    TickTwice: {"I7"},
    RevokedRunsAgain: {"I1"},
    NoResult: {"I4"},
    ForgetsHolders: {"I1"},
    EnqueuedTwice: {"I1", "I2", "I3", "C8", "C1", "raised"},
}


@pytest.mark.parametrize("mutant", STORAGES, ids=lambda mutant: mutant.__name__)
def test_a_broken_storage_is_found(mutant: type[MemoryStorage]) -> None:
    # The histories that show these come late.
    first = {ReclaimFromTheLiving: 661, ForgetsHolders: 3, TickTwice: 3, NoFence: 3}.get(mutant, 0)
    assert first_broken_rule(lambda seed: Simulation(seed, STEPS, storage=mutant), first) in STORAGES[mutant]


def first_broken_rule(history: Callable[[int], Simulation], first: int = 0, seeds: int = 200) -> str:
    for seed in range(first, first + seeds):
        violation = history(seed).run().violation
        if violation is not None:
            return violation.rule
    return f"none in {seeds} histories"


def ignores_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Row, "rank", property(lambda row: (0, row.ready_at, row.record.id)))


def runs_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tasks, "is_due", lambda tasks, now: bool(tasks.scheduled) and tasks.scheduled[0][0] <= now + 1_000_000)


def runs_what_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Row, "is_expired", lambda row, now: False)


def runs_what_is_revoked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Row, "is_revoked", lambda row, now, offset: False)


def everybody_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "is_dead", lambda row, me: True)


def nobody_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "is_dead", lambda row, me: False)


def a_crash_is_a_try(monkeypatch: pytest.MonkeyPatch) -> None:
    died = lifecycle._died
    monkeypatch.setattr(lifecycle, "_died", lambda keep, alone: died(keep._replace(attempt=keep.attempt + 1), alone))


def an_outage_forgets_finishes(monkeypatch: pytest.MonkeyPatch) -> None:
    storage_failed = Engine._storage_failed

    def forget(engine: Engine, error: Exception) -> None:
        engine._unwritten = []
        storage_failed(engine, error)

    monkeypatch.setattr(Engine, "_storage_failed", forget)


def suspects_run_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(engine: Engine, leases: list[Lease]) -> None:
        engine._running.update({lease[:2]: lease for lease in leases})
        engine._runners.submit(leases), engine._runners.wake(engine._runners.count)
        engine._progress = (engine._runners.waiting(), engine._clock.monotonic())

    monkeypatch.setattr(Engine, "_start", start)


def what_goes_back_is_not_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "_release", lambda engine, leases: [engine._running.pop(lease[:2], None) for lease in leases])


PARTS: dict[Callable[[pytest.MonkeyPatch], None], set[str]] = {
    ignores_priority: {"I9"},
    runs_before_its_time: {"C8", "I9", "I10"},
    runs_what_expired: {"will"},
    runs_what_is_revoked: {"will", "I1"},
    everybody_is_dead: {"I3"},
    nobody_is_dead: {"I1", "I11"},
    a_crash_is_a_try: {"I12"},
    an_outage_forgets_finishes: {"C2"},
    suspects_run_with_the_others: {"C11"},
    what_goes_back_is_not_released: {"I1"},
}


@pytest.mark.parametrize("mutate", PARTS, ids=lambda mutate: mutate.__name__)
def test_a_broken_part_is_found(mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch)

    assert first_broken_rule(lambda seed: Simulation(seed, STEPS)) in PARTS[mutate]


# -- the command --------------------------------------------------------------------------------------------------------------------------


def test_the_command_counts_histories_that_kept_their_properties(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "2", "--steps", "50"]) == 0

    assert "2 histories of 50 steps, 0 break a property; digest " in capsys.readouterr().out


def test_the_command_tells_how_to_live_a_broken_history_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    everybody_is_dead(monkeypatch)

    assert main(["--seeds", "3", "--steps", "200"]) == 1

    told = capsys.readouterr().out
    assert "I3: reclaimed from" in told
    seed = told.partition("--seed ")[2].split()[0]
    assert main(["--seed", seed, "--steps", "200"]) == 1
    assert "VIOLATION I3" in capsys.readouterr().out

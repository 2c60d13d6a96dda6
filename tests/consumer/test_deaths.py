"""What becomes of the tasks of a worker that died under its supervisor's eyes: of those that ran, and of its others."""

from __future__ import annotations

import pytest

from huey.consumer.process_table import make_worker
from huey.consumer.recovery import ExitCause, Recovery, exit_reason
from huey.engine.scoreboard import RunningTask
from huey.exceptions import StorageUnavailable
from huey.runtime.clock import SECOND
from huey.runtime.host import LOCAL_WORKER_IDS
from huey.storage.memory import MemoryStorage
from huey.storage.rows import Worker
from huey.task.lifecycle import MAX_CRASHES, State, WorkerDied
from huey.task.record import Lease
from huey.task.record_options import Constraints, with_constraints
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import claim, end, get_row, task

KEEPER = "1:2"
THREAD = make_worker("thread", "thread", KEEPER)
QUARANTINE = make_worker("quarantine", "quarantine", KEEPER)


class House:
    """A storage, a supervisor's view, and the leases of a worker."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.storage = MemoryStorage(clock=self.clock)
        self.recovery = Recovery(self.storage, make_worker("supervisor", "supervisor"), self.clock, lambda finish: finish)

    def claimed(self, *ids: str, by: Worker = THREAD) -> list[Lease]:
        self.storage.enqueue([task(id, retries=1) for id in ids])
        return claim(self.storage, len(ids), by=by)

    def running(self, leases: list[Lease], limit: float = 0) -> list[RunningTask]:
        began = self.clock.monotonic()
        return [RunningTask(slot, lease.id, lease.token, began, round(limit * SECOND)) for slot, lease in enumerate(leases)]


@pytest.fixture
def house() -> House:
    return House()


def test_what_ran_is_a_suspect_and_the_rest_goes_back(house: House) -> None:
    leases = house.claimed("ran", "waited")

    house.recovery.recover_child(THREAD, house.running(leases[:1]), ExitCause.CRASH)

    ran, waited = get_row(house.storage, "ran"), get_row(house.storage, "waited")
    assert (ran.state, ran.solo_crashes, ran.deaths, ran.attempt) == (State.QUEUED, 1, 1, 0)
    assert (waited.state, waited.solo_crashes, waited.deaths, waited.ready_at) == (State.QUEUED, 0, 0, leases[1].ready_at)


@pytest.mark.parametrize("cause", [ExitCause.CRASH, ExitCause.STOP])
def test_an_ended_but_unwritten_at_most_once_task_is_lost(house: House, cause: ExitCause) -> None:
    house.storage.enqueue(
        [task(id, options=with_constraints(None, Constraints(at_most_once=True))) for id in ("ended", "ran")] + [task("waited")]
    )
    leases = claim(house.storage, 3, by=THREAD)

    house.recovery.recover_child(THREAD, house.running([lease for lease in leases if lease.id == "ran"]), cause)

    rows = [get_row(house.storage, id) for id in ("ended", "ran", "waited")]
    assert [(row.state, row.reason) for row in rows] == [(State.FAILED, "lost"), (State.FAILED, "lost"), (State.QUEUED, None)]


def test_neighbours_are_suspects_too_and_each_runs_alone(house: House) -> None:
    leases = house.claimed("a", "b", "c")

    house.recovery.recover_child(THREAD, house.running(leases), ExitCause.CRASH)

    assert claim(house.storage, 3, by=THREAD) == []
    assert len(claim(house.storage, 3, by=QUARANTINE)) == 3


def test_the_third_crash_alone_is_poison(house: House) -> None:
    house.recovery.recover_child(THREAD, house.running(house.claimed("a")), ExitCause.CRASH)

    for _ in range(MAX_CRASHES):
        assert get_row(house.storage).state == State.QUEUED
        leases = claim(house.storage, by=QUARANTINE)
        house.recovery.recover_child(QUARANTINE, house.running(leases), ExitCause.CRASH, "signal 11 (SIGSEGV)")

    row = get_row(house.storage)
    assert (row.state, row.reason, row.attempt, row.payload) == (State.FAILED, "poison", 0, b"payload")
    assert "died 3 times while it ran alone, the last time by signal 11 (SIGSEGV)" in (row.error or "")


def test_a_task_past_its_limit_failed_once_neighbours_did_not(house: House) -> None:
    leases = house.claimed("late", "neighbour", "unlimited")
    ran = house.running(leases[:1], limit=1) + house.running(leases[1:2], limit=60) + house.running(leases[2:])
    house.clock.forward(3)

    house.recovery.recover_child(THREAD, ran, ExitCause.LATE)

    assert (get_row(house.storage, "late").attempt, get_row(house.storage, "late").reason) == (1, "timeout")
    for id in ("neighbour", "unlimited"):
        row = get_row(house.storage, id)
        assert (row.state, row.attempt, row.solo_crashes, row.deaths) == (State.QUEUED, 0, 0, 0)


def test_a_stop_costs_no_try_and_blames_nobody(house: House) -> None:
    leases = house.claimed("a")

    house.recovery.recover_child(THREAD, house.running(leases), ExitCause.STOP)

    row = get_row(house.storage)
    assert (row.state, row.reason, row.attempt, row.solo_crashes, row.deaths) == (State.QUEUED, "shutdown", 0, 0, 0)


def test_a_worker_that_stood_still_blames_nobody(house: House) -> None:
    """What ran and what had ended unwritten is put back without a crash or a death."""
    leases = house.claimed("ran", "ended")

    house.recovery.recover_child(THREAD, house.running(leases[:1]), ExitCause.STUCK)

    for id in ("ran", "ended"):
        row = get_row(house.storage, id)
        assert (row.state, row.attempt, row.solo_crashes, row.deaths) == (State.QUEUED, 0, 0, 0)


def test_what_was_finished_but_not_written_runs_again(house: House) -> None:
    house.claimed("a")

    house.recovery.recover_child(THREAD, [], ExitCause.CRASH)

    assert (get_row(house.storage).state, get_row(house.storage).solo_crashes) == (State.QUEUED, 0)


def test_what_the_page_shows_of_an_earlier_run_is_not_this_one(house: House) -> None:
    (lease,) = house.claimed("a")
    ran = [it._replace(token=lease.token - 1) for it in house.running([lease])]

    house.recovery.recover_child(THREAD, ran, ExitCause.CRASH)

    assert get_row(house.storage).solo_crashes == 0


def test_what_was_written_before_the_death_stays_written(house: House) -> None:
    (lease,) = house.claimed("a")
    ran = house.running([lease])
    end(house.storage, house.clock, lease, WorkerDied(), by=THREAD)

    house.recovery.recover_child(THREAD, ran, ExitCause.CRASH)

    assert get_row(house.storage).deaths == 1


@pytest.mark.parametrize("verb", ["workers", "reclaim", "leases", "turn", "release", "deregister"])
@pytest.mark.parametrize("is_done", [False, True], ids=["call lost", "reply lost"])
def test_an_outage_in_the_middle_is_taken_up_by_the_same_call(
    house: House, monkeypatch: pytest.MonkeyPatch, verb: str, is_done: bool
) -> None:
    leases = house.claimed("ran", "waited")
    ran, real = house.running(leases[:1]), getattr(house.storage, verb)

    def away(*args: object, **kwargs: object) -> None:
        if is_done:
            real(*args, **kwargs)
        raise StorageUnavailable("away")

    monkeypatch.setattr(house.storage, verb, away)
    with pytest.raises(StorageUnavailable):
        house.recovery.recover_child(THREAD, ran, ExitCause.CRASH)
    monkeypatch.setattr(house.storage, verb, real)
    house.recovery.recover_child(THREAD, ran, ExitCause.CRASH)

    assert [(row.id, row.solo_crashes, row.deaths) for row in house.storage.find("ready")] == [("ran", 1, 1), ("waited", 0, 0)]
    assert house.storage.workers() == []


def test_nothing_of_a_death_stays_known_here(house: House) -> None:
    before = set(LOCAL_WORKER_IDS)
    house.recovery.recover_child(THREAD, house.running(house.claimed("a")), ExitCause.CRASH)

    assert before == LOCAL_WORKER_IDS


@pytest.mark.parametrize(("status", "words"), [(0, "exit code 0"), (3 << 8, "exit code 3"), (9, "signal 9 (SIGKILL)"), (64, "signal 64")])
def test_a_death_is_told_in_words(status: int, words: str) -> None:
    assert exit_reason(status).startswith(words)

"""Who is dead, and what becomes of what they held."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from huey import host
from huey.clock import SECOND, Micros
from huey.consumer.janitor import PRUNE_EVERY, Janitor, is_dead
from huey.exceptions import StorageUnavailable
from huey.lifecycle import MAX_DEATHS, Finish, Raised, State, WorkerDied, decide
from huey.storage.base import LEASE, Turn, Worker, WorkerRow
from huey.storage.memory import MemoryStorage
from huey.task import Lease
from huey.testing.clock import TurnableClock
from huey.testing.contract.tools import ME, OTHER, claim, claim_ids, claimed, end, known, look, seen, task
from tests.helpers import wait_until

FAR = Worker("far", "elsewhere", 1, "another machine", 0)
"""A worker whose process nobody here sees."""


class Losing(MemoryStorage):
    """Loses calls and replies, and counts prunes."""

    def __init__(self, clock: TurnableClock) -> None:
        super().__init__("test", clock=clock)
        self.loses_reply: str | None = None
        self.loses_call: str | None = None
        self.prunes: list[int] = []
        self.backlog = 0

    def reclaim(self, dead: WorkerRow, worker: Worker) -> list[Lease]:
        leases = super().reclaim(dead, worker)
        if self.loses_reply == "reclaim":
            self.loses_reply = None
            raise StorageUnavailable("the reply was lost")
        return leases

    def turn(self, *given: Any, **more: Any) -> Turn:
        if self.loses_call == "turn":
            self.loses_call = None
            raise StorageUnavailable("the call was lost")
        turn = super().turn(*given, **more)
        if self.loses_reply == "turn":
            self.loses_reply = None
            raise StorageUnavailable("the reply was lost")
        return turn

    def prune(self, now: Micros | None = None) -> int:
        went = min(self.backlog, 500)
        self.backlog -= went
        self.prunes.append(went)
        return went


def settle(finish: Finish) -> Finish:
    return finish._replace(value=b"error") if finish.state == State.FAILED else finish


@pytest.fixture
def storage(clock: TurnableClock) -> Losing:
    return Losing(clock)


@pytest.fixture
def janitor(storage: Losing, clock: TurnableClock) -> Janitor:
    return Janitor(storage, ME, clock, settle)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def here(process: subprocess.Popen[bytes]) -> Worker:
    """That process as a worker on this host."""
    born = wait_until(lambda: host.born(process.pid))
    return Worker("neighbour", ME.host, process.pid, ME.boot, born)


def look_through(janitor: Janitor) -> None:
    """A look that may fail, as a service bears it."""
    try:
        janitor.look()
    except StorageUnavailable:
        return


# -- who is dead --------------------------------------------------------------------------------------------------------------------------


def test_a_worker_elsewhere_is_dead_when_its_lease_is_over(storage: Losing, janitor: Janitor, clock: TurnableClock) -> None:
    claimed(storage, by=FAR)

    clock.forward(LEASE / SECOND - 0.000001)
    janitor.look()
    assert look(storage).worker == FAR.id

    clock.forward(0.000001)
    janitor.look()
    assert (look(storage).state, known(storage, FAR)) == (State.QUEUED, None)


def test_a_worker_elsewhere_that_beats_keeps_its_tasks(storage: Losing, janitor: Janitor, clock: TurnableClock) -> None:
    claimed(storage, by=FAR)

    for _ in range(10):
        clock.forward(10)
        storage.beat([FAR])
        janitor.look()

    assert look(storage).worker == FAR.id


def test_a_process_of_this_host_that_has_gone_is_dead_at_once(storage: Losing, janitor: Janitor, process: subprocess.Popen[bytes]) -> None:
    neighbour = here(process)
    claimed(storage, by=neighbour)
    janitor.look()
    assert look(storage).worker == neighbour.id

    process.kill()
    process.communicate()
    janitor.look()

    assert look(storage).state == State.QUEUED


def test_a_process_that_waits_to_be_buried_is_dead(storage: Losing, process: subprocess.Popen[bytes]) -> None:
    storage.beat([here(process)])
    row = storage.workers()[0]
    assert not is_dead(row, ME)

    process.kill()

    wait_until(lambda: is_dead(row, ME))
    assert process.returncode is None, "nobody has buried it yet"


def test_another_process_with_the_same_pid_is_not_the_worker(storage: Losing) -> None:
    storage.beat([ME._replace(id="before", born=ME.born - 1)])

    assert is_dead(storage.workers()[0], ME)


def test_a_process_of_this_host_that_lives_keeps_its_tasks_however_long_it_says_nothing(
    storage: Losing, janitor: Janitor, clock: TurnableClock, process: subprocess.Popen[bytes]
) -> None:
    other = here(process)
    claimed(storage, by=other)

    clock.forward(3600)
    janitor.look()

    assert look(storage).worker == other.id


def test_a_worker_that_this_process_was_before_an_exec_is_dead(storage: Losing, janitor: Janitor) -> None:
    claimed(storage, by=ME._replace(id="before-exec"))

    janitor.look()

    assert look(storage).state == State.QUEUED


def test_another_consumer_of_this_process_is_alive(storage: Losing, janitor: Janitor, clock: TurnableClock) -> None:
    other = ME._replace(id="beside")
    beside = Janitor(storage, other, clock, lambda finish: finish)
    beside.enter()
    claimed(storage, by=other)

    clock.forward(3600)
    janitor.look()
    beside.leave()

    assert look(storage).worker == "beside"


def test_a_stopped_process_is_dead_when_its_lease_is_over(storage: Losing, clock: TurnableClock, process: subprocess.Popen[bytes]) -> None:
    neighbour = here(process)
    storage.beat([neighbour])
    os.kill(process.pid, signal.SIGSTOP)
    wait_until(lambda: host.is_stopped(process.pid))

    assert not is_dead(storage.workers()[0], ME)
    clock.forward(LEASE / SECOND)
    assert is_dead(storage.workers()[0], ME)

    os.kill(process.pid, signal.SIGCONT)
    wait_until(lambda: not host.is_stopped(process.pid))
    assert not is_dead(storage.workers()[0], ME)


def test_a_janitor_never_takes_from_its_own_worker(storage: Losing, clock: TurnableClock) -> None:
    me = FAR._replace(id="me")
    claimed(storage, by=me)
    clock.forward(60)

    Janitor(storage, me, clock, settle).look()

    assert look(storage).worker == "me"


# -- what becomes of their tasks ----------------------------------------------------------------------------------------------------------


def test_what_a_dead_worker_held_goes_back_to_its_place_without_a_try(storage: Losing, janitor: Janitor, clock: TurnableClock) -> None:
    storage.enqueue([task("a", retries=1), task("b", retries=1)])
    claim(storage, 2, by=FAR)
    clock.forward(20)
    storage.enqueue([task("late")])

    janitor.look()

    row = look(storage, "a")
    assert (row.attempt, row.crashes, row.deaths, row.reason) == (0, 1, 1, "worker died")
    assert claim_ids(storage, 9) == ["a", "b", "late"]


def test_what_the_dead_brings_later_is_refused(storage: Losing, janitor: Janitor, clock: TurnableClock) -> None:
    lease = claimed(storage, by=FAR)
    clock.forward(20)
    janitor.look()

    turn = end(storage, clock, lease, Raised({"error": "E()"}), by=FAR)

    assert turn.refused == ["a"]
    assert look(storage).state == State.QUEUED


def test_the_twentieth_death_ends_a_task_as_poison(storage: Losing, janitor: Janitor, clock: TurnableClock) -> None:
    storage.enqueue([task()])

    for _ in range(MAX_DEATHS):
        assert claim_ids(storage, 1, by=FAR) == ["a"]
        clock.forward(20)
        janitor.look()

    assert (look(storage).state, look(storage).reason, look(storage).deaths) == (State.FAILED, "poison", MAX_DEATHS)
    assert storage.peek("result", "a") == b"error", "who waits for it is told"


def test_a_task_that_was_revoked_while_its_worker_died_is_cancelled(storage: Losing, janitor: Janitor, clock: TurnableClock) -> None:
    claimed(storage, by=FAR)
    storage.cancel(["a"])
    clock.forward(20)

    janitor.look()

    assert (look(storage).state, look(storage).reason) == (State.CANCELLED, "revoked")


def test_a_dead_worker_that_held_nothing_is_forgotten(
    storage: Losing, janitor: Janitor, clock: TurnableClock, caplog: pytest.LogCaptureFixture
) -> None:
    storage.beat([FAR])
    clock.forward(20)

    janitor.look()

    assert known(storage, FAR) is None
    assert caplog.records == []


def test_a_death_is_told_with_the_number_of_tasks(
    storage: Losing, janitor: Janitor, clock: TurnableClock, caplog: pytest.LogCaptureFixture
) -> None:
    storage.enqueue([task("a"), task("b")])
    claim(storage, 2, by=FAR)
    clock.forward(20)

    janitor.look()

    assert [record.message for record in caplog.records] == ["worker far (pid 1 on elsewhere) died: 2 tasks run again"]


def test_all_the_dead_are_taken_over_in_one_look(storage: Losing, janitor: Janitor, clock: TurnableClock) -> None:
    storage.enqueue([task(name) for name in ("a", "b", "c")])
    for number in range(3):
        claim(storage, 1, by=FAR._replace(id=f"far-{number}"))
    clock.forward(20)

    janitor.look()

    assert claim_ids(storage, 9) == ["a", "b", "c"]


def test_of_two_janitors_one_takes_over(storage: Losing, clock: TurnableClock) -> None:
    claimed(storage, by=FAR)
    clock.forward(20)
    dead = seen(storage, FAR)
    storage.reclaim(dead, OTHER)

    assert storage.reclaim(dead, ME) == []
    assert look(storage).worker == OTHER.id


def test_a_sign_of_life_between_look_and_reclaim_is_honoured(storage: Losing, clock: TurnableClock) -> None:
    claimed(storage, by=FAR)
    clock.forward(20)

    class Beating(Losing):
        def workers(self) -> list[WorkerRow]:
            rows = storage.workers()
            storage.beat([FAR])
            return rows

        def reclaim(self, dead: WorkerRow, worker: Worker) -> list[Lease]:
            return storage.reclaim(dead, worker)

    Janitor(Beating(clock), ME, clock, settle).look()

    assert look(storage).worker == FAR.id


def test_a_janitor_that_dies_between_reclaim_and_finish_counts_no_death_twice(storage: Losing, clock: TurnableClock) -> None:
    claimed(storage, by=FAR)
    clock.forward(20)
    gone = FAR._replace(id="janitor that dies")
    storage.reclaim(seen(storage, FAR), gone)
    clock.forward(20)

    Janitor(storage, ME, clock, settle).look()

    assert (look(storage).state, look(storage).deaths) == (State.QUEUED, 1)


def test_a_takeover_whose_last_reply_was_lost_is_done(storage: Losing, janitor: Janitor, clock: TurnableClock) -> None:
    claimed(storage, by=FAR)
    clock.forward(20)
    storage.loses_reply = "turn"

    look_through(janitor)
    look_through(janitor)

    assert (look(storage).state, look(storage).deaths) == (State.QUEUED, 1)


def test_a_takeover_that_could_not_be_written_is_written_later(storage: Losing, janitor: Janitor, clock: TurnableClock) -> None:
    claimed(storage, by=FAR)
    clock.forward(20)
    storage.loses_call = "turn"

    for _ in range(5):
        look_through(janitor)
        clock.forward(1)

    assert look(storage).state == State.QUEUED


def test_a_takeover_whose_first_reply_was_lost_is_done_later(storage: Losing, janitor: Janitor, clock: TurnableClock) -> None:
    claimed(storage, by=FAR)
    clock.forward(20)
    storage.loses_reply = "reclaim"

    for _ in range(5):
        look_through(janitor)
        clock.forward(1)

    assert look(storage).state == State.QUEUED


# -- what is past its time ----------------------------------------------------------------------------------------------------------------


def test_it_prunes_at_once_and_then_each_minute(storage: Losing, janitor: Janitor, clock: TurnableClock) -> None:
    janitor.look()
    janitor.look()
    assert len(storage.prunes) == 1

    clock.forward(PRUNE_EVERY - 1)
    janitor.look()
    assert len(storage.prunes) == 1

    clock.forward(1)
    janitor.look()
    assert len(storage.prunes) == 2


def test_it_prunes_until_little_is_left(storage: Losing, janitor: Janitor) -> None:
    storage.backlog = 1234

    janitor.look()

    assert storage.prunes == [500, 500, 234]


def test_a_finish_of_a_death_that_must_be_told_gets_its_error(storage: Losing, clock: TurnableClock) -> None:
    settled: list[Finish] = []

    def noting(finish: Finish) -> Finish:
        settled.append(finish)
        return settle(finish)

    storage.enqueue([task()])
    for _ in range(MAX_DEATHS - 1):
        [lease] = claim(storage, by=FAR)
        storage.turn(FAR, [decide(lease, WorkerDied(), clock.now())], 0)
    claim(storage, by=FAR)
    clock.forward(20)

    Janitor(storage, ME, clock, noting).look()

    assert [finish.reason for finish in settled] == ["poison"]

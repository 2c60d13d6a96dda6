"""What becomes of the tasks of dead workers, and of what is past its time."""

from __future__ import annotations

import pytest

from huey.consumer.janitor import PRUNE_INTERVAL_S, Janitor
from huey.storage.rows import TaskIds, Worker, WorkerRow
from huey.task.lifecycle import MAX_DEATHS, Finish, Raised, State, WorkerDied, decide
from huey.task.record import Lease
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, OTHER, claim, claim_ids, claimed, end, get_row, known, seen, task
from tests.consumer.janitors import FAR, Losing, look_for_a_lease, look_through, settle


@pytest.fixture
def storage(clock: FakeClock) -> Losing:
    return Losing(clock)


@pytest.fixture
def janitor(storage: Losing, clock: FakeClock) -> Janitor:
    return Janitor(storage, ME, clock, settle)


def test_a_dead_workers_tasks_go_back_without_a_try(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    storage.enqueue([task("a", retries=1), task("b", retries=1)])
    claim(storage, 2, by=FAR)
    storage.enqueue([task("late")])

    look_for_a_lease(janitor, clock)

    row = get_row(storage, "a")
    assert (row.attempt, row.solo_crashes, row.deaths, row.reason) == (0, 1, 1, "worker died")
    assert claim_ids(storage, 9) == ["a", "b", "late"]


def test_what_the_dead_brings_later_is_refused(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    lease = claimed(storage, by=FAR)
    look_for_a_lease(janitor, clock)

    turn = end(storage, clock, lease, Raised({"error": "E()"}), by=FAR)

    assert turn.stale == ["a"]
    assert get_row(storage).state == State.QUEUED


def test_the_twentieth_death_ends_a_task_as_poison(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    storage.enqueue([task()])

    for _ in range(MAX_DEATHS):
        assert claim_ids(storage, 1, by=FAR) == ["a"]
        look_for_a_lease(janitor, clock)

    assert (get_row(storage).state, get_row(storage).reason, get_row(storage).deaths) == (State.FAILED, "poison", MAX_DEATHS)
    assert storage.peek("result", "a") == b"error", "who waits for it is told"


def test_a_task_revoked_while_its_worker_died_is_cancelled(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    claimed(storage, by=FAR)
    storage.revoke(TaskIds(["a"]))

    look_for_a_lease(janitor, clock)

    assert (get_row(storage).state, get_row(storage).reason) == (State.CANCELLED, "revoked")


def test_a_dead_worker_that_held_nothing_is_forgotten(
    storage: Losing, janitor: Janitor, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    storage.heartbeat([FAR])

    look_for_a_lease(janitor, clock)

    assert known(storage, FAR) is None
    assert caplog.records == []


def test_a_death_is_told_with_the_number_of_tasks(
    storage: Losing, janitor: Janitor, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    storage.enqueue([task("a"), task("b")])
    claim(storage, 2, by=FAR)

    look_for_a_lease(janitor, clock)

    assert [record.message for record in caplog.records] == ["worker far (pid 1 on elsewhere) died; requeueing 2 tasks"]


def test_all_the_dead_are_taken_over_in_one_look(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    storage.enqueue([task(name) for name in ("a", "b", "c")])
    for number in range(3):
        claim(storage, 1, by=FAR._replace(id=f"far-{number}"))

    look_for_a_lease(janitor, clock)

    assert claim_ids(storage, 9) == ["a", "b", "c"]


def test_of_two_janitors_one_takes_over(storage: Losing, clock: FakeClock) -> None:
    claimed(storage, by=FAR)
    clock.forward(20)
    dead = seen(storage, FAR)
    storage.reclaim(dead, OTHER)

    assert storage.reclaim(dead, ME) == []
    assert get_row(storage).worker == OTHER.id


def test_a_sign_of_life_between_look_and_reclaim_is_honoured(storage: Losing, clock: FakeClock) -> None:
    claimed(storage, by=FAR)
    clock.forward(20)

    class Beating(Losing):
        def workers(self) -> list[WorkerRow]:
            rows = storage.workers()
            storage.heartbeat([FAR])
            return rows

        def reclaim(self, dead: WorkerRow, worker: Worker) -> list[Lease]:
            return storage.reclaim(dead, worker)

    Janitor(Beating(clock), ME, clock, settle).run_once()

    assert get_row(storage).worker == FAR.id


def test_a_janitors_death_in_a_take_over_is_not_counted_twice(storage: Losing, clock: FakeClock) -> None:
    claimed(storage, by=FAR)
    gone = FAR._replace(id="janitor that dies")
    storage.reclaim(seen(storage, FAR), gone)

    look_for_a_lease(Janitor(storage, ME, clock, settle), clock)

    assert (get_row(storage).state, get_row(storage).deaths) == (State.QUEUED, 1)


def test_a_takeover_whose_last_reply_was_lost_is_done(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    claimed(storage, by=FAR)
    storage.loses_reply = "turn"

    look_for_a_lease(janitor, clock)
    look_through(janitor)

    assert (get_row(storage).state, get_row(storage).deaths) == (State.QUEUED, 1)


def test_a_takeover_that_could_not_be_written_is_written_later(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    claimed(storage, by=FAR)
    clock.forward(20)
    storage.loses_call = "turn"

    look_for_a_lease(janitor, clock)
    look_for_a_lease(janitor, clock)

    assert get_row(storage).state == State.QUEUED


def test_a_takeover_whose_first_reply_was_lost_is_done_later(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    claimed(storage, by=FAR)
    clock.forward(20)
    storage.loses_reply = "reclaim"

    look_for_a_lease(janitor, clock)
    look_for_a_lease(janitor, clock)

    assert get_row(storage).state == State.QUEUED


# -- what is past its time ----------------------------------------------------------------------------------------------------------------


def test_it_prunes_at_once_and_then_each_minute(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    janitor.run_once()
    janitor.run_once()
    assert len(storage.prunes) == 1

    clock.forward(PRUNE_INTERVAL_S - 1)
    janitor.run_once()
    assert len(storage.prunes) == 1

    clock.forward(1)
    janitor.run_once()
    assert len(storage.prunes) == 2


def test_it_prunes_until_little_is_left(storage: Losing, janitor: Janitor) -> None:
    storage.backlog = 1234

    janitor.run_once()

    assert storage.prunes == [500, 500, 234]


def test_a_finish_of_a_death_that_must_be_told_gets_its_error(storage: Losing, clock: FakeClock) -> None:
    settled: list[Finish] = []

    def noting(finish: Finish) -> Finish:
        settled.append(finish)
        return settle(finish)

    storage.enqueue([task()])
    for _ in range(MAX_DEATHS - 1):
        [lease] = claim(storage, by=FAR)
        storage.turn(FAR, [decide(lease, WorkerDied(), clock.now())], 0)
    claim(storage, by=FAR)

    look_for_a_lease(Janitor(storage, ME, clock, noting), clock)

    assert [finish.reason for finish in settled] == ["poison"]

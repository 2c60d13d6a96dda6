"""Who is dead, and what becomes of what they held."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from huey.consumer.janitor import PRUNE_INTERVAL_S, Janitor, is_dead
from huey.exceptions import StorageUnavailable
from huey.runtime import host
from huey.runtime.clock import SECOND, Micros
from huey.storage.base import LEASE
from huey.storage.memory import MemoryStorage
from huey.storage.redis import RedisStorage
from huey.storage.rows import TaskIds, Turn, Worker, WorkerRow
from huey.task.lifecycle import MAX_DEATHS, Finish, Raised, State, WorkerDied, decide
from huey.task.record import Lease
from huey.testing.clock import FakeClock
from huey.testing.contract.house import exit_code_of
from huey.testing.contract.tools import ME, OTHER, claim, claim_ids, claimed, end, known, look, seen, task
from tests.support.helpers import wait_until
from tests.support.redis_server import Server

FAR = Worker("far", "elsewhere", 1, "another machine", 0)
"""A worker whose process nobody here sees."""


class Losing(MemoryStorage):
    """Loses calls and replies, and counts prunes."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__("test", clock=clock)
        self.loses_reply: str | None = None
        self.loses_call: str | None = None
        self.prunes: list[int] = []
        self.backlog = 0
        self.lease_clock_is_off_by: Micros = 0
        self.machine_was_started_anew = False

    def workers(self) -> list[WorkerRow]:
        now = self._clock.monotonic() + self.lease_clock_is_off_by
        gone = self.machine_was_started_anew
        return [row._replace(is_expired=gone or row.until <= now, is_gone=gone) for row in super().workers()]

    def reclaim(self, dead: WorkerRow, worker: Worker) -> list[Lease]:
        if self.loses_call == "reclaim":
            self.loses_call = None
            raise StorageUnavailable("the call was lost")
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
def storage(clock: FakeClock) -> Losing:
    return Losing(clock)


@pytest.fixture
def janitor(storage: Losing, clock: FakeClock) -> Janitor:
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
    born = wait_until(lambda: host.process_start_time(process.pid))
    return Worker("neighbour", ME.host, process.pid, ME.host_scope, born)


def look_for_a_lease(janitor: Janitor, clock: FakeClock) -> None:
    """Look each second, as a consumer does, for the time of a lease: who gives no sign of life meanwhile is dead at the end."""
    for _ in range(int(LEASE / SECOND)):
        look_through(janitor)
        clock.forward(1)
    look_through(janitor)


def look_through(janitor: Janitor) -> None:
    """A look that may fail, as a service bears it."""
    try:
        janitor.run_once()
    except StorageUnavailable:
        return


# -- who is dead --------------------------------------------------------------------------------------------------------------------------


def test_a_worker_elsewhere_is_dead_when_its_lease_is_over(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    claimed(storage, by=FAR)

    for _ in range(3):
        janitor.run_once()
        clock.forward(LEASE / SECOND / 3 - 0.000001)
    janitor.run_once()
    assert look(storage).worker == FAR.id

    clock.forward(0.000003)
    janitor.run_once()
    assert (look(storage).state, known(storage, FAR)) == (State.QUEUED, None)


def test_a_worker_elsewhere_that_beats_keeps_its_tasks(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    claimed(storage, by=FAR)

    for _ in range(10):
        clock.forward(10)
        storage.heartbeat([FAR])
        janitor.run_once()

    assert look(storage).worker == FAR.id


def test_a_process_of_this_host_that_has_gone_is_dead_at_once(storage: Losing, janitor: Janitor, process: subprocess.Popen[bytes]) -> None:
    neighbour = here(process)
    claimed(storage, by=neighbour)
    janitor.run_once()
    assert look(storage).worker == neighbour.id

    process.kill()
    process.communicate()
    janitor.run_once()

    assert look(storage).state == State.QUEUED


def test_a_process_that_waits_to_be_buried_is_dead(storage: Losing, process: subprocess.Popen[bytes]) -> None:
    storage.heartbeat([here(process)])
    row = storage.workers()[0]
    assert not is_dead(row, ME)

    process.kill()

    wait_until(lambda: is_dead(row, ME))
    assert process.returncode is None, "nobody has buried it yet"


def test_another_process_with_the_same_pid_is_not_the_worker(storage: Losing) -> None:
    storage.heartbeat([ME._replace(id="before", start_time=ME.start_time - 1)])

    assert is_dead(storage.workers()[0], ME)


def test_a_process_of_this_host_that_lives_keeps_its_tasks_however_long_it_says_nothing(
    storage: Losing, janitor: Janitor, clock: FakeClock, process: subprocess.Popen[bytes]
) -> None:
    other = here(process)
    claimed(storage, by=other)

    clock.forward(3600)
    janitor.run_once()

    assert look(storage).worker == other.id


def test_a_worker_that_this_process_was_before_an_exec_is_dead(storage: Losing, janitor: Janitor) -> None:
    claimed(storage, by=ME._replace(id="before-exec"))

    janitor.run_once()

    assert look(storage).state == State.QUEUED


def test_another_consumer_of_this_process_is_alive(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    other = ME._replace(id="beside")
    for_queue = Janitor(storage, other, clock, lambda finish: finish)
    for_queue.enter()
    claimed(storage, by=other)

    clock.forward(3600)
    janitor.run_once()
    for_queue.leave()

    assert look(storage).worker == "beside"


def test_a_stopped_process_is_dead_when_its_lease_is_over(storage: Losing, clock: FakeClock, process: subprocess.Popen[bytes]) -> None:
    neighbour = here(process)
    storage.heartbeat([neighbour])
    os.kill(process.pid, signal.SIGSTOP)
    wait_until(lambda: host.is_stopped(process.pid))

    assert not is_dead(storage.workers()[0], ME)
    clock.forward(LEASE / SECOND)
    assert is_dead(storage.workers()[0], ME)

    os.kill(process.pid, signal.SIGCONT)
    wait_until(lambda: not host.is_stopped(process.pid))
    assert not is_dead(storage.workers()[0], ME)


def test_a_janitor_never_takes_from_its_own_worker(storage: Losing, clock: FakeClock) -> None:
    me = FAR._replace(id="me")
    claimed(storage, by=me)
    clock.forward(60)

    Janitor(storage, me, clock, settle).run_once()

    assert look(storage).worker == "me"


def test_a_clock_of_the_store_that_is_set_kills_nobody(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    claimed(storage, by=FAR)
    for step in (3600, -7200, 60, -60) * 5:
        janitor.run_once()
        # The store's clock is a minute ahead, or behind; the one of who looks is not.
        storage.lease_clock_is_off_by += step * SECOND
        clock.forward(1)
        storage.heartbeat([FAR])
        assert look(storage).worker == FAR.id

    look_for_a_lease(janitor, clock)
    assert look(storage).worker is None


def test_a_lease_that_looks_over_at_the_first_look_is_watched_first(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    claimed(storage, by=FAR)
    clock.forward(3600)
    assert storage.workers()[0].is_expired

    janitor.run_once()

    assert look(storage).worker == FAR.id


def test_who_could_not_look_begins_to_watch_anew(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    claimed(storage, by=FAR)
    janitor.run_once()
    # It was stopped, or the store was away: nobody could give a sign of life.
    clock.forward(60)
    janitor.run_once()
    clock.forward(1)
    janitor.run_once()

    assert look(storage).worker == FAR.id


def test_a_worker_of_a_former_start_of_this_machine_is_dead_at_once(storage: Losing, janitor: Janitor) -> None:
    claimed(storage, by=FAR)
    storage.machine_was_started_anew = True

    janitor.run_once()

    assert look(storage).worker is None


def test_the_same_boot_id_under_another_host_name_is_another_machine(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    clone = ME._replace(id="clone", host="a clone of " + ME.host, pid=1, start_time=1)
    claimed(storage, by=clone)

    janitor.run_once()
    assert look(storage).worker == "clone"

    look_for_a_lease(janitor, clock)
    assert look(storage).worker is None


def test_who_gives_a_sign_of_life_though_its_process_is_not_here_lives_elsewhere(
    storage: Losing, janitor: Janitor, clock: FakeClock
) -> None:
    clone = ME._replace(id="clone", pid=1, start_time=1)
    storage.heartbeat([clone])
    janitor.run_once()
    assert known(storage, clone) is None, "as far as one can tell it died here"

    claimed(storage, by=clone)
    for _ in range(30):
        storage.heartbeat([clone])
        clock.forward(1)
        janitor.run_once()
    assert look(storage).worker == "clone"

    look_for_a_lease(janitor, clock)
    assert look(storage).worker is None


@pytest.mark.parametrize("step", [60, 3600, -60, -3600])
def test_two_hosts_on_one_redis_keep_their_tasks_when_its_clock_is_set(clock: FakeClock, step: int) -> None:
    with Server() as server, redis.Redis(port=server.port) as admin:
        storage, others = (RedisStorage("hosts", port=server.port) for _ in range(2))
        near, far = ME._replace(id="near", host_scope="one"), ME._replace(id="far", host_scope="another", host="another")
        storage.enqueue([task("a"), task("b")])
        claim(storage, 1, by=near)
        claim(others, 1, by=far)
        janitors = [Janitor(storage, near, clock, settle), Janitor(others, far, clock, settle)]

        for second in range(30):
            if second == 7:
                # The same for everybody as the server's clock that was set.
                for id in ("near", "far"):
                    admin.zincrby("huey:{hosts}:wl", -step * SECOND, id)
            if second % 5 == 0:
                storage.heartbeat([near])
                others.heartbeat([far])
            for janitor in janitors:
                janitor.run_once()
            clock.forward(1)
        assert [storage.get(id).worker for id in ("a", "b")] == ["near", "far"]  # type: ignore[union-attr]

        # One of them is no more.
        for _ in range(17):
            storage.heartbeat([near])
            janitors[0].run_once()
            clock.forward(1)
        assert [(row.worker, row.deaths) for id in ("a", "b") if (row := storage.get(id))] == [("near", 0), (None, 1)]
        storage.close()
        others.close()


@pytest.mark.parametrize("lost", ["call", "reply"])
def test_a_neighbour_whose_take_over_failed_is_taken_over_by_the_next_look(
    storage: Losing, janitor: Janitor, clock: FakeClock, lost: str
) -> None:
    neighbour = ME._replace(id="neighbour", pid=1, start_time=1)
    claimed(storage, by=neighbour)
    storage.loses_call = storage.loses_reply = None
    setattr(storage, f"loses_{lost}", "reclaim")

    look_through(janitor)
    clock.forward(1)
    look_through(janitor)
    clock.forward(1)
    look_through(janitor)

    assert look(storage).state == State.QUEUED


# -- what a machine says of itself --------------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A system without /proc."""
    monkeypatch.setattr("builtins.open", without_proc(open))
    monkeypatch.setattr("os.readlink", without_proc(os.readlink))
    host.boot_id.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    host.boot_id.cache_clear()


def without_proc(real: Any) -> Any:
    def act(path: Any, *given: Any, **more: Any) -> Any:
        if str(path).startswith("/proc/"):
            raise FileNotFoundError(2, "there is no /proc", path)
        return real(path, *given, **more)

    return act


def test_without_a_boot_id_no_two_processes_take_each_other_for_neighbours(bare: pytest.MonkeyPatch) -> None:
    here = host.pid_namespace()

    assert host.boot_id() == ""
    assert here == host.pid_namespace()
    assert exit_code_of(lambda: host.pid_namespace() != here) == 0
    bare.setattr(host, "_CHANCE", "that of another process with the same pid")
    assert host.pid_namespace() != here


def test_a_hidden_process_space_is_nobodys(bare: pytest.MonkeyPatch) -> None:
    bare.setattr(host, "boot_id", lambda: "the boot")

    assert host.pid_namespace() != "the boot/"
    assert host.pid_namespace().startswith("the boot/?")


def test_on_macos_the_kernel_tells_the_boot(bare: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    bare.setattr(sys, "platform", "darwin")
    bare.setattr(host, "_of_kernel", lambda name: asked.append(name) or "A-B-C")

    assert host.pid_namespace() == "A-B-C/pid"
    assert asked == ["kern.bootsessionuuid"]


def test_without_proc_a_lease_of_before_a_reboot_does_not_last(
    bare: pytest.MonkeyPatch, storage: Losing, janitor: Janitor, clock: FakeClock
) -> None:
    before = ME._replace(id="before", host_scope="/?chance-1", start_time=0)
    storage.heartbeat([before])
    # The machine's clock began anew with the reboot.
    storage.lease_clock_is_off_by = -90 * 86400 * SECOND

    look_for_a_lease(janitor, clock)

    assert known(storage, before) is None


# -- what becomes of their tasks ----------------------------------------------------------------------------------------------------------


def test_what_a_dead_worker_held_goes_back_to_its_place_without_a_try(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    storage.enqueue([task("a", retries=1), task("b", retries=1)])
    claim(storage, 2, by=FAR)
    storage.enqueue([task("late")])

    look_for_a_lease(janitor, clock)

    row = look(storage, "a")
    assert (row.attempt, row.solo_crashes, row.deaths, row.reason) == (0, 1, 1, "worker died")
    assert claim_ids(storage, 9) == ["a", "b", "late"]


def test_what_the_dead_brings_later_is_refused(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    lease = claimed(storage, by=FAR)
    look_for_a_lease(janitor, clock)

    turn = end(storage, clock, lease, Raised({"error": "E()"}), by=FAR)

    assert turn.stale == ["a"]
    assert look(storage).state == State.QUEUED


def test_the_twentieth_death_ends_a_task_as_poison(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    storage.enqueue([task()])

    for _ in range(MAX_DEATHS):
        assert claim_ids(storage, 1, by=FAR) == ["a"]
        look_for_a_lease(janitor, clock)

    assert (look(storage).state, look(storage).reason, look(storage).deaths) == (State.FAILED, "poison", MAX_DEATHS)
    assert storage.peek("result", "a") == b"error", "who waits for it is told"


def test_a_task_that_was_revoked_while_its_worker_died_is_cancelled(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    claimed(storage, by=FAR)
    storage.revoke(TaskIds(["a"]))

    look_for_a_lease(janitor, clock)

    assert (look(storage).state, look(storage).reason) == (State.CANCELLED, "revoked")


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
    assert look(storage).worker == OTHER.id


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

    assert look(storage).worker == FAR.id


def test_a_janitor_that_dies_between_reclaim_and_finish_counts_no_death_twice(storage: Losing, clock: FakeClock) -> None:
    claimed(storage, by=FAR)
    gone = FAR._replace(id="janitor that dies")
    storage.reclaim(seen(storage, FAR), gone)

    look_for_a_lease(Janitor(storage, ME, clock, settle), clock)

    assert (look(storage).state, look(storage).deaths) == (State.QUEUED, 1)


def test_a_takeover_whose_last_reply_was_lost_is_done(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    claimed(storage, by=FAR)
    storage.loses_reply = "turn"

    look_for_a_lease(janitor, clock)
    look_through(janitor)

    assert (look(storage).state, look(storage).deaths) == (State.QUEUED, 1)


def test_a_takeover_that_could_not_be_written_is_written_later(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    claimed(storage, by=FAR)
    clock.forward(20)
    storage.loses_call = "turn"

    look_for_a_lease(janitor, clock)
    look_for_a_lease(janitor, clock)

    assert look(storage).state == State.QUEUED


def test_a_takeover_whose_first_reply_was_lost_is_done_later(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    claimed(storage, by=FAR)
    clock.forward(20)
    storage.loses_reply = "reclaim"

    look_for_a_lease(janitor, clock)
    look_for_a_lease(janitor, clock)

    assert look(storage).state == State.QUEUED


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

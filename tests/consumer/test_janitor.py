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

from huey.consumer.janitor import Janitor, is_dead
from huey.runtime import host
from huey.runtime.clock import SECOND
from huey.storage.base import LEASE
from huey.storage.redis import RedisStorage
from huey.task.lifecycle import State
from huey.testing.clock import FakeClock
from huey.testing.contract.house import exit_code_of
from huey.testing.contract.tools import ME, claim, claimed, get_row, known, task
from tests.consumer.janitors import FAR, Losing, here, look_for_a_lease, look_through, settle
from tests.support.helpers import wait_until
from tests.support.redis_server import Server


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


# -- who is dead --------------------------------------------------------------------------------------------------------------------------


def test_a_worker_elsewhere_is_dead_when_its_lease_is_over(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    claimed(storage, by=FAR)

    for _ in range(3):
        janitor.run_once()
        clock.forward(LEASE / SECOND / 3 - 0.000001)
    janitor.run_once()
    assert get_row(storage).worker == FAR.id

    clock.forward(0.000003)
    janitor.run_once()
    assert (get_row(storage).state, known(storage, FAR)) == (State.QUEUED, None)


def test_a_worker_elsewhere_that_beats_keeps_its_tasks(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    claimed(storage, by=FAR)

    for _ in range(10):
        clock.forward(10)
        storage.heartbeat([FAR])
        janitor.run_once()

    assert get_row(storage).worker == FAR.id


def test_a_process_of_this_host_that_has_gone_is_dead_at_once(storage: Losing, janitor: Janitor, process: subprocess.Popen[bytes]) -> None:
    neighbour = here(process)
    claimed(storage, by=neighbour)
    janitor.run_once()
    assert get_row(storage).worker == neighbour.id

    process.kill()
    process.communicate()
    janitor.run_once()

    assert get_row(storage).state == State.QUEUED


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


def test_a_living_process_of_this_host_keeps_its_tasks(
    storage: Losing, janitor: Janitor, clock: FakeClock, process: subprocess.Popen[bytes]
) -> None:
    other = here(process)
    claimed(storage, by=other)

    clock.forward(3600)
    janitor.run_once()

    assert get_row(storage).worker == other.id


def test_a_worker_that_this_process_was_before_an_exec_is_dead(storage: Losing, janitor: Janitor) -> None:
    claimed(storage, by=ME._replace(id="before-exec"))

    janitor.run_once()

    assert get_row(storage).state == State.QUEUED


def test_another_consumer_of_this_process_is_alive(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    other = ME._replace(id="beside")
    for_queue = Janitor(storage, other, clock, lambda finish: finish)
    for_queue.enter()
    claimed(storage, by=other)

    clock.forward(3600)
    janitor.run_once()
    for_queue.leave()

    assert get_row(storage).worker == "beside"


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

    assert get_row(storage).worker == "me"


def test_a_clock_of_the_store_that_is_set_kills_nobody(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    claimed(storage, by=FAR)
    for step in (3600, -7200, 60, -60) * 5:
        janitor.run_once()
        # The store's clock is a minute ahead, or behind; the one of who looks is not.
        storage.lease_clock_is_off_by += step * SECOND
        clock.forward(1)
        storage.heartbeat([FAR])
        assert get_row(storage).worker == FAR.id

    look_for_a_lease(janitor, clock)
    assert get_row(storage).worker is None


def test_a_lease_that_looks_over_is_watched_first(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    claimed(storage, by=FAR)
    clock.forward(3600)
    assert storage.workers()[0].is_expired

    janitor.run_once()

    assert get_row(storage).worker == FAR.id


def test_who_could_not_look_begins_to_watch_anew(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    claimed(storage, by=FAR)
    janitor.run_once()
    # It was stopped, or the store was away: nobody could give a sign of life.
    clock.forward(60)
    janitor.run_once()
    clock.forward(1)
    janitor.run_once()

    assert get_row(storage).worker == FAR.id


def test_a_worker_of_a_former_boot_is_dead_at_once(storage: Losing, janitor: Janitor) -> None:
    claimed(storage, by=FAR)
    storage.machine_was_started_anew = True

    janitor.run_once()

    assert get_row(storage).worker is None


def test_a_boot_id_under_another_host_name_is_another_machine(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    clone = ME._replace(id="clone", host="a clone of " + ME.host, pid=1, start_time=1)
    claimed(storage, by=clone)

    janitor.run_once()
    assert get_row(storage).worker == "clone"

    look_for_a_lease(janitor, clock)
    assert get_row(storage).worker is None


def test_a_worker_that_beats_without_a_process_lives_elsewhere(storage: Losing, janitor: Janitor, clock: FakeClock) -> None:
    clone = ME._replace(id="clone", pid=1, start_time=1)
    storage.heartbeat([clone])
    janitor.run_once()
    assert known(storage, clone) is None, "as far as one can tell it died here"

    claimed(storage, by=clone)
    for _ in range(30):
        storage.heartbeat([clone])
        clock.forward(1)
        janitor.run_once()
    assert get_row(storage).worker == "clone"

    look_for_a_lease(janitor, clock)
    assert get_row(storage).worker is None


@pytest.mark.parametrize("step", [60, 3600, -60, -3600])
def test_two_hosts_keep_their_tasks_when_redis_time_is_set(clock: FakeClock, step: int) -> None:
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
def test_a_failed_take_over_is_made_by_the_next_look(storage: Losing, janitor: Janitor, clock: FakeClock, lost: str) -> None:
    neighbour = ME._replace(id="neighbour", pid=1, start_time=1)
    claimed(storage, by=neighbour)
    storage.loses_call = storage.loses_reply = None
    setattr(storage, f"loses_{lost}", "reclaim")

    look_through(janitor)
    clock.forward(1)
    look_through(janitor)
    clock.forward(1)
    look_through(janitor)

    assert get_row(storage).state == State.QUEUED


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


def test_without_a_boot_id_processes_are_no_neighbours(bare: pytest.MonkeyPatch) -> None:
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

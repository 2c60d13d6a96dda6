"""The real command through outages: a locked file, a full disk, a machine that sleeps. Each process says so in one line (C15, T13, T15)."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from tests.crash.commands import KINDS, SHUTDOWN, Commanded, wait
from tests.crash.tools import fill, locked, most_common_problems
from tests.support.helpers import wait_until

RESUMES = 5.0
"""Seconds within which everything has to go on."""


def finished(place: Any) -> Any:
    verdict = place.verdict()
    assert not verdict.problems, most_common_problems(verdict.problems) + "\n" + place.log()
    return verdict


def cpu_of(command: Any) -> Any:
    """Seconds of CPU that all its processes have taken."""
    ticks = 0
    for pid in (command.pid, *command.workers()):
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            facts = file.read().rpartition(")")[2].split()
        ticks += int(facts[11]) + int(facts[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def assert_told_once(command: Any, processes: Any) -> None:
    """At most one line of each process when it began, and one when it was over."""
    begun, over = command.log.count("storage unavailable"), command.log.count("storage is back")
    assert 1 <= begun <= processes, command.log
    assert over == begun, command.log
    assert "Traceback" not in command.log, command.log


@pytest.mark.chaos
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(120)
def test_a_file_locked_by_a_stranger_costs_time_only(commanded: Commanded, show: Any, kind: Any) -> None:
    place = commanded
    runners = KINDS[kind]
    for n in range(runners):
        place.gated(n)
    place.bulk(range(20))
    command = place.command(kind, "-n")
    wait_until(lambda: len(place.started_of("gated")) == runners, "they run")
    workers = command.workers()

    with locked(place.folder / "queue.db", "EXCLUSIVE"):
        place.open_gate()
        before = cpu_of(command)
        wait(22)
        share = (cpu_of(command) - before) / 22
    begun = time.monotonic()
    wait_until(place.is_done, "everything is done")
    resumed = time.monotonic() - begun

    assert resumed < RESUMES
    assert share < 0.1, f"{share:.1%} of a core"
    assert command.workers() == workers, "nobody died of it"
    wait_until(lambda: command.log.count("storage unavailable") == command.log.count("storage is back"), "its end is told")
    assert_told_once(command, 1 + len(workers))
    assert command.stop() == 0, command.log
    assert finished(place).reruns == 0
    show(f"locked for 22 s: {share:.1%} of a core for {1 + len(workers)} processes, went on after {resumed:.2f} s")


@pytest.mark.slow_machine
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(60)
def test_a_command_can_be_stopped_while_the_file_is_locked(commanded: Commanded, show: Any, kind: Any) -> None:
    """Soon after its shutdown timeout; what it could not write runs again, and nobody is to blame."""
    place = commanded
    place.gated(1)
    command = place.command(kind, "-n")
    wait_until(lambda: len(place.started_of("gated")) == 1, "it runs")

    with locked(place.folder / "queue.db", "EXCLUSIVE"):
        place.open_gate()
        wait_until(lambda: place.runs()[0].end, "it has ended")
        begun = time.monotonic()
        assert command.stop() == 0, command.log
        took = time.monotonic() - begun

    assert took < SHUTDOWN + 10
    place.finish_by_command(kind)
    assert len(place.started_of("gated")) == 2
    assert place.storage.counts().failed == 0
    show(f"stopped after {took:.1f} s")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(60)
def test_a_full_disk_costs_the_command_time_only(make_commanded: Any, small_disk: Any, kind: Any) -> None:
    disk = small_disk(48)
    place = make_commanded(filename=str(disk / "queue.db"))
    runners = KINDS[kind]
    held = [place.held(n, 10_000_000 // runners) for n in range(runners)]
    place.bulk(range(60), seconds=0.2)
    command = place.command(kind)
    wait_until(lambda: len(place.started_of("held")) == runners, "they run")
    wait_until(lambda: (disk / "queue.db-ballast").exists(), "the ballast is there")
    hog = fill(disk)

    place.open_gate()
    wait_until(lambda: all(place.storage.peek("result", id) for id in held), "what ran is written, on a disk that is full")
    wait_until(lambda: "storage unavailable" in command.log, "it is told")
    hog.unlink()

    begun = time.monotonic()
    wait_until(lambda: len(place.runs()) > runners + 5 or place.is_done(), "it goes on by itself", timeout=RESUMES)
    wait_until(place.is_done, "everything is done")
    wait_until(lambda: command.log.count("storage unavailable") == command.log.count("storage is back"), "its end is told")
    assert time.monotonic() - begun < 20
    assert_told_once(command, 1 + len(command.workers()))
    assert command.stop() == 0, command.log
    assert not (disk / "queue.db-ballast").exists()
    assert finished(place).reruns == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(60)
def test_a_file_moved_away_and_back_costs_time_only(commanded: Commanded, kind: Any) -> None:
    """Also when a worker dies meanwhile: the one that takes its place makes no empty file."""
    place = commanded
    place.lives_by_rule = False
    place.gated(1)
    command = place.command(kind)
    wait_until(lambda: place.started_of("gated"), "it runs")

    def others() -> list[int]:
        return [pid for pid in command.workers() if str(pid) != place.started_of("gated")[0].node or kind == "thread"]

    wait_until(others, "so does another worker")
    path, aside = place.folder / "queue.db", place.folder / "aside"
    aside.mkdir()
    place.app.huey.close()
    for file in place.folder.glob("queue.db*"):
        file.rename(aside / file.name)
    wait_until(lambda: "the file is gone" in command.log, "it is told")
    victim = others()[0]
    before = set(command.workers())
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: set(command.workers()) - before, "another worker is started")
    wait(1)
    assert not path.exists(), "an empty file in its place would hide that it is gone"

    for file in aside.iterdir():
        file.rename(place.folder / file.name)
    place.open_gate()

    place.work(5)
    wait_until(lambda: len(place.started_of("work")) == 1, "it goes on by itself", timeout=RESUMES + 3)
    wait_until(place.is_done, "everything is done")
    assert command.stop() == 0, command.log


@pytest.mark.chaos
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(120)
def test_a_command_that_was_suspended_comes_back_and_works_on(commanded: Commanded, show: Any, kind: Any) -> None:
    """All of it is stopped for longer than the lease, as with a container that is paused, and another command takes over meanwhile.

    What it finishes after its return is refused, nothing is written twice, and it works on by itself.
    """
    place = commanded
    runners = KINDS[kind]
    ids = [place.gated(n) for n in range(runners)]
    paused = place.command(kind, "-n")
    wait_until(lambda: len(place.started_of("gated")) == runners, "they run")
    tree = [paused.pid, *paused.workers()]
    os.killpg(paused.pid, signal.SIGSTOP)
    begun = time.monotonic()
    heir = place.command(kind, "-n")

    wait_until(lambda: all(len(place.started(id)) == 2 for id in ids), "the heir runs them again", timeout=40)
    took = time.monotonic() - begun
    os.killpg(paused.pid, signal.SIGCONT)
    place.open_gate()
    wait_until(place.is_done, "all is done")

    results = {id: place.app.huey.result(id, preserve=True) for id in ids}
    assert heir.stop() == 0, heir.log
    place.bulk(range(100, 130))
    wait_until(place.is_done, "the one that came back works on", timeout=RESUMES)
    assert {id: place.app.huey.result(id, preserve=True) for id in ids} == results == {id: n * n for n, id in enumerate(ids)}
    assert all(len(place.started(id)) == 2 for id in ids)
    assert paused.is_alive
    assert paused.stop() == 0, paused.log
    show(f"taken over after {took:.1f} s; {sum(pid in tree for pid in tree)} processes came back")

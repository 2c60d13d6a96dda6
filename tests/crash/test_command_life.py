"""The life of a supervised command: limits and neighbours, recycling, orphans, new code, a second signal.

Nothing that the supervisor does to a worker costs a task more than time.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huey.engine.scoreboard import TO_END
from tests.crash.commands import KINDS, SHUTDOWN, Commanded, children, is_gone
from tests.crash.poison import LIMIT
from tests.crash.tools import most_common_problems
from tests.support.helpers import Project, wait_until

pytestmark = pytest.mark.timeout(60)

KILL = LIMIT + TO_END + SHUTDOWN
"""Seconds after which a worker is killed that runs an endless task: the limit, the time to end, and what its neighbours get."""
TASKS = 60


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Any]:
    project = Project(tmp_path)
    yield project
    project.close()


# -- limits -------------------------------------------------------------------------------------------------------------------------------

LIMITED = """
import time
from huey.exceptions import TaskTimeout

@huey.task(timeout=0.3)
def listens():
    try:
        while True:
            time.sleep(0.01)
    except TaskTimeout:
        return 'heard'

@huey.task(timeout=0.3, retries=1)
def again(path):
    '''Too slow the first time.'''
    import os
    if os.path.exists(path):
        return 'quicker'
    open(path, 'w').close()
    while True:
        time.sleep(0.01)

@huey.task()
def pid():
    import os
    return os.getpid()
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_past_its_limit_is_asked_first(project: Any, kind: Any) -> None:
    """TaskTimeout rises in its body, which may end as it likes; its worker goes on."""
    project.write(LIMITED)
    command = project.start("main.huey", "-k", kind, "-w", "1")
    before = project.task("main.pid")().get(blocking=True, timeout=10)

    assert project.task("main.listens")().get(blocking=True, timeout=10) == "heard"

    assert project.task("main.pid")().get(blocking=True, timeout=10) == before
    assert command.stop() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_timeout_is_a_try(project: Any, kind: Any) -> None:
    project.write(LIMITED)
    command = project.start("main.huey", "-k", kind, "-w", "1")

    handle = project.task("main.again", retries=1)(str(project.folder / "second"))

    assert handle.get(blocking=True, timeout=10) == "quicker"
    assert command.stop() == 0


def test_neighbours_of_a_task_past_its_limit_may_end(commanded: Commanded, show: Any) -> None:
    """Those that end within the shutdown timeout run once. Those that do not run again, and are not to blame."""
    place = commanded
    command = place.command("thread", "-n", workers=4)
    wait_until(lambda: command.is_known, "it has started")
    (worker,) = command.workers()
    stuck = place.app.endless_c().id
    quick = [place.work(n, KILL - SHUTDOWN / 2) for n in (2, 3)]
    slow = place.work(4, KILL + 2)

    wait_until(lambda: place.storage.get(stuck).state == "failed", "the one that is stuck has failed")
    wait_until(lambda: len(place.started(slow)) == 2, "the slow one runs again")
    row = place.storage.get(slow)
    wait_until(lambda: (place.storage.counts().ready, place.storage.counts().running) == (0, 0), "everything is done")

    assert is_gone(worker)
    assert command.is_alive
    assert place.storage.get(stuck).reason == "timeout"
    assert len(place.started(stuck)) == 1
    assert [len(place.started(id)) for id in quick] == [1, 1]
    assert (row.attempt, row.solo_crashes) == (0, 0)
    assert [place._result(id) for id in [*quick, slow]] == [4, 9, 16]
    assert command.stop() == 0
    show(f"the slow neighbour had {len(place.started(slow))} runs")


def test_while_a_worker_is_about_to_be_killed_it_claims_nothing(commanded: Commanded) -> None:
    """What waits is run by the next worker, once."""
    place = commanded
    command = place.command("thread", "-n", workers=2)
    wait_until(lambda: command.is_known, "it has started")
    stuck = place.app.endless_c().id
    wait_until(lambda: place.started(stuck), "it is stuck")
    waiting = place.bulk(range(200), 0.02)

    wait_until(lambda: (place.storage.counts().ready, place.storage.counts().running) == (0, 0), "everything is done", timeout=40)

    assert command.stop() == 0
    assert place.storage.get(stuck).reason == "timeout"
    assert [place._result(id) for id in waiting] == [n * n for n in range(200)]
    assert {len(place.started(id)) for id in waiting} == {1}


# -- recycling ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_is_replaced_after_so_many_tasks(commanded: Commanded, show: Any, kind: Any) -> None:
    """`--max-tasks`: between tasks, none is lost, none runs twice."""
    place = commanded
    ids = place.bulk(range(TASKS), 0.005)

    command = place.command(kind, "-n", "--max-tasks", "5", workers=2)
    wait_until(place.is_done, "everything is done")

    assert command.stop() == 0, command.log
    runs = place.runs()
    show(f"{len({run.node for run in runs})} workers for {TASKS} tasks")
    assert len({run.node for run in runs}) >= TASKS / 5 / 3
    assert [len(place.started(id)) for id in ids] == [1] * TASKS
    verdict = place.verdict()
    assert not verdict.problems, most_common_problems(verdict.problems) + command.log


FAT = """
import os

hoard = []

@huey.task()
def eat(megabytes):
    hoard.append(bytearray(os.urandom(1) * (megabytes * 2**20)))
    return os.getpid()
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_takes_too_much_memory_is_replaced(project: Any, kind: Any) -> None:
    """`--max-memory` (MB): between tasks. The task that went past it ends well."""
    project.write(FAT)
    command = project.start("main.huey", "-k", kind, "-w", "1", "--max-memory", "120")
    eat = project.task("main.eat")

    lean = [eat(1).get(blocking=True, timeout=10) for _ in range(3)]
    fat = eat(150).get(blocking=True, timeout=10)
    assert {fat, *lean} == {fat}
    wait_until(lambda: is_gone(fat), told=lambda: f"worker {fat} is replaced: {command.log}")

    assert eat(1).get(blocking=True, timeout=10) != fat
    assert command.stop() == 0
    assert project.huey.storage.counts().failed == 0


# -- the end of a supervisor ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_supervisor_takes_its_workers_along(commanded: Commanded, kind: Any) -> None:
    """No orphan runs on without a heart; what they ran, runs again elsewhere without blame."""
    place = commanded
    command = place.command(kind, "-n")
    ids = [place.gated(n) for n in range(KINDS[kind])]
    wait_until(lambda: len(place.runs()) == len(ids), "they run")
    workers = command.workers()

    command.kill()

    assert workers
    assert all(map(is_gone, workers))
    next_one = place.command(kind, "-n")
    wait_until(lambda: len(place.runs()) == 2 * len(ids), "they run again", timeout=10)
    rows = [place.storage.get(id) for id in ids]
    assert {(row.attempt, row.solo_crashes) for row in rows} == {(0, 0)}
    place.open_gate()
    wait_until(place.is_done, "everything is done")
    assert next_one.stop() == 0
    verdict = place.verdict()
    assert not verdict.problems, most_common_problems(verdict.problems)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once_and_loses_nothing(commanded: Commanded, kind: Any, second: Any) -> None:
    place = commanded
    command = place.command(kind, "-n", "--shutdown-timeout", "300")
    ids = [place.gated(n) for n in range(KINDS[kind])]
    wait_until(lambda: len(place.runs()) == len(ids), "they run")

    command.send(signal.SIGTERM)
    wait_until(lambda: "stopping" in command.log, "it has heard the first one")
    assert command.is_alive
    began = time.monotonic()
    command.stop(second)

    assert time.monotonic() - began < 5
    place.lives_by_rule = False
    place.open_gate()
    place.finish_by_command(kind)
    assert [place._result(id) for id in ids] == [n * n for n in range(len(ids))]
    verdict = place.verdict()
    assert not verdict.problems, most_common_problems(verdict.problems)


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_worker_is_replaced_at_once(commanded: Commanded, kind: Any) -> None:
    place = commanded
    command = place.command(kind, "-n")
    wait_until(lambda: len(command.workers()) >= 1 and command.is_known, "it has started")
    before = {*command.workers()}

    assert command.kill_worker(min)
    id = place.work(5)

    wait_until(lambda: place._result(id) == 25, "the next task runs", timeout=10)
    wait_until(lambda: len(command.workers()) == len(before), "there are as many workers as before")
    assert command.stop() == 0


def liability(pid: int) -> int:
    with open(f"/proc/{pid}/oom_score_adj", encoding="ascii") as file:
        return int(file.read())


def workers_are_first(command: Any) -> bool:
    workers = command.workers()
    return bool(workers) and all(liability(pid) > liability(command.pid) for pid in workers)


def test_when_memory_runs_out_workers_go_before_their_supervisor(commanded: Commanded) -> None:
    place = commanded
    command = place.command("process", "-n")
    wait_until(lambda: command.is_known, "it has started")

    wait_until(lambda: workers_are_first(command), "each worker is ended before the supervisor is")
    assert command.stop() == 0


SLOW_TO_START = """
import os, threading

def start_slowly():
    open('forked', 'w').close()
    threading.Event().wait(0.5)

os.register_at_fork(after_in_child=start_slowly)

@huey.task()
def count():
    '''Nothing.'''
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_is_obeyed_by_a_worker_that_is_just_starting(project: Any, kind: Any) -> None:
    """It was forked before the stop and hears of it as soon as it can hear; it claims nothing any more."""
    project.write(SLOW_TO_START)
    project.task("main.count").map(() for _ in range(200))
    command = project.start("main.huey", "-k", kind, "-w", "2")
    wait_until((project.home / "forked").exists, told=lambda: command.log)

    assert command.stop() == 0

    assert len(project.huey) == 200


# -- new code ------------------------------------------------------------------------------------------------------------------------------

VERSION = """
import os

@huey.task()
def version():
    return {n}, os.getpid(), os.getppid()
"""


@pytest.mark.parametrize("kind", KINDS)
def test_sighup_takes_new_code_with_the_same_pid(project: Any, kind: Any) -> None:
    project.write(VERSION.format(n=1))
    version = project.task("main.version")
    command = project.start("main.huey", "-k", kind, "-w", "2")
    n, old, parent = version().get(blocking=True, timeout=10)
    assert (n, parent) == (1, command.process.pid)

    project.write(VERSION.format(n=2))
    command.send(signal.SIGHUP)
    # For a moment old and new ones work side by side.
    wait_until(lambda: is_gone(old), told=lambda: f"the old worker {old} ends: {command.log}")
    wait_until(lambda: version().get(blocking=True, timeout=10)[0] == 2, told=lambda: f"new code runs: {command.log}")

    n, new, parent = version().get(blocking=True, timeout=10)
    assert (n, parent) == (2, command.process.pid)
    assert new != old
    assert command.is_running
    assert command.stop() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_sighup_with_a_broken_application_keeps_the_old_workers(project: Any, kind: Any) -> None:
    project.write(VERSION.format(n=1))
    version = project.task("main.version")
    command = project.start("main.huey", "-k", kind, "-w", "1")
    _, worker, _ = version().get(blocking=True, timeout=10)

    project.write("\nraise RuntimeError('half a deploy')\n")
    command.send(signal.SIGHUP)
    wait_until(lambda: "half a deploy" in command.log, told=lambda: command.log)

    assert version().get(blocking=True, timeout=10) == (1, worker, command.process.pid)
    project.write(VERSION.format(n=3))
    command.send(signal.SIGHUP)
    wait_until(lambda: version().get(blocking=True, timeout=10)[0] == 3, told=lambda: command.log)
    assert command.stop() == 0


SLOW_TO_IMPORT = """
import os, threading

open('importing', 'w').close()
while not os.path.exists('go-on'):
    threading.Event().wait(0.01)
raise RuntimeError('half a deploy')
"""


def test_a_second_sighup_tries_what_is_there_then(project: Any) -> None:
    project.write(VERSION.format(n=1))
    version = project.task("main.version")
    command = project.start("main.huey", "-w", "1")
    assert version().get(blocking=True, timeout=10)[0] == 1

    project.write(SLOW_TO_IMPORT)
    command.send(signal.SIGHUP)
    wait_until((project.home / "importing").exists, told=lambda: command.log)
    project.write(VERSION.format(n=2))
    command.send(signal.SIGHUP)
    assert version().get(blocking=True, timeout=10)[0] == 1
    (project.home / "go-on").touch()

    wait_until(lambda: version().get(blocking=True, timeout=10)[0] == 2, told=lambda: command.log)
    assert command.stop() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_sighup_lets_running_tasks_end(commanded: Commanded, kind: Any) -> None:
    place = commanded
    command = place.command(kind, "-n", "--shutdown-timeout", "60")
    ids = [place.gated(n) for n in range(2)]
    wait_until(lambda: len(place.runs()) == 2, "they run")
    old = {*map(int, {run.node for run in place.runs()})}

    command.send(signal.SIGHUP)
    wait_until(lambda: {*children(command.pid)} - old and {*command.workers()} > old, "new workers stand beside the old ones")
    meanwhile = place.work(6)
    wait_until(lambda: place._result(meanwhile) == 36, "the new ones work")
    assert not any(map(is_gone, old))
    place.open_gate()
    wait_until(lambda: all(map(is_gone, old)), "the old ones end")

    assert command.stop() == 0
    assert [len(place.started(id)) for id in ids] == [1, 1]
    verdict = place.verdict()
    assert not verdict.problems, most_common_problems(verdict.problems)


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_under_another_command_leaves_no_zombie(commanded: Commanded, kind: Any) -> None:
    """The supervisor buries its own, also the workers that were there before it renewed itself."""
    place = commanded
    command = place.command(kind, "-n")
    wait_until(lambda: command.is_known, "it has started")
    for _ in range(3):
        before = wait_until(command.workers, "there is a worker")
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda before=before: before[0] not in zombies_and_children(command.pid), f"{before[0]} is buried")  # type: ignore[misc]
    assert command.stop() == 0


def zombies_and_children(pid: Any) -> Any:
    """All children that are not buried."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [*map(int, file.read().split())]

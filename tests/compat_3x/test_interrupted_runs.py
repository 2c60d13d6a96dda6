"""What a consumer command does with a running task that is revoked, or cut short by a stop."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from huey.exceptions import TaskException
from tests.support.helpers import SOURCE, Command, Project, bare_environment, wait_until


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    yield project
    project.close()


STUBBORN = """
import pathlib
import time

@huey.task(retries=3)
def stubborn(n):
    while True:
        try:
            pathlib.Path(f'started-{n}').touch()
            while True:
                time.sleep(0.01)
        except BaseException:
            pathlib.Path(f'asked-{n}').touch()

@huey.task()
def add(a, b):
    return a + b
"""


def test_a_revoked_task_that_goes_on_ends_with_its_process(project: Project) -> None:
    project.write(STUBBORN)
    command = project.start("main.huey", "-k", "process", "-w", "2", "-n")
    handle = project.task("main.stubborn")(1)
    wait_until((project.home / "started-1").exists, told=lambda: command.log)

    handle.revoke()

    with pytest.raises(TaskException, match="revoked while it ran"):
        handle.get(blocking=True, timeout=20)
    row = project.huey.storage.get(handle.id)
    assert row is not None
    assert (row.state, row.reason, row.solo_crashes) == ("cancelled", "revoked", 0)
    assert (project.home / "asked-1").exists()
    # Both workers go on.
    add = project.task("main.add")
    assert add.map([(n, 1) for n in range(20)]).get(blocking=True, timeout=10) == list(range(1, 21))
    assert command.stop() == 0


def test_in_a_process_of_threads_it_is_only_asked(project: Project) -> None:
    project.write(STUBBORN)
    command = project.start("main.huey", "-w", "2", "-n", "--shutdown-timeout", "0.2")
    handle, add = project.task("main.stubborn")(1), project.task("main.add")
    wait_until((project.home / "started-1").exists, told=lambda: command.log)

    handle.revoke()

    wait_until((project.home / "asked-1").exists, told=lambda: command.log)
    assert add(1, 2).get(blocking=True, timeout=10) == 3
    assert project.huey.inspector.counts().running == 1
    assert "its worker is killed" not in command.log
    assert command.stop() == 0


LAST_WORDS = """
import pathlib
import threading

@huey.signal('interrupted')
def told(name, task):
    pathlib.Path('told').write_text(f'{name} {task.args}')

@huey.task()
def slow(n):
    pathlib.Path('started').touch()
    threading.Event().wait(30)
"""


RECIPE = """
import pathlib
import threading

def note(path, text):
    with open(path, 'a') as file:
        file.write(text)

@huey.signal('interrupted')
def told(name, task):
    note('told', task.id)
    huey.enqueue(task)

@huey.task()
def slow(n):
    note('runs', f'{n} ')
    if pathlib.Path('runs').read_text() == '7 ':
        threading.Event().wait(30)
    return n
"""


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_c38_enqueueing_an_interrupted_task_runs_it_once(project: Project, kind: str) -> None:
    project.write(RECIPE)
    command = project.start("main.huey", "-n", "-k", kind, "--shutdown-timeout", "0.2")
    handle = project.task("main.slow")(7)
    wait_until((project.home / "runs").exists, told=lambda: command.log)
    assert command.stop(signal.SIGTERM) == 0
    assert project.huey.storage.counts()[:3] == (1, 0, 0)
    project.start("main.huey", "-n", "-k", kind)

    assert handle.get(blocking=True, timeout=20) == 7
    wait_until(lambda: project.huey.storage.counts()[:3] == (0, 0, 0))
    assert (project.home / "runs").read_text() == "7 7 "
    assert (project.home / "told").read_text() == handle.id


@pytest.mark.parametrize("arguments", [("-t", "0.2"), ("-g", "INT")])
def test_what_a_stop_cuts_short_is_told_and_runs_again(project: Project, arguments: tuple[str, ...]) -> None:
    project.write(LAST_WORDS)
    command = project.start("main.huey", "-n", *arguments)
    handle = project.task("main.slow")(7)
    wait_until((project.home / "started").exists, told=lambda: command.log)

    begun = time.monotonic()
    assert command.stop(signal.SIGTERM) == 0

    assert time.monotonic() - begun < 8
    assert (project.home / "told").read_text() == "interrupted (7,)"
    row = project.huey.storage.get(handle.id)
    assert row is not None
    assert (row.state, row.attempt, row.solo_crashes, row.reason) == ("queued", 0, 0, "shutdown")


PROGRAM = """
import os

@huey.task(name='pid')
def pid():
    return os.getpid()

if __name__ == '__main__':
    raise SystemExit(huey.create_consumer(workers=2, worker_type='process', max_tasks=2, periodic=False).run())
"""


def test_a_program_that_runs_its_consumer_gets_worker_processes(project: Project) -> None:
    project.write(PROGRAM)
    command = Command(
        ("main.py",), project.home, project.folder / "program.txt", bare_environment(PYTHONPATH=str(SOURCE)), [sys.executable]
    )
    try:
        pid = project.task("pid")
        pids = {pid().get(blocking=True, timeout=10) for _ in range(5)}

        assert command.stop(signal.SIGTERM) == 0
    finally:
        command.bury()
    assert len(pids) > 1
    assert command.process.pid not in pids


def test_the_command_has_its_path_of_3_x_too(project: Project) -> None:
    project.write("@huey.task(name='one')\ndef one():\n    return 1\n")
    environment = bare_environment(PYTHONPATH=str(SOURCE))
    program = [sys.executable, "-m", "huey.bin.huey_consumer"]
    command = Command(("main.huey", "-w", "2", "-t", "5"), project.home, project.folder / "module.txt", environment, program)
    try:
        assert project.task("one")().get(blocking=True, timeout=10) == 1
        assert command.stop(signal.SIGTERM) == 0
    finally:
        command.bury()

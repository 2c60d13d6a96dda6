"""Worker processes and what they leave to others: programs that tasks start, exit handlers, standard streams, folders, the environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from huey.consumer import command as own
from huey.consumer.memory import OomScore
from huey.consumer.memory import _read_oom_score as oom_points
from huey.testing.clock import FakeClock
from tests.support.helpers import Project, bare_environment, wait_until
from tests.support.mortals import mortal

APP = """
import atexit, json, os, signal, subprocess, sys, weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PROGRAM = '''
import json, os, signal
fds = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if int(n) > 2 and os.path.exists(f"/proc/self/fd/{n}")]
print(json.dumps({
    "ignored": [n for n in ("SIGINT", "SIGHUP", "SIGTERM") if signal.getsignal(getattr(signal, n)) == signal.SIG_IGN],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "oom": open("/proc/self/oom_score_adj").read().strip(),
    "ours": sorted(n for n in os.environ if n.startswith("HUEY_")),
    "fds": [it for it in fds if "huey" in it],
}))
'''

class Owner:
    pass

def note(name):
    # A finish of Python's own, in the process that registered it.
    Path(f"{name}-{os.getpid()}").touch()

before, pool = Owner(), ThreadPoolExecutor(1)
atexit.register(note, "supervisor")
weakref.finalize(before, note, "supervisor-final")
print("imported")

@huey.task()
def start(how):
    return json.loads(subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, close_fds=how != "inherit").stdout)

@huey.task()
def track():
    global owner
    owner = Owner()
    atexit.register(note, "exit")
    weakref.finalize(owner, note, "final")
    print("a word, and no more")
    return os.getpid()

@huey.task()
def linger():
    import time
    atexit.register(time.sleep, 3600)
    return os.getpid()
"""

KINDS = pytest.mark.parametrize("kind", ["thread", "process"])


def asked(project: Project, name: str, *args: Any) -> Any:
    return project.task(f"main.{name}")(*args).get(blocking=True, timeout=30)


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@KINDS
def test_programs_that_tasks_start_are_left_alone(project: Project, kind: str) -> None:
    project.write(APP)
    command = project.start("main.huey", "-k", kind)

    found = [asked(project, "start", how) for how in ("plain", "inherit", "plain")]
    assert command.stop() == 0

    usual = {"ignored": [], "blocked": [], "oom": str(oom_points()), "ours": [], "fds": []}
    assert found == [usual] * 3, command.log


@KINDS
def test_a_worker_ends_as_a_program_does(project: Project, kind: str) -> None:
    project.write(APP)
    command = project.start("main.huey", "-k", kind)
    pid = asked(project, "track")
    wait_until(lambda: "a word, and no more\n" in command.log, timeout=5)

    assert command.stop() == 0

    there = names(project.home)
    assert {f"exit-{pid}", f"final-{pid}"} <= there, command.log
    assert {f"supervisor-{command.process.pid}", f"supervisor-final-{command.process.pid}"} <= there
    assert not {f"supervisor-{pid}", f"supervisor-final-{pid}"} & there, "in the worker they are not called"
    assert command.log.count("imported") == 1, "what was printed before the fork is not printed again"


def test_exit_handlers_have_their_time_and_no_more(project: Project) -> None:
    project.write(APP + "\nfrom huey.consumer import processes\nprocesses.EXIT_TIMEOUT_S = 0.2\n")
    command = project.start("main.huey")
    asked(project, "linger")

    assert command.stop() == 0

    assert "exit handlers of this worker" in command.log


FORKING = """
import multiprocessing, os, signal, time

@huey.task()
def end(number):
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    os.kill(child.pid, number)
    child.join(10)
    return child.exitcode, os.getpid()
"""


@KINDS
def test_a_process_forked_by_a_task_ends_without_its_worker(project: Project, kind: str) -> None:
    project.write(FORKING)
    command = project.start("main.huey", "-k", kind)

    ends = [asked(project, "end", int(number)) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM)]
    pids = {pid for _, pid in ends}

    assert [code for code, _ in ends] == [-signal.SIGTERM, -signal.SIGHUP, -signal.SIGTERM], command.log
    assert len(pids) == 1
    assert command.stop() == 0


def test_a_consumer_in_a_program_outlives_a_child(project: Project) -> None:
    project.write(FORKING)
    code = "import sys\nfrom main import huey\nsys.exit(huey.create_consumer(periodic=False).run())\n"
    (project.home / "program.py").write_text(code)
    process = mortal(subprocess.Popen([sys.executable, "program.py"], cwd=project.home, env=bare_environment()))
    try:
        ends = [asked(project, "end", int(signal.SIGTERM)) for _ in range(2)]
        assert ends == [(-signal.SIGTERM, process.pid)] * 2
    finally:
        process.terminate()
        assert process.wait(30) == 0


# -- folders ----------------------------------------------------------------------------------------------------------------------------

RELEASE = "\n@huey.task()\ndef release():\n    return {}\n"


def switch(link: Path, to: Path) -> None:
    new = link.with_name("next")
    new.symlink_to(to)
    new.replace(link)


@pytest.fixture
def releases(project: Project, tmp_path: Path) -> list[Path]:
    """Two releases, and the link ``current`` to the first."""
    folders = [tmp_path / "releases" / str(number) for number in (1, 2)]
    for number, folder in enumerate(folders, 1):
        project.write(RELEASE.format(number), folder=folder)
    (tmp_path / "current").symlink_to(folders[0])
    return folders


def test_a_link_to_another_release_is_followed_at_sighup(project: Project, releases: list[Path], tmp_path: Path) -> None:
    current = tmp_path / "current"
    command = project.start("main.huey", cwd=current, PWD=str(current))
    assert asked(project, "release") == 1

    switch(current, releases[1])
    command.send(signal.SIGHUP)
    wait_until(lambda: command.log.count("task main.release\n") == 2, told=lambda: command.log)
    wait_until(lambda: asked(project, "release") == 2)

    assert command.stop() == 0


def test_a_relative_pythonpath_is_that_of_the_new_release(project: Project, releases: list[Path], tmp_path: Path) -> None:
    for number, folder in enumerate(releases, 1):
        (folder / "main.py").unlink()
        project.write(RELEASE.format(number), "lib/main.py", folder)
    current = tmp_path / "current"
    command = project.start("main.huey", cwd=current, PWD=str(current), PYTHONPATH="lib")
    assert asked(project, "release") == 1

    switch(current, releases[1])
    command.send(signal.SIGHUP)
    wait_until(lambda: command.log.count("task main.release\n") == 2, told=lambda: command.log)
    wait_until(lambda: asked(project, "release") == 2)

    assert command.stop() == 0


def test_a_folder_that_is_gone_at_sighup_is_told(project: Project, releases: list[Path], tmp_path: Path) -> None:
    current = tmp_path / "current"
    command = project.start("main.huey", cwd=current, PWD=str(current))
    assert asked(project, "release") == 1

    current.unlink()
    command.send(signal.SIGHUP)
    wait_until(lambda: "No such file or directory" in command.log, told=lambda: command.log)

    assert asked(project, "release") == 1
    assert "the workers continue with the old code" in command.log
    assert command.stop() == 0


def test_a_folder_that_is_gone_at_the_start_is_a_mistake(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = "import os, sys\nos.rmdir(os.getcwd())\nfrom huey.cli.consumer import main\nsys.exit(main(['main.huey']))\n"

    done = subprocess.run([sys.executable, "-c", code], cwd=gone, env=bare_environment(), capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert (
        done.stderr == "huey_consumer: the current directory no longer exists; change to one that does, such as that of your application\n"
    )


@pytest.mark.parametrize(
    ("argv", "by_line", "expected"),
    [
        (["/v/bin/python", "-m", "huey.cli.consumer"], False, [sys.executable, "-m", "huey.cli.consumer"]),
        (["python", "manage.py"], False, [sys.executable, "manage.py"]),
        (["venv/bin/python", "manage.py"], False, ["/srv/current/venv/bin/python", "manage.py"]),
        (["/r/1/python", "venv/bin/huey_consumer", "a.huey"], True, ["/srv/current/venv/bin/huey_consumer", "a.huey"]),
        (["/r/1/python", "/srv/current/bin/huey_consumer"], True, ["/srv/current/bin/huey_consumer"]),
    ],
)
def test_the_command_is_run_again_as_it_was_run(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], by_line: bool, expected: list[str]
) -> None:
    monkeypatch.setattr(sys, "orig_argv", argv)
    monkeypatch.setattr(own, "NAMED", "/srv/current")
    monkeypatch.setattr(own, "BY_FIRST_LINE", by_line)

    assert own.own_command() == expected


@pytest.mark.parametrize(
    ("head", "is_so"),
    [
        ("#!/v/bin/python\nimport sys\n", True),
        ("#!/v/bin/python -E\nimport sys\n", True),
        ("#!/bin/sh\n'''exec' \"/v/bin/python\" \"$0\" \"$@\"\n' '''\n", True),
        ("#!/v/bin/python3.11\n", False),
        ("#!/usr/bin/env python\n", False),
        ("import sys\n", False),
    ],
)
def test_a_script_is_known_by_its_first_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str, is_so: bool) -> None:
    script = tmp_path / "huey_consumer"
    script.write_text(head)
    script.chmod(0o755)
    monkeypatch.setattr(sys, "orig_argv", ["/v/bin/python", str(script)])

    assert own._runs_by_first_line() is is_so


@pytest.mark.skipif(not os.access("/proc/self/oom_score_adj", os.W_OK), reason="this system has none")
def test_a_worker_is_likelier_to_be_killed_than_the_supervisor() -> None:
    code = """
import os, subprocess, sys
from huey.consumer.memory import OomScore, _read_oom_score
from huey.testing.clock import FakeClock
clock = FakeClock()
usual, it = _read_oom_score(), OomScore(clock)
it.raise_score()
print(_read_oom_score() - usual, end=" ")
print(int(subprocess.check_output(["cat", "/proc/self/oom_score_adj"])) - usual, end=" ")
it.raise_again()
print(_read_oom_score() - usual, end=" ")
clock.forward(2)
it.raise_again()
print(_read_oom_score() - usual)
"""
    done = subprocess.run([sys.executable, "-c", code], env=bare_environment(), capture_output=True, text=True, timeout=60)

    assert done.stdout == "200 0 0 200\n", done.stderr


def test_where_there_is_no_likelihood_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huey.consumer.memory._OOM_FILE", "/nowhere/oom_score_adj")
    it = OomScore(FakeClock())

    it.raise_score()
    it.raise_again()

    assert oom_points() is None


# -- workers that are started by exec, and under a watcher -----------------------------------------------------------------------------


def test_a_worker_that_imports_by_itself_ends_as_a_program_too(project: Project) -> None:
    project.write("import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\n" + APP)
    command = project.start("main.huey")
    pid = asked(project, "track")

    assert command.stop() == 0

    assert "this process has several threads" in command.log
    assert {f"exit-{pid}", f"final-{pid}"} <= names(project.home)


def test_programs_started_under_a_watcher_are_not_watched(project: Project) -> None:
    project.write(APP)
    command = project.start("main.huey", "--reload")

    assert asked(project, "start", "plain")["ours"] == []
    project.write(APP + "\n# changed\n")
    wait_until(lambda: command.log.count("task main.start\n") == 2, told=lambda: command.log)
    assert asked(project, "start", "plain")["ours"] == []

    assert command.stop() == 0


def test_a_worker_started_by_max_tasks_has_its_own_exit_handlers(project: Project) -> None:
    project.write(APP)
    command = project.start("main.huey", "--max-tasks", "1")

    pids = [asked(project, "track") for _ in range(2)]
    wait_until(lambda: {f"exit-{pid}" for pid in pids} <= names(project.home), told=lambda: command.log)

    assert command.stop() == 0
    assert pids[0] != pids[1]

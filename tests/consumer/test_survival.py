"""What ends neither supervisor, engine nor runner: a system that cannot fork, a command that was moved, log handlers that raise."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.helpers import Project, wait_until

pytestmark = pytest.mark.timeout(60)

APP = """
import errno
import logging
import os
import sys
from pathlib import Path

FOLDER = Path({folder!r})


@huey.task()
def pid():
    return os.getpid()


@huey.task()
def fail():
    raise ValueError("fail")


def unless_well(name, original, error):
    def maybe(*args, **options):
        if (FOLDER / name).exists():
            with open(FOLDER / (name + "-tried"), "a") as file:
                file.write("x")
            raise error
        return original(*args, **options)

    return maybe


os.fork = unless_well("no-fork", os.fork, BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"))
os.memfd_create = unless_well("no-memory", os.memfd_create, OSError(errno.ENOMEM, "Cannot allocate memory"))
os.posix_spawn = unless_well("no-spawn", os.posix_spawn, FileNotFoundError(errno.ENOENT, "No such file or directory", "/venv/bin/python"))
os.execve = unless_well("no-exec", os.execve, FileNotFoundError(errno.ENOENT, "No such file or directory", "/venv/bin/python"))
"""
THREADED = """
import threading

if "HUEY_SEAT" not in os.environ:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
"""
NOISY = """

class Chat(logging.Handler):
    def emit(self, record):
        raise {error}


logging.getLogger("huey").addHandler(Chat(logging.{level}))
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    yield project
    project.close()


def write(project: Project, more: str = "") -> None:
    project.write(APP.format(folder=str(project.folder)) + more)


def pid(project: Project) -> int:
    return int(project.task("main.pid")().get(blocking=True, timeout=20))


@pytest.mark.parametrize(("name", "more"), [("no-fork", ""), ("no-memory", ""), ("no-spawn", THREADED)])
def test_a_supervisor_that_cannot_start_a_process_tries_again(project: Project, name: str, more: str) -> None:
    """One line, and what waits runs once the system can."""
    write(project, more)
    command = project.start("main.huey", "-n")
    first = pid(project)
    (project.folder / name).touch()
    os.kill(first, signal.SIGKILL)
    wait_until(
        lambda: (project.folder / f"{name}-tried").exists() and len((project.folder / f"{name}-tried").read_text()) >= 3, "it tries again"
    )
    assert command.is_running

    (project.folder / name).unlink()

    assert pid(project) != first
    assert command.log.count("cannot start a worker") == 1
    assert command.stop() == 0


def test_a_start_may_fail_from_the_beginning(project: Project) -> None:
    write(project)
    (project.folder / "no-fork").touch()
    command = project.start("main.huey", "-n")
    wait_until((project.folder / "no-fork-tried").exists, "it tries")

    (project.folder / "no-fork").unlink()

    assert pid(project)
    assert command.stop() == 0


@pytest.mark.parametrize("name", ["no-spawn", "no-exec"])
def test_new_code_that_cannot_be_started_leaves_the_old_running(project: Project, name: str) -> None:
    """A deployment moved the interpreter, and then sent SIGHUP."""
    write(project)
    command = project.start("main.huey", "-n")
    first = pid(project)
    (project.folder / name).touch()

    command.send(signal.SIGHUP)
    wait_until(lambda: "the workers continue with the old code" in command.log, "it is told")

    assert "/venv/bin/python" in command.log
    assert pid(project) == first
    os.kill(first, signal.SIGKILL)
    assert pid(project) != first
    (project.folder / name).unlink()
    command.send(signal.SIGHUP)
    wait_until(lambda: command.log.count("huey 4") == 2, "the new code runs")
    assert pid(project)
    assert command.stop() == 0


@pytest.mark.parametrize(
    ("level", "error"),
    [
        ("INFO", "ValueError('the chat is down')"),
        ("INFO", "SystemExit('no')"),
        ("WARNING", "ValueError('the chat is down')"),
        ("WARNING", "SystemExit('no')"),
        ("WARNING", "KeyboardInterrupt()"),
        ("ERROR", "GeneratorExit()"),
    ],
)
def test_a_log_handler_that_raises_ends_nobody(project: Project, level: str, error: str) -> None:
    """More failures than runners, and a worker that dies."""
    write(project, NOISY.format(level=level, error=error))
    command = project.start("main.huey", "-n", "-w", "2")
    handles = [project.task("main.fail")() for _ in range(5)]
    for handle in handles:
        with pytest.raises(Exception, match="fail"):
            handle.get(blocking=True, timeout=20)
    first = pid(project)

    os.kill(first, signal.SIGKILL)

    assert pid(project) != first
    assert command.stop() == 0


@pytest.mark.parametrize("closed", ["sys.stdout.close()", "sys.stderr.close()", "os.close(2)", "sys.stdout = None"])
def test_a_body_that_closes_a_stream_ends_nobody(project: Project, closed: str) -> None:
    write(project, f"\n\n@huey.task()\ndef close():\n    {closed}\n    return 1\n")
    command = project.start("main.huey", "-n", "-w", "2")
    project.task("main.close")().get(blocking=True, timeout=20)
    for _ in range(3):
        with pytest.raises(Exception, match="fail"):
            project.task("main.fail")().get(blocking=True, timeout=20)

    assert pid(project)
    assert command.stop() == 0


@pytest.mark.parametrize("streams", [">&-", "2>&-", ">&- 2>&-", ">/dev/full", ">/dev/full 2>&1"])
def test_a_consumer_without_streams_ends_quietly(project: Project, streams: str) -> None:
    import subprocess

    from tests.support.helpers import bare_environment, consumer_command

    write(project)
    words = [*consumer_command(), "main.huey", "-n", "-l", str(project.folder / "log")]
    process = subprocess.Popen(["sh", "-c", f'exec "$0" "$@" {streams}', *words], cwd=project.home, env=bare_environment())
    try:
        assert pid(project)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    log = (project.folder / "log").read_text()
    assert "Traceback" not in log
    assert "exited with code" not in log

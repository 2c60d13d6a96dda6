"""Where huey works. macOS is played on Linux: what it lacks is taken away from Python before huey is imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from huey.runtime import host
from tests.support.helpers import Project, bare_environment, wait_until

MACOS = """
import builtins, os, select, sys
GONE = "pipe2 memfd_create eventfd eventfd_read eventfd_write fdatasync posix_fallocate O_PATH sched_getaffinity"
for name in GONE.split():
    if hasattr(os, name):
        delattr(os, name)
if hasattr(select, "epoll"):
    del select.epoll
sys.platform = "darwin"

def without_proc(function):
    def inner(path, *args, **kwargs):
        if isinstance(path, str) and path.startswith("/proc/"):
            raise FileNotFoundError(2, "no such file", path)
        return function(path, *args, **kwargs)
    return inner

builtins.open, os.readlink, os.stat = without_proc(builtins.open), without_proc(os.readlink), without_proc(os.stat)
listdir = without_proc(os.listdir)
os.listdir = lambda path=".": listdir(path)
"""

APP = """
import os

@huey.task()
def add(a, b):
    return a + b

@huey.task()
def who():
    return os.getpid()
"""


@pytest.fixture
def mac(project: Project) -> Project:
    project.write(APP)
    (project.home / "sitecustomize.py").write_text(MACOS)
    return project


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_the_command_runs_tasks_on_macos(mac: Project, kind: str) -> None:
    command = mac.start("main.huey", "-k", kind, "-w", "2", PYTHONPATH=str(mac.home))

    assert mac.task("main.add")(1, 2).get(blocking=True, timeout=30) == 3, command.log
    assert command.stop() == 0

    assert "Traceback" not in command.log


def test_new_code_is_started_on_macos(mac: Project) -> None:
    command = mac.start("main.huey", PYTHONPATH=str(mac.home))
    assert mac.task("main.add")(1, 2).get(blocking=True, timeout=30) == 3
    mac.write(APP.replace("a + b", "a - b"))

    command.send(signal.SIGHUP)
    wait_until(lambda: command.log.count("task main.add\n") == 2, told=lambda: command.log)
    wait_until(lambda: mac.task("main.add")(1, 2).get(blocking=True, timeout=30) == -1)

    assert command.stop() == 0


def test_workers_end_with_their_supervisor_on_macos(mac: Project) -> None:
    command = mac.start("main.huey", PYTHONPATH=str(mac.home))
    pid = mac.task("main.who")().get(blocking=True, timeout=30)

    command.send(signal.SIGKILL)
    command.ended()

    wait_until(lambda: host.process_start_time(pid) is None)


@pytest.mark.parametrize("platform", ["win32", "emscripten"])
@pytest.mark.parametrize("statement", ["import huey", "from huey import Huey", "import huey.cli.consumer", "from huey.api import Huey"])
def test_elsewhere_the_import_says_so_in_a_sentence(platform: str, statement: str) -> None:
    code = f"import sys\nsys.platform = {platform!r}\ntry:\n    {statement}\nexcept ImportError as error:\n    print(error)\n"

    done = subprocess.run([sys.executable, "-c", code], env=bare_environment(), capture_output=True, text=True, timeout=60)

    assert done.stdout.startswith(f"huey runs on Linux and macOS, not on {platform}; on Windows use it inside WSL"), done.stderr
    assert os.linesep not in done.stdout.rstrip()

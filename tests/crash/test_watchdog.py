"""Each own thread of a worker and of the supervisor stands still, ends, raises: work goes on, nothing is lost, one line says so.

The forms with a watchdog of 30 s take long, they are chaos; the others have one of 3 s.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huey.exceptions import StorageUnavailable
from tests.crash.commands import children
from tests.crash.saboteur import OBEYED, order
from tests.crash.tools import ROOT
from tests.support.helpers import Project, never, wait_until

APP = """
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, {root!r})
from tests.crash.saboteur import sabotage

sabotage(Path({folder!r}))


@huey.task()
def note(n):
    time.sleep(0.01)
    with open({folder!r} + "/ran", "a") as file:
        file.write(str(n) + chr(10))
    return os.getpid()


@huey.task(timeout=0.2)
def late():
    while True:
        time.sleep(0.01)


@huey.periodic_task(lambda now: True)
def tick():
    with open({folder!r} + "/ticks", "a") as file:
        file.write("tick" + chr(10))
"""
QUICK, LONG = 3, 30
SLACK = 5
"""Seconds from the watchdog's time to work again."""
SLOWNESS = 3.0
"""Seconds that a busy machine may add."""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Any]:
    project = Project(tmp_path)
    project.write(APP.format(root=str(ROOT), folder=str(tmp_path)))
    yield project
    project.close()


class Sabotaged:
    """A consumer that runs, and what it has done."""

    def __init__(self, project: Project, watchdog: int, *flags: str, workers: int = 2, patience: float = 20, **environment: Any) -> None:
        self.project = project
        words = ("-w", str(workers), "-P", "0.5", "--watchdog", str(watchdog), *flags)
        self.command = project.start("main.huey", *words, **environment)
        self.note, self.late = project.task("main.note"), project.task("main.late")
        self.pid = self.note(0).get(blocking=True, timeout=patience)
        self.sent = [0]

    def send(self, count: int = 20) -> None:
        for _ in range(count):
            self.sent.append(len(self.sent))
            wait_until(lambda: self._is_sent(self.sent[-1]), "the task is put in", 90)

    def _is_sent(self, n: int) -> bool:
        try:
            self.note.schedule(args=(n,), id=f"n{n}")
        except StorageUnavailable:
            return False
        return True

    @property
    def ran(self) -> list[int]:
        return [int(line) for line in (self.project.folder / "ran").read_text().split()]

    def is_done(self) -> bool:
        return set(self.sent) <= set(self.ran)

    def obeys(self, thread: str, way: str) -> None:
        order(self.project.folder, thread, way)
        # Who rests has a reason to look.
        self.send(2)
        wait_until((self.project.folder / OBEYED).exists, f"{thread} is to {way}", 65)

    def lines(self, *levels: str) -> list[str]:
        return [line for line in self.command.log.splitlines() if re.search(rf"\b({'|'.join(levels)})\b", line)]


THREADS = ("engine", "main", "time limits", "scheduler")


def watched(quick: Any, long: Any) -> Any:
    """The watchdog's time."""
    chaos = pytest.param(long, marks=[pytest.mark.chaos, pytest.mark.timeout(180)])
    return pytest.mark.parametrize("watchdog", [pytest.param(quick, marks=pytest.mark.timeout(60)), chaos])


@pytest.mark.slow_machine
@watched(QUICK, LONG)
@pytest.mark.parametrize("thread", THREADS)
def test_a_worker_of_which_a_thread_stands_still_is_replaced(project: Any, show: Any, thread: Any, watchdog: Any) -> None:
    """One line, nobody is blamed."""
    consumer = Sabotaged(project, watchdog)
    consumer.obeys(thread.replace("time limits", "limits"), "freeze")
    began = time.monotonic()
    consumer.send()

    wait_until(lambda: consumer.note(0).get(blocking=True, timeout=60) != consumer.pid, "another worker runs", watchdog + 20)
    wait_until(consumer.is_done, "all that was sent has run", 20)
    took = time.monotonic() - began

    show(f"another worker after {took:.1f} s")
    assert took < watchdog + SLACK + SLOWNESS
    (line,) = consumer.lines("CRITICAL")
    assert re.search(r"has stalled: no response from its .*" + thread, line)
    assert len(consumer.ran) <= len(consumer.sent) + 60 * 20
    assert project.huey.storage.counts().failed == 0
    with pytest.raises(Exception, match="TaskTimeout"):
        consumer.late().get(blocking=True, timeout=10)
    assert consumer.command.stop() == 0


@pytest.mark.timeout(60)
@pytest.mark.parametrize("way", ["end", "raise"])
@pytest.mark.parametrize("thread", ["engine", "limits", "scheduler", "pulse", "runner", "main"])
def test_a_thread_that_ends_or_raises_goes_on_in_place(project: Any, thread: Any, way: Any) -> None:
    """The same process runs on, with one line."""
    if (thread, way) == ("main", "end"):
        pytest.skip("the end of the main thread is that of the process")
    consumer = Sabotaged(project, QUICK, workers=1)
    consumer.obeys(thread, way)
    consumer.send()

    wait_until(consumer.is_done, "all that was sent has run", 20)
    with pytest.raises(Exception, match="TaskTimeout"):
        consumer.late().get(blocking=True, timeout=10)

    assert consumer.note(0).get(blocking=True, timeout=10) == consumer.pid
    words = "ended unexpectedly" if way == "end" else "failed; "
    wait_until(lambda: words in consumer.command.log, "it is told", 10)
    assert sum(words in line for line in consumer.lines("CRITICAL", "ERROR")) == 1
    assert consumer.command.stop() == 0
    assert project.huey.storage.counts().running == 0


@pytest.mark.timeout(60)
def test_a_pulse_that_stands_still_alone_is_started_again(project: Any) -> None:
    consumer = Sabotaged(project, LONG, workers=1)
    consumer.obeys("pulse", "freeze")

    wait_until(lambda: consumer.lines("CRITICAL"), "it is told", 25)

    (line,) = consumer.lines("CRITICAL")
    assert "the pulse thread of this worker has stalled" in line
    assert consumer.note(0).get(blocking=True, timeout=10) == consumer.pid
    assert consumer.command.stop() == 0


PARTS = ("_handle_signals", "_reap", "_kill_overdue", "_send_heartbeats", "_start_missing_workers", "_maintain", "_wait")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", PARTS)
def test_a_supervisor_of_which_a_part_raises_goes_on(project: Any, part: Any) -> None:
    """It still replaces what dies, and stops when it is told to."""
    consumer = Sabotaged(project, QUICK, workers=1)
    consumer.obeys(f"supervisor{part}", "raise")
    consumer.send()

    os.kill(consumer.pid, signal.SIGKILL)

    wait_until(consumer.is_done, "all that was sent has run", 20)
    assert consumer.note(0).get(blocking=True, timeout=10) != consumer.pid
    assert sum("failed; retrying" in line for line in consumer.lines("ERROR")) == 1
    assert consumer.command.stop() == 0


@watched(QUICK, LONG)
def test_a_supervisor_that_stands_still_is_told(project: Any, show: Any, watchdog: Any) -> None:
    consumer = Sabotaged(project, watchdog, workers=1)
    consumer.obeys("supervisor_maintain", "freeze")
    began = time.monotonic()
    consumer.send()

    wait_until(consumer.is_done, "all that was sent has run", 20)
    wait_until(lambda: consumer.lines("CRITICAL"), "it is told", watchdog + SLACK)

    show(f"told after {time.monotonic() - began:.1f} s")
    (line,) = consumer.lines("CRITICAL")
    assert f"the supervisor (pid {consumer.command.process.pid}) has not checked its workers for" in line
    assert consumer.note(0).get(blocking=True, timeout=10) == consumer.pid


# -- never ---------------------------------------------------------------------------------------------------------------------------------

HELD = """

@huey.task()
def grip(seconds):
    import ctypes

    ctypes.PyDLL(None).sleep(seconds)
    return os.getpid()


@huey.task()
def spin(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)
    return os.getpid()
"""
"""Seconds of each trial: longer than the watchdog of it."""


def held(quick: Any, long: Any) -> Any:
    """The watchdog's time, and how long a worker is held."""
    chaos = pytest.param(LONG, long, marks=[pytest.mark.chaos, pytest.mark.timeout(long + 120)])
    return pytest.mark.parametrize(("watchdog", "seconds"), [pytest.param(QUICK, quick, marks=pytest.mark.timeout(60)), chaos])


def is_left_alone(consumer: Sabotaged) -> bool:
    """The same worker runs, everything has run once, and nothing was replaced."""
    consumer.send()
    wait_until(consumer.is_done, "all that was sent has run", 20)
    same = consumer.note(0).get(blocking=True, timeout=20) == consumer.pid
    return same and not consumer.lines("CRITICAL") and sorted(set(consumer.ran)) == sorted(consumer.sent)


@held(8, 120)
def test_a_worker_whose_gil_is_held_is_left_and_named(project: Any, show: Any, watchdog: Any, seconds: Any) -> None:
    project.write(APP.format(root=str(ROOT), folder=str(project.folder)) + HELD)
    consumer = Sabotaged(project, watchdog)
    began = time.monotonic()
    handle = project.task("main.grip")(seconds)

    assert handle.get(blocking=True, timeout=seconds + 30) == consumer.pid

    show(f"held {time.monotonic() - began:.0f} s")
    lines = consumer.lines("WARNING")
    assert [f"Running tasks: main.grip {handle.id}" in line for line in lines] == [True], lines
    assert is_left_alone(consumer)
    assert consumer.command.stop() == 0


@held(8, 60)
def test_a_tree_that_was_stopped_is_left_alone(project: Any, show: Any, watchdog: Any, seconds: Any) -> None:
    consumer = Sabotaged(project, watchdog)
    tree = [consumer.command.process.pid, *children(consumer.command.process.pid)]
    for pid in tree:
        os.kill(pid, signal.SIGSTOP)
    consumer.send()
    time.sleep(seconds)
    for pid in tree:
        os.kill(pid, signal.SIGCONT)

    assert is_left_alone(consumer)
    show(f"stopped {seconds} s, {len(tree)} processes")
    # What would come of it is there in as many looks.
    never(lambda: consumer.lines("CRITICAL"), within=min(watchdog, QUICK) + 2.0)
    assert consumer.command.stop() == 0


SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void slow(void) {
    char to[4096];
    const char *order = getenv("SLOW_SYNC");
    if (!order) return;
    snprintf(to, sizeof to, "%s.taken", order);
    if (rename(order, to)) return;
    struct timespec left = {atoi(getenv("SLOW_SYNC_SECONDS")), 0};
    while (nanosleep(&left, &left)) ;
}
int fsync(int fd) { slow(); return ((int (*)(int)) dlsym(RTLD_NEXT, "fsync"))(fd); }
int fdatasync(int fd) { slow(); return ((int (*)(int)) dlsym(RTLD_NEXT, "fdatasync"))(fd); }
"""


@pytest.mark.parametrize("kind", ["thread", "process"])
@held(8, 60)
def test_a_worker_that_waits_for_one_fsync_is_left_alone(
    project: Any, show: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, watchdog: Any, seconds: Any, kind: Any
) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        with capsys.disabled():
            print("\n  not run: no compiler")
        pytest.skip("no compiler")
    (tmp_path / "slow.c").write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "slow.so", tmp_path / "slow.c", "-ldl"], check=True)
    environment: dict[str, Any] = {
        "LD_PRELOAD": str(tmp_path / "slow.so"),
        "SLOW_SYNC": str(tmp_path / "slow"),
        "SLOW_SYNC_SECONDS": str(seconds),
    }
    consumer = Sabotaged(project, watchdog, "-k", kind, workers=1, **environment)

    (tmp_path / "slow").touch()
    began = time.monotonic()
    consumer.send()
    # While it lasts others may be kept out, which the log tells as an outage; that is none of ours.
    wait_until((tmp_path / "slow.taken").exists, "an fsync is slow", 20)
    wait_until(consumer.is_done, "all that was sent has run", seconds + 30)

    show(f"{kind}: all had run after {time.monotonic() - began:.0f} s")
    assert is_left_alone(consumer)
    assert consumer.command.stop() == 0


@held(8, 60)
def test_a_worker_in_a_debugger_is_left_alone(project: Any, show: Any, watchdog: Any, seconds: Any) -> None:
    """Stopped by it for longer than a lease, in the long form; and then only attached."""
    consumer = Sabotaged(project, watchdog, workers=1)
    tracer = subprocess.Popen([sys.executable, "-c", TRACER, str(consumer.pid), str(seconds)], stdout=subprocess.PIPE, text=True)
    assert tracer.stdout is not None
    said = tracer.stdout.readline()
    if "may not" in said:
        tracer.wait()
        pytest.skip(said)
    consumer.send()
    assert tracer.wait(seconds + 30) == 0
    tracer.stdout.close()

    assert is_left_alone(consumer)
    show(f"held {seconds} s")
    assert consumer.command.stop() == 0


TRACER = """
import ctypes, os, signal, sys, time

libc, pid, seconds = ctypes.CDLL(None, use_errno=True), int(sys.argv[1]), float(sys.argv[2])
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
threads = [int(it) for it in os.listdir(f"/proc/{pid}/task")]
for thread in threads:
    if libc.ptrace(16, thread, None, None):  # PTRACE_ATTACH
        print("this user may not trace", flush=True)
        sys.exit()
    os.waitpid(thread, 0x40000000)  # __WALL
print("attached", flush=True)
time.sleep(seconds)
for thread in threads:
    libc.ptrace(17, thread, None, None)  # PTRACE_DETACH
"""


@held(8, 90)
def test_a_worker_that_imports_for_long_is_left_alone(project: Any, show: Any, watchdog: Any, seconds: Any) -> None:
    """Where each worker imports the application by itself: it has not reported ready."""
    project.write(APP.format(root=str(ROOT), folder=str(project.folder)) + SLOW_IMPORT.format(seconds=seconds))
    began = time.monotonic()
    consumer = Sabotaged(project, watchdog, workers=1, patience=seconds + 30)

    show(f"it ran its first task after {time.monotonic() - began:.0f} s")
    assert is_left_alone(consumer)
    assert consumer.command.stop() == 0


SLOW_IMPORT = """

if "HUEY_SEAT" in os.environ:
    time.sleep({seconds})
else:
    # With a second thread the supervisor may not fork.
    import threading

    threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


@held(8, 90)
def test_a_worker_of_which_a_task_imports_for_long_is_left_alone(project: Any, show: Any, watchdog: Any, seconds: Any) -> None:
    (project.home / "heavy.py").write_text(f"import time\ntime.sleep({seconds})\n")
    project.write(APP.format(root=str(ROOT), folder=str(project.folder)) + IMPORTING)
    consumer = Sabotaged(project, watchdog)

    assert project.task("main.importing")().get(blocking=True, timeout=seconds + 30) == consumer.pid

    assert is_left_alone(consumer)
    assert consumer.command.stop() == 0


IMPORTING = """

@huey.task()
def importing():
    import heavy

    return os.getpid()
"""

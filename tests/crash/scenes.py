"""What the fork tests play in a process of their own: ``python -m tests.crash.scenes SCENE FOLDER ...``. Exit code 0: it went well."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huey import SqliteHuey
from huey.exceptions import HueyException

LIFETIME = 8
"""Seconds after which a forked child ends in any case."""
NOBODY = 65534


class Queue:
    """A queue whose tasks are numbers."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.huey = SqliteHuey("app", filename=folder / "queue.db", **options)
        self.task = self.huey.task(name="number")(number)

    def put(self, *numbers: int) -> None:
        for n in numbers:
            self.task.schedule(args=(n,), id=f"n-{n}")

    def wait_for(self, name: str) -> None:
        deadline = time.monotonic() + 20
        while not (self.folder / name).exists():
            assert time.monotonic() < deadline, f"{name} never came"
            time.sleep(0.005)


def number(n: int) -> int:
    return n


def child(act: Callable[[], None]) -> int:
    """Fork; the child does *act* and ends."""
    pid = os.fork()
    if pid == 0:
        # Whatever holds it up, it does not outlive its test for long.
        signal.alarm(LIFETIME)
        try:
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def all_well(pids: list[int]) -> bool:
    return [os.waitpid(pid, 0)[1] for pid in pids] == [0] * len(pids)


# -- scenes -------------------------------------------------------------------------------------------------------------------------------


def children(queue: Queue, count: str, each: str) -> bool:
    """The parent enqueues and looks, forks, enqueues again while its children do."""
    total = int(count) * int(each)
    queue.put(total)
    assert len(queue.huey) == 1
    pids = [child(lambda first=n * int(each): use(queue, range(first, first + int(each)))) for n in range(int(count))]  # type: ignore[misc]
    queue.put(total + 1)
    assert queue.huey.storage.get(f"n-{total}") is not None
    return all_well(pids) and len(queue.huey) == total + 2


def use(queue: Queue, numbers: range) -> None:
    queue.put(*numbers)
    assert all(queue.huey.storage.get(f"n-{n}") for n in numbers)


def busy_parent(queue: Queue, count: str) -> bool:
    """Fork again and again while a thread writes. Prints the slowest enqueue of a child, seconds."""
    is_over = threading.Event()

    def write() -> None:
        n = 10**6
        while not is_over.is_set():
            queue.put(n)
            n += 1

    thread = threading.Thread(target=write)
    thread.start()
    reader, writer = os.pipe()
    fine = all(all_well([child(lambda n=n: timed(queue, n, writer))]) for n in range(int(count)))  # type: ignore[misc]
    is_over.set()
    thread.join()
    os.close(writer)
    with os.fdopen(reader) as times:
        print(max([float(line) for line in times], default=LIFETIME))
    return fine and all(queue.huey.storage.get(f"n-{n}") for n in range(int(count)))


def timed(queue: Queue, n: int, told: int) -> None:
    begun = time.monotonic()
    queue.put(n)
    os.write(told, f"{time.monotonic() - begun}\n".encode())


def audit(queue: Queue) -> bool:
    """The child closes what it inherited of the queue's files, then works; the parent goes on too."""
    queue.put(0)

    def act() -> None:
        for fd in inherited(queue.folder):
            os.close(fd)
        queue.put(1)
        assert queue.huey.storage.counts().ready == 2

    fine = all_well([child(act)])
    queue.put(2)
    return fine and queue.huey.storage.counts().ready == 3


def inherited(folder: Path) -> list[int]:
    """Open descriptors of this process on the queue's files."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if target.startswith(str(folder / "queue.db")):
            found.append(int(name))
    return found


def orphan(queue: Queue) -> bool:
    """The parent ends and leaves a child, which enqueues once somebody else has opened and closed the file."""
    queue.put(0)

    def act() -> None:
        # The test waits for the parent's output to end: the child must not hold it.
        devnull = os.open(os.devnull, os.O_RDWR)
        os.dup2(devnull, 1)
        os.dup2(devnull, 2)
        queue.put(1)
        (queue.folder / "orphan-is-ready").touch()
        queue.wait_for("file-was-closed")
        acknowledged, errors = [], []
        for n in (2, 3, 4):
            try:
                queue.put(n)
                acknowledged.append(n)
            except Exception as error:
                errors.append(repr(error))
        (queue.folder / "report").write_text(json.dumps({"acknowledged": acknowledged, "errors": errors}), "utf-8")
        (queue.folder / "report").rename(queue.folder / "orphan-is-done")

    child(act)
    queue.wait_for("orphan-is-ready")
    return True


def crowd(queue: Queue, processes: str, threads: str, each: str) -> bool:
    """Processes with threads, all of them enqueueing one by one."""
    share = int(threads) * int(each)

    def act(process: int) -> None:
        crew = [
            threading.Thread(target=queue.put, args=range(first, first + int(each)))
            for first in range(process * share, (process + 1) * share, int(each))
        ]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()

    return all_well([child(lambda n=n: act(n)) for n in range(int(processes))])  # type: ignore[misc]


def as_nobody(queue: Queue, folder: str) -> bool:
    """Enqueue into the queue of another folder without root's rights. Prints the error."""
    # Loads all modules while they can be read.
    queue.put(0)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    try:
        Queue(Path(folder)).put(1)
    except HueyException as error:
        print(type(error).__name__, error)
    return True


def small_quota(queue: Queue, limit: str) -> bool:
    """Enqueue until no file may grow, then with more room again. Prints what was acknowledged and the error as JSON."""
    queue.put(0)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), hard))
    acknowledged, error = [0], None
    for n in range(1, 10_000):
        try:
            queue.put(n)
            acknowledged.append(n)
        except HueyException as raised:
            error = f"{type(raised).__name__} {raised}"
            break
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    queue.put(10_000)
    print(json.dumps({"acknowledged": [*acknowledged, 10_000], "error": error}))
    return True


SCENES = {scene.__name__: scene for scene in (children, busy_parent, audit, orphan, crowd, as_nobody, small_quota)}

if __name__ == "__main__":
    scene, folder, *arguments = sys.argv[1:]
    queue = Queue(Path(folder))
    fine = SCENES[scene](queue, *arguments)
    # A parent that is left by its child must not tidy up: that is the point of it.
    sys.stdout.flush()
    os._exit(0 if fine else 1)

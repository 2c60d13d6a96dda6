"""Tasks that hurt the process that runs them, each in a way of its own."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from huey import SqliteHuey
from huey.task.options import TaskOptions
from huey.task.task import Task

LIMIT = 1.0
"""Seconds that the endless ones may run."""
LIMITED: dict[str, Any] = {"timeout": LIMIT} if "timeout" in TaskOptions._fields else {}
MEGABYTE = 2**20


def segfault() -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def leave_at_once() -> None:
    os._exit(3)


def out_of_memory() -> None:
    """What the kernel does to who takes too much, without taking it from the machine."""
    taken = bytearray(64 * MEGABYTE)
    os.kill(os.getpid(), signal.SIGKILL)
    del taken


def starve() -> None:
    """No more address space for this process, until the task is over."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 32 * MEGABYTE, hard))
    try:
        bytearray(1024 * MEGABYTE)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def overflow() -> None:
    """Recursion until the C stack ends."""
    sys.setrecursionlimit(10**8)

    def deeper(n: int) -> Any:
        return max([n], key=lambda n: deeper(n + 1))

    deeper(0)


def leave() -> None:
    sys.exit(3)


def unpicklable() -> Any:
    return threading.Lock()


def close_all() -> None:
    os.closerange(3, 1024)


def deafen() -> None:
    """Overwrite the handlers of all signals that may be."""
    ignore = ctypes.c_void_p(1)
    libc = ctypes.CDLL(None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGCHLD):
        libc.signal(int(number), ignore)


def move() -> None:
    os.chdir("/")


def split() -> None:
    """Fork, and come back twice."""
    os.fork()


def leave_a_thread() -> None:
    """A thread that outlives its task, and would outlive its process."""
    threading.Thread(target=threading.Event().wait, daemon=False).start()


def endless_c() -> None:
    ctypes.CDLL(None).sleep(600)


def endless_gil() -> None:
    ctypes.PyDLL(None).sleep(600)


def endless() -> None:
    while True:
        """Python code that could be interrupted."""


KILLERS = (segfault, abort, leave_at_once, out_of_memory, overflow)
"""They take their worker along."""
FAILING = (starve, leave, unpicklable)
"""They raise, or their result cannot be stored."""
HARMFUL = (close_all, deafen, move, split, leave_a_thread)
"""They end well and leave the process worse than it was."""
ENDLESS = (endless_c, endless_gil, endless)


def make_poison(huey: SqliteHuey, told: Callable[[Task], AbstractContextManager[None]]) -> dict[str, Any]:
    """One task for each; ``told`` notes their runs."""

    def make(harm: Callable[[], Any], options: dict[str, Any]) -> Any:
        @huey.task(name=harm.__name__, include_task=True, **options)
        def poison(task: Task) -> Any:
            with told(task):
                return harm()

        return poison

    plain = {harm.__name__: make(harm, {}) for harm in (*KILLERS, *FAILING, *HARMFUL)}
    return plain | {harm.__name__: make(harm, LIMITED) for harm in ENDLESS}

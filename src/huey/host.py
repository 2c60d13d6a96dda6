"""What this machine knows about its processes: who am I, and does that other one still live."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from functools import cache

alive_here: set[str] = set()
"""Ids of the workers that live in this process."""


@cache
def boot_id() -> str:
    """Differs after each start of the machine; empty where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def process_space() -> str:
    """Boot id and process namespace: two processes with the same one see each other's pid."""
    try:
        return f"{boot_id()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{boot_id()}/"


def born(pid: int) -> int | None:
    """When the process started, as the kernel counts; None when there is none or the system does not tell."""
    facts = _facts(pid)
    return None if not facts or facts[0] in "ZXx" else int(facts[19])


def lives(pid: int, since: int) -> bool | None:
    """Whether the process of that pid and start time lives. None: the system does not tell (hidden from us, or no /proc)."""
    facts = _facts(pid)
    if facts:
        return facts[0] not in "ZXx" and int(facts[19]) == since
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return None
    # It exists, but its start time cannot be seen: it may be another process by now.
    return None


def is_stopped(pid: int) -> bool:
    """The process is held by SIGSTOP or a debugger."""
    facts = _facts(pid)
    return bool(facts) and facts[0] in "Tt"


def _facts(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; empty when they cannot be read."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command name stands in brackets and may hold anything.
            return file.read().rpartition(b")")[2].decode("ascii").split()
    except OSError:
        return []


def at_fork(**methods: Callable[[], object]) -> None:
    """``os.register_at_fork`` for methods, held weakly: the list of hooks never shrinks."""
    os.register_at_fork(**{when: _weakly(method) for when, method in methods.items()})


def _weakly(method: Callable[[], object]) -> Callable[[], object]:
    there = weakref.WeakMethod(method)
    return lambda: (act := there()) and act()

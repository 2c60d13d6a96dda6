"""What this machine knows about its processes: who am I, and does that other one still live."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from functools import cache
from itertools import count
from threading import get_ident

from huey.runtime import masking

LOCAL_WORKER_IDS: set[str] = set()
"""Ids of the workers that live in this process."""


@cache
def boot_id() -> str:
    """Differs after each start of the machine; empty where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return _of_kernel("kern.bootsessionuuid")


def _of_kernel(name: str) -> str:
    """What the kernel of macOS says under that name; empty elsewhere."""
    if sys.platform != "darwin":
        return ""
    import ctypes

    text, size = ctypes.create_string_buffer(256), ctypes.c_size_t(256)
    try:
        failed = ctypes.CDLL(None).sysctlbyname(name.encode(), text, ctypes.byref(size), None, ctypes.c_size_t(0))
    except (OSError, AttributeError):
        return ""
    return "" if failed else text.value.decode("ascii", "replace")


_CHANCE = os.urandom(16).hex()


def pid_namespace() -> str:
    """Boot id and process namespace: two processes with the same one, and the same host name, see each other's pid. Where the system does
    not tell, no two processes have the same one."""
    try:
        # macOS has one namespace.
        space = os.readlink("/proc/self/ns/pid") if sys.platform != "darwin" else "pid"
    except OSError:
        space = ""
    boot = boot_id()
    return f"{boot}/{space}" if boot and space else f"{boot}/?{_CHANCE}-{os.getpid()}"


def process_start_time(pid: int) -> int | None:
    """When the process started, as the kernel counts; None when there is none or the system does not tell."""
    facts = _facts(pid)
    return None if not facts or facts[0] in "ZXx" else int(facts[19])


def is_alive(pid: int, since: int) -> bool | None:
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


def is_traced(pid: int) -> bool:
    """A debugger is attached to the process."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            return any(line.startswith("TracerPid:") and line.split()[1] != "0" for line in file)
    except OSError:
        return False


def sleepers(pid: int) -> set[tuple[str, str]]:
    """Threads of the process that wait for a device and cannot be interrupted, each with how often it has slept: one that is there twice
    has not woken in between."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return set()
    return {found for thread in threads if (found := _sleeper(f"/proc/{pid}/task/{thread}/status"))}


def _sleeper(path: str) -> tuple[str, str] | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            said = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        return None
    is_asleep = said.get("State", "").strip().startswith("D")
    return (path, said.get("voluntary_ctxt_switches", "").strip()) if is_asleep else None


_syncs: dict[int, int] = {}
"""By thread of this process: the number of its wait for the disk."""
_numbers = count()

_fsync = getattr(os, "fdatasync", os.fsync)


def to_disk(fd: int) -> None:
    """Wait until the disk has what was written to *fd*, however long that takes: whoever watches over this process can tell."""
    me = get_ident()
    _syncs[me] = next(_numbers)
    try:
        _fsync(fd)
    finally:
        _syncs.pop(me, None)


def syncs() -> set[int]:
    """Waits for the disk that are going on in this process: one that is there twice has lasted since."""
    return set(list(_syncs.values()))


os.register_at_fork(after_in_child=_syncs.clear)


def _facts(pid: int | str) -> list[str]:
    """Fields of /proc/PID/stat from the state on; empty when they cannot be read."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command name stands in brackets and may hold anything.
            return file.read().rpartition(b")")[2].decode("ascii").split()
    except OSError:
        return []


def at_fork(**methods: Callable[[], object]) -> None:
    """``os.register_at_fork`` for methods, held weakly: the list of hooks never shrinks."""
    callbacks = {when: _weakly(method) for when, method in methods.items()}
    if "before" in callbacks:
        # A body that forks may be asked to stop: not between what these two do.
        callbacks["before"] = _both(masking.close_for_fork, callbacks["before"])
        callbacks["after_in_parent"] = _both(callbacks["after_in_parent"], masking.reopen_after_fork)
    os.register_at_fork(**callbacks)


def _both(first: Callable[[], object], second: Callable[[], object]) -> Callable[[], object]:
    return lambda: (first(), second())


def _weakly(method: Callable[[], object]) -> Callable[[], object]:
    there = weakref.WeakMethod(method)
    return lambda: (act := there()) and act()

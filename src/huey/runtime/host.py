"""Processes of this machine: the identity of this one, and whether another is still alive."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from functools import cache

from huey.runtime import masking

LOCAL_WORKER_IDS: set[str] = set()
"""Ids of the workers of this process that are alive."""


@cache
def boot_id() -> str:
    """Return an id that changes with each start of the machine; empty where the system has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return _of_kernel("kern.bootsessionuuid")


def _of_kernel(name: str) -> str:
    """Return a sysctl value of macOS; empty elsewhere."""
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
    """Return boot id and pid namespace: two processes with the same value and host name see each other's pid. Where the system has no such
    id, each process has its own value."""
    try:
        # macOS has one namespace.
        space = os.readlink("/proc/self/ns/pid") if sys.platform != "darwin" else "pid"
    except OSError:
        space = ""
    boot = boot_id()
    return f"{boot}/{space}" if boot and space else f"{boot}/?{_CHANCE}-{os.getpid()}"


def process_start_time(pid: int) -> int | None:
    """Return when the process started, in clock ticks of the kernel; None if it does not exist, or the system does not report it."""
    facts = _facts(pid)
    return None if not facts or facts[0] in "ZXx" else int(facts[19])


def is_alive(pid: int, since: int) -> bool | None:
    """Return whether the process with this pid and start time is alive; None if the system does not report it (hidden, or no /proc)."""
    facts = _facts(pid)
    if facts:
        return facts[0] not in "ZXx" and int(facts[19]) == since
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return None
    # It exists, but its start time is hidden: it may be another process by now.
    return None


def is_stopped(pid: int) -> bool:
    """Return True if the process is stopped, by SIGSTOP or a debugger."""
    facts = _facts(pid)
    return bool(facts) and facts[0] in "Tt"


def is_traced(pid: int) -> bool:
    """Return True if a debugger is attached to the process."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            return any(line.startswith("TracerPid:") and line.split()[1] != "0" for line in file)
    except OSError:
        return False


def sleepers(pid: int) -> set[tuple[str, str]]:
    """Return the threads of the process in uninterruptible sleep (waiting for a device, say), each with its number of sleeps: one that is
    found again has not woken in between."""
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


disk_waits: dict[int, int] = {}
"""By thread of this process: the number of its current wait for the disk."""


def syncs() -> set[int]:
    """Return the current waits for the disk in this process: one that is found again has lasted since then."""
    return set(list(disk_waits.values()))


os.register_at_fork(after_in_child=disk_waits.clear)


def _facts(pid: int | str) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; empty if they cannot be read."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command name is in parentheses and may contain anything.
            return file.read().rpartition(b")")[2].decode("ascii").split()
    except OSError:
        return []


def at_fork(**methods: Callable[[], object]) -> None:
    """Register methods with ``os.register_at_fork`` by weak references, since the list of callbacks never shrinks."""
    callbacks = {when: _weakly(method) for when, method in methods.items()}
    if "before" in callbacks:
        # A forking task may be asked to stop, but not between these two callbacks.
        callbacks["before"] = _both(masking.close_for_fork, callbacks["before"])
        callbacks["after_in_parent"] = _both(callbacks["after_in_parent"], masking.reopen_after_fork)
    os.register_at_fork(**callbacks)


def _both(first: Callable[[], object], second: Callable[[], object]) -> Callable[[], object]:
    return lambda: (first(), second())


def _weakly(method: Callable[[], object]) -> Callable[[], object]:
    there = weakref.WeakMethod(method)
    return lambda: (act := there()) and act()

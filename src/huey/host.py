"""What this machine knows about its processes: who am I, and does that other one still live."""

from __future__ import annotations

import os
from functools import cache


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
    """When the process started, as the kernel counts; None when there is none, or it has ended and waits to be buried."""
    facts = _facts(pid)
    return None if facts is None or facts[0] in "ZXx" else int(facts[19])


def is_stopped(pid: int) -> bool:
    """The process is held by SIGSTOP or a debugger."""
    facts = _facts(pid)
    return facts is not None and facts[0] in "Tt"


def _facts(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on. Without /proc: only whether it exists."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command name stands in brackets and may hold anything.
            return file.read().rpartition(b")")[2].decode("ascii").split()
    except FileNotFoundError:
        if os.path.exists("/proc/self/stat"):
            return None
    except ProcessLookupError:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ["R"] + ["0"] * 19

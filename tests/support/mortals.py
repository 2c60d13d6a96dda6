"""Servers and consumers that tests start die with the test run, also when that is killed with -9.

One watcher for each process that runs tests: it reads pids from a pipe, and when that ends it kills what still lives of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import AnyStr

from huey.runtime import host

WATCHER = """
import os, signal, sys

def process_start_time(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except OSError:
        return ""

known = [line.split() for line in sys.stdin]
for pid, since in known:
    if process_start_time(pid) == since:
        os.kill(int(pid), signal.SIGKILL)
"""

_watcher: tuple[int, subprocess.Popen[str]] | None = None


def mortal(process: subprocess.Popen[AnyStr]) -> subprocess.Popen[AnyStr]:
    """Let *process* end with this one, however this one ends. (Where there is no /proc, nothing is done.)"""
    global _watcher
    since = host.process_start_time(process.pid)
    if since is None:
        return process
    if _watcher is None or _watcher[0] != os.getpid():
        words = [sys.executable, "-S", "-E", "-c", WATCHER]
        _watcher = os.getpid(), subprocess.Popen(words, stdin=subprocess.PIPE, text=True, start_new_session=True)
    pipe = _watcher[1].stdin
    assert pipe is not None
    pipe.write(f"{process.pid} {since}\n")
    pipe.flush()
    return process

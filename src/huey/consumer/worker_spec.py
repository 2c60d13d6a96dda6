"""The data passed to a worker process at its start: its identity, its supervisor, and the location of its scoreboard."""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from huey.runtime import host
from huey.storage.rows import Worker

WORKER_SPEC = "HUEY_WORKER_SPEC"
"""Environment variable that holds the spec of a process started by exec."""


class WorkerSpec(NamedTuple):
    """The identity of a worker process."""

    id: str
    kind: str
    supervisor: str
    """Pid and start time of the supervisor, separated by a colon."""
    runners: int
    scoreboard_fd: int
    queue: str
    """The queue from which it claims tasks."""

    @classmethod
    def from_environment(cls) -> WorkerSpec | None:
        """Return the spec for which this process was started by exec, or None in any other process."""
        # Removed from the environment, so that programs which tasks start do not take it for theirs.
        text = os.environ.pop(WORKER_SPEC, None)
        return cls(*json.loads(text)) if text else None

    @property
    def supervisor_pid(self) -> int:
        return int(self.supervisor.partition(":")[0])


def make_worker(id: str, kind: str = "solo", supervisor: str = "", pid: int | None = None) -> Worker:
    """Return the worker for a process of this machine, by default this one."""
    pid = os.getpid() if pid is None else pid
    return Worker(id, os.uname().nodename, pid, host.pid_namespace(), host.process_start_time(pid) or 0, kind, supervisor)

"""The place of a worker process under its supervisor: who it is, where its page lies."""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from huey.runtime import host
from huey.storage.rows import Worker

SEAT = "HUEY_SEAT"
"""Environment variable that tells a process which worker it is."""


class WorkerSpec(NamedTuple):
    """What a worker process has to know of itself."""

    id: str
    kind: str
    keeper: str
    """``pid:born`` of the supervisor."""
    runners: int
    page_fd: int
    queue: str
    """The queue that it takes tasks from."""

    def to_text(self) -> str:
        return json.dumps(self)

    @classmethod
    def of_this_process(cls) -> WorkerSpec | None:
        """The seat this process was started for by exec; None for any other process."""
        # Taken out of the environment, as programs that tasks start would take it for theirs.
        text = os.environ.pop(SEAT, None)
        return cls(*json.loads(text)) if text else None

    @property
    def keeper_pid(self) -> int:
        return int(self.keeper.partition(":")[0])


def make_worker(id: str, kind: str = "solo", keeper: str = "", pid: int | None = None) -> Worker:
    """A process of this machine as a worker; by default this one."""
    pid = os.getpid() if pid is None else pid
    return Worker(id, os.uname().nodename, pid, host.process_space(), host.born(pid) or 0, kind, keeper)

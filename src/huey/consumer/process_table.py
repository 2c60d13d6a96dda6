"""The worker processes of one supervisor, as values: which ones there are, when each has to be gone, and which dead ones are still to be
recovered.

Nothing here forks, waits or talks to a storage: the supervisor does that, and keeps the outcome here.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from huey.consumer.recovery import ExitCause
from huey.engine.scoreboard import RunningTask, Scoreboard
from huey.engine.stamps import Standstill
from huey.runtime import host
from huey.runtime.clock import Micros
from huey.storage.rows import Worker

WORKER_SPEC = "HUEY_WORKER_SPEC"
"""Environment variable that holds the spec of a process started by exec."""


PLAIN_THREADS = 16
"""Threads for plain functions in a worker that runs coroutines."""


def slots_of(kind: str, runners: int) -> int:
    """Return how many runners a worker of *kind* has, *runners* of which may be busy at the same time."""
    return runners + PLAIN_THREADS if kind == "async" else runners


class WorkerSpec(NamedTuple):
    """The data passed to a worker process at its start: its identity, its supervisor, and the location of its scoreboard."""

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


@dataclass(slots=True)
class Child:
    """A worker process that this supervisor started or inherited from the one before it."""

    worker: Worker
    scoreboard: Scoreboard
    started: Micros
    """Monotonic time of its start."""
    queue: str
    """The queue from which it claims tasks."""
    cause: ExitCause = ExitCause.CRASH
    """The cause to report if it exits now."""
    is_stopping: bool = False
    """Whether it was asked to stop."""
    deadline: tuple[Micros, ExitCause] | None = None
    """When it is killed if it is still running, and the cause to report then."""
    idle_since: Micros | None = None
    """Quarantine workers only: since when there has been no suspect for it."""
    asked_since: Micros | None = None
    """Since when its task is being asked to stop because it was revoked."""
    stopped_since: Micros | None = None
    """Since when it is suspended by SIGSTOP."""
    standstill: Standstill = field(default_factory=partial(Standstill, 0))
    """What the watchdog has counted for it."""
    sleepers: set[tuple[str, str]] = field(default_factory=set)
    """Its threads that were in uninterruptible sleep at the watchdog's last check."""

    @property
    def pid(self) -> int:
        return self.worker.pid

    def signal(self, number: int) -> None:
        """Send a signal. The process has not been reaped yet, so its pid cannot belong to another one."""
        os.kill(self.pid, number)

    def request_stop(self) -> None:
        """Ask it to claim nothing more, finish what it runs, and exit."""
        self.is_stopping = True
        self.scoreboard.request_stop()
        self.signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """Announce that it will be killed in a moment, so that its handlers of ``interrupted`` can run."""
        self.scoreboard.request_requeue()
        self.request_stop()

    def kill(self, cause: ExitCause) -> None:
        self.cause = cause
        self.signal(signal.SIGKILL)

    def kill_by(self, deadline: Micros, cause: ExitCause) -> None:
        """Set the deadline; an earlier one stays, with the new cause."""
        self.deadline = (deadline if self.deadline is None else min(deadline, self.deadline[0])), cause

    def expire(self) -> ExitCause:
        """Clear the deadline, which has passed, and return its cause."""
        cause = ExitCause.CRASH if self.deadline is None else self.deadline[1]
        self.deadline = None
        return cause

    def to_list(self) -> list[object]:
        """Return its state for the next supervisor, as plain values."""
        return [*self.worker, self.scoreboard.fd, self.scoreboard.count, self.started, self.queue]

    @classmethod
    def from_list(cls, fields: list[object]) -> Child:
        """Return the child that `to_list` described."""
        *worker, fd, count, started, queue = fields
        return cls(Worker(*worker), Scoreboard(int(str(count)), int(str(fd))), int(str(started)), str(queue))  # type: ignore[arg-type]


class DeadChild(NamedTuple):
    """A worker process that has exited and whose tasks are still to be recovered."""

    child: Child
    status: int
    """As ``waitpid`` returns it."""
    was_ready: bool
    """Whether it had started before it exited."""
    running: int
    """How many tasks were running."""
    ran: list[RunningTask]
    """Those tasks, and others that may have caused a crash."""

    @property
    def is_clean(self) -> bool:
        """True if it exited by itself, with nothing left to do."""
        return self.status == 0 and not self.running


class ProcessTable:
    """The children of a supervisor, from start to recovery."""

    def __init__(self) -> None:
        self.current: list[Child] = []
        """Workers started with the code that runs now."""
        self.previous: list[Child] = []
        """Workers of the supervisor that this process was before it reloaded its code."""
        self.unrecovered: list[DeadChild] = []

    def all(self) -> list[Child]:
        """All workers that have not been reaped."""
        return self.current + self.previous

    def find(self, pid: int) -> Child | None:
        return next((child for child in self.all() if child.pid == pid), None)

    def count_by_queue(self, kind: str) -> Counter[str]:
        """Return how many current workers of *kind* each queue has, not counting those that are stopping."""
        return Counter(child.queue for child in self.current if child.worker.kind == kind and not child.is_stopping)

    def running(self) -> int:
        """Return how many tasks are running in all workers together."""
        return sum(len(child.scoreboard.running()) for child in self.all())

    def overdue(self, now: Micros) -> list[Child]:
        """Return the workers whose deadline has passed."""
        return [child for child in self.all() if child.deadline is not None and child.deadline[0] <= now]

    def next_deadline(self, others: Sequence[Micros]) -> Micros:
        """Return the earliest deadline of a worker or of *others*, of which there must be one."""
        return min([*others, *(child.deadline[0] for child in self.all() if child.deadline is not None)])

    def reap(self, child: Child, status: int) -> DeadChild:
        """Move *child*, which has exited with *status*, to `unrecovered`, and release its scoreboard."""
        (self.current if child in self.current else self.previous).remove(child)
        board = child.scoreboard
        running = board.running()
        if board.is_blameless:
            child.cause = ExitCause.STUCK
        # A task that had ended and is still held may have caused a crash too: a body that closes all files kills its process a moment
        # later.
        ran = running + board.ended() if child.cause is ExitCause.CRASH else running
        dead = DeadChild(child, status, board.is_ready, len(running), ran)
        board.close()
        self.unrecovered.append(dead)
        return dead

"""The task run that this thread or coroutine is in, and the worker of this process that runs it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from threading import get_ident
from typing import Any

Run = tuple[str, int]
"""Id of the task, and token of its lease."""

run: ContextVar[Run | None] = ContextVar("huey_run", default=None)
"""Set by the executor around a body; None elsewhere, including threads that a body starts."""


caller: ContextVar[object] = ContextVar("huey_caller", default=None)
"""The asyncio task for which a thread makes a call; None elsewhere."""


class FlowRun:
    """A run of a flow's member. *additions*: the members that it adds; they are enqueued with its success."""

    __slots__ = ("additions", "id", "queue", "run")

    def __init__(self, run: Run, queue: str, id: str) -> None:
        """*queue*, *id*: of the flow."""
        self.run = run
        self.queue = queue
        self.id = id
        self.additions: Any = None


_flow: ContextVar[FlowRun | None] = ContextVar("huey_flow", default=None)


def enter_flow(member: FlowRun) -> None:
    """Record that *member* runs in this context."""
    _flow.set(member)


def flow_of(its_run: Run | None) -> FlowRun | None:
    """Return the flow that *its_run* is a member of. Runs inside of it, which happen inline, are members of their own flow or of none."""
    member = _flow.get()
    return member if member is not None and member.run == its_run else None


class Serving:
    """A worker of this process that runs tasks, for those of its tasks that wait for others."""

    def __init__(self, storage: Any, worker: str, runners: int, running: Callable[[int], Any]) -> None:
        """*worker*: its id. *running*: the lease that a thread runs, or None."""
        self.storage = storage
        self.worker = worker
        self.runners = runners
        self.waiting: set[int] = set()
        """Runner threads that wait for tasks of this worker's queue."""
        self._running = running

    def runs_in(self, thread: int) -> bool:
        return self._running(thread) is not None

    def task_of(self, thread: int) -> str:
        """Return the name of the task that runs in a thread."""
        lease = self._running(thread)
        return "a task" if lease is None else str(lease.name)


servings: list[Serving] = []
"""The workers of this process."""


def serving() -> Serving | None:
    """Return the worker that runs the caller's task; None outside tasks, and for tasks that run inline."""
    return next((each for each in list(servings) if each.runs_in(get_ident())), None)

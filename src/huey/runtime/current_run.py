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

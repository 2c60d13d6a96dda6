"""The way of a run through ``Huey._execute``, where a subclass or an instrumentation has wrapped that."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from huey.task.task import HEADERS, Task

Gate = Callable[[Task], Any]
"""``Huey._execute``, wrapped."""


class Passage:
    """One run on that way."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        """What the body raised."""
        self.context: Context | None = None
        """Where it did: what an instrumentation knows of the run stands there."""

    def fail(self, error: BaseException) -> None:
        """The body raised *error*."""
        self.error, self.context = error, copy_context()

    def run(self, gate: Gate, task: Task) -> Any:
        """Run the body of *task*; what it returns or raises, or what the gate raises. No header is left in its arguments."""
        task.passage = self
        if task.headers is not None:
            task.kwargs[HEADERS] = task.headers
        try:
            value = gate(task)
        finally:
            task.kwargs.pop(HEADERS, None)
        if self.error is not None:
            raise self.error
        return value

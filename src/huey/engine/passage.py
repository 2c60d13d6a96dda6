"""The passage of a run through ``Huey._execute``, if a subclass or an instrumentation has wrapped that method."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from huey.task.task import HEADERS, Task

Gate = Callable[[Task], Any]
"""``Huey._execute``, wrapped."""


class Passage:
    """One such run."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        """What the body raised."""
        self.context: Context | None = None
        """The context in which it did: it holds what an instrumentation knows of the run."""

    def fail(self, error: BaseException) -> None:
        """The body raised *error*."""
        self.error, self.context = error, copy_context()

    def run(self, gate: Gate, task: Task) -> Any:
        """Run the body of *task* through *gate*. Returns what it returns; raises what it raises, or what the gate raises. Removes headers
        from the arguments."""
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

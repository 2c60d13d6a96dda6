"""Which run of which task this thread or coroutine is in."""

from __future__ import annotations

from contextvars import ContextVar

Run = tuple[str, int]
"""Id of the task, and token of its lease."""

run: ContextVar[Run | None] = ContextVar("huey_run", default=None)
"""Set by who runs a body; None outside. A thread that a body starts is outside."""

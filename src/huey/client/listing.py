"""Lists of the tasks that a queue holds, and the stream of its events."""

from __future__ import annotations

from collections.abc import Iterator

from huey.client.context import QueueContext
from huey.client.inline import ALL
from huey.runtime.clock import micros
from huey.runtime.logs import SafeLogger
from huey.runtime.masking import stepwise
from huey.task.task import Task

log = SafeLogger("huey")

FOLLOW_S = 5.0
"""Seconds that one look at the events waits at most."""


def list_tasks(context: QueueContext, state: str, limit: int | None) -> list[Task]:
    """Return the tasks in *state*, in the order in which they will run. One that cannot be decoded here is logged and left out."""
    if limit is not None and limit <= 0:
        return []
    decoder = context.decoder
    found = []
    for row in context.storage.find(state, limit=ALL if limit is None else limit):
        try:
            found.append(decoder.decode(row, row.due))
        except Exception as error:  # Classes of the application build themselves here: they may raise anything.
            log.error("task %s %s is left out of the list: %s: %s", row.name, row.id, type(error).__name__, error)
    return found


@stepwise
def follow_events(context: QueueContext, position: int, timeout: float | None) -> Iterator[str]:
    """Yield the events after *position* as they happen; end when none came for *timeout* seconds."""
    clock = context.clock
    quiet_since = clock.monotonic()
    while timeout is None or clock.monotonic() - quiet_since < micros(timeout):
        position, published = context.storage.follow(position, min(FOLLOW_S, FOLLOW_S if timeout is None else timeout))
        yield from published
        if published:
            quiet_since = clock.monotonic()

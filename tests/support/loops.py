"""A consumer in this process whose worker runs coroutines in an event loop, as the command does in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huey import Huey
from huey.consumer.consumer import ThreadedConsumer
from huey.consumer.process_table import slots_of
from huey.engine.scoreboard import Scoreboard
from huey.storage.rows import Worker
from tests.support.helpers import running


class LoopConsumer(ThreadedConsumer):
    """Its worker is of the kind ``async``."""

    def _build(self, worker: Worker, scoreboard: Scoreboard | None = None) -> None:
        self.scoreboard = Scoreboard(slots_of("async", self.workers))
        super()._build(worker._replace(kind="async"), self.scoreboard)


@contextmanager
def serving(huey: Huey, workers: int = 1, kind: str = "async", **options: Any) -> Iterator[Any]:
    """A consumer of that kind runs inside the block; nothing may run on after it."""
    if kind == "thread":
        with running(huey, workers, **options) as consumer:
            yield consumer
        return
    consumer = LoopConsumer(huey, workers=workers, periodic=False, **options)
    consumer.start()
    try:
        yield consumer
    finally:
        has_stopped = consumer.stop()
    assert has_stopped, "a task ran on after stop()"

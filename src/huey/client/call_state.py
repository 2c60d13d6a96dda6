"""State that all queues of one ``Huey`` share while the program runs: open batches, the outbox, immediate mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from huey.client.waits import Handle
from huey.runtime.clock import Micros
from huey.runtime.owned_blocks import Block, find
from huey.task.record import Record

Outbox = Callable[[Callable[[], Any]], Any]


class Batch(Block):
    """The calls that one ``batch()`` block has collected."""

    def __init__(self, of: object) -> None:
        super().__init__(of)
        self.collected: dict[str, list[Record]] = {}
        """The records of the block, by queue."""
        self.workflows: list[Callable[[], Any]] = []
        """The writes of the workflows of the block."""
        self.handles: list[Handle] = []
        """Handles that may turn out to stand for an existing task with the same unique key."""

    @property
    def size(self) -> int:
        return sum(map(len, self.collected.values()))


class CallState:
    """The shared state of all queues of one ``Huey``, with one object per ``Huey`` that an application makes."""

    def __init__(self) -> None:
        self.outbox: Outbox | None = None
        self.is_immediate = False
        self.last_enqueue: Micros = 0
        """When a task whose id may be enqueued again was last enqueued."""
        self.runs_inline = False
        """This process has an ``InlineWorker``, which may have claimed the task that is enqueued."""
        self.interrupt_callbacks: list[Callable[[], None]] = []
        """One function per consumer in this process: it sends the signal ``interrupted`` for the tasks that the consumer runs."""

    @property
    def batch(self) -> Batch | None:
        """The batch opened by this thread and asyncio task, or None."""
        if not Block.opened:
            return None
        batch = find(Batch, self)
        return batch if batch is not None and batch.is_mine else None

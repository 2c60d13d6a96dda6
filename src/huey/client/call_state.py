"""What all queues of one ``Huey`` share while the program runs: open batches, the outbox, immediate mode."""

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
        """By queue."""
        self.handles: list[Handle] = []
        """Handles whose task may turn out to be another one, with the same unique key."""

    @property
    def size(self) -> int:
        return sum(map(len, self.collected.values()))


class CallState:
    """See the module. One object per ``Huey`` that an application makes."""

    def __init__(self) -> None:
        self.outbox: Outbox | None = None
        self.is_immediate = False
        self.last_enqueue: Micros = 0
        """When an id that may come again was enqueued last."""
        self.runs_inline = False
        """This process has an ``InlineWorker``, which may have claimed the task that is enqueued."""
        self.interrupt_callbacks: list[Callable[[], None]] = []
        """Of the consumers that run in this process: each sends the signal ``interrupted`` for the tasks that it runs."""

    @property
    def batch(self) -> Batch | None:
        """The batch that this thread and asyncio task opened; None outside of one."""
        if not Block.opened:
            return None
        batch = find(Batch, self)
        return batch if batch is not None and batch.is_mine else None

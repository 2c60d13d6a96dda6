"""The part of ``Huey`` that knows the other queues of its store."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from huey.runtime.once import once
from huey.serializer import Codec
from huey.storage.base import Storage
from huey.task.wrapper import TaskWrapper

if TYPE_CHECKING:
    from typing import Self


class Queues:
    """A *branch* is the same Huey on another queue: same functions, options, hooks and signals; a storage and a codec of its own."""

    name: str
    storage: Storage
    codec: Codec
    _home: Self | None
    """Whose branch it is; None: it is the one that the application made."""
    _branches: dict[tuple[str, int], Self]
    _lasting: Storage
    _fleeting: Storage | None
    _stand_ins: dict[str, Storage]
    """What ``_fleeting`` is, once it is needed."""

    if TYPE_CHECKING:

        def _make_codec(self) -> Codec: ...

    def on(self, queue: str | None) -> Self:
        """This Huey on another queue of the same store: ``huey.on("mail").inspector``, ``huey.on("mail").result(id)``. What is enqueued
        through it goes to that queue. ConfigurationError: a storage that has one queue only."""
        home = self._home or self
        if queue is None or queue == self.name:
            return self
        if queue == home.name:
            return home
        # In immediate mode another storage stands in for the real one.
        key = queue, id(home.storage)
        return once(home._branches, key, lambda: home._branch_on(queue))

    def _branch_on(self, queue: str) -> Self:
        branch = copy(self)
        branch.name = queue
        branch.storage = branch._lasting = branch._fleeting = self.storage.for_queue(queue)
        branch._home = self
        branch.codec = branch._make_codec()
        return branch

    def _of(self, target: Any) -> Self:
        """Where a task, a result or a decorated function belongs: on the queue that its function names. An id is looked for here."""
        if self._home is not None:
            return self
        if isinstance(target, TaskWrapper):
            return self.on(target.options.queue)
        return self.on(getattr(getattr(target, "task", target), "queue", None))

    def serves(self, wrapper: TaskWrapper[Any, Any]) -> bool:
        """Calls of this function go to this queue."""
        return (self._home or self).on(wrapper.options.queue).name == self.name

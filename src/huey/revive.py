"""Tasks again, from what a storage holds of them: for handlers, hooks, and whoever looks at a queue."""

from __future__ import annotations

from typing import Any

from huey.clock import Micros
from huey.declared import as_declared
from huey.events import friendly_name
from huey.exceptions import DecodeError, UnknownTask
from huey.rare import rare
from huey.registry import Registry
from huey.serializer import Codec
from huey.storage.base import TaskRow
from huey.task import Lease, Record, Task
from huey.terms import has_terms, terms_of


class Reviver:
    """Knows the functions and the serializer."""

    def __init__(self, registry: Registry, codec: Codec) -> None:
        self._registry = registry
        self._codec = codec

    def task(self, held: Record | TaskRow | Lease, eta: Micros | None = None) -> Task:
        """The task. DecodeError: its arguments cannot be read here; of a function that is not known here it is a plain Task."""
        held = as_declared(self._codec, held)
        args, kwargs = self._codec.decode("task", held.id, held.payload)
        return task_of(self._class(held.name), held, args, kwargs, eta)

    def told(self, held: Record | TaskRow | Lease, eta: Micros | None = None) -> Task:
        """As ``task``, for those who are told of it: if its arguments cannot be read, without them."""
        try:
            return self.task(held, eta)
        except DecodeError:
            return self._class(held.name)(id=held.id)

    def _class(self, name: str) -> type[Task]:
        try:
            return self._registry.find(name).task_class
        except UnknownTask:
            return type(friendly_name(name), (Task,), {"__slots__": (), "name": name})


def task_of(
    kind: type[Task], held: Record | TaskRow | Lease, args: tuple[Any, ...], kwargs: dict[str, Any], eta: Micros | None = None
) -> Task:
    """What a storage holds as a task of that class, its arguments read."""
    attempt, token = (0, 0) if isinstance(held, Record) else (held.attempt, held.token)
    asked = rare(held.options)
    task = kind(
        args,
        kwargs,
        id=held.id,
        eta=eta,
        retries=max(0, held.retries - attempt),
        retry_delay=held.retry_delay,
        retry_backoff=asked.get("backoff"),
        timeout=asked.get("timeout"),
        priority=held.priority,
        attempt=attempt,
        token=token,
    )
    # None is none, not what its function declares: a task that was put back by hand expires no more.
    task.expires, task.expires_in = held.expires, None
    if has_terms(held.options):
        task.enqueued_as = terms_of(held.options).own
    return task

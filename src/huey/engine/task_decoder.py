"""Tasks again, from what a storage holds of them: for handlers, hooks, and whoever looks at a queue."""

from __future__ import annotations

from typing import Any

from huey.engine.declared import as_declared
from huey.exceptions import DecodeError, UnknownTask
from huey.registry import Registry
from huey.runtime.clock import SECOND, Micros
from huey.runtime.times import EARLIEST_ZONE
from huey.serializer import Codec
from huey.storage.rows import TaskRow
from huey.task.events import friendly_name
from huey.task.record import Lease, Record
from huey.task.record_options import backoff_delay, may_have_constraints, policy_micros, read_constraints, read_policy
from huey.task.task import Task


class TaskDecoder:
    """Knows the functions and the serializer."""

    def __init__(self, registry: Registry, codec: Codec) -> None:
        self._registry = registry
        self._codec = codec

    def task(self, held: Record | TaskRow | Lease, due: Micros | None = None) -> Task:
        """The task. DecodeError: its arguments cannot be read here; of a function that is not known here it is a plain Task."""
        held = as_declared(self._codec, held)
        args, kwargs = self._codec.decode("task", held.id, held.payload)
        return task_of(self._class(held.name), held, args, kwargs, due)

    def told(self, held: Record | TaskRow | Lease, due: Micros | None = None) -> Task:
        """As ``task``, for those who are told of it: if its arguments cannot be read, without them."""
        try:
            return self.task(held, due)
        except DecodeError:
            return self._class(held.name)(id=held.id)

    def _class(self, name: str) -> type[Task]:
        try:
            return self._registry.find(name).task_class
        except UnknownTask:
            return type(friendly_name(name), (Task,), {"__slots__": (), "name": name})


def task_of(
    kind: type[Task], held: Record | TaskRow | Lease, args: tuple[Any, ...], kwargs: dict[str, Any], due: Micros | None = None
) -> Task:
    """What a storage holds as a task of that class, its arguments read."""
    attempt, token = (0, 0) if isinstance(held, Record) else (held.attempt, held.token)
    asked, wall = read_policy(held.options), policy_micros(held.options, "wall")
    task = kind(
        args,
        kwargs,
        id=held.id,
        due=due,
        # Once a consumer has read it, it is due at another time.
        wall=wall if wall is not None and due == wall - EARLIEST_ZONE else None,
        retries=max(0, held.retries - attempt),
        retry_delay=backoff_delay(held.retry_delay, asked, attempt),
        retry_backoff=asked.get("backoff"),
        timeout=asked.get("timeout"),
        priority=held.priority,
        attempt=attempt,
        token=token,
    )
    _set_expiry(task, held)
    if "headers" in asked:
        task.headers = asked["headers"]
    if may_have_constraints(held.options):
        task.enqueued_as = read_constraints(held.options).own
    return task


def _set_expiry(task: Task, held: Record | TaskRow | Lease) -> None:
    """The expiry as it is held, and as it was given, as far as that can be told."""
    task.expires_at, task.expires_in = held.expires, policy_micros(held.options, "expires_in")
    if task.expires_in is not None:
        length = task.expires_in / SECOND
        task.expires = int(length) if length == int(length) else length
    else:
        task.expires = None if held.expires is None else task.expires_resolved

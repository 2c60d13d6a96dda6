"""Rebuilds `Task` objects from what a storage holds, for handlers, hooks and whatever lists a queue."""

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
    """Turns stored tasks into `Task` objects, with the registered functions and the serializer."""

    def __init__(self, registry: Registry, codec: Codec) -> None:
        self._registry = registry
        self._codec = codec

    def decode(self, stored: Record | TaskRow | Lease, due: Micros | None = None) -> Task:
        """Return the task, due at *due*; of a function that is not registered here, a plain Task. Raises DecodeError if its arguments
        cannot be read here."""
        stored = as_declared(self._codec, stored)
        args, kwargs = self._codec.decode("task", stored.id, stored.payload)
        return build_task(self._class(stored.name), stored, args, kwargs, due)

    def decode_or_stub(self, stored: Record | TaskRow | Lease, due: Micros | None = None) -> Task:
        """Like `decode`, but return a task without arguments if they cannot be read."""
        try:
            return self.decode(stored, due)
        except DecodeError:
            return self._class(stored.name)(id=stored.id)

    def _class(self, name: str) -> type[Task]:
        try:
            return self._registry.find(name).task_class
        except UnknownTask:
            return type(friendly_name(name), (Task,), {"__slots__": (), "name": name})


def build_task(
    kind: type[Task], stored: Record | TaskRow | Lease, args: tuple[Any, ...], kwargs: dict[str, Any], due: Micros | None = None
) -> Task:
    """Return what a storage holds as a task of class *kind* with these arguments."""
    attempt, token = (0, 0) if isinstance(stored, Record) else (stored.attempt, stored.token)
    policy, wall = read_policy(stored.options), policy_micros(stored.options, "wall")
    task = kind(
        args,
        kwargs,
        id=stored.id,
        due=due,
        # Once a consumer has read the wall time, the task is due at another time.
        wall=wall if wall is not None and due == wall - EARLIEST_ZONE else None,
        retries=max(0, stored.retries - attempt),
        retry_delay=backoff_delay(stored.retry_delay, policy, attempt),
        retry_backoff=policy.get("backoff"),
        timeout=policy.get("timeout"),
        priority=stored.priority,
        attempt=attempt,
        token=token,
    )
    _set_expiry(task, stored)
    if "headers" in policy:
        task.headers = policy["headers"]
    if may_have_constraints(stored.options):
        task.enqueued_as = read_constraints(stored.options).own
    return task


def _set_expiry(task: Task, stored: Record | TaskRow | Lease) -> None:
    """Set the expiry as it is stored and, as far as that is known, as it was given."""
    task.expires_at, task.expires_in = stored.expires, policy_micros(stored.options, "expires_in")
    if task.expires_in is not None:
        length = task.expires_in / SECOND
        task.expires = int(length) if length == int(length) else length
    else:
        task.expires = None if stored.expires is None else task.expires_resolved

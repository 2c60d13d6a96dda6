"""Reads what a storage holds of a task: rebuilds `Task` objects, for handlers, hooks and whatever lists a queue; reads what the producer
declared, and the wall time for which it is scheduled.

Anyone who can write to the store can change every column of a task: its name, its retries, its options. If messages are signed, a worker
trusts none of these: the producer's declaration is part of the signed message, and replaces the columns.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

from huey.exceptions import DecodeError, UnknownTask
from huey.registry import Registry
from huey.runtime.clock import SECOND, Micros
from huey.runtime.times import EARLIEST_ZONE, wall_to_micros
from huey.serializer import Codec, Declared
from huey.storage.rows import TaskRow
from huey.task import reasons, record_options
from huey.task.events import friendly_name
from huey.task.lifecycle import Cancelled, NotDue
from huey.task.record import Lease, Record
from huey.task.task import Task


class TaskDecoder:
    """Turns stored tasks into `Task` objects, using the registered functions and the serializer."""

    def __init__(self, registry: Registry, codec: Codec) -> None:
        self._registry = registry
        self._codec = codec

    def decode(self, stored: Record | TaskRow | Lease, due: Micros | None = None) -> Task:
        """Return the task, due at *due*, or a plain Task if its function is not registered here. Raise DecodeError if its arguments cannot
        be read here."""
        stored = as_declared(self._codec, stored)
        args, kwargs = self._codec.decode("task", stored.id, stored.payload)
        return build_task(self._class(stored.name), stored, args, kwargs, due)

    def decode_or_stub(self, stored: Record | TaskRow | Lease, due: Micros | None = None) -> Task:
        """Return the task like `decode`, or one without arguments if they cannot be read."""
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
    """Return a stored task as a task of class *kind* with these arguments."""
    attempt, token = (0, 0) if isinstance(stored, Record) else (stored.attempt, stored.token)
    policy, wall = record_options.read_policy(stored.options), record_options.policy_micros(stored.options, "wall")
    task = kind(
        args,
        kwargs,
        id=stored.id,
        due=due,
        # Once a consumer has read the wall time, the task is due at another time.
        wall=wall if wall is not None and due == wall - EARLIEST_ZONE else None,
        retries=max(0, stored.retries - attempt),
        retry_delay=record_options.backoff_delay(stored.retry_delay, policy, attempt),
        retry_backoff=policy.get("backoff"),
        timeout=policy.get("timeout"),
        priority=stored.priority,
        attempt=attempt,
        token=token,
    )
    _set_expiry(task, stored)
    if "headers" in policy:
        task.headers = policy["headers"]
    if record_options.may_have_constraints(stored.options):
        task.enqueued_as = record_options.read_constraints(stored.options).own
    return task


def _set_expiry(task: Task, stored: Record | TaskRow | Lease) -> None:
    """Set the stored expiry and, as far as it is known, the expiry as it was given."""
    task.expires_at, task.expires_in = stored.expires, record_options.policy_micros(stored.options, "expires_in")
    if task.expires_in is not None:
        length = task.expires_in / SECOND
        task.expires = int(length) if length == int(length) else length
    else:
        task.expires = None if stored.expires is None else task.expires_resolved


H = TypeVar("H", bound=Record | TaskRow | Lease)


def declaration(record: Record) -> Declared:
    """Return the declaration of *record*."""
    # This host's estimate for a duration is not signed: the clocks of hosts and store need not agree.
    expires = record.expires if record.expires_in is None else None
    return Declared(record.name, record.priority, expires, record.retries, record.retry_delay, record.options, record.expires_in)


def as_declared(codec: Codec, stored: H) -> H:
    """Return *stored* as it was declared when it was enqueued; without signatures, *stored* itself.

    Raise DecodeError if the signature does not match, or if the storage used other constraints than those that were signed.
    """
    if not codec.signs:
        return stored
    signed = _as_signed(codec, stored)
    if stored.options != signed.options and _constraints(stored.options) != _constraints(signed.options):
        raise DecodeError(f"task {stored.id}: its unique key or its limits differ from the signed ones: they were changed in the store")
    return signed


def declared_if_readable(codec: Codec, stored: H) -> H:
    """Return *stored* like `as_declared`, or unchanged if it cannot be read. For decisions about a run that has ended."""
    try:
        return _as_signed(codec, stored) if codec.signs else stored
    except DecodeError:
        return stored


def _as_signed(codec: Codec, stored: H) -> H:
    signed = codec.declared(stored.id, stored.payload)
    declared: Record | TaskRow | Lease = stored._replace(
        name=signed.name,
        priority=signed.priority,
        expires=_expiry(signed, stored),
        retries=signed.retries,
        retry_delay=signed.retry_delay,
        # Requests that a run has made since then are not declared.
        options=record_options.with_requests_of(signed.options, stored.options),
    )
    return cast("H", declared)


def _expiry(signed: Declared, stored: Record | TaskRow | Lease) -> Micros | None:
    if isinstance(stored, Record):
        return stored.expires if signed.expires is None else signed.expires
    length = record_options.policy_micros(signed.options, "expires_in")
    is_unread = length is not None and record_options.policy_micros(signed.options, "wall") is not None
    if stored.expires is None and (is_unread or _is_again(stored)):
        # It begins once a consumer has read the wall time; or a retry by hand has removed it.
        return None
    # The store turned a duration into a time, by its own clock, when the task was enqueued or due for a retry.
    return signed.expires if length is None else stored.ready_at + length


def _is_again(stored: TaskRow | Lease) -> bool:
    """Return whether it was claimed before, not counting the claim of *stored* itself."""
    return stored.token > isinstance(stored, Lease)


def _constraints(options: str | None) -> record_options.Constraints | None:
    """Return the constraints that the storage uses, or None if they cannot be read."""
    try:
        return record_options.read_constraints(options)
    except (AttributeError, TypeError, ValueError):
        return None


def unread_wall_time(lease: Lease, now: Micros, is_local: bool) -> NotDue | Cancelled | None:
    """Return the outcome of *lease* if no consumer has read its wall time yet and the task is not due or has expired, else None.
    *is_local*: this consumer's clock shows local time.

    Its producer does not know the clocks of consumers, so the task is due as early as any clock on earth can show its time (`resolve_eta`);
    the consumer that claims it then reads the time on its own clock, and schedules the task for that.
    """
    if lease.options is None or '"wall"' not in lease.options:
        return None
    wall = record_options.policy_micros(lease.options, "wall")
    # Until its time is read, it is ready when its enqueue said; reading it, a try or a retry by hand changes that.
    if wall is None or lease.ready_at != max(lease.created, wall - EARLIEST_ZONE):
        return None
    due, expires_in = wall_to_micros(wall, is_local), record_options.policy_micros(lease.options, "expires_in")
    if due > now:
        return NotDue(due, expires_in)
    is_late = expires_in is not None and max(due, lease.created) + expires_in <= now
    return Cancelled(reasons.EXPIRED) if is_late else None

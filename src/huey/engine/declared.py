"""What the producer declared of a task, read from the signature instead of the columns.

Anyone who can write into the store can change every column of a task: its name, its retries, its options. Where messages are signed, a
worker trusts none of these: what the producer declared travels inside the signature, and replaces the columns.
"""

from __future__ import annotations

from typing import TypeVar, cast

from huey.exceptions import DecodeError
from huey.runtime.clock import Micros
from huey.serializer import Codec, Declared
from huey.storage.rows import TaskRow
from huey.task.record import Lease, Record
from huey.task.record_options import Constraints, policy_micros, read_constraints, with_requests_of

H = TypeVar("H", bound=Record | TaskRow | Lease)


def declaration(record: Record) -> Declared:
    """Return what *record* declares."""
    # The time that this host expects of a duration is not signed: hosts and store need not agree on the time.
    expires = record.expires if record.expires_in is None else None
    return Declared(record.name, record.priority, expires, record.retries, record.retry_delay, record.options, record.expires_in)


def as_declared(codec: Codec, stored: H) -> H:
    """Return *stored* as it was declared when it was enqueued; without signatures, *stored* itself.

    Raises DecodeError if the signature does not match, or the constraints that the storage went by are not those that were signed.
    """
    if not codec.signs:
        return stored
    signed = _as_signed(codec, stored)
    if stored.options != signed.options and _constraints(stored.options) != _constraints(signed.options):
        raise DecodeError(f"task {stored.id}: its unique key or its limits are not those that were signed: they were changed in the store")
    return signed


def declared_if_readable(codec: Codec, stored: H) -> H:
    """Like `as_declared`, for decisions about a run that has ended; what cannot be read is returned unchanged."""
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
        # What a run has asked for since then is not declared.
        options=with_requests_of(signed.options, stored.options),
    )
    return cast("H", declared)


def _expiry(signed: Declared, stored: Record | TaskRow | Lease) -> Micros | None:
    if isinstance(stored, Record):
        return stored.expires if signed.expires is None else signed.expires
    length = policy_micros(signed.options, "expires_in")
    is_unread = length is not None and policy_micros(signed.options, "wall") is not None
    if stored.expires is None and (is_unread or _is_again(stored)):
        # It begins when a consumer has read the wall time; or a retry by hand has lifted it.
        return None
    # A duration became a time in the store, by the store's clock, when the task was enqueued, or became due to be tried again.
    return signed.expires if length is None else stored.ready_at + length


def _is_again(stored: TaskRow | Lease) -> bool:
    """Return whether it was claimed before, not counting the claim of *stored* itself."""
    return stored.token > isinstance(stored, Lease)


def _constraints(options: str | None) -> Constraints | None:
    """Return the constraints that the storage goes by; None if they cannot be read."""
    try:
        return read_constraints(options)
    except (AttributeError, TypeError, ValueError):
        return None

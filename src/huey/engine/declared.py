"""What was declared of a task, from the signature instead of the columns.

Whoever can write into the store can change each column of a task: its name, its retries, its options. Where messages are signed, a worker
believes none of these. What the producer declared travels inside the signature, and replaces what the columns say.
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
    """What *record* declares."""
    # Of a duration the host's own guess is not signed: hosts and store need not agree on the time.
    expires = record.expires if record.expires_in is None else None
    return Declared(record.name, record.priority, expires, record.retries, record.retry_delay, record.options, record.expires_in)


def as_declared(codec: Codec, held: H) -> H:
    """*held* as it was declared at the enqueue. Without signatures, *held* itself.

    DecodeError: the signature does not match, or the constraints that the storage went by are not those that were signed.
    """
    if not codec.signs:
        return held
    signed = _as_signed(codec, held)
    if held.options != signed.options and _constraints(held.options) != _constraints(signed.options):
        raise DecodeError(f"task {held.id}: its unique key or its limits are not those that were signed: they were changed in the store")
    return signed


def declared_if_readable(codec: Codec, held: H) -> H:
    """As ``as_declared``, for who decides about a run that has ended; what cannot be read is left as it is."""
    try:
        return _as_signed(codec, held) if codec.signs else held
    except DecodeError:
        return held


def _as_signed(codec: Codec, held: H) -> H:
    signed = codec.declared(held.id, held.payload)
    declared: Record | TaskRow | Lease = held._replace(
        name=signed.name,
        priority=signed.priority,
        expires=_expiry(signed, held),
        retries=signed.retries,
        retry_delay=signed.retry_delay,
        # What a run asked for since then is no declaration.
        options=with_requests_of(signed.options, held.options),
    )
    return cast("H", declared)


def _expiry(signed: Declared, held: Record | TaskRow | Lease) -> Micros | None:
    if isinstance(held, Record):
        return held.expires if signed.expires is None else signed.expires
    length = policy_micros(signed.options, "expires_in")
    is_unread = length is not None and policy_micros(signed.options, "wall") is not None
    if held.expires is None and (is_unread or _is_again(held)):
        # It begins when a consumer has read the wall time; or it was put back by hand, which lifts it.
        return None
    # A duration became a time in the store, by the store's clock, when the task was enqueued, or became due to be tried again.
    return signed.expires if length is None else held.ready_at + length


def _is_again(held: TaskRow | Lease) -> bool:
    """Whether it was handed out before (to somebody else, where *held* is a lease of it)."""
    return held.token > isinstance(held, Lease)


def _constraints(options: str | None) -> Constraints | None:
    """What the storage goes by; None: somebody wrote what cannot be read."""
    try:
        return read_constraints(options)
    except (AttributeError, TypeError, ValueError):
        return None

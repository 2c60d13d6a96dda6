"""Reads wall times: etas given as what the consumer's clock will show. Pure except for the machine's time zone.

The producer does not know that clock. So such a task is due as early as any clock on earth can show its time (see `resolve_eta`); the
consumer that claims it then reads the time on its own clock, and schedules the task for that.
"""

from __future__ import annotations

from huey.runtime.clock import Micros
from huey.runtime.times import EARLIEST_ZONE, wall_to_micros
from huey.task import reasons
from huey.task.lifecycle import Cancelled, NotDue
from huey.task.record import Lease
from huey.task.record_options import policy_micros


def unread_wall_time(lease: Lease, now: Micros, is_local: bool) -> NotDue | Cancelled | None:
    """Return the outcome of *lease* if no consumer has read its wall time yet and the task is not due, or has expired since; else None.
    *is_local*: this consumer's clock shows local time."""
    if lease.options is None or '"wall"' not in lease.options:
        return None
    wall = policy_micros(lease.options, "wall")
    # Unread, it is ready when its enqueue said; once its time was read, or it was tried, or retried by hand, that has changed.
    if wall is None or lease.ready_at != max(lease.created, wall - EARLIEST_ZONE):
        return None
    due, expires_in = wall_to_micros(wall, is_local), policy_micros(lease.options, "expires_in")
    if due > now:
        return NotDue(due, expires_in)
    is_late = expires_in is not None and max(due, lease.created) + expires_in <= now
    return Cancelled(reasons.EXPIRED) if is_late else None

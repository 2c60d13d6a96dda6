"""Reasons: why a run ended as it did, or why a task is queued, cancelled or failed. A reason travels beside the state.

A new one goes here, into whatever makes its outcome or `decide` (lifecycle.py), and into docs/internals/states.md. The sets at the end say
how the log and the signals treat it; a reason in none of them is a failure.
"""

from __future__ import annotations

ERROR = "error"
TIMEOUT = "timeout"
LOCKED = "locked"
RATE_LIMITED = "rate limited"
CANCELED = "canceled"
REVOKED = "revoked"
EXPIRED = "expired"
RETRY_ASKED = "retry asked"
SCHEDULED = "scheduled"
SHUTDOWN = "shutdown"
REQUEUED = "put back"
UNKNOWN_TASK = "unknown task"
NEWER_RECORD = "newer record"
UNKNOWN_CLASS = "unknown class"
"""Followed by a space and the path of the class."""
UNDECODABLE = "undecodable"
NOT_STORABLE = "result not storable"
WORKER_DIED = "worker died"
PARENTS_UNREAD = "parents not read"
LOST = "lost"
POISON = "poison"
PARENT_FAILED, PARENT_SKIPPED, ORPHANED = "parent failed", "parent skipped", "orphaned"
"""What a task waited for can no longer happen."""

NOT_NEEDED = "no parent failed"
"""A member of a flow with ``run_if="failure"``."""

NO_RUN = frozenset({SCHEDULED, SHUTDOWN, REQUEUED, UNKNOWN_TASK, NEWER_RECORD, PARENTS_UNREAD})
"""The task is queued again as if it had not run, and its end is not logged."""
ON_PURPOSE = frozenset({CANCELED, REVOKED, RETRY_ASKED, NOT_NEEDED})
"""The run ended on purpose: it is logged as information, without a traceback."""
WITHOUT_ERROR_SIGNAL = frozenset({RETRY_ASKED, SHUTDOWN, UNKNOWN_TASK, NEWER_RECORD})
"""The run did not fail, so no signal ``error`` is sent."""

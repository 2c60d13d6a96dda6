"""The state machine: what the outcome of a run means for its task.

`decide(lease, outcome, now)` turns what happened (an Outcome) into the write that follows (a Finish). It is pure: no storage, no clock, no
logging. Runners call it, and recovery calls it for the tasks of a dead worker; the Finish is passed to ``storage.turn``.

There are few states and many reasons; the reason is stored beside the state.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from huey.exceptions import LONGEST_DELAY
from huey.runtime.clock import SECOND, Micros, micros
from huey.task import reasons
from huey.task.record import Lease
from huey.task.record_options import count_request, kept_for
from huey.task.workflow import Workflow


class State:
    """The states of a task, as they are stored."""

    WAITING = "waiting"
    BLOCKED = "blocked"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


STATES = (State.WAITING, State.BLOCKED, State.QUEUED, State.RUNNING, State.SUCCEEDED, State.FAILED, State.CANCELLED)
FINAL = (State.SUCCEEDED, State.FAILED, State.CANCELLED)

MAX_CRASHES = 3
"""How many deaths of its worker, while it ran alone under a supervisor, make a task poison."""
MAX_DEATHS = 20
"""How many deaths of its worker, for whatever reason, make a task poison."""
UNKNOWN_FOR: Micros = 24 * 3600 * SECOND
"""How long a task waits for a worker that can run it before it fails."""
UNKNOWN_DELAY = 5.0
"""Seconds between a worker's searches for blocked tasks that it can run."""


class Returned(NamedTuple):
    """The body returned. ``value``: the stored form of the result, or None to store nothing. ``output``: what tasks that wait for this one
    get, if that is not ``value``. ``follow_ups``: tasks to enqueue with the finish."""

    value: bytes | None
    output: bytes | None = None
    follow_ups: Workflow | None = None


class Raised(NamedTuple):
    """The body raised, its arguments could not be read, or its result could not be stored."""

    error: dict[str, Any]
    """The keys ``error`` (repr) and ``traceback``; plain values only."""
    may_retry: bool = True
    reason: str = reasons.ERROR


class Snoozed(NamedTuple):
    """The task asked to run again after ``delay`` seconds, without counting a try."""

    delay: float
    reason: str


class NotDue(NamedTuple):
    """The task did not start: it is not due yet by the consumer's clock."""

    due: Micros
    """When it is due."""
    expires_in: Micros | None = None
    """How long after it is due the task expires."""


class RateLimited(NamedTuple):
    """The body hit a rate limit."""

    error: dict[str, Any]
    delay: float
    """Seconds until the next window; the task's own retry delay takes precedence."""
    is_free: bool
    """True if another run costs no try."""
    reason: str = reasons.RATE_LIMITED


class Cancelled(NamedTuple):
    """The task was stopped on purpose: by itself, by a hook, or because it was revoked while it ran."""

    reason: str
    error: dict[str, Any] | None = None
    """As in ``Raised``, for a caller that waits for the result; None if there is no error."""
    retry: bool | None = False
    """Whether to try again: True always, None if retries are left, False never."""


class RetryRequested(NamedTuple):
    """The body asked for another run, which costs no try."""

    error: dict[str, Any]
    due: Micros | None = None
    """When to run again, if the body gave a time."""
    delay: float | None = None
    """Seconds until the next run, if it gave a delay; with neither, the usual wait applies."""
    reason: str = reasons.RETRY_ASKED


class Unrunnable(NamedTuple):
    """This worker cannot run it, but another may: an unknown name, or a record of a newer release."""

    error: dict[str, Any]
    reason: str = reasons.UNKNOWN_TASK


class WorkerDied(NamedTuple):
    """The worker died while it held the task."""

    is_suspect: bool = True
    """True if the task was running and may have caused it; False if it was not to blame, such as when the whole group was killed."""
    alone: bool = False
    """True if it ran alone in its process, under a supervisor that is alive."""
    how: str = ""
    """The cause that the supervisor saw, such as ``signal 11 (SIGSEGV)``."""


Outcome = Returned | Raised | Snoozed | NotDue | RateLimited | Cancelled | RetryRequested | Unrunnable | WorkerDied


class Finish(NamedTuple):
    """The end of one run, which ``storage.turn`` writes only if the lease still holds."""

    lease: Lease
    state: str
    due: Micros | None = None
    """For QUEUED: the earliest time of the next run; None: now, behind waiting tasks. With ``delay``, only an estimate for events and
    logs."""
    attempt: int = 0
    solo_crashes: int = 0
    deaths: int = 0
    unknown_until: Micros | None = None
    """For BLOCKED until a worker can run it (``Storage.missing``): the limit on the storage's clock; 0: until ``due``."""
    reason: str | None = None
    value: bytes | None = None
    """Stored form of the result or the error; None: nothing to store."""
    error: dict[str, Any] | None = None
    """The error of this run, as plain values."""
    duration: float = 0.0
    """How long the body ran, in seconds."""
    delay: Micros | None = None
    """For QUEUED, instead of ``due``: due this long after now on the storage's clock, so that host and server clocks need not agree."""
    expires_in: Micros | None = None
    """For QUEUED: how long after it is due again it expires; None leaves its expiry unchanged."""
    options: str | None = None
    """For QUEUED: the record's new options; None leaves them unchanged."""
    output: bytes | None = None
    """For SUCCEEDED: what the tasks that wait for this one get, in stored form; None: ``value``."""
    follow_ups: Workflow | None = None
    """Tasks that are enqueued in the same step, if the finish is written."""
    keep: Micros | None = None
    """For SUCCEEDED: how long the task and its result are kept at least; None: as the storage keeps them."""

    def due_at(self, now: Micros) -> Micros | None:
        """Return when the task is due, for a storage whose clock says *now*."""
        return self.due if self.delay is None else now + self.delay

    def expires_at(self, now: Micros) -> Micros | None:
        """Return the task's new expiry, for a storage whose clock says *now*; None leaves it unchanged."""
        return None if self.expires_in is None else max(now, self.due_at(now) or 0) + self.expires_in

    @property
    def retries_left(self) -> int:
        """The runs that are left if this one has failed."""
        return max(0, self.lease.retries - self.attempt)


_finish = Finish._make
_SAME = (None, None, None)
"""The delay, expiry and options of a task that is not queued again."""


class CancelledAtClaim(NamedTuple):
    """A due task that a claim cancelled instead of leasing it."""

    id: str
    name: str
    reason: str
    """``revoked`` or ``expired``."""
    retries: int = 0
    """The runs that were left."""
    retry_delay: float = 0.0


class Promotion(NamedTuple):
    """A scheduled task that became ready."""

    id: str
    name: str
    retries: int = 0
    """The runs left after this one."""
    retry_delay: float = 0.0


def label(state: str, attempt: int, is_scheduled: bool) -> str:
    """Return a state in everyday words: a queued task is ``ready``, ``scheduled``, or ``retrying`` after failed tries."""
    if state != State.QUEUED:
        return state
    return "retrying" if attempt else "scheduled" if is_scheduled else "ready"


def decide(lease: Lease, outcome: Outcome, now: Micros, duration: float = 0.0) -> Finish:
    """Return what *outcome* means for the task of *lease*. Pure, and defined for every outcome."""
    counts = (lease.attempt, lease.solo_crashes, lease.deaths)
    if isinstance(outcome, Returned):
        value, output, follow_ups = outcome
        keep = None if lease.options is None else kept_for(lease.options)
        return _finish((lease, State.SUCCEEDED, None, *counts, None, None, value, None, duration, *_SAME, output, follow_ups, keep))
    queued = Finish(lease, State.QUEUED, None, *counts, duration=duration)
    match outcome:
        case Raised():
            return _raised(queued, outcome, now)
        case RateLimited():
            return _limited(queued, outcome, now)
        case Snoozed():
            return _snoozed(queued, outcome, now)
        case NotDue(due, expires_in):
            return queued._replace(due=due, reason=reasons.SCHEDULED, expires_in=expires_in)
        case Cancelled():
            return _cancelled(queued, outcome, now)
        case RetryRequested(error, due, delay, reason):
            again = queued._replace(due=due) if due is not None else _after(queued, lease.retry_wait if delay is None else delay, now)
            # After the usual wait. The next wait is longer, although no try is counted.
            options = count_request(lease.options) if due is None and delay is None else None
            return again._replace(solo_crashes=0, reason=reason, error=error, expires_in=lease.expires_in, options=options)
        case Unrunnable():
            return _unrunnable(queued, outcome, now)
        case WorkerDied():
            return _died(queued, outcome)


def _snoozed(keep: Finish, outcome: Snoozed, now: Micros) -> Finish:
    if outcome.reason == reasons.SHUTDOWN and keep.lease.is_at_most_once:
        return _lost(keep, "it was interrupted by a shutdown")
    return _after(keep, outcome.delay, now)._replace(reason=outcome.reason)


def _raised(keep: Finish, outcome: Raised, now: Micros) -> Finish:
    lease = keep.lease
    if not outcome.may_retry or lease.retries_left == 0:
        return keep._replace(state=State.FAILED, reason=outcome.reason, error=outcome.error)
    # The run ended, so the task is no longer a suspect.
    again = _after(keep, lease.retry_wait, now)
    return again._replace(
        attempt=lease.attempt + 1, solo_crashes=0, reason=outcome.reason, error=outcome.error, expires_in=lease.expires_in
    )


def _limited(keep: Finish, outcome: RateLimited, now: Micros) -> Finish:
    lease = keep.lease
    again = _after(keep, lease.retry_wait or outcome.delay, now)._replace(solo_crashes=0, reason=outcome.reason)
    again = again._replace(expires_in=lease.expires_in)
    if outcome.is_free:
        return again
    if lease.retries_left == 0:
        return keep._replace(state=State.FAILED, reason=outcome.reason, error=outcome.error)
    return again._replace(attempt=lease.attempt + 1, error=outcome.error)


def _lost(keep: Finish, how: str) -> Finish:
    error = {"error": f"lost: {how}, and it must run at most once", "traceback": ""}
    return keep._replace(state=State.FAILED, reason=reasons.LOST, error=error)


def _cancelled(keep: Finish, outcome: Cancelled, now: Micros) -> Finish:
    lease = keep.lease
    if outcome.retry or (outcome.retry is None and lease.retries_left):
        again = _after(keep, lease.retry_wait, now)._replace(attempt=lease.attempt + 1, solo_crashes=0, expires_in=lease.expires_in)
        return again._replace(reason=outcome.reason, error=outcome.error)
    return keep._replace(state=State.CANCELLED, reason=outcome.reason, error=outcome.error)


def _after(keep: Finish, seconds: float, now: Micros) -> Finish:
    """Return a finish for another run after *seconds* on the storage's clock, at most a hundred years; 0 or less, or NaN: at once."""
    if not seconds > 0:
        return keep
    delay = micros(min(seconds, LONGEST_DELAY))
    return keep._replace(due=now + delay, delay=delay)


def _unrunnable(keep: Finish, outcome: Unrunnable, now: Micros) -> Finish:
    lease = keep.lease
    if lease.unknown_until is None:
        return _after(keep, UNKNOWN_FOR / SECOND, now)._replace(unknown_until=0, reason=outcome.reason, error=outcome.error)
    # Both are on the storage's clock: a task that became ready after its limit has waited for all of it.
    if lease.ready_at >= lease.unknown_until:
        return keep._replace(state=State.FAILED, reason=outcome.reason, error=outcome.error)
    return keep._replace(due=lease.unknown_until, unknown_until=lease.unknown_until, reason=outcome.reason, error=outcome.error)


def _died(keep: Finish, how_it_died: WorkerDied) -> Finish:
    # A crash is not a try: attempts are unchanged, deaths are counted separately.
    lease = keep.lease
    deaths, crashes = lease.deaths + 1, lease.solo_crashes
    if lease.is_at_most_once:
        how = f" by {how_it_died.how}" if how_it_died.how else ""
        return _lost(keep._replace(deaths=deaths), f"its worker died{how}")
    if how_it_died.is_suspect:
        crashes = max(1, crashes) + how_it_died.alone
    if crashes > MAX_CRASHES or deaths >= MAX_DEATHS:
        how = f"its worker died {crashes - 1} times while it ran alone" if crashes > MAX_CRASHES else f"its worker died {deaths} times"
        last = f", the last time by {how_it_died.how}" if how_it_died.how else ""
        error = {"error": f"poison: {how}{last}", "traceback": ""}
        return keep._replace(state=State.FAILED, solo_crashes=crashes, deaths=deaths, reason=reasons.POISON, error=error)
    # Back to its place in the order: it has already waited once.
    return keep._replace(due=lease.ready_at, solo_crashes=crashes, deaths=deaths, reason=reasons.WORKER_DIED)

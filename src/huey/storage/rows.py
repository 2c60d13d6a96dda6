"""The values that pass through a storage: workers, what a turn returns, tasks and counts as the inspector shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from huey.runtime.clock import Micros
from huey.task.lifecycle import CancelledAtClaim, Promotion
from huey.task.record import Lease
from huey.task.workflow import Opened

EventFactory = Callable[[], Sequence[str]]
"""Makes events (JSON texts); called only while there are followers."""


class Features(NamedTuple):
    """The capabilities of a storage."""

    is_shared: bool = True
    """Other processes can use it too."""
    supports_constraints: bool = False
    """It enforces constraints of tasks and has locks and rate limits."""
    sees_all: bool = True
    """``find`` knows every task that has not ended, whatever runs it: a task that it does not know has ended or was never enqueued."""
    keeps_errors: bool = True
    """A task that will be retried can be inspected, with the error of its last attempt."""
    keeps_results: bool = False
    """Results and user data stay when they are read: ``take(remove=True)`` only reads them."""
    supports_workflows: bool = False
    """Tasks may wait for other tasks (``enqueue_workflow``)."""
    may_fork: bool = True
    """A forked child may use it. False: worker processes are started by exec and make their own."""


class Polling(NamedTuple):
    """The times in seconds at which a consumer checks a storage that has to be polled (``-d -m -b``)."""

    delay: float
    max_delay: float
    backoff: float
    scheduler_interval: float = 1.0


class Worker(NamedTuple):
    """A process that runs tasks. The id is new at every start, never a host name."""

    id: str
    host: str
    pid: int
    host_scope: str
    """Boot id and process namespace: equal, like ``host``, for processes that see each other's pid."""
    start_time: int
    """Start time of the process as the kernel counts it: reveals a reused pid."""
    kind: str = "solo"
    """``solo``: a consumer inside a program. ``thread``, ``process``: under a supervisor, which sends suspects elsewhere. ``quarantine``:
    under a supervisor, for suspects only."""
    supervisor: str = ""
    """``pid:start_time`` of the supervisor that watches it and renews its lease; it also handles this worker's death, as long as it is
    alive."""

    @property
    def takes_suspects(self) -> bool:
        return self.kind in ("solo", "quarantine")

    @property
    def takes_others(self) -> bool:
        return self.kind != "quarantine"


class WorkerRow(NamedTuple):
    """A worker as the storage knows it."""

    worker: Worker
    until: Micros
    """End of its lease, on the storage's lease clock: equal values mean that no heartbeat came in between."""
    is_expired: bool
    """By the storage's clock, for display. A takeover uses its own clock: see ``consumer/janitor.py``."""
    holds: int
    """Number of tasks it holds."""
    is_gone: bool = False
    """Its process cannot be alive: the only machine that uses this store has been restarted since."""


class Turn(NamedTuple):
    """The result of one turn."""

    leases: list[Lease]
    stale: list[str] = []  # noqa: RUF012 -- read only
    """Ids of finishes that were not written: the lease was gone, or they had been written before."""
    cancelled: list[CancelledAtClaim] = []  # noqa: RUF012
    promoted: list[Promotion] = []  # noqa: RUF012
    """Filled only while there are followers, or with ``report_promoted``."""
    revoked_running: list[str] = []  # noqa: RUF012
    """Ids of revoked tasks that this worker is running."""
    next_due: Micros | None = None
    """When the next scheduled task is due, or a window ends for whose end tasks are blocked."""
    may_have_more: bool = False
    """More tasks may be ready: the claim got as many as it wanted."""
    is_paused: bool = False
    is_followed: bool = False
    """There is a follower of events."""
    storage_full: bool = False
    """The storage is almost full: the finishes were written, nothing was claimed. The same turn claims again when there is room."""
    hit_byte_limit: bool = False
    """The ready tasks weigh more than fits into one turn (``TURN_BYTES``): fewer were claimed than wanted."""
    opened: list[Opened] = []  # noqa: RUF012
    """Tasks of any queue that were waiting for tasks which this turn ended, and are now queued."""


class Revocation(NamedTuple):
    """A request that a task, or all tasks of a name, not run."""

    until: Micros
    """In force before this time; ``FOREVER`` without limit. Below 0: wall time, until the consumer's clock shows ``-until``."""
    once: bool

    def holds(self, now: Micros, offset: Micros = 0) -> bool:
        """Return True if it is in force. *offset*: how far the consumer's clock is ahead of UTC."""
        return now < self.until or (self.until < 0 and now + offset < -self.until)


class TaskIds(NamedTuple):
    """Tasks to revoke or restore, by id."""

    ids: Sequence[str]
    enqueue: Micros | None = None
    """Of ids that may be reused (``Constraints.own``), only this enqueue; None: the current task, or the next one."""


class TaskName(NamedTuple):
    """All tasks of one name, present and future."""

    name: str


class TaskRow(NamedTuple):
    """A task as the inspector shows it."""

    id: str
    name: str
    state: str
    payload: bytes
    priority: int
    ready_at: Micros
    due: Micros | None
    expires: Micros | None
    retries: int
    retry_delay: float
    attempt: int
    solo_crashes: int
    deaths: int
    token: int
    worker: str | None
    reason: str | None
    error: str | None
    """JSON object of the last failure: ``error``, ``traceback``. For a task that was cancelled because a parent failed: ``failed``, the
    queue and id of the task with the error."""
    created: Micros
    finished: Micros | None
    revoked_until: Micros | None
    options: str | None
    attempts: str | None = None
    """JSON list of the last ``ATTEMPTS_KEPT`` runs that failed or whose worker died, oldest first. Objects of ``at`` (Micros, the end),
    ``worker``, ``host``, ``pid`` (of who ran it), ``reason``, ``error``."""


class Missing(NamedTuple):
    """A function or class without which some tasks cannot run, and which no worker has had so far."""

    name: str
    """The name of their function."""
    reason: str
    """``unknown task``: no worker knows that name. Otherwise the other thing that was missing, such as the class of an argument."""


class Counts(NamedTuple):
    """The number of tasks in each state at the moment."""

    ready: int = 0
    scheduled: int = 0
    running: int = 0
    failed: int = 0
    cancelled: int = 0
    results: int = 0
    succeeded: int = 0
    """Only those that are kept; see ``keep_finished``."""
    blocked: int = 0
    """Tasks that a limit keeps from being ready (see ``locks``), and those that wait for a worker that can run them (``missing``)."""
    is_paused: bool = False
    """The queue is paused."""
    waiting: int = 0
    """Tasks that wait for their parents."""

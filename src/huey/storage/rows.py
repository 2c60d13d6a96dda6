"""The values that pass through a storage: workers, what a turn brings back, tasks and counts as a person looks at them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from huey.runtime.clock import Micros
from huey.task.lifecycle import CancelledAtClaim, Promotion
from huey.task.record import Lease

EventFactory = Callable[[], Sequence[str]]
"""Makes events (JSON texts); called only while there are followers."""


class Features(NamedTuple):
    """What a storage can do."""

    is_shared: bool = True
    """Other processes can use it too."""
    supports_constraints: bool = False
    """Constraints of tasks are kept; locks and rate limits work."""
    sees_all: bool = True
    """``find`` knows each task that has not ended, whatever runs it: one that it does not know has ended, or was never put in."""
    keeps_errors: bool = True
    """A task that will be tried again can be looked at, with the error of its last try."""
    keeps_results: bool = False
    """Results and user data stay when they are read: ``take(remove=True)`` of these reads only."""
    may_fork: bool = True
    """A forked child may use it. False: worker processes are started by exec, and make their own."""


class Polling(NamedTuple):
    """How often a consumer looks into a storage that has to be polled (``-d -m -b``), in seconds."""

    delay: float
    max_delay: float
    backoff: float
    scheduler_interval: float = 1.0


class Worker(NamedTuple):
    """One process that runs tasks. The id is new at every start, never a host name."""

    id: str
    host: str
    pid: int
    host_scope: str
    """Boot id and process namespace: equal, as ``host`` is, for processes that see each other's pid."""
    start_time: int
    """Start time of the process as the kernel counts it: tells a reused pid."""
    kind: str = "solo"
    """``solo``: a consumer inside some program. ``thread``, ``process``: of a supervisor, which sends suspects elsewhere.
    ``quarantine``: of a supervisor, for suspects only."""
    supervisor: str = ""
    """``pid:start_time`` of the supervisor that watches it and renews its lease; it deals with this worker's death as long as it lives
    itself."""

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
    """End of its lease, on the storage's lease clock: equal values mean that no beat came in between."""
    is_expired: bool
    """By the storage's clock, for people who look. Who takes over goes by its own: see ``consumer/janitor.py``."""
    holds: int
    """Number of tasks it holds."""
    is_gone: bool = False
    """Its process cannot live: the only machine that uses this store was restarted since."""


class Turn(NamedTuple):
    """What a turn brings back."""

    leases: list[Lease]
    stale: list[str] = []  # noqa: RUF012 -- read only
    """Ids of finishes that were not written: the lease was gone, or they were written before."""
    cancelled: list[CancelledAtClaim] = []  # noqa: RUF012
    promoted: list[Promotion] = []  # noqa: RUF012
    """Filled only while there are followers, or with ``report_promoted``."""
    revoked_running: list[str] = []  # noqa: RUF012
    """Ids of tasks that this worker runs and that are revoked."""
    next_due: Micros | None = None
    """When the next scheduled task is due."""
    may_have_more: bool = False
    """Further tasks may be ready: the claim was filled."""
    is_paused: bool = False
    is_followed: bool = False
    """There is a follower of events."""
    storage_full: bool = False
    """There is hardly any room left: the finishes were written, nothing was claimed. The same turn claims again when there is room."""
    hit_byte_limit: bool = False
    """What is ready weighs more than fits into one turn (``TURN_BYTES``): fewer were claimed than wanted."""


class Revocation(NamedTuple):
    """The request that a task, or all tasks of a name, not run."""

    until: Micros
    """In force before this time; ``FOREVER`` without limit. Below 0: wall time, until the consumer's clock shows ``-until``."""
    once: bool

    def holds(self, now: Micros, offset: Micros = 0) -> bool:
        """Whether it is in force. *offset*: how far the consumer's clock is ahead of UTC."""
        return now < self.until or (self.until < 0 and now + offset < -self.until)


class TaskIds(NamedTuple):
    """Tasks to revoke or restore, by id."""

    ids: Sequence[str]
    enqueue: Micros | None = None
    """Of ids that may come again (``Constraints.own``), only this enqueue; None: whichever is held, or the next one."""


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
    """JSON object of the last failure: ``error``, ``traceback``."""
    created: Micros
    finished: Micros | None
    revoked_until: Micros | None
    options: str | None
    attempts: str | None = None
    """JSON list of the last ``ATTEMPTS_KEPT`` runs that failed or whose worker died, oldest first. Objects of ``at`` (Micros, the end),
    ``worker``, ``host``, ``pid`` (of who ran it), ``reason``, ``error``."""


class Missing(NamedTuple):
    """What tasks wait for that no worker could run so far."""

    name: str
    """Of their function."""
    reason: str
    """``unknown task``: nobody knows that name. Or what else was missing, such as the class of an argument."""


class Counts(NamedTuple):
    """How many there are, now."""

    ready: int = 0
    scheduled: int = 0
    running: int = 0
    failed: int = 0
    cancelled: int = 0
    results: int = 0
    succeeded: int = 0
    """Those that are kept; see ``keep_finished``."""
    blocked: int = 0
    """Those that a limit keeps from being ready (see ``sharing``), and those that wait for a worker that can run them (``missing``)."""
    is_paused: bool = False
    """The queue is paused."""

"""The contract of every storage.

A storage keeps tasks and moves them between states through a few methods. Each method is one atomic step: it takes effect completely or not
at all, whatever is killed meanwhile. Storages check guards (token, from-state, eta, expiry) and hold no policy: ``lifecycle.decide``
decides what a run *means* before the storage is called.

The methods follow the life of a task. ``huey.testing.contract.StorageContract`` is this page as tests, for any storage.

Times are microseconds UTC (``Micros``). A storage takes the time from its own clock; ``now=`` is for tests. Durations are seconds. Task
names and keys may contain any character but NUL; two different names never collide.

Errors: ``StorageUnavailable`` (unreachable or locked; nothing was written and the call can be repeated), ``StorageFull``,
``StorageRefused``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from huey.exceptions import ConfigurationError
from huey.runtime.clock import FOREVER as FOREVER
from huey.runtime.clock import SECOND, Micros
from huey.runtime.method_masking import Masked
from huey.runtime.waker import Waker as Waker
from huey.storage.admin import Administering
from huey.storage.helpers import BulkEnqueue
from huey.storage.locks import Sharing
from huey.storage.rows import (
    Counts,
    EventFactory,
    Features,
    Missing,
    Polling,
    Revocation,
    TaskIds,
    TaskName,
    TaskRow,
    Turn,
    Worker,
    WorkerRow,
)
from huey.storage.stats import Stat
from huey.task.lifecycle import Finish
from huey.task.record import Lease, Record
from huey.task.workflow import EdgeRow, ParentEnd, TaskRef, Workflow

LEASE = 15 * SECOND
"""How long a worker keeps its leases without a heartbeat."""
HEARTBEAT_S = 5.0
"""Seconds between two heartbeats."""
PROMOTE = 500
"""Most scheduled tasks that one turn makes ready."""
RATE_AHEAD = 100
"""Most tasks of one rate that are ready at a time, so that no step has more to move."""
TURN_BYTES = 8 * 1024 * 1024
"""Total payload size that one turn claims, and of values that it writes; the last one may exceed it."""
LARGEST_TURN = 512
"""Most tasks that a worker requests in one turn."""
HEAVY = TURN_BYTES // LARGEST_TURN
"""Payload size in bytes above which a turn has to weigh what it claims."""
PRUNE = 500
"""Most rows of one kind that one call of ``prune`` removes."""
FOLLOWER = 15 * SECOND
"""How long a follower stays registered after its last call."""
EVENTS_KEPT = 600 * SECOND
"""How long published events can be read."""
REVOCATION_KEPT = 7 * 86400 * SECOND
"""How long a revocation of an unknown id is kept."""
KEPT_RESULT = 120 * SECOND
"""How long the result of a kept task (``Finish.keep``) stays at least after that time, so that it can still be kept longer."""
DEAD_LETTERS_KEPT = 30 * 86400 * SECOND
"""How long failed and cancelled tasks are kept."""
ATTEMPTS_KEPT = 5
"""How many runs of one task are remembered."""


class Storage(Sharing, Administering, Masked, ABC):
    """A storage, as the contract of all of them. One instance serves one queue name, from any thread of any process, also after a fork.
    Constraints, locks and rate limits are described in ``locks``."""

    name: str
    features = Features()
    result_ttl: float | None = None
    """Seconds for which results are kept; None: no limit."""
    offset: Micros = 0
    """How far the clock of the consumer that uses this storage is ahead of UTC. Set by that consumer: a revocation may end by its clock."""

    def for_queue(self, name: str) -> Storage:
        """Return the storage of another queue in the same store. Raise ConfigurationError if this kind holds only one queue."""
        raise ConfigurationError(f"{self!r} holds only one queue, {self.name!r}: {name!r} cannot be stored there too")

    def is_beside(self, other: Storage) -> bool:
        """Return whether *other* is a queue of the same store, and a workflow may have tasks in both."""
        return type(self) is type(other)

    # -- life ---------------------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def enqueue(self, records: Sequence[Record], make_events: EventFactory | None = None, now: Micros | None = None) -> Mapping[str, str]:
        """Enqueue tasks: QUEUED, scheduled while ``eta`` is ahead. All or nothing, durable on return. At most ``CHUNK`` records.

        A record whose id is already held is skipped, so repeating the call is harmless. If two records in one call have the same id, the
        first is enqueued. *make_events* makes one event (a JSON text) for each record, in order. It is called only while there are
        followers, and its events are published in the same step; where records have constraints, only events of those that were enqueued.

        Constraints are checked in the same step, by a storage that has ``supports_constraints``. Returns, for each record that a constraint
        kept out, the id of the task that holds the key (or held it, if it is held for a time). A record is kept out if its unique key is
        held, or if its id was enqueued with ``id_ttl`` and that time has not passed. A record with ``own`` whose id is held gets its own id
        as the answer; if that task has ended, the enqueue starts a new run: it removes the old row, result, error and attempts, and its
        tokens are higher than any before.

        A task that is revoked before it starts gives up its key to the next task that needs it. The same constraints apply wherever a task
        is enqueued: ``tick`` skips a record whose unique key is held. They last as long as the task: one that returns to the queue in any
        way takes back a key that it held while waiting, unless another task holds it by then.

        A task with a limit is QUEUED once it is among the best ``max_running`` of its key, counting running ones first, and BLOCKED until
        then. A task with a ``rate`` is QUEUED once it is among the best for which its window has uses left, at most ``RATE_AHEAD``, and
        BLOCKED until then. A claim spends a use, and ``release`` gives it back while the window lasts. If tasks of one key have different
        limits or rates, those of the best waiting task apply.
        """

    @contextmanager
    def bulk_enqueue(self) -> Iterator[BulkEnqueue]:
        """Yield a value whose enqueues are durable when the block ends, however it ends, not when each call returns. A storage may thus
        sync its disk once, or report a failed call in the next one: ``unconfirmed`` of that StorageError then says how many records of
        earlier calls were not enqueued. By default there is no difference."""
        yield BulkEnqueue(self.enqueue)

    def enqueue_workflow(
        self, workflow: Workflow, make_events: EventFactory | None = None, now: Micros | None = None
    ) -> Mapping[TaskRef, str]:
        """Enqueue the tasks of *workflow*, in this queue and others of the store, in one step: all or nothing, up to ``MOST_TASKS``.

        A task with parents is WAITING until its edges let it be queued; it is scheduled then if its eta is still ahead. Its revocation and
        its expiry are checked when it is claimed. *make_events* makes one event for each task of *workflow* without parents, in order.

        Nothing is enqueued if one of the ids is held. Returns the tasks that were not enqueued, each with the id of the task that stands in
        for it: itself if its id is held, or the holder of its unique key. Its children then wait for that holder. A holder that has ended
        gives its stored result, or ``skipped`` if there is none. It does not wait for the parents of the task it stands in for.

        A parent outside *workflow* must be held and not have ended. A replaced task (``replaces``) is revoked and its edges move to the new
        one, whose options must say the same of parents and children. If it is WAITING, the new task waits in its place, and it is CANCELLED
        at once.

        Raise ValueError if the workflow cannot work (``prepared``), or if a parent or a replaced task has ended, and ConfigurationError if
        this storage does not support it; nothing is written then.
        """
        raise ConfigurationError(f"{type(self).__name__}: tasks cannot wait for others here; SqliteHuey, RedisHuey and MemoryHuey can")

    def parent_ends(self, id: str, after: int = -1) -> list[ParentEnd]:
        """Return how the parents of the task *id* ended, in order of position, from the first after *after*: up to ``PIECE`` bytes of
        values, which the last one may exceed. An empty list means that there are no more. They can be read while the task is held."""
        return []

    def edges(self, ids: Sequence[str]) -> list[EdgeRow]:
        """Return the edges from and to these tasks, in order of child and position. The edges to a task are removed with its row; those
        from a task that is no longer held need not be found by its id."""
        return []

    @abstractmethod
    def turn(
        self,
        worker: Worker,
        finishes: Sequence[Finish],
        want: int,
        events: Sequence[str] = (),
        now: Micros | None = None,
        report_promoted: bool = False,
        before_io: Callable[[], None] | None = None,
    ) -> Turn:
        """Renew the worker's lease, write *finishes* and lease up to *want* due tasks, best first, in one atomic step.

        Finishes are written first: each if its lease (id, token, worker) still holds, otherwise its id is in ``stale``. SUCCEEDED removes
        the task, unless ``keep_finished`` is set or the finish says how long to ``keep`` it; FAILED and CANCELLED keep it for the
        retention time. QUEUED requeues it: ready at once if ``due`` is None (behind the waiting tasks) or past (at that position),
        otherwise scheduled. A revoked task becomes CANCELLED instead of QUEUED. The ``follow_ups`` of a written finish are enqueued with
        it (``enqueue_workflow``) if possible. One with ``unknown_until`` waits: see ``missing``. A ``value`` is stored as the result in
        the same step. A finish with an ``error``, or one that counts a death or a crash, is added to the task's ``attempts``. Statistics
        count each finish, a requeue only if its ``attempt`` grew.

        Due: queued, eta passed, queue not paused. Before the claim, windows of rates that are over end if tasks wait for that;
        ``next_due`` includes the end of the others. Suspects go only to workers that take them, where they come first; a ``quarantine``
        worker takes nothing else. Best: higher priority, then older position, then id. Claiming stops once the payloads exceed
        ``TURN_BYTES`` (``hit_byte_limit``). At most ``PROMOTE`` scheduled tasks become ready in one turn. A due task that is revoked or
        expired becomes CANCELLED and is not returned. Two claims never return the same task while its lease holds; each claim raises the
        token.

        Whatever ends a task, in this method or another, ends the edges to its children in the same step: SUCCEEDED with the ``output`` of
        its finish, FAILED with its error, everything else as ``skipped``. A child whose parent by a ``then`` edge did not succeed becomes
        CANCELLED (``parent failed``, ``parent skipped``), which ends its own edges; no events are published for that. One step ends at most
        ``STEP`` edges; later turns of the queue, and ``prune``, end the rest.

        A storage that is almost full writes the finishes and claims nothing (``storage_full``). Raise StorageFull if there was no room for
        the finishes either; nothing was written then.

        Returns at once, even with nothing. *events* (JSON texts) are kept for followers, if there are any. *report_promoted* requests
        ``Turn.promoted`` even without followers. *before_io* is an optional hook that a storage may call, once or more, when only its file
        or server is left to wait for, so that what the hook starts runs meanwhile. Repeating a turn after an error is safe: finishes
        already written are stale.
        """

    @abstractmethod
    def release(self, worker: Worker, leases: Sequence[Lease]) -> None:
        """Return tasks that never started to the queue: QUEUED at their old position. Leases that no longer hold are ignored."""

    def missing(self) -> list[Missing]:
        """Return what tasks lack that were requeued with ``Finish.unknown_until`` because a worker could not run them. They are BLOCKED
        until ``claim_missing`` takes them or their time is over; then any worker claims them. A storage without this returns nothing and
        requeues such tasks every few seconds."""
        return []

    def claim_missing(self, worker: Worker, missing: Sequence[Missing], want: int, now: Micros | None = None) -> list[Lease]:
        """Lease up to *want* tasks that wait for one of *missing* to a worker that can run them, best first, until they exceed
        ``TURN_BYTES``. Returns none while the queue is paused. A task that a claim must check (revoked, expired, suspect, with a limit or
        unique key) is made due instead."""
        return []

    @abstractmethod
    def reclaim(self, dead: WorkerRow, worker: Worker) -> list[Lease]:
        """Take over all leases of a dead worker, under *worker* and with new tokens; remove the dead one once it holds nothing.

        Does nothing if the dead one sent a heartbeat since *dead* was read. The caller decides and finishes each lease; until then it holds
        them like any worker, so a caller that dies is reclaimed itself.
        """

    @abstractmethod
    def heartbeat(self, workers: Sequence[Worker]) -> None:
        """Renew the leases of *workers* and register those that are unknown."""

    @abstractmethod
    def deregister(self, worker: Worker) -> None:
        """Remove a worker that stops. One that still holds leases stays registered so that its tasks are reclaimed."""

    # -- periodic -----------------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def tick(self, name: str, tick: Micros, record: Record | None, events: Sequence[str] = (), now: Micros | None = None) -> bool:
        """Fire one tick of a periodic task: if its last tick is older than *tick*, set it and enqueue *record*, in one step.

        Returns True if this call fired it; then *events* are published in the same step. With None as *record*, only the tick is stored.
        """

    @abstractmethod
    def ticks(self) -> dict[str, Micros]:
        """Return the last tick of each periodic task."""

    # -- will ---------------------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def revoke(self, target: TaskIds | TaskName, until: Micros | None = None, once: bool = False) -> None:
        """Revoke tasks, so that they do not run. Each call overwrites the previous one. *once*: the revocation ends with the run it
        prevents; that of a name, with the next due task. *until*: see ``Revocation``; None: no limit.

        A queued task becomes CANCELLED when it is due, unless *until* has passed by then; a running one is reported in its worker's next
        turn. The revocation of an id that is not held is kept for its next enqueue within ``REVOCATION_KEPT``.
        """

    @abstractmethod
    def restore(self, target: TaskIds | TaskName) -> list[str]:
        """Remove the revocation of a name, or of tasks that have not ended. Returns the name or the ids that were revoked."""

    @abstractmethod
    def get_revocation(self, *targets: TaskIds | TaskName) -> Revocation | None:
        """Return the revocation of a task (even if a claim has already applied it, unless it was for once) or of a name. Give at most one
        of each, with one id; the task's own revocation comes first."""

    @abstractmethod
    def retry(self, ids: Sequence[str], now: Micros | None = None) -> list[str]:
        """Requeue FAILED or CANCELLED tasks: ready, attempt 0, without their stored error but with their attempts. Returns their ids.

        Tasks that were cancelled because of them are WAITING again, no longer revoked and without an expiry at a set time, and so is a join
        that was not queued yet, or is requeued by the same call. A task that a parent cancelled is not requeued by itself."""

    @abstractmethod
    def discard(self, ids: Sequence[str]) -> list[str]:
        """Remove ended tasks and their stored results. Returns the ids that were removed; waiting and running tasks are left alone."""

    def keep(self, ids: Sequence[str], until: Micros) -> None:
        """Keep succeeded tasks until another time, if they are kept for a time of their own (``Finish.keep``), and their results, unless
        these stay longer anyway. Other ids are ignored. (Storages without workflows keep none.)"""

    @abstractmethod
    def pause(self, on: bool) -> None:
        """Pause or resume claiming: while *on*, no task of this queue is claimed."""

    # -- waking -------------------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def listen(self, worker: Worker, timeout: float, waker: Waker, prefetch: bool = False, report_promoted: bool = False) -> bool:
        """Wait until a turn of *worker* would find something (True), or *waker* is woken or *timeout* seconds have passed (False). Notices
        an enqueue within a second even if the notification is lost.

        *prefetch*: the calling thread also makes the next turn of *worker*, so the storage may claim one task for that turn in advance;
        *report_promoted* as in ``turn``. That turn, or ``deregister``, returns an unwanted task.
        """

    @abstractmethod
    def wait(self, ids: Sequence[str], timeout: float | None) -> bool:
        """Wait until a result of one of the tasks is stored. Returns False if *timeout* seconds passed first; None: no limit."""

    @abstractmethod
    def follow(self, after: int | None, timeout: float = 0.0) -> tuple[int, list[str]]:
        """Return the new position and the events published since position *after* (None: from now on), waiting up to *timeout* seconds for
        one.

        Each call makes the caller a follower for ``FOLLOWER``.
        """

    # -- looking ------------------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def find(self, state: str | None = None, name: str | None = None, limit: int = 100, ids: Sequence[str] | None = None) -> list[TaskRow]:
        """Return tasks by state and name, at most *limit*. Queued ones come in claim order, then scheduled ones by time; others by age.
        ``state`` may also be ``ready`` or ``scheduled``, the two kinds of queued, or ``suspect``: ready, to be run alone. ``kept``:
        succeeded tasks that are kept for a time of their own (``Finish.keep``), until ``due``, which is also their order.

        *ids*: return the tasks with these ids, in any state and in this order (succeeded ones are gone, unless ``keep_finished``); the
        other arguments are ignored.
        """

    @abstractmethod
    def counts(self) -> Counts:
        """Return how many tasks are in each state."""

    @abstractmethod
    def queues(self) -> list[str]:
        """Return the names of the queues in this store, including this one, in order."""

    @abstractmethod
    def stats(self, since: Micros) -> list[Stat]:
        """Return the statistics of each task name, in rows that end after *since*, ordered by start, name and span.

        A row covers a minute; after ``MINUTES_KEPT``, ``prune`` rolls it up into its hour, which it removes after ``HOURS_KEPT``. A task
        counts as enqueued in the minute of its enqueue (``enqueue``, ``tick``), and again when ``retry`` requeues it; everything else
        counts when it happens, in the step that writes it.
        """

    @abstractmethod
    def workers(self) -> list[WorkerRow]:
        """Return all registered workers."""

    @abstractmethod
    def leases(self, worker: Worker) -> list[Lease]:
        """Return the leases of a worker. After a lost reply there may be more than the worker knows of."""

    # -- marks --------------------------------------------------------------------------------------------------------------------------
    # Small values by (kind, key). Kind "result" holds the results of tasks, "data" the values of the application.

    @abstractmethod
    def put(self, kind: str, key: str, value: bytes, ttl: float | None = None, if_absent: bool = False) -> bool:
        """Store *value*, replacing any old one; with *if_absent*, only if there is none, in one step. Returns True if it was stored.

        It expires after *ttl* seconds. None: a result expires after the storage's ``result_ttl``, anything else stays.
        """

    @abstractmethod
    def take(self, kind: str, keys: Sequence[str] | None = None, remove: bool = False) -> dict[str, bytes]:
        """Return the values of *keys* that exist and, with *remove*, remove them in the same step: only one of two callers gets a value. At
        most ``CHUNK`` keys; None: all of that kind, which can only be read."""

    # -- house --------------------------------------------------------------------------------------------------------------------------

    def startup_warnings(self, processes: int, periodic: bool) -> list[str]:
        """Return what a consumer with this many worker processes logs at startup: promises that cannot be kept here. Raises
        ConfigurationError if it cannot work with this storage."""
        return []

    @abstractmethod
    def open(self, polling: Polling | None = None) -> int:
        """Connect, create the schema or migrate it to this release's version, and return that version. The first call of any method opens
        the storage; opening it at startup shows mistakes early. Idempotent, safe beside running consumers. *polling*: how often to check a
        storage that has to be polled. Raise StorageRefused if this is not a huey store, or not one this release can use."""

    @abstractmethod
    def close(self) -> None:
        """Close connections and files. The next call reopens them."""

    @abstractmethod
    def prune(self, now: Micros | None = None) -> int:
        """Remove a bounded number of expired things: results, other values, events, ended tasks, statistics. Returns how many.

        Also end up to ``STEP`` edges that turns left over, and cancel tasks that wait only for tasks that can no longer end (``orphaned``),
        with a warning in the log: there should be none."""

    @abstractmethod
    def flush(self, state: str | None = None) -> int:
        """Remove everything in this queue: tasks, results, revocations, user data, ticks, statistics.

        *state* ``scheduled`` or ``ready``: remove only the scheduled tasks, or only those that wait for a worker or for a limit; everything
        else stays. Returns how many tasks were removed.
        """

    @property
    @abstractmethod
    def is_trusted(self) -> bool:
        """Whether pickles of any class may be read from here because nothing else can write to it."""

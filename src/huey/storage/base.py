"""The contract of every storage.

A storage keeps tasks and moves them between states through a few verbs. Each verb is one atomic step: it happens whole or not at all,
whatever is killed meanwhile. Storages hold guards (token, from-state, eta, expiry), never policy: what a run *means* is decided by
``lifecycle.decide`` before the storage is asked.

The methods stand in the order in which a task lives. ``huey.testing.contract.StorageContract`` is this page as tests, for any storage.

Times are microseconds UTC (``Micros``). A storage takes the time from its own clock; ``now=`` is for tests. Durations are seconds.
Strings that name tasks and keys may hold any character but NUL; two different names never meet.

Errors: ``StorageUnavailable`` (away, locked: nothing was written, the same call may be made again), ``StorageFull``, ``StorageRefused``.
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

LEASE = 15 * SECOND
"""How long a worker keeps what it claimed without a sign of life."""
HEARTBEAT_S = 5.0
"""Seconds between two signs of life."""
PROMOTE = 500
"""Scheduled tasks that one turn makes ready."""
TURN_BYTES = 8 * 1024 * 1024
"""Payloads that one turn claims, and values that it writes, at most, not counting the last."""
LARGEST_TURN = 512
"""Tasks that a worker asks one turn for, at most."""
HEAVY = TURN_BYTES // LARGEST_TURN
"""Bytes of a payload above which a turn has to weigh what it claims."""
PRUNE = 500
"""Rows of a kind that one call of ``prune`` removes."""
FOLLOWER = 15 * SECOND
"""How long a follower counts after its last look."""
EVENTS_KEPT = 600 * SECOND
"""How long told events can be read."""
REVOCATION_KEPT = 7 * 86400 * SECOND
"""How long the revocation of an unknown id is kept."""
DEAD_LETTERS_KEPT = 30 * 86400 * SECOND
"""How long failed and cancelled tasks can be looked at."""
ATTEMPTS_KEPT = 5
"""Runs of one task that are remembered."""


class Storage(Sharing, Administering, Masked, ABC):
    """The contract. One instance serves one queue name, from any thread of any process (fork included). What tasks share (terms, locks,
    rates) stands in ``sharing``."""

    name: str
    features = Features()
    offset: Micros = 0
    """How far the clock of the consumer that turns it is ahead of UTC, which that consumer sets: revocations may end by what it shows."""

    def for_queue(self, name: str) -> Storage:
        """The storage of another queue in the same store. ConfigurationError: this kind has one queue only."""
        raise ConfigurationError(f"{self!r} has no other queues: {name!r} cannot be kept beside {self.name!r}")

    # -- life ---------------------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def enqueue(self, records: Sequence[Record], make_events: EventFactory | None = None, now: Micros | None = None) -> Mapping[str, str]:
        """Put tasks in: QUEUED, scheduled while ``eta`` is ahead. All or nothing, durable when it returns. At most ``CHUNK`` records.

        A record whose id is already held is left as it is: the same call again is harmless. Of two in one call with the same id the first
        counts. *make_events* makes one event (a JSON text) for each record, in order; called only while there are followers, who get
        them in the same step; where records have constraints, the events of those that are put in.

        Constraints are kept in the same step, by a storage that has ``supports_constraints``. Returns, for each record that was not put in
        because of one, the id of the task that holds the key (or held it, when it is held for a time). That is a record whose unique key is
        held, or one that was put in with ``id_ttl`` when that time has not passed. One with ``own`` is answered with its own id if it is
        held; when its task has ended it is a new run, whose enqueue removes the old row, result, error and attempts and begins above every
        token that the id ever had.

        A task that is revoked before it started gives its key up to the next that asks for it. The same constraints hold wherever a task is
        put in: ``tick`` leaves out a record whose unique key is held. They hold as long as the task does: one that goes back to the queue
        in any way takes a key that it held while waiting again, unless another has it by then.

        A task with a limit is QUEUED once it is among the best ``max_running`` of its key, those that run counted first, and BLOCKED
        before. Where tasks of one key have different limits, that of the best one that waits decides.
        """

    @contextmanager
    def bulk_enqueue(self) -> Iterator[BulkEnqueue]:
        """What is enqueued through the value of the block is durable when the block ends, in whatever way, instead of at each call's
        return. A storage may so wait for its disk once, or answer a call with what became of the one before: a StorageError's
        ``unconfirmed`` then says how many records of earlier calls were not put in. Here: no difference."""
        yield BulkEnqueue(self.enqueue)

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
        """One trip of a worker: renew its lease, write *finishes*, lease up to *want* due tasks, best first. One atomic step.

        Finishes are written first: each if its lease (id, token, worker) still holds, else its id is in ``stale``. SUCCEEDED removes the
        task (unless ``keep_finished``), FAILED and CANCELLED keep it for retention, QUEUED puts it back: ready at once when ``due`` is None
        (behind what waits) or past (at that place), else scheduled. A task that is revoked becomes CANCELLED instead of
        QUEUED. One with ``unknown_until`` waits: see ``missing``. A finish with a ``value`` stores it as the result in the same step. One
        with an ``error``, or that counts a death or a crash, is added to the task's ``attempts``. All of it counts in the
        statistics; what is put back only if its ``attempt`` grew.

        Due: queued, eta passed, queue not paused. Suspects are for workers that take them, and come first there; a ``quarantine``
        worker takes nothing else. Best: higher priority, then older place, then id. No more is claimed once the payloads weigh more than
        ``TURN_BYTES`` (``hit_byte_limit``). At most ``PROMOTE`` scheduled tasks
        become ready in one turn. A due task that is revoked or expired becomes CANCELLED and is not handed out. Two claims never return
        the same task while its lease holds; each claim raises the token.

        A storage that has hardly any room left writes the finishes and claims nothing (``storage_full``). StorageFull: there was no room
        for the finishes either, nothing was written.

        Returns at once, also with nothing. *events* (JSON texts) are kept for followers, if there are any. *report_promoted* asks for
        ``Turn.promoted`` though there are no followers. *before_io* is an optional hook: a storage may call it, once or more, when nothing
        is left to do in Python but to wait for its file or server, so that what it starts runs beside the storage. The same turn sent again
        after an error is safe: what was written already is stale.
        """

    @abstractmethod
    def release(self, worker: Worker, leases: Sequence[Lease]) -> None:
        """Give back tasks that never started: QUEUED at their old place. Leases that no longer hold are left alone."""

    def missing(self) -> list[Missing]:
        """What tasks wait for that were put back with ``Finish.unknown_until``, since a worker could not run them. They are BLOCKED until
        ``claim_missing`` takes them, or their time is over: then any worker claims them. A storage without them has none, and puts such
        tasks back every few seconds."""
        return []

    def claim_missing(self, worker: Worker, missing: Sequence[Missing], want: int, now: Micros | None = None) -> list[Lease]:
        """Lease up to *want* tasks that wait for one of *missing* to a worker that can run those, best first, and no more than weigh
        ``TURN_BYTES`` with the last one. None while the queue is paused. What a claim has to look at (revoked, expired, a suspect, with a
        limit or a unique key) is due instead."""
        return []

    @abstractmethod
    def reclaim(self, dead: WorkerRow, worker: Worker) -> list[Lease]:
        """Take over all that a dead worker holds, under *worker* and with new tokens; forget the dead one once it holds nothing.

        Does nothing when the dead one gave a sign of life since *dead* was read. The caller decides and finishes each lease; until then
        it holds them like any worker, so a caller that dies is reclaimed itself.
        """

    @abstractmethod
    def heartbeat(self, workers: Sequence[Worker]) -> None:
        """Renew the leases of *workers* and make them known."""

    @abstractmethod
    def deregister(self, worker: Worker) -> None:
        """Forget a worker that stops. One that still holds tasks stays known, so that they are reclaimed."""

    # -- periodic -----------------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def tick(self, name: str, tick: Micros, record: Record | None, events: Sequence[str] = (), now: Micros | None = None) -> bool:
        """Fire one tick of a periodic task: if its last tick is older than *tick*, set it and put *record* in, in one step.

        True when this call fired it; *events* are published then, in the same step. With None as record only the tick is noted.
        """

    @abstractmethod
    def ticks(self) -> dict[str, Micros]:
        """The last tick of each periodic task."""

    # -- will ---------------------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def revoke(self, target: TaskIds | TaskName, until: Micros | None = None, once: bool = False) -> None:
        """Keep tasks from running. Each call overwrites the former one. *once*: the revocation goes with the run it prevents; of a name,
        with the next task that is due. *until*: see ``Revocation``; None: without limit.

        A queued task becomes CANCELLED when it is due, unless *until* has passed by then; a running one is named in the next turn of its
        worker. The revocation of an id that is not held is kept for its next enqueue within ``REVOCATION_KEPT``.
        """

    @abstractmethod
    def restore(self, target: TaskIds | TaskName) -> list[str]:
        """Take back the revocation of a name, or of tasks that have not ended. Returns the name or the ids that were revoked."""

    @abstractmethod
    def get_revocation(self, *targets: TaskIds | TaskName) -> Revocation | None:
        """Return the revocation of a task (also one that a claim obeyed already, unless it was for once) or of a name. At most one of
        each, with one id; the task's own comes first."""

    @abstractmethod
    def retry(self, ids: Sequence[str], now: Micros | None = None) -> list[str]:
        """FAILED or CANCELLED tasks back to QUEUED, ready, no try counted, their stored error gone, their attempts kept. Returns the ids
        that were put back."""

    @abstractmethod
    def discard(self, ids: Sequence[str]) -> list[str]:
        """Remove ended tasks, and what is stored as their results. Returns the ids that went; what waits or runs is left alone."""

    @abstractmethod
    def pause(self, on: bool) -> None:
        """While on, nothing of this queue is claimed."""

    # -- waking -------------------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def listen(self, worker: Worker, timeout: float, waker: Waker, prefetch: bool = False, report_promoted: bool = False) -> bool:
        """Wait until a turn of *worker* would find something (True), or *waker* wakes, or *timeout* seconds passed (False). Never misses
        an enqueue for longer than a second, whatever was lost.

        *prefetch*: the calling thread also makes the next turn of *worker*, so that a storage may claim one task for that turn in
        advance; *report_promoted* as in ``turn``. That turn, or ``deregister``, gives an unwanted task back.
        """

    @abstractmethod
    def wait(self, ids: Sequence[str], timeout: float | None) -> bool:
        """Wait until a result of one of the tasks is stored. False when *timeout* seconds passed first; None: no limit."""

    @abstractmethod
    def follow(self, after: int | None, timeout: float = 0.0) -> tuple[int, list[str]]:
        """Events told since position *after*, waiting up to *timeout* seconds for one; and the new position. None: from now on.

        Each call makes the caller a follower for ``FOLLOWER``.
        """

    # -- looking ------------------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def find(self, state: str | None = None, name: str | None = None, limit: int = 100, ids: Sequence[str] | None = None) -> list[TaskRow]:
        """Return tasks by state and name, at most *limit*. Queued ones come in claim order, scheduled ones after them in order of time;
        others by age. ``state`` may also be ``ready`` or ``scheduled``, the two kinds of queued, or ``suspect``: ready, to be run alone.

        *ids*: return those of these tasks that are held in any state (succeeded ones are gone, unless ``keep_finished``), in the order of
        the ids; the other arguments do not count.
        """

    @abstractmethod
    def counts(self) -> Counts:
        """How many tasks are in each state."""

    @abstractmethod
    def queues(self) -> list[str]:
        """The names that share this store, this one included, in order."""

    @abstractmethod
    def stats(self, since: Micros) -> list[Stat]:
        """What was counted about each task name, in rows that end after *since*, in order of start, name and span.

        A row covers a minute; after ``MINUTES_KEPT`` it is folded into its hour, after ``HOURS_KEPT`` that goes (``prune``). A task counts
        as enqueued in the minute in which it was put in (``enqueue``, ``tick``), and once more when it is put back by hand; all else counts
        when it happens, in the step that writes it.
        """

    @abstractmethod
    def workers(self) -> list[WorkerRow]:
        """All workers known."""

    @abstractmethod
    def leases(self, worker: Worker) -> list[Lease]:
        """What a worker holds. After a reply was lost it may be more than the worker knows of."""

    # -- marks --------------------------------------------------------------------------------------------------------------------------
    # Small values by (kind, key). Kind "result" holds the results of tasks, "data" what the user put.

    @abstractmethod
    def put(self, kind: str, key: str, value: bytes, ttl: float | None = None, if_absent: bool = False) -> bool:
        """Store *value*, replacing what was there; with *if_absent* only if there is none, in one step. Returns True if it was stored.

        It goes after *ttl* seconds. None: a result goes when the storage's ``result_ttl`` is over, anything else stays.
        """

    @abstractmethod
    def take(self, kind: str, keys: Sequence[str] | None = None, remove: bool = False) -> dict[str, bytes]:
        """Read the values of *keys* that are there, and remove them if asked to, in one step: of two callers one gets a value. At most
        ``CHUNK`` keys; None: all of that kind, which can only be read."""

    # -- house --------------------------------------------------------------------------------------------------------------------------

    def startup_warnings(self, processes: int, periodic: bool) -> list[str]:
        """Return what a consumer of that many worker processes logs at its start: promises that cannot be kept here. ConfigurationError: it
        cannot work so."""
        return []

    @abstractmethod
    def open(self, polling: Polling | None = None) -> int:
        """Connect, make the schema or bring it to this release's version, and return that version. Called by the first verb; calling it at
        start shows mistakes early. Idempotent, safe beside running consumers. *polling*: how often to look, for a storage that has to be
        polled. StorageRefused: this is not a store of ours, or one that we cannot use."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections and files. The next verb opens again."""

    @abstractmethod
    def prune(self, now: Micros | None = None) -> int:
        """Remove a bounded number of things past their time: results, marks, events, ended tasks, statistics. Returns how many went."""

    @abstractmethod
    def flush(self, state: str | None = None) -> int:
        """Remove everything of this queue: tasks, results, revocations, user data, ticks, statistics.

        *state* ``scheduled`` or ``ready``: remove only the tasks that wait for their time, or those that wait for a worker or for a limit;
        what runs, what has ended and all else stays. Returns how many tasks these were.
        """

    @property
    @abstractmethod
    def is_trusted(self) -> bool:
        """Whether pickles of any class may be read from here, since nothing else can write into it."""

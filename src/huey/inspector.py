"""Inspection of tasks, and actions on them: the one read model for command line, dashboard and metrics.

Everything here is a record of plain values, made from the storage's answers; nothing is cached between calls. Times carry their zone (UTC),
durations are seconds. No argument is unpickled into a class of the application: plain values are shown, for others their size.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple

from huey.exceptions import DecodeError
from huey.runtime import display as shown
from huey.runtime.clock import SECOND, Clock, micros
from huey.runtime.method_masking import Masked
from huey.runtime.suggestions import did_you_mean
from huey.runtime.times import to_micros
from huey.serializer import Codec
from huey.storage.base import Storage
from huey.storage.flows import FlowInfo, flow_info
from huey.storage.rows import Counts, TaskIds, TaskRow, WorkerRow
from huey.storage.stats import BOUNDS, Stat
from huey.task.bounds import LONGEST_ID, is_storable
from huey.task.lifecycle import STATES, State, label
from huey.task.workflow import EdgeRow, TaskRef, failed_ancestor

SHOWN_BYTES = 64 * 1024
"""Arguments larger than this are not read."""
SHOWN_CHARS = 500
"""Argument texts longer than this are cut."""
_STATES = (*STATES, "ready", "scheduled", "suspect")
_SUMMED = ("enqueued", "succeeded", "failed", "retried", "cancelled", "took")


class Attempt(NamedTuple):
    """A run that failed, or whose worker died."""

    at: datetime
    """When it ended."""
    worker: str
    host: str
    pid: int
    reason: str | None
    error: str | None
    """The exception, in one line; None when the worker died."""


class TaskInfo(NamedTuple):
    """A task as the inspector shows it."""

    id: str
    name: str
    state: str
    """``queued``, ``waiting`` for its parents, ``blocked``, ``running``, ``failed``, ``cancelled``, and ``succeeded`` where such tasks are
    kept. See ``label``."""
    arguments: str
    """As written in the call: ``1, name='x'``. ``<1,234 bytes>`` if they are not plain values, or too many."""
    size: int
    """Bytes of the arguments as stored."""
    priority: int
    created: datetime
    due: datetime | None
    """When it is due, if that is in the future."""
    expires: datetime | None
    finished: datetime | None
    worker: str | None
    """The worker that runs it."""
    attempt: int
    """Failed runs since it was enqueued, or requeued by hand."""
    retries: int
    """Total number of retries allowed."""
    solo_crashes: int
    deaths: int
    token: int
    """How often it was claimed."""
    reason: str | None
    """Why it ended or was delayed."""
    error: str | None
    """The last exception, in one line."""
    traceback: str | None
    attempts: tuple[Attempt, ...]
    """The last failed runs, oldest first."""
    is_revoked: bool
    """It has been revoked."""
    failed_ancestor: TaskRef | None
    """The task, ``queue`` and ``id``, because of whose failure this one was cancelled."""

    @property
    def label(self) -> str:
        """The state in everyday words: a queued task is ``ready``, ``scheduled``, or ``retrying``."""
        return label(self.state, self.attempt, self.due is not None)


class Relative(NamedTuple):
    """A task that another one waits for (a parent), or that waits for it (a child)."""

    queue: str
    id: str
    name: str | None
    state: str | None
    """As in ``TaskInfo``. None, like the name, if the task is no longer held: it succeeded, or was removed."""
    kind: str
    """``then``: the child runs if the parent succeeded. ``join``: it runs when all its parents have ended."""
    outcome: str | None
    """What the parent was for the child: ``succeeded``, ``failed`` or ``skipped``. None while it has not ended."""


class WorkerInfo(NamedTuple):
    """A process that runs tasks."""

    id: str
    host: str
    pid: int
    kind: str
    holds: int
    """Tasks that it runs or has claimed to run next."""
    is_expired: bool
    """It has sent no heartbeat for longer than its lease."""


class Sample(NamedTuple):
    """The statistics of the tasks of one name over some time."""

    name: str
    start: datetime
    span: timedelta
    enqueued: int
    succeeded: int
    failed: int
    retried: int
    cancelled: int
    took: float
    """Total seconds of all runs."""
    longest: float
    histogram: tuple[int, ...]
    """Runs by duration; the bounds are ``huey.storage.stats.BOUNDS``."""

    @property
    def runs(self) -> int:
        """Number of runs whose duration was measured."""
        return sum(self.histogram)

    @property
    def mean(self) -> float | None:
        """Average seconds of a run; None without runs."""
        return self.took / self.runs if self.runs else None

    def quantile(self, share: float) -> float | None:
        """Return the seconds in which that *share* of the runs ended (0.95 for 95 %), rounded up to a bound; None without runs."""
        seen = 0
        for count, bound in zip(self.histogram, (*BOUNDS, self.longest), strict=True):
            seen += count
            if count and seen >= share * self.runs:
                return min(bound, self.longest)
        return None


class Inspector(Masked):
    """The inspector of one queue, available as ``huey.inspector``: shows its contents and acts on them. Errors are those of the storage."""

    def __init__(self, storage: Storage, codec: Codec, clock: Clock) -> None:
        self._storage = storage
        self._codec = codec
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Inspector of queue {self._storage.name!r}>"

    # -- looking ------------------------------------------------------------------------------------------------------------------------

    def counts(self) -> Counts:
        """Return how many tasks are in each state, and how many results are stored."""
        return self._storage.counts()

    def is_paused(self) -> bool:
        return self._storage.counts().is_paused

    def queues(self) -> list[str]:
        """Return the names of all queues in this store."""
        return self._storage.queues()

    def tasks(self, state: str | None = None, name: str | None = None, limit: int = 100) -> list[TaskInfo]:
        """Return tasks by state (also ``ready``, ``scheduled``, ``suspect``) and name, at most *limit*. Queued ones come in the order in
        which they will run, others by age. Raise ValueError for an unknown state."""
        if state is not None and state not in _STATES:
            hint = did_you_mean(state, _STATES) or f"; there are {', '.join(_STATES)}"
            raise ValueError(f"state={state!r}: no such state{hint}")
        if name is not None and not is_storable(name):
            return []
        return [self._info(row) for row in self._storage.find(state, name, limit)]

    def task(self, id: str) -> TaskInfo | None:
        """Return one task, or None if the storage does not hold it (any more)."""
        row = self._storage.get(id) if is_storable(id) else None
        return None if row is None else self._info(row)

    def parents(self, id: str, limit: int = 100) -> list[Relative]:
        """Return the tasks that a task of a workflow waits for, or waited for, in the order in which it gets their values; at most *limit*.
        They may be in other queues."""
        edges = [edge for edge in self._edges(id) if edge.child == (self._storage.name, id)]
        return [self._relative(edge.parent, edge) for edge in edges[:limit]]

    def children(self, id: str, limit: int = 100) -> list[Relative]:
        """Return the tasks that wait for a task, or have waited for it, and are held; at most *limit*. None are known of one that is not
        held any more. They may be in other queues."""
        edges = [edge for edge in self._edges(id) if edge.parent == (self._storage.name, id)]
        return [self._relative(edge.child, edge) for edge in edges[:limit]]

    def flow(self, id: str) -> FlowInfo | None:
        """Return the flow of that id with the state of each member, or None if the store does not know it (any more)."""
        return flow_info(self._storage, id) if is_storable(id) else None

    def workers(self) -> list[WorkerInfo]:
        """Return the workers of this queue."""
        return [_worker(row) for row in self._storage.workers()]

    def stats(self, since: datetime | timedelta, name: str | None = None) -> list[Sample]:
        """Return statistics since a time, or for the last timedelta: one record per task name and minute, per hour after 48 hours, for 90
        days.

        They are ordered by time. Minutes in which nothing happened are left out. A naive time is UTC.
        """
        return [_sample(stat, stat.span) for stat in self._stats(since, name)]

    def totals(self, since: datetime | timedelta) -> list[Sample]:
        """Return the same for the whole time: one record per task name, ordered by name."""
        by_name = groupby(sorted(self._stats(since)), key=lambda stat: stat.name)
        return [_total(list(stats)) for _, stats in by_name]

    def _stats(self, since: datetime | timedelta, name: str | None = None) -> Iterable[Stat]:
        start = (
            self._clock.now() - micros(since.total_seconds()) if isinstance(since, timedelta) else to_micros(since, naive_is_local=False)
        )
        return [stat for stat in self._storage.stats(start) if name is None or stat.name == name]

    # -- acting -------------------------------------------------------------------------------------------------------------------------

    def retry(self, *ids: str) -> list[str]:
        """Requeue failed or cancelled tasks with all their retries. Return the ids that were requeued."""
        return self._storage.retry(_storable(ids))

    def discard(self, *ids: str) -> list[str]:
        """Remove ended tasks for good, with their stored error or result. Return the ids that were removed."""
        return self._storage.discard(_storable(ids))

    def cancel(self, *ids: str) -> None:
        """Revoke tasks, so that they will not run. A running task is not stopped, but not retried either."""
        self._storage.revoke(TaskIds(_storable(ids)))

    def restore(self, *ids: str) -> list[str]:
        """Remove the revocation of tasks that have not ended. Return the ids of those that were revoked."""
        return self._storage.restore(TaskIds(_storable(ids)))

    def pause(self) -> None:
        """Stop consumers from starting tasks of this queue until ``resume()``. Running tasks continue."""
        self._storage.pause(True)

    def resume(self) -> None:
        """Let consumers start tasks again."""
        self._storage.pause(False)

    # -- records ------------------------------------------------------------------------------------------------------------------------

    def _info(self, row: TaskRow) -> TaskInfo:
        error = next(iter(shown.dicts(row.error)), {})
        return TaskInfo(
            id=row.id,
            name=row.name,
            state=row.state,
            arguments=self._arguments(row),
            size=len(row.payload),
            priority=row.priority,
            created=shown.time(row.created),
            due=shown.time_or_none(row.due),
            expires=shown.time_or_none(row.expires),
            finished=shown.time_or_none(row.finished),
            worker=row.worker if row.state == State.RUNNING else None,
            attempt=row.attempt,
            retries=row.retries,
            solo_crashes=row.solo_crashes,
            deaths=row.deaths,
            token=row.token,
            reason=row.reason,
            error=error.get("error"),
            traceback=error.get("traceback"),
            attempts=tuple(map(_attempt, shown.dicts(row.attempts))),
            is_revoked=row.revoked_until is not None,
            failed_ancestor=failed_ancestor(row.error) if "failed" in error else None,
        )

    def _edges(self, id: str) -> list[EdgeRow]:
        return self._storage.edges(_storable([id]))

    def _relative(self, ref: TaskRef, edge: EdgeRow) -> Relative:
        storage = self._storage if ref.queue == self._storage.name else self._storage.for_queue(ref.queue)
        row = storage.get(ref.id)
        return Relative(*ref, row and row.name, row and row.state, edge.kind, edge.outcome)

    def _arguments(self, row: TaskRow) -> str:
        size = f"<{len(row.payload):,} bytes>"
        if len(row.payload) > SHOWN_BYTES:
            return size
        try:
            args, kwargs = self._codec.decode_plain("task", row.id, row.payload, SHOWN_BYTES)
        except DecodeError:
            return size
        return shown.arguments(args, kwargs, SHOWN_CHARS)


def _attempt(it: dict[str, Any]) -> Attempt:
    error, reason = it.get("error"), it.get("reason")
    return Attempt(
        shown.time(it.get("at", 0)),
        str(it.get("worker", "")),
        str(it.get("host", "")),
        it.get("pid", 0),
        None if reason is None else str(reason),
        None if error is None else str(error),
    )


def _storable(ids: Iterable[str]) -> list[str]:
    """Return the ids that a storage can hold: an id typed into an address bar need not be one."""
    return [id for id in ids if len(id) <= LONGEST_ID and is_storable(id)]


def _worker(row: WorkerRow) -> WorkerInfo:
    it = row.worker
    return WorkerInfo(it.id, it.host, it.pid, it.kind, row.holds, row.is_expired)


def _sample(stat: Stat, seconds: float) -> Sample:
    return Sample(stat.name, shown.time(stat.start), timedelta(seconds=seconds), *stat[3:])


def _total(stats: list[Stat]) -> Sample:
    """Return the sum of rows of one name, which are in order of time."""
    start, end = stats[0].start, max(stat.start + stat.span * SECOND for stat in stats)
    sums = {what: sum(getattr(stat, what) for stat in stats) for what in _SUMMED}
    histogram = tuple(map(sum, zip(*(stat.histogram for stat in stats), strict=True)))
    whole = stats[0]._replace(**sums, longest=max(stat.longest for stat in stats), histogram=histogram)
    return _sample(whole, (end - start) / SECOND)

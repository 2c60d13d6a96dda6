"""Helpers for callers that wait for results: check arguments, say why no result came, and detect a wait inside a task that cannot end."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from threading import get_ident
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from huey.client.context import QueueContext
from huey.exceptions import HopelessWait, StorageError, TaskException
from huey.runtime import current_run as current
from huey.runtime.clock import SECOND, Clock, Micros, micros
from huey.storage.base import Storage
from huey.storage.rows import TaskRow, WorkerRow
from huey.task import reasons
from huey.task.lifecycle import State
from huey.task.task import Task
from huey.task.workflow import failed_ancestor

log = logging.getLogger("huey")

FIRST_CHECK_S, CHECK_INTERVAL_S = 0.02, 0.9
"""Seconds until a waiting caller first checks whether the task has ended without a result, and between later checks."""
WORKER_CHECK_INTERVAL_S = 5.0
"""Seconds between checks for other workers."""

_logged: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
"""The warnings that were logged already, by Huey."""


class OfContext(Protocol):
    """An object with the queue context of a ``Huey``, and with the module of its awaitable calls."""

    context: QueueContext

    @property
    def awaitable(self) -> Any: ...


class Host(Protocol):
    """The part of ``Huey`` that a handle uses."""

    @property
    def client(self) -> OfContext: ...

    @property
    def storage(self) -> Storage: ...

    @property
    def clock(self) -> Clock: ...

    def revoke(self, task: Any, revoke_until: datetime | None = None, revoke_once: bool = False) -> None: ...

    def restore(self, task: Any) -> bool: ...

    def is_revoked(self, task: Any, timestamp: datetime | None = None, peek: bool = True) -> bool: ...

    @property
    def reschedule(self) -> Callable[..., Any]: ...


class Handle(Protocol):
    """The part of a handle that waiting uses."""

    is_held: bool
    task: Task

    @property
    def id(self) -> str: ...

    @property
    def huey(self) -> Host: ...


# -- arguments ----------------------------------------------------------------------------------------------------------------------------


def check_arguments(blocking: Any, timeout: float | None, huey: Any, what: str) -> None:
    """Raise TypeError if *blocking* is a number of seconds, ValueError if *timeout* is below 0. Log a warning if it has no effect."""
    if not isinstance(blocking, bool) and isinstance(blocking, int | float) and blocking not in (0, 1):
        raise TypeError(f"get({blocking!r}): the first argument says whether to wait; give get(blocking=True, timeout={blocking!r})")
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout={timeout!r}: give seconds, or None to wait without limit")
    if timeout < 0 or timeout != timeout:
        raise ValueError(f"timeout={timeout!r}: give seconds from 0 up, or None to wait without limit")
    if not blocking and _is_first(huey, f"timeout {what}"):
        log.warning("get(timeout=%s) of %s checks once and does not wait: timeout= has no effect without blocking=True", timeout, what)


def _is_first(huey: Any, what: str) -> bool:
    """Return True the first time that *what* is logged for this ``Huey``."""
    logged = _logged.setdefault(huey, set())
    if what in logged:
        return False
    logged.add(what)
    return True


def slices(clock: Clock, timeout: float | None, check: Callable[[], None]) -> Iterator[float]:
    """Yield how many seconds to wait for a result before each check of its task, until *timeout* is over, but at least once. Call *check*
    before each."""
    deadline = None if timeout is None else clock.monotonic() + micros(timeout)
    pause = FIRST_CHECK_S
    while True:
        check()
        left = pause if deadline is None else max(0.0, (deadline - clock.monotonic()) / SECOND)
        yield min(left, pause)
        if deadline is not None and clock.monotonic() >= deadline:
            return
        pause = CHECK_INTERVAL_S


def raise_of_try(huey: Host, id: str) -> None:
    """Raise the error of the last try of a task that will be retried, which is kept in the task itself. Do nothing if it found a lock held
    or a rate limit full, or asked for another run. If it will not run because a task before it failed, raise that one's error."""
    context = huey.client.context
    if not (context.policy.store_intermediate_errors or context.storage.features.supports_workflows):
        return
    row = context.storage.get(id)
    if (failure := failure_of_parent(huey, row)) is not None:
        raise failure
    if row is None or not (row.error and row.attempt and row.state in (State.QUEUED, State.RUNNING)):
        return
    if not context.policy.store_intermediate_errors:
        return
    tries = json.loads(row.attempts or "[]")
    if not tries or tries[-1].get("reason") not in ("locked", "rate limited", "retry asked"):
        raise failure_of(row)


def failure_of(row: TaskRow, **facts: Any) -> TaskException:
    """Return the error that the row of a task keeps, as ``get`` raises it. *facts*: entries that its metadata always has."""
    left = max(0, row.retries - row.attempt)
    return TaskException({"retries": left, **json.loads(row.error or "{}"), **facts, "task_id": row.id})


def failure_of_parent(huey: Host, row: TaskRow | None) -> TaskException | None:
    """Return the error of the task because of which the one of *row* was cancelled; None if it was not. That error is stored once."""
    ancestor = failed_ancestor(row.error) if row is not None and row.state == State.CANCELLED else None
    if ancestor is None:
        return None
    storage = huey.client.context.storage
    its = (storage if ancestor.queue == storage.name else storage.for_queue(ancestor.queue)).get(ancestor.id)
    if its is not None:
        return failure_of(its)
    gone = f"task {ancestor.id}, which it waited for, failed, and its error is no longer kept"
    return TaskException({"error": gone, "traceback": "", "retries": 0, "task_id": ancestor.id})


# -- why --------------------------------------------------------------------------------------------------------------------------------


def why(result: Handle) -> str:
    """Return why a task has no result yet: its state, and whether any worker serves its queue."""
    storage = result.huey.storage
    facts: list[str] = []
    try:
        # Components of 0.4.9 do not show what other processes do.
        if storage.features.sees_all:
            facts += [_state_of(storage.get(result.id), result, storage), _workers(storage)]
            if storage.counts().is_paused:
                facts.append("the queue is paused")
    except StorageError as error:
        facts.append(f"the storage cannot be read: {error}")
    _, is_known, where = repr(storage).strip("<>").rpartition(" in ")
    queue = f"queue {storage.name!r} ({where if is_known else 'of this process'})"
    return f"in {queue} {'; '.join(facts) or 'nothing is known about it yet'}"


def _state_of(row: TaskRow | None, result: Handle, storage: Storage) -> str:
    if row is None:
        if result.is_held:
            return "it is no longer held, and has no stored result"
        return "no task of that id is held: it has ended and its result was read, or has expired, or it was never enqueued there"
    if row.state == State.RUNNING:
        workers = {it.worker.id: it.worker for it in storage.workers()}
        worker = workers.get(row.worker or "")
        return "it is running" if worker is None else f"it is running in process {worker.pid} on {worker.host}"
    if row.state == State.WAITING:
        return "it waits for the end of other tasks"
    if row.state == State.BLOCKED:
        is_unknown = row.due is not None and row.reason is not None
        return f"it waits for a worker that can run it ({row.reason})" if is_unknown else "it waits for its concurrency limit or rate"
    if row.state in (State.CANCELLED, State.FAILED):
        return f"it was {row.state} ({row.reason}), so no result will come" if row.reason else f"it was {row.state}"
    return _queued(row, result.huey.clock.now())


def _queued(row: TaskRow, now: Micros) -> str:
    if row.revoked_until is not None and row.revoked_until > now:
        return "it is revoked and will not run"
    if row.due is not None and row.due > now:
        again = "to be tried again " if row.attempt else "scheduled to run "
        return f"it is {again}in {(row.due - now) / SECOND:.0f} s" + (f" ({row.reason})" if row.reason == reasons.UNKNOWN_TASK else "")
    return f"it has been waiting to run for {max(0, now - row.ready_at) / SECOND:.0f} s"


def _workers(storage: Storage) -> str:
    alive = len(_alive(storage))
    if not alive:
        return "no worker is alive on that queue: start a consumer for it"
    return f"{alive} worker{'s are' if alive > 1 else ' is'} alive there"


def _alive(storage: Storage) -> list[WorkerRow]:
    return [row for row in storage.workers() if not row.is_expired and row.worker.takes_others]


# -- waiting inside a task ----------------------------------------------------------------------------------------------------------------


@contextmanager
def inside_task(results: Sequence[Handle], allow_wait: bool) -> Iterator[Callable[[], None]]:
    """Guard a block in which the caller waits for *results*, and yield a function to call at each check. That raises HopelessWait if the
    caller is a task, its own worker is the only one of the queue that it waits for, and all runners of that worker wait like this."""
    serving = None if current.run.get() is None or allow_wait else current.serving()
    waited = next((it for it in results if serving is not None and _is_same_queue(serving.storage, it.huey.storage)), None)
    if serving is None or waited is None:
        yield lambda: None
        return
    me, name = get_ident(), serving.task_of(get_ident())
    _warn(waited, name)
    serving.waiting.add(me)
    try:
        yield _WorkerCheck(serving, waited, name).run
    finally:
        serving.waiting.discard(me)


def _is_same_queue(mine: Storage, its: Storage) -> bool:
    return mine is its or (mine.name == its.name and repr(mine) == repr(its))


def _warn(waited: Handle, name: str) -> None:
    if _is_first(waited.huey, f"waits {name}"):
        log.warning(
            "%s waits inside a task for %s of the same queue, %r: it keeps a runner of this worker busy, and if all of them wait, nothing "
            "can run any more. Enqueue what comes next from the task itself, or pass allow_wait=True",
            name, waited.task.name or "a task", waited.huey.storage.name,
        )  # fmt: skip


class _WorkerCheck:
    """Checks for other workers, now and every few seconds."""

    def __init__(self, serving: current.Serving, waited: Handle, name: str) -> None:
        self._serving = serving
        self._waited = waited
        self._name = name
        self._clock: Clock = waited.huey.clock
        self._next: Micros = 0

    def run(self) -> None:
        """Raise HopelessWait if no worker can run the task that the caller waits for."""
        serving, now = self._serving, self._clock.monotonic()
        if now < self._next or len(serving.waiting) < serving.runners:
            return
        try:
            others = [row for row in _alive(serving.storage) if row.worker.id != serving.worker]
            row = serving.storage.get(self._waited.id)
        except StorageError:
            return
        self._next = now + micros(WORKER_CHECK_INTERVAL_S)
        if others or row is None or row.state == State.RUNNING:
            return
        raise HopelessWait(
            f"{self._name} waits for {self._waited.task.name or 'task'} {self._waited.id}, which cannot run: this is the only worker of "
            f"queue {serving.storage.name!r}, and all its runners ({serving.runners}) wait inside tasks. Start more workers, or enqueue "
            "what comes next from the task itself; allow_wait=True waits all the same"
        )

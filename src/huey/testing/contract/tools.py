"""What the rules are told with: short words for making tasks, workers and turns, and for waiting in a thread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from huey.runtime.host import pid_namespace, process_start_time
from huey.storage.base import Storage
from huey.storage.rows import TaskRow, Turn, Worker, WorkerRow
from huey.task.lifecycle import Finish, Outcome, decide
from huey.task.record import Lease, Record
from huey.testing.clock import FakeClock

T = TypeVar("T")
Another = Callable[[], Storage]

WAIT_LIMIT_S = 20.0
"""Seconds after which a test stops waiting for a fact."""
MOMENT = 0.05
"""A timeout that is meant to pass."""
LONG = 3600.0
"""A timeout that must not pass: the clock of these tests stands still."""


def worker(id: str = "worker-1") -> Worker:
    """A worker that says it is this process."""
    return Worker(id, "host", os.getpid(), pid_namespace(), process_start_time(os.getpid()) or 0)


ME = worker()
OTHER = worker("worker-2")


def task(id: str = "a", name: str = "app.add", payload: bytes = b"payload", **fields: Any) -> Record:
    return Record(id, name, payload, **fields)


def claim(storage: Storage, want: int = 1, by: Worker = ME) -> list[Lease]:
    return storage.turn(by, [], want).leases


def claimed(storage: Storage, record: Record | None = None, by: Worker = ME) -> Lease:
    """The lease of a task that was just enqueued and claimed."""
    storage.enqueue([record or task()])
    return claim(storage, by=by)[0]


def claim_ids(storage: Storage, want: int = 1, by: Worker = ME) -> list[str]:
    return [lease.id for lease in claim(storage, want, by)]


def end(storage: Storage, clock: FakeClock, lease: Lease, outcome: Outcome, by: Worker = ME) -> Turn:
    """Write what *outcome* means."""
    return write(storage, decide(lease, outcome, clock.now()), by=by)


def write(storage: Storage, *finishes: Finish, by: Worker = ME) -> Turn:
    return storage.turn(by, finishes, 0)


def get_row(storage: Storage, id: str = "a") -> TaskRow:
    row = storage.get(id)
    assert row is not None, f"task {id!r} is not held"
    return row


def ids(rows: list[TaskRow]) -> list[str]:
    return [row.id for row in rows]


def known(storage: Storage, who: Worker = ME) -> WorkerRow | None:
    return next((row for row in storage.workers() if row.worker.id == who.id), None)


def seen(storage: Storage, who: Worker = ME) -> WorkerRow:
    row = known(storage, who)
    assert row is not None, f"{who.id} is not known"
    return row


class Call(Generic[T]):
    """A call that waits, made in a thread of its own."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._answers: list[T] = []
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answers.append(self._call())
        except BaseException as error:  # whatever it is, the test's own thread raises it
            self._errors.append(error)

    def settled(self) -> Call[T]:
        """Itself, after a moment in which it most likely began to wait. Nothing may depend on it."""
        self._thread.join(0.02)
        return self

    @property
    def is_waiting(self) -> bool:
        return self._thread.is_alive()

    def answer(self, work: Callable[[], object] = lambda: None) -> T:
        """What the call returned. *work* is called again and again until then."""
        deadline = time.monotonic() + WAIT_LIMIT_S
        while self.is_waiting:
            assert time.monotonic() < deadline, f"still waiting after {WAIT_LIMIT_S} s"
            work()
            self._thread.join(0.01)
        for error in self._errors:
            raise error
        return self._answers[0]


def woken(rounds: Callable[[int], object]) -> bool:
    """Whether twelve rounds of waiting took less time than twelve looks by itself, one a second, would."""
    begin = time.monotonic()
    for n in range(12):
        rounds(n)
    return time.monotonic() - begin < 6


def at_once(*calls: Callable[[], T]) -> list[T]:
    """Answers of calls that start in the same moment, each in a thread of its own."""
    barrier = threading.Barrier(len(calls))

    def started(call: Callable[[], T]) -> T:
        barrier.wait(WAIT_LIMIT_S)
        return call()

    running = [Call(lambda call=call: started(call)) for call in calls]  # type: ignore[misc]
    return [call.answer() for call in running]


def publish(storage: Storage, events: Sequence[str]) -> None:
    """Publish *events* as a worker does."""
    storage.turn(ME, [], 0, events)


def is_followed(storage: Storage) -> bool:
    """Return what the turn of a worker says about followers."""
    return storage.turn(ME, [], 0).is_followed

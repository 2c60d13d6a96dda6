"""A worker that runs tasks in the thread of its caller, one after the other: the engine, executor and scheduler of a consumer, turned by
hand."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from huey.client.build import build_executor, build_run_hooks
from huey.client.routing import QueueClient
from huey.consumer.process_table import make_worker
from huey.consumer.scheduler import Scheduler
from huey.engine.engine import Engine
from huey.engine.prefetch import Prefetch, Search
from huey.engine.progress_notes import ProgressNotes
from huey.engine.time_limits import ASK_AGAIN, TimeLimits
from huey.runtime import current_run as current
from huey.runtime.clock import SECOND, Micros, micros
from huey.runtime.current_run import Run
from huey.runtime.display import arguments
from huey.runtime.host import LOCAL_WORKER_IDS
from huey.runtime.masking import remove_mask
from huey.runtime.waker import Waker
from huey.task import reasons
from huey.task.lifecycle import Finish, State, label
from huey.task.record import Lease
from huey.task.task import Task
from huey.testing.travel import TravelClock

SHOWN_CHARS = 200
"""Arguments longer than this are cut."""
NOT_STARTED = (reasons.SCHEDULED, reasons.EXPIRED)
"""Reasons of tasks whose wall time was read only when they were claimed: they are not due yet, or too late."""


class TaskRun(NamedTuple):
    """One run of a task in ``drain()``. A task that is retried has one for each try."""

    task: Task
    """The task, with its arguments."""
    state: str
    """What became of it: ``succeeded``, ``failed``, ``cancelled``; ``retrying``, ``scheduled`` or ``ready`` if it is to run again;
    ``blocked`` if its function is not known here."""
    value: Any
    """What the function returned; None if it raised."""
    error: BaseException | None
    """What the function raised."""
    reason: str | None
    """Why it ended like that, such as ``error``, ``timeout``, ``rate limited``; None if it succeeded."""
    at: datetime
    """When it began, on the clock of the test, in UTC."""
    progress: list[tuple[float, str | None]]
    """What it reported, as fraction and message."""
    traceback: str | None
    """The traceback, as a failed task stores it."""

    @property
    def name(self) -> str:
        """The name of the task, such as ``app.add``."""
        return self.task.name

    @property
    def args(self) -> tuple[Any, ...]:
        return self.task.args

    @property
    def kwargs(self) -> dict[str, Any]:
        return self.task.kwargs

    def __repr__(self) -> str:
        came_to = repr(self.value) if self.reason is None else self.reason if self.error is None else repr(self.error)
        return f"<{described(self.task)} at {self.at:%Y-%m-%d %H:%M:%S} {self.state}: {came_to}>"


def described(task: Task) -> str:
    """Return a call as it is written: ``app.add(1, b=2)``."""
    return f"{task.name}({arguments(task.args, task.kwargs, SHOWN_CHARS)})"


def _state_of(finish: Finish) -> str:
    if finish.unknown_until is not None:
        return State.BLOCKED
    return label(finish.state, finish.attempt, finish.due is not None)


class CallerRunners:
    """The runners of an engine: one, which runs a task when its caller takes the next one."""

    count = 1

    def __init__(self) -> None:
        self.low_water = 0
        self.done: list[Finish] = []
        self._ready: deque[Lease] = deque()

    def take(self) -> Lease | None:
        """Return the next task to run, or None."""
        return self._ready.popleft() if self._ready else None

    def submit(self, leases: Sequence[Lease]) -> None:
        self._ready.extend(leases)

    def wake(self, count: int) -> None:
        """Do nothing: nobody sleeps."""

    def collect(self) -> list[Finish]:
        done, self.done = self.done, []
        return done

    def ended(self) -> int:
        return len(self.done)

    def take_back(self) -> list[Lease]:
        taken = list(self._ready)
        self._ready.clear()
        return taken

    def waiting(self) -> int:
        return len(self._ready)

    def idle(self) -> int:
        return 1


class OneAtATime(Prefetch):
    """Claim a task when the one before it has ended, however short they are, so that a test has the same order each time."""

    __slots__ = ()

    def observe(self, durations: Sequence[float]) -> None:
        """Learn nothing."""


class RealTimeLimits(TimeLimits):
    """Time limits that also hold in real time, for a body that computes or waits without moving the clock of the test."""

    def __init__(self, clock: TravelClock) -> None:
        super().__init__(clock)
        self._test_clock = clock
        self._ended = threading.Event()

    def track(self, slot: int, lease: Lease, limit: float | None) -> None:
        super().track(slot, lease, limit)
        if limit is not None:
            self._ended = threading.Event()
            threading.Thread(target=self._enforce, args=(limit, self._ended), name="Time limit", daemon=True).start()

    def untrack(self, slot: int) -> None:
        self._ended.set()
        super().untrack(slot)

    def _enforce(self, limit: float, ended: threading.Event) -> None:
        begin = self._test_clock.monotonic()
        if ended.wait(min(limit, threading.TIMEOUT_MAX)):
            return
        self._test_clock.forward(max(0, begin + micros(limit) - self._test_clock.monotonic()) / SECOND)
        # The body may have been inside huey, where nothing is raised.
        while not ended.wait(ASK_AGAIN):
            self.wake()
            self.run_once()


class DrainWorker:
    """A worker of one queue, for one ``drain()``. Close it."""

    def __init__(self, client: QueueClient, clock: TravelClock) -> None:
        context, self._clock = client.context, clock
        storage, is_local = context.storage, not context.policy.utc
        self.worker = make_worker(f"{context.rng.getrandbits(128):032x}")
        self._storage = storage
        self._decoder = context.decoder
        self._limits = RealTimeLimits(clock)
        self._hooks = build_run_hooks(context)
        self._notes = ProgressNotes(storage, clock)
        self._reports: list[tuple[float, str | None]] = []
        self._executor = build_executor(context, client.overrides, self._limits, self._hooks, is_local, self._note)
        self._values: dict[str, Any] = {}
        self._raised: dict[str, BaseException] = {}
        self._executor.values, self._executor.raised = self._values, self._raised
        self._runners = CallerRunners()
        self._waker = Waker()
        self._engine = Engine(
            storage,
            self.worker,
            self._runners,
            clock,
            self._waker,
            run_hooks=self._hooks,
            ask_to_stop=self._limits.stop,
            replace=self._executor.unstorable,
            search=Search(storage, self.worker, clock, self._executor.can_run),
            notes=self._notes,
            prefetch=OneAtATime(1),
        )
        self._scheduler = Scheduler(
            storage,
            context.registry,
            context.codec,
            clock,
            zone=None if is_local else UTC,
            owns=client.owns,
            announcing=client.producer.announcing,
            ticket=client.bulk.tick_builder,
        )
        self._serving = current.Serving(storage, self.worker.id, 1, self._limits.lease_of_thread)
        LOCAL_WORKER_IDS.add(self.worker.id)
        current.servings.append(self._serving)

    def _note(self, run: Run, fraction: float, message: str | None) -> None:
        """Store what a body reports at once: no turn comes before it ends."""
        self._notes.note(run, fraction, message)
        self._notes.write()
        self._reports.append((fraction, message))

    def fire_ticks(self) -> None:
        """Enqueue the periodic tasks that are due in this minute, each once."""
        self._scheduler.run_once()

    @property
    def next_due(self) -> Micros | None:
        """When the next task may run, as of the last time that there was none."""
        return self._engine.last_turn.next_due

    def run_one(self) -> TaskRun | None:
        """Run the next task that is due, and write how it ended. Return None if there is none."""
        while (lease := self._claimed()) is not None:
            at, task = self._clock.time, self._decoder.decode_or_stub(lease)
            finish = self._finish_of(lease)
            value, error = self._values.pop(lease.id, None), self._raised.pop(lease.id, None)
            if error is not None and not isinstance(error, Exception | SystemExit | GeneratorExit):
                # Ctrl+C, or the end of the test, such as by pytest.fail(): it is meant for the test and not for the task.
                raise error
            if finish.reason not in NOT_STARTED:
                return TaskRun(
                    task, _state_of(finish), value, error, finish.reason, at, self._reports, (finish.error or {}).get("traceback")
                )
        return None

    def _finish_of(self, lease: Lease) -> Finish:
        """Run a task, write how it ended, and call what waits for that."""
        self._reports = []
        self._clock.limits = self._limits
        try:
            finish = self._executor.execute(lease, 0)
        finally:
            self._clock.limits = None
        self._runners.done.append(finish)
        self._engine.turn()
        if 0 in self._hooks.tracked:
            self._hooks.after_commit(0)
        return finish

    def prune(self) -> None:
        """Remove what is past its retention time, as a consumer does once a minute."""
        while self._storage.prune():
            continue

    def _claimed(self) -> Lease | None:
        lease = self._runners.take()
        while lease is None:
            self._engine.search()
            self._engine.turn()
            lease = self._runners.take()
            if lease is None and not self._engine.last_turn.may_have_more:
                # The handlers of what was cancelled or promoted, in a thread of their own, may enqueue more.
                return None
        return lease

    def close(self) -> None:
        """Release what was claimed and has not run, and leave the queue."""
        self._engine.stop()
        self._engine.drain(0.0)
        self._hooks.close()
        self._waker.close()
        remove_mask()
        current.servings.remove(self._serving)
        LOCAL_WORKER_IDS.discard(self.worker.id)
        self._storage.deregister(self.worker)

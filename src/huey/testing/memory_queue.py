"""``memory(huey)``: a Huey for one test. Its tasks stay in memory until ``drain()`` runs them, by a clock that the test moves."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from huey.api import Huey
from huey.cron import due_times
from huey.hooks import SHUTDOWN, STARTUP
from huey.runtime.clock import SECOND, Micros, system_clock
from huey.runtime.display import counted
from huey.runtime.times import to_micros
from huey.storage.rows import TaskRow
from huey.task.lifecycle import FINAL, State, label
from huey.testing.drained_storage import DrainedStorage
from huey.testing.enqueued import Enqueued, Wanted, listed, misfit
from huey.testing.travel import TravelClock
from huey.testing.worker import DrainWorker, TaskRun

ALL = 2**31 - 1
"""A limit larger than any queue."""


@contextmanager
def replaced(huey: Huey, now: datetime | None = None) -> Iterator[MemoryQueue]:
    """See ``huey.testing.memory``."""
    if not isinstance(huey, Huey):
        raise TypeError(f"{huey!r} is not a Huey: give the instance whose decorators your tasks have")
    context = huey.client.router.primary.context
    is_local = not context.policy.utc
    clock = TravelClock(system_clock.now() if now is None else to_micros(now, is_local), is_local)
    clock.has_moved = now is not None
    with huey.client.router.replaced(DrainedStorage.like(context.storage, clock), clock):
        queue = MemoryQueue(huey.client.router.primary.huey, clock)
        try:
            yield queue
        finally:
            queue.close()


class MemoryQueue:
    """The queues of a Huey in a test, as ``memory(huey)`` gives it. *clock*: moves its time."""

    def __init__(self, huey: Huey, clock: TravelClock) -> None:
        self.huey = huey
        self.clock = clock
        self.runs: list[TaskRun] = []
        """All runs of this test so far, the oldest first."""
        self._has_started = False
        self._is_draining = False

    # -- running ------------------------------------------------------------------------------------------------------------------------

    def drain(self, until: float | timedelta | datetime | None = None, *, max_runs: int = 10_000) -> list[TaskRun]:
        """Run all tasks that are due, of all queues, one after the other in this thread, and return their runs in order. Each is run as a
        worker runs it: with retries, stored results and errors, limits, hooks, signals and what follows in a workflow.

        *until*: also what becomes due in the next seconds, within a timedelta, or up to a datetime (as for ``clock.move_to``). The clock
        goes from one eta, retry, window or tick of a periodic task to the next, and then to the end. Without it the clock stands still, and
        periodic tasks run if it was moved into a minute in which they are due.

        ``time.sleep`` in a task moves the clock. A task that raises does not raise here: see ``TaskRun.state`` and ``error``. Raise
        RuntimeError after *max_runs* runs if there are more, or inside a task.
        """
        if self._is_draining:
            raise RuntimeError("drain() inside a task, hook or handler: the drain() that runs it runs what it enqueues, too")
        end = None if until is None else self.clock.micros_of(until)
        self._is_draining = True
        try:
            with self._own_time(), closing(Drain(self.huey, self.clock, end)) as drain:
                if not self._has_started:
                    self._has_started = True
                    self.huey.hooks.call(STARTUP)
                runs: list[TaskRun] = []
                for run in drain.run():
                    runs.append(run)
                    self.runs.append(run)
                    if len(runs) > max_runs:
                        raise RuntimeError(_endless(runs, max_runs))
                return runs
        finally:
            self._is_draining = False

    @contextmanager
    def _own_time(self) -> Iterator[None]:
        """Inside the block, let sleeps of tasks move the clock."""
        with ExitStack() as stack:
            stack.enter_context(self.clock.replacing_sleep())
            if any(wrapper.is_async for wrapper in self.huey.registry) or "asyncio" in sys.modules:
                from huey.testing.event_loop import running_coroutines

                stack.enter_context(running_coroutines(self.clock))
            yield

    def close(self) -> None:
        """Call the ``on_shutdown`` hooks if a ``drain()`` has called those of ``on_startup``."""
        if self._has_started:
            self._has_started = False
            with self.clock.replacing_sleep():
                self.huey.hooks.call(SHUTDOWN)

    # -- what is enqueued ---------------------------------------------------------------------------------------------------------------

    def assert_enqueued(
        self,
        task: Any,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        delay: float | timedelta | None = None,
        eta: datetime | None = None,
        times: int | None = None,
        queue: str | None = None,
    ) -> None:
        """Raise AssertionError unless calls of *task*, a decorated function or the name of a task, are enqueued and have not run.

        *args*, *kwargs*: all arguments of the call; it does not matter which were given by name. *delay*: seconds or a timedelta from its
        enqueue until it is due; 0: at once. *eta*: when it is due; naive: local time. Both may be off by a second. *queue*: the queue it is
        in. What is left out may be anything. *times*: how many there are; default: at least one. The message lists what is enqueued and how
        it differs. Raise TypeError for a task that is none.
        """
        __tracebackhide__ = True
        wanted = Wanted.of(task, args, kwargs, delay, eta, queue)
        fact = misfit(wanted, self.enqueued(), times, [run.name for run in self.runs])
        if fact is not None:
            raise AssertionError(fact)

    def assert_no_tasks(self) -> None:
        """Raise AssertionError, with a list, if any task is enqueued: one that is ready, scheduled, to be retried, or waits for a limit or
        another task."""
        __tracebackhide__ = True
        if found := self.enqueued():
            raise AssertionError("\n".join([f"{counted(len(found), 'task')} enqueued, none expected", *listed(found, {})]))

    def enqueued(self) -> list[Enqueued]:
        """Return the tasks that are enqueued, of all queues: first those that are ready or scheduled, in the order in which they will run,
        then those that wait for a limit or another task."""
        found = []
        for client in _clients(self.huey):
            rows = client.context.storage.find(limit=ALL)
            first = [row for state in ("ready", "scheduled") for row in client.context.storage.find(state, limit=ALL)]
            rest = [row for row in rows if row.state not in (*FINAL, State.QUEUED, State.RUNNING)]
            for row in (*first, *rest):
                due = _due(row)
                state = label(row.state, row.attempt, due is not None and due > self.clock.now())
                task = client.context.decoder.decode_or_stub(row, due)
                found.append(Enqueued(task, client.context.name, state, due, max(0, (due or row.created) - row.created)))
        return found

    def __repr__(self) -> str:
        return f"<MemoryQueue of {self.huey!r} at {self.clock.time:%Y-%m-%d %H:%M:%S} UTC>"


class Drain:
    """One ``drain()``: the workers of all queues, and the times at which periodic tasks are due. *end*: how far the clock may go."""

    def __init__(self, huey: Huey, clock: TravelClock, end: Micros | None) -> None:
        self._huey = huey
        self._clock = clock
        self._end = end
        self._workers: dict[str, DrainWorker] = {}
        self._ticks: dict[str, Iterator[Micros]] = {}
        self._next_ticks: dict[str, Micros] = {}
        zone = UTC if huey.utc else None
        for wrapper in huey.registry.periodic if end is not None else ():
            self._ticks[wrapper.name] = due_times(wrapper.validate_datetime, clock.now(), end or 0, zone)

    def run(self) -> Iterator[TaskRun]:
        """Yield each run."""
        while True:
            yield from self._run_due()
            stop = self._next_stop()
            if stop is None:
                break
            self._clock.forward((stop - self._clock.now()) / SECOND)
        if self._end is not None and self._end > self._clock.now():
            self._clock.forward((self._end - self._clock.now()) / SECOND)
        for worker in self._workers.values():
            worker.prune()

    def _run_due(self) -> Iterator[TaskRun]:
        """Yield the runs of everything that is due now."""
        while True:
            if self._clock.has_moved:
                for worker in self._all_workers():
                    worker.fire_ticks()
            run = next((run for worker in self._all_workers() if (run := worker.run_one()) is not None), None)
            if run is None:
                return
            yield run

    def _all_workers(self) -> list[DrainWorker]:
        """Return a worker for each queue: tasks that ran may have made new ones."""
        for client in _clients(self._huey):
            if client.context.name not in self._workers:
                self._workers[client.context.name] = DrainWorker(client, self._clock)
        return list(self._workers.values())

    def _next_stop(self) -> Micros | None:
        """Return the next time at which something may be due, up to the end."""
        if self._end is None:
            return None
        now = self._clock.now()
        for name, ticks in self._ticks.items():
            while self._next_ticks.get(name, now) <= now:
                self._next_ticks[name] = next(ticks, self._end + 1)
        times: Iterable[Micros | None] = [*(worker.next_due for worker in self._workers.values()), *self._next_ticks.values()]
        return min((time for time in times if time is not None and now < time <= self._end), default=None)

    def close(self) -> None:
        """Close the workers, which release what has not run."""
        for worker in self._workers.values():
            worker.close()


def _clients(huey: Huey) -> list[Any]:
    """Return the client of each queue: those that hold something, and those that a function declares."""
    router = huey.client.router
    declared = {wrapper.options.queue for wrapper in huey.registry if wrapper.options.queue is not None}
    names = [router.primary.context.name, *sorted({*router.primary.context.storage.queues(), *declared})]
    return [router.for_queue(name) for name in dict.fromkeys(names)]


def _due(row: TaskRow) -> Micros | None:
    """Return when a task is or was due; None if it was due at once."""
    if row.due is not None or row.state != State.QUEUED:
        return row.due
    return row.ready_at if row.ready_at > row.created else None


def _endless(runs: Sequence[TaskRun], max_runs: int) -> str:
    counts = Counter(run.name for run in runs).most_common(3)
    most = ", ".join(f"{name} {counted(count, 'time')}" for name, count in counts)
    return (
        f"drain() has run {max_runs:,} tasks, and there are more; most often: {most}. A task that enqueues itself, or is retried at once, "
        "never ends: stop it in the test; or give drain(max_runs=...) a larger number, or a nearer until="
    )

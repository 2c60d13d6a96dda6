"""Track what each runner runs and since when, and ask a task that passes its time limit, or was revoked, to stop.

It is asked by an exception, ``TaskTimeout`` or ``CancelExecution``, raised inside the body, never inside huey (see masking.py). A body may
catch it to clean up; one that is in C code gets it when that returns. A *cooperative* body, one that has checked its time itself, gets no
exception: it sees the limit in its own checks, and has a grace period to end. The supervisor, if there is one, reads the same facts from
the scoreboard and kills the process if the task does not stop.

After `untrack` has returned, no exception for that run is pending.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection
from typing import Protocol

from huey.engine.scoreboard import GRACE, Scoreboard
from huey.exceptions import ASKED_TO_STOP, CancelExecution, TaskTimeout
from huey.runtime import masking
from huey.runtime.clock import FOREVER, SECOND, Clock, Micros, micros
from huey.task.record import Lease

BROKEN = 70
"""Exit code of a worker that cannot continue."""
LONGEST_WAIT = 1.0
"""Seconds."""
ASK_AGAIN = 0.01
"""Seconds after which a body that could not be asked, because it was inside huey or logging, is asked again."""


class _Limited:
    """The time limit of one run."""

    __slots__ = ("end", "is_asked", "is_cooperative", "until")

    def __init__(self, end: Micros) -> None:
        self.until = end
        """When to act next."""
        self.end = end
        """When the time limit is reached; unlike ``until`` it never changes."""
        self.is_asked = False
        self.is_cooperative = False
        """Whether the body has checked its time itself."""


class Coroutine(Protocol):
    """The run of a coroutine."""

    end: Micros
    """When its time limit is reached; ``FOREVER``: it has none."""
    is_cooperative: bool
    """Whether its body has checked its time itself."""

    def ask(self, reason: type[BaseException]) -> None:
        """Cancel it; called in any thread. *reason*: the exception that a plain function would get."""


class TimeLimits:
    """The time limits of the running tasks. *scoreboard*: shows the supervisor what runs; None in a process without one."""

    def __init__(self, clock: Clock, scoreboard: Scoreboard | None = None) -> None:
        self._clock = clock
        self.scoreboard = scoreboard
        self._lock = threading.Lock()
        self.limited: dict[int, _Limited] = {}
        """The time limit of the running task, by runner."""
        self.current: dict[int, Lease | None] = {}
        """The lease of the running task, by runner."""
        self.threads: dict[int, int] = {}
        """The thread, by runner."""
        self.stopping: dict[int, Lease] = {}
        """The task that was asked to stop because it is revoked, by runner."""
        self.coroutines: dict[int, Coroutine] = {}
        """The runs of coroutines, by runner. They cancel themselves at their limit, and when they are asked to."""
        self._shows_first_limit = False
        self._first_limit = FOREVER
        """The earliest time at which the limit of a running task may be over, as the scoreboard shows it."""
        self._news = threading.Event()

    # -- called by runners -------------------------------------------------------------------------------------------------------------

    def track(self, slot: int, lease: Lease, limit: float | None) -> None:
        """Record that runner *slot* starts a task that may take *limit* seconds (None: no limit)."""
        self.threads[slot] = threading.get_ident()
        self.current[slot] = lease
        if limit is None and self.scoreboard is None:
            return
        now = self._clock.monotonic()
        if self.scoreboard is not None:
            self.scoreboard.set_running(slot, lease.id, lease.token, now, micros(limit or 0))
        if limit:
            with self._lock:
                self.limited[slot] = _Limited(now + micros(limit))
            self._news.set()
            if self._shows_first_limit:
                self.note_limit(now + micros(limit))

    def track_coroutine(self, slot: int, lease: Lease, limit: float | None, run: Coroutine) -> None:
        """Record that runner *slot* starts a coroutine that may take *limit* seconds."""
        self.coroutines[slot] = run
        self.current[slot] = lease
        if limit or self.scoreboard is not None:
            now = self._clock.monotonic()
            run.end = now + micros(limit) if limit else FOREVER
            if self.scoreboard is not None:
                self.scoreboard.set_running(slot, lease.id, lease.token, now, micros(limit or 0))
            if limit:
                self.note_limit(run.end)

    def untrack_coroutine(self, slot: int) -> None:
        """Record that a coroutine has ended."""
        self.current[slot] = None
        if self.coroutines.pop(slot, None) is None:
            return
        if slot in self.stopping:
            with self._lock:
                self.stopping.pop(slot, None)
        if self.scoreboard is not None:
            self._show_end(self.scoreboard, slot)

    def note_limit(self, end: Micros) -> None:
        """Show the supervisor that a limit may be over at *end*."""
        if end < self._first_limit:
            self._first_limit = end
            if self.scoreboard is not None:
                self.scoreboard.set_first_limit(end)

    def show_loop(self) -> None:
        """Show the supervisor that the event loop answers, and the earliest limit of the running tasks, so that it need not read all slots.
        Called about once a second."""
        ends = [run.end for run in list(self.coroutines.values())] + [task.end for task in list(self.limited.values())]
        # A limit that another thread notes in between is shown by the next call at the latest; the supervisor allows for seconds.
        self._shows_first_limit = True
        self._first_limit = min(ends, default=FOREVER)
        if self.scoreboard is not None:
            self.scoreboard.set_first_limit(self._first_limit)
            self.scoreboard.set_loop_pulse(self._clock.monotonic())

    def untrack(self, slot: int) -> None:
        """Record that the body has ended. Afterwards no exception that was raised for it is pending."""
        self.current[slot] = None
        if slot in self.limited or slot in self.stopping:
            self._untrack_reliably(slot)
        if self.scoreboard is not None:
            self._show_end(self.scoreboard, slot)

    def _show_end(self, scoreboard: Scoreboard, slot: int) -> None:
        if not scoreboard.is_whole:
            # The body closed descriptors that are not its own. Anything this process does now may affect the wrong file; the slot shows
            # which task did it.
            os._exit(BROKEN)
        scoreboard.set_ended(slot)

    def _untrack_reliably(self, slot: int) -> None:
        while slot in self.limited or slot in self.stopping:
            try:
                with self._lock:
                    # Cancel an exception that was raised but has not arrived yet.
                    masking.cancel(threading.get_ident())
                    self.limited.pop(slot, None)
                    self.stopping.pop(slot, None)
            except ASKED_TO_STOP:  # It arrived after the body, too late to matter.
                continue

    def was_asked_to_stop(self, slot: int) -> bool:
        """Return whether the task of this runner was asked to stop because it is revoked."""
        return slot in self.stopping

    def time_left_of(self, slot: int) -> Callable[[], float]:
        """Return a function that returns the seconds until the limit of this runner's current task. A body that calls it is cooperative."""
        if (run := self.coroutines.get(slot)) is not None:
            return lambda: self._time_left_of_coroutine(slot, run)
        limited = self.limited.get(slot)
        if limited is None:
            return lambda: float("inf")

        def time_left() -> float:
            if not (limited.is_cooperative or limited.is_asked) and self.limited.get(slot) is limited:
                limited.is_cooperative = True
                if self.scoreboard is not None:
                    self.scoreboard.set_cooperative(slot)
            return (limited.end - self._clock.monotonic()) / SECOND

        return time_left

    def _time_left_of_coroutine(self, slot: int, run: Coroutine) -> float:
        if run.end == FOREVER:
            return float("inf")
        if not run.is_cooperative and self.coroutines.get(slot) is run:
            run.is_cooperative = True
            if self.scoreboard is not None:
                self.scoreboard.set_cooperative(slot)
        return (run.end - self._clock.monotonic()) / SECOND

    def lease_of_thread(self, thread: int) -> Lease | None:
        """Return the lease of the task that *thread* runs, or None."""
        return next((self.current.get(slot) for slot, runner in dict(self.threads).items() if runner == thread), None)

    def running(self) -> list[Lease]:
        """Return the leases of the running tasks."""
        return [lease for lease in dict(self.current).values() if lease is not None]

    # -- called by the engine ----------------------------------------------------------------------------------------------------------

    def stop(self, ids: Collection[str]) -> None:
        """Ask running tasks with these *ids* to stop, each once."""
        for slot, lease in dict(self.current).items():
            if lease is not None and lease.id in ids and self.stopping.get(slot) is not lease:
                self._stop(slot, lease)

    def _stop(self, slot: int, lease: Lease) -> None:
        with self._lock:
            # Write first, then check; a runner that ends clears its task first, then checks for a request. So one of them sees the other.
            self.stopping[slot] = lease
            if self.current.get(slot) is not lease:
                del self.stopping[slot]
                return
            if self.scoreboard is not None:
                self.scoreboard.set_revoked(slot)
            if (run := self.coroutines.get(slot)) is not None:
                run.ask(CancelExecution)
            elif slot in self.threads and not masking.raise_in(self.threads[slot], CancelExecution):
                self._news.set()

    # -- called by a service -----------------------------------------------------------------------------------------------------------

    def run_once(self) -> float:
        """Ask tasks that are late to stop, once each; then wait for the next limit, at most ``LONGEST_WAIT`` seconds. Return 0 to the
        calling Service, because the wait is already over."""
        now = self._clock.monotonic()
        with self._lock:
            for slot, task in self.limited.items():
                if task.until <= now:
                    self._on_limit(slot, task)
            next_one = min((task.until for task in self.limited.values()), default=None)
        left = LONGEST_WAIT if next_one is None else min(LONGEST_WAIT, (next_one - now) / SECOND)
        self._news.wait(left if self._ask_deferred() else min(left, ASK_AGAIN))
        self._news.clear()
        return 0.0

    def _on_limit(self, slot: int, task: _Limited) -> None:
        """Ask a task whose time is over to stop, unless it checks its time itself."""
        if task.is_cooperative and task.until == task.end:
            # After the grace period the supervisor kills the process; without one, the task can only be asked.
            task.until = FOREVER if self.scoreboard is not None else task.end + micros(GRACE)
            return
        task.until = FOREVER
        task.is_asked = True
        masking.raise_in(self.threads[slot], TaskTimeout)

    def _ask_deferred(self) -> bool:
        """Ask again those that were inside huey; return False if one still is."""
        with self._lock:
            slots = {*self.limited, *self.stopping} - {*self.coroutines}
            return all([masking.raise_deferred(self.threads[slot]) for slot in slots])

    def wake(self) -> None:
        """Make `run_once` return now."""
        self._news.set()

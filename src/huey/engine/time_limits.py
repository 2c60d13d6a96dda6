"""What each runner is doing and since when; asks a task that passes its time limit, or was revoked, to stop.

Asking is an exception, ``TaskTimeout`` or ``CancelExecution``, raised inside the body, never inside huey (see masking.py). A body may
catch it to clean up; one that is deep in C code hears it when that returns. A body that has looked at its time by itself is only told, by
what it looks at, and has a grace to bring what it has. The supervisor, if there is one, reads the same facts from the page and ends the
process when asking did not help.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection

from huey.engine.scoreboard import GRACE, Scoreboard
from huey.exceptions import ASKED_TO_STOP, CancelExecution, TaskTimeout
from huey.runtime import masking
from huey.runtime.clock import FOREVER, SECOND, Clock, Micros, micros
from huey.task.record import Lease

BROKEN = 70
"""Exit code of a worker that cannot go on."""
LONGEST_LOOK = 1.0
"""Seconds."""
AGAIN = 0.01
"""Seconds after which a body that could not be asked, since it was inside huey or inside logging, is asked again."""


class _Limited:
    """The time limit of one run."""

    __slots__ = ("end", "is_asked", "is_cooperative", "until")

    def __init__(self, end: Micros) -> None:
        self.until = end
        """When something is to be done about it."""
        self.end = end
        """When its time is over, also after it was asked."""
        self.is_asked = False
        self.is_cooperative = False
        """The body has looked at its time by itself."""


class TimeLimits:
    """*page*: told of everything that runs; None in a process without a supervisor."""

    def __init__(self, clock: Clock, page: Scoreboard | None = None) -> None:
        self._clock = clock
        self.page = page
        self._lock = threading.Lock()
        self._limited: dict[int, _Limited] = {}
        self.current: dict[int, Lease | None] = {}
        """By runner: what it runs."""
        self.threads: dict[int, int] = {}
        """By runner: its thread."""
        self._stopping: dict[int, Lease] = {}
        """Those that were asked to stop, for they are revoked."""
        self._news = threading.Event()

    # -- the runners' side --------------------------------------------------------------------------------------------------------------

    def enter(self, slot: int, lease: Lease, limit: float | None) -> None:
        """The runner begins with a task, which may take *limit* seconds."""
        self.threads[slot] = threading.get_ident()
        self.current[slot] = lease
        if limit is None and self.page is None:
            return
        now = self._clock.monotonic()
        if self.page is not None:
            self.page.enter(slot, lease.id, lease.token, now, micros(limit or 0))
        if limit:
            with self._lock:
                self._limited[slot] = _Limited(now + micros(limit))
            self._news.set()

    def leave(self, slot: int) -> None:
        """The body has ended. Nothing that was asked of it comes after this."""
        self.current[slot] = None
        if slot in self._limited or slot in self._stopping:
            self._leave_asked(slot)
        if self.page is not None:
            if not self.page.is_whole:
                # The body closed what is not its own. Whatever this process does now may hit the wrong file, and its slot tells who did it.
                os._exit(BROKEN)
            self.page.leave(slot)

    def _leave_asked(self, slot: int) -> None:
        while slot in self._limited or slot in self._stopping:
            try:
                with self._lock:
                    # What was asked for and did not arrive yet is taken back.
                    masking.forget(threading.get_ident())
                    self._limited.pop(slot, None)
                    self._stopping.pop(slot, None)
            except ASKED_TO_STOP:  # It arrived here, after the body: too late to matter.
                continue

    @property
    def asks(self) -> bool:
        """Somebody was asked to stop, or has a time limit: who leaves has to look whether it is he."""
        return bool(self._stopping or self._limited)

    def was_asked_to_stop(self, slot: int) -> bool:
        """The task of this runner is revoked, and was asked to stop."""
        return slot in self._stopping

    def time_left_of(self, slot: int) -> Callable[[], float]:
        """A function that tells the seconds until the limit of what this runner runs now. Whoever calls it cooperates."""
        limited = self._limited.get(slot)
        if limited is None:
            return lambda: float("inf")

        def time_left() -> float:
            if not (limited.is_cooperative or limited.is_asked) and self._limited.get(slot) is limited:
                limited.is_cooperative = True
                if self.page is not None:
                    self.page.cooperates(slot)
            return (limited.end - self._clock.monotonic()) / SECOND

        return time_left

    def run_by(self, thread: int) -> Lease | None:
        """What that thread runs."""
        return next((self.current.get(slot) for slot, runner in dict(self.threads).items() if runner == thread), None)

    def running(self) -> list[Lease]:
        """What runs now."""
        return [lease for lease in dict(self.current).values() if lease is not None]

    # -- the engine's side --------------------------------------------------------------------------------------------------------------

    def stop(self, ids: Collection[str]) -> None:
        """Ask those of the tasks that run to stop, each once."""
        for slot, lease in dict(self.current).items():
            if lease is not None and lease.id in ids and self._stopping.get(slot) is not lease:
                self._stop(slot, lease)

    def _stop(self, slot: int, lease: Lease) -> None:
        with self._lock:
            # First said, then looked: a runner that leaves first takes its task off and then looks whether it was said. One sees the other.
            self._stopping[slot] = lease
            if self.current.get(slot) is not lease:
                del self._stopping[slot]
                return
            if self.page is not None:
                self.page.ask(slot)
            if not masking.ask(self.threads[slot], CancelExecution):
                self._news.set()

    # -- the service's side -------------------------------------------------------------------------------------------------------------

    def look(self) -> float:
        """Ask what is late to stop, once; wait for the next one, at most ``LONGEST_LOOK`` seconds. For a service: returns no pause."""
        now = self._clock.monotonic()
        with self._lock:
            for slot, task in self._limited.items():
                if task.until <= now:
                    self._is_over(slot, task)
            next_one = min((task.until for task in self._limited.values()), default=None)
        left = LONGEST_LOOK if next_one is None else min(LONGEST_LOOK, (next_one - now) / SECOND)
        self._news.wait(left if self._are_asked() else min(left, AGAIN))
        self._news.clear()
        return 0.0

    def _is_over(self, slot: int, task: _Limited) -> None:
        """The time of a task is over: ask it, unless it asks by itself."""
        if task.is_cooperative and task.until == task.end:
            # After the grace the supervisor ends the process; where there is none, asking is all that is left.
            task.until = FOREVER if self.page is not None else task.end + micros(GRACE)
            return
        task.until = FOREVER
        task.is_asked = True
        masking.ask(self.threads[slot], TaskTimeout)

    def _are_asked(self) -> bool:
        """Ask again those who were inside huey; False if one still is."""
        with self._lock:
            return all([masking.again(self.threads[slot]) for slot in {*self._limited, *self._stopping}])

    def wake(self) -> None:
        """Let ``look`` return now."""
        self._news.set()

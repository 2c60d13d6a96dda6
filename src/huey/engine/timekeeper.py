"""What each runner is doing and since when; asks a task that passes its time limit to stop.

Asking is an exception, ``TaskTimeout``, raised inside the body. A body may catch it to clean up; one that is deep in C code hears it
when that returns. The supervisor, if there is one, reads the same facts from the page and ends the process when asking did not help.
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import NamedTuple

from huey.clock import SECOND, Clock, Micros, micros
from huey.engine.page import Page
from huey.exceptions import TaskTimeout
from huey.task import Lease

BROKEN = 70
"""Exit code of a worker that cannot go on."""
LONGEST_LOOK = 1.0
"""Seconds."""
_NEVER: Micros = 2**62


class _Limited(NamedTuple):
    thread: int
    until: Micros


class Timekeeper:
    """*page*: told of everything that runs; None in a process without a supervisor."""

    def __init__(self, clock: Clock, page: Page | None = None) -> None:
        self._clock = clock
        self._page = page
        self._lock = threading.Lock()
        self._limited: dict[int, _Limited] = {}
        self._news = threading.Event()
        self.is_needed = page is not None
        """Somebody wants to know of tasks without a limit too."""

    # -- the runners' side --------------------------------------------------------------------------------------------------------------

    def enter(self, slot: int, lease: Lease, limit: float | None) -> None:
        """The runner begins with a task, which may take *limit* seconds."""
        now = self._clock.monotonic()
        if self._page is not None:
            self._page.enter(slot, lease.id, lease.token, now, micros(limit or 0))
        if limit:
            with self._lock:
                self._limited[slot] = _Limited(threading.get_ident(), now + micros(limit))
            self._news.set()

    def leave(self, slot: int) -> None:
        """The body has ended. No ``TaskTimeout`` of its time comes after this."""
        if slot in self._limited:
            self._leave_limited(slot)
        if self._page is not None:
            if not self._page.is_whole:
                # The body closed what is not its own. Whatever this process does now may hit the wrong file, and its slot tells who did it.
                os._exit(BROKEN)
            self._page.leave(slot)

    def _leave_limited(self, slot: int) -> None:
        while slot in self._limited:
            try:
                with self._lock:
                    # One that was asked for and did not arrive yet is taken back.
                    _ask(self._limited[slot].thread, None)
                    del self._limited[slot]
            except TaskTimeout:  # It arrived here, after the body: too late to matter.
                continue

    # -- the service's side -------------------------------------------------------------------------------------------------------------

    def look(self) -> float:
        """Ask what is late to stop, once; wait for the next one, at most ``LONGEST_LOOK`` seconds. For a service: returns no pause."""
        now = self._clock.monotonic()
        with self._lock:
            for slot, task in self._limited.items():
                if task.until <= now:
                    self._limited[slot] = task._replace(until=_NEVER)
                    _ask(task.thread, TaskTimeout)
            next_one = min((task.until for task in self._limited.values()), default=None)
        left = LONGEST_LOOK if next_one is None else min(LONGEST_LOOK, (next_one - now) / SECOND)
        self._news.wait(left)
        self._news.clear()
        return 0.0

    def wake(self) -> None:
        """Let ``look`` return now."""
        self._news.set()


def _ask(thread: int, error: type[BaseException] | None) -> None:
    """Raise *error* in a thread at its next step; None takes back what it has not noticed yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error) if error else None)

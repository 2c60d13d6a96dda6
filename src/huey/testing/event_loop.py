"""The event loop of tasks that are coroutines, in a test: its time is the clock of the test, so a sleep takes none."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from huey.runtime.clock import SECOND
from huey.runtime.event_loops import close_loop, keep_loop
from huey.testing.travel import TravelClock

OWN_FILES = 1
"""Files that a loop watches although nothing is going on: the one by which other threads wake it."""


class TravelLoop(asyncio.SelectorEventLoop):
    """A loop that moves *clock* to its next timer instead of waiting for it. While it waits for a file, a socket or a thread, time is
    real, and the clock follows."""

    def __init__(self, clock: TravelClock) -> None:
        self._test_clock = clock
        self._waits_for_threads = 0
        super().__init__(TravelSelector(self, clock))

    def time(self) -> float:
        return self._test_clock.monotonic() / SECOND

    def run_in_executor(self, executor: Executor | None, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = super().run_in_executor(executor, func, *args)
        self._waits_for_threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, future: object) -> None:
        self._waits_for_threads -= 1

    @property
    def waits_for_threads(self) -> bool:
        """Whether a function runs in an executor."""
        return self._waits_for_threads > 0


class TravelSelector(selectors.DefaultSelector):
    """What a `TravelLoop` waits with."""

    def __init__(self, loop: TravelLoop, clock: TravelClock) -> None:
        super().__init__()
        self._loop = loop
        self._test_clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(0)
        if ready:
            return ready
        if not self._loop.waits_for_threads and len(self.get_map()) <= OWN_FILES:
            self._test_clock.forward_to_limit(timeout)
            return super().select(0)
        begin = time.monotonic()
        ready = super().select(timeout)
        self._test_clock.forward_to_limit(time.monotonic() - begin)
        return ready


@contextmanager
def running_coroutines(clock: TravelClock) -> Iterator[None]:
    """Inside the block, run the coroutines of tasks in a loop by *clock*, also if a loop of the test runs in this thread."""
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    keep_loop(TravelLoop(clock))
    try:
        yield
    finally:
        close_loop()
        asyncio._set_running_loop(running)

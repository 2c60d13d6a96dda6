"""Watch an event loop: log which task holds it, and where. A body that computes or blocks keeps all other tasks of its worker waiting.

A thread asks the loop for an answer. While none comes, it looks at the asyncio task that runs: one that is the same for too long holds the
loop.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from huey.engine.coroutines import CoroutineRun
from huey.runtime.clock import SECOND, Clock, Micros, micros
from huey.runtime.logs import SafeLogger

log = SafeLogger("huey.consumer")

INTERVAL_S = 0.1
"""Pause between two questions to the loop."""
CHECK_S = 0.05
"""Pause between two looks at a loop that does not answer."""
HELD_S = 0.2
"""How long a task may hold the loop before it is named."""
PULSE_S = 1.0
"""Time between two calls of `on_pulse`."""
REST_S = 5.0
"""Longest sleep while no task runs."""


class LoopWatch:
    """The watch of *loop*. *running*: its runs, by runner. *thread*: returns the number of its thread. *on_pulse*: called about once a
    second while the loop answers."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        running: Mapping[int, CoroutineRun],
        thread: Callable[[], int | None],
        on_pulse: Callable[[], object],
        clock: Clock,
    ) -> None:
        self._loop = loop
        self._running = running
        self._loop_thread = thread
        self._on_pulse = on_pulse
        self._clock = clock
        self._next_pulse: Micros = 0
        self._is_asleep = False
        self._has_work = threading.Event()
        self._has_answered = threading.Event()
        self._is_closing = threading.Event()
        self._named: Any = None
        """The asyncio task that was named last."""
        self._thread = self._new_thread()

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="Loop watch", daemon=True)

    def open(self) -> None:
        """Start the thread."""
        self._thread.start()

    def revive(self) -> list[str]:
        """Restart the thread if it has died, and return its name."""
        if self._thread.is_alive() or self._is_closing.is_set():
            return []
        self._thread = self._new_thread()
        self._thread.start()
        return [self._thread.name]

    def close(self) -> None:
        """Let the thread end."""
        self._is_closing.set()
        self._has_work.set()

    def note_work(self) -> None:
        """Record that a task has started."""
        if self._is_asleep:
            self._has_work.set()

    def _run(self) -> None:
        self._on_pulse()
        while not self._is_closing.wait(INTERVAL_S):
            if self._running:
                self._ask()
            now = self._clock.monotonic()
            if now >= self._next_pulse:
                self._next_pulse = now + micros(PULSE_S)
                self._on_pulse()
            if self._running:
                continue
            self._has_work.clear()
            self._is_asleep = True
            if not self._running:
                self._has_work.wait(REST_S)
            self._is_asleep = False

    def _ask(self) -> None:
        """Wait for an answer of the loop, and name the tasks that hold it meanwhile."""
        self._has_answered.clear()
        try:
            self._loop.call_soon_threadsafe(self._has_answered.set)
        except RuntimeError:  # It is closed.
            self._is_closing.set()
            return
        holder: asyncio.Task[Any] | None = None
        since: Micros = 0
        named_since: Micros | None = None
        while not self._has_answered.wait(CHECK_S) and not self._is_closing.is_set():
            now, current = self._clock.monotonic(), asyncio.current_task(self._loop)
            if current is not holder:
                holder, since = current, now
            elif holder is not None and now - since >= micros(HELD_S) and holder is not self._named:
                self._named, named_since = holder, since
                self._name(holder)
        if named_since is not None:
            log.warning("the event loop of this worker was held for %.1f s", (self._clock.monotonic() - named_since) / SECOND)

    def _name(self, task: asyncio.Task[Any]) -> None:
        ident = self._loop_thread()
        where = _position(sys._current_frames().get(ident or 0))
        log.warning(
            "%s holds the event loop of its worker for more than %g s, at %s: no other task runs meanwhile. Let it await, or call what "
            "takes long with asyncio.to_thread",
            *(self._text(task), HELD_S, where),
        )

    def _text(self, task: asyncio.Task[Any]) -> str:
        run = next((run for run in list(self._running.values()) if run.task is task), None)
        return (
            f"task {run.lease.name} {run.lease.id}" if run is not None else f"an asyncio task that a task has started ({task.get_coro()})"
        )


def _position(frame: FrameType | None) -> str:
    """Return file, line and function of the innermost frame that belongs to the application, or else of the innermost one."""
    innermost = frame
    while frame is not None and _is_library(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None or frame.f_globals.get("__name__", "").startswith("huey."):
        frame = innermost
    return "an unknown place" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def _is_library(path: str) -> bool:
    return path.startswith(("<", _LIBRARY)) or "site-packages" in path


_LIBRARY = asyncio.__file__.partition("asyncio")[0]

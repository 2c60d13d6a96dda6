"""The log of the consumer command: a bounded queue in front of the handlers, so that a blocked sink never blocks the code that logs.

A full pipe, a hung disk, a handler that blocks, or one whose lock a task left locked: these block one thread that does nothing else. It
starts with the first line and ends after a while without one, so that a supervisor has a single thread again when it forks. Lines that do
not fit into the queue are counted; their number is logged later.
"""

from __future__ import annotations

import logging
import os
import threading
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any

CAPACITY = 10_000
"""Most lines that wait to be written."""
LINGER = 5.0
"""Seconds without a line after which the thread ends."""
PAUSE = 0.2
"""Seconds that a fork waits for the line that is being written."""
LOGGERS = ("huey", "huey.consumer", "huey.djhuey")
"""All loggers of huey."""

_Line = tuple[logging.Logger, logging.LogRecord]


class LogQueue:
    """A queue of at most *capacity* lines that wait for their handlers."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._reset()
        os.register_at_fork(before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._reset)

    def _reset(self) -> None:
        """Start empty, also in a forked child: the parent writes its own lines."""
        self._lines: SimpleQueue[_Line | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._writing = threading.Lock()
        self._drops = count(1)
        self._dropped = self._reported = 0
        self._held_by: int | None = None

    def take_over(self, *names: str) -> None:
        """Make the loggers *names* write through this queue, whatever handlers they and their parents have, now or later."""
        for name in names:
            logger = logging.getLogger(name)
            logger.callHandlers = partial(self.put, logger)  # type: ignore[method-assign]

    def put(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        """Queue a line to be written. Never blocks."""
        if self._lines.qsize() >= self._capacity:
            self._dropped = next(self._drops)
        else:
            self._lines.put((logger, record))
        # Queued first, then checked; the ending thread does it in the opposite order.
        if self._thread is None:
            self._start()

    def drain(self, seconds: float) -> bool:
        """Wait until everything is written and the thread has ended; return False if that takes longer than *seconds*."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return self._lines.empty()
        self._lines.put(None)
        thread.join(seconds)
        return not thread.is_alive() and _has_gone(thread)

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            # Another thread is starting it.
            return
        try:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="Log", daemon=True)
                self._thread = thread
                thread.start()
        except RuntimeError:
            # No thread can be started: the process is ending, or the system has no resources for one.
            self._thread = None
            self._write_here()
        finally:
            self._starting.release()

    def _run(self) -> None:
        while True:
            try:
                line = self._lines.get(timeout=LINGER)
            except Empty:
                line = None
            if line is not None:
                self._write(*line)
                continue
            self._thread = None
            if self._lines.empty():
                return
            self._thread = threading.current_thread()

    def _write_here(self) -> None:
        while not self._lines.empty():
            line = self._lines.get()
            if line is not None:
                self._write(*line)

    def _write(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        with self._writing:
            hand_on(logger, record)
            lost = self._dropped - self._reported
            if lost:
                self._reported += lost
                text = "dropped %d log lines: the reader of this log did not keep up"
                hand_on(logger, logging.LogRecord("huey.consumer", logging.WARNING, __file__, 0, text, (lost,), None))

    def _before_fork(self) -> None:
        """Wait before a fork until no line is being written: a fork copies the locks inside a stream."""
        if self._writing.acquire(timeout=PAUSE):
            self._held_by = threading.get_ident()

    def _after_fork(self) -> None:
        # Another thread may fork at the same time, and have timed out waiting.
        if self._held_by == threading.get_ident():
            self._held_by = None
            self._writing.release()


def hand_on(logger: logging.Logger, record: logging.LogRecord) -> None:
    """Pass a line to all handlers of a logger, as logging does, but continue with the rest if one raises."""
    found, at = 0, logger
    while at is not None:
        for handler in at.handlers:
            found += 1
            if record.levelno >= handler.level:
                _handle(handler, record)
        at = at.parent if at.propagate else None  # type: ignore[assignment]
    last: Any = logging.lastResort
    if not found and last is not None and record.levelno >= last.level:
        _handle(last, record)


def _handle(handler: logging.Handler, record: logging.LogRecord) -> None:
    try:
        handler.handle(record)
    except BaseException:  # The user's code, whatever it raises: there is nowhere else to report it.
        return


def _has_gone(thread: threading.Thread) -> bool:
    """Wait for the kernel's thread to end, slightly later than Python's; return True if it has."""
    pause = threading.Event()
    for _ in range(100):
        if not os.path.exists(f"/proc/self/task/{thread.native_id}"):
            return True
        pause.wait(0.001)
    return False


_queue: LogQueue | None = None


def turn_on() -> None:
    """Send the log lines of this process, and of processes that it forks, through a queue. May be called more than once."""
    global _queue
    if _queue is None:
        _queue = LogQueue()
        _queue.take_over(*LOGGERS)


def is_on() -> bool:
    """Return True if this is a process of the consumer command."""
    return _queue is not None


def drain(seconds: float) -> bool:
    """Wait until all lines are written and no thread writes; return False if that takes longer than *seconds*. Return True without a
    queue."""
    return _queue is None or _queue.drain(seconds)

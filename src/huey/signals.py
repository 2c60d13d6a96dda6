"""Signals: what happens to tasks in this process, sent to the handlers that an application connects.

A handler is called with the signal and the task, in the thread where it happens; a slow handler slows that thread down. If a handler
raises, the exception is logged; the task and the other handlers continue.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from huey.runtime.functions import check_runs_when_called
from huey.runtime.logs import SafeLogger, is_ctrl_c
from huey.runtime.suggestions import did_you_mean

log = SafeLogger("huey")

SIGNAL_CANCELED = "canceled"
SIGNAL_COMPLETE = "complete"
SIGNAL_ENQUEUED = "enqueued"
SIGNAL_ERROR = "error"
SIGNAL_EXECUTING = "executing"
SIGNAL_EXPIRED = "expired"
SIGNAL_INTERRUPTED = "interrupted"
SIGNAL_LOCKED = "locked"
SIGNAL_RATE_LIMITED = "rate-limited"
SIGNAL_RETRYING = "retrying"
SIGNAL_REVOKED = "revoked"
SIGNAL_SCHEDULED = "scheduled"
SIGNAL_TIMEOUT = "timeout"

SIGNALS = tuple(sorted(value for name, value in dict(globals()).items() if name.startswith("SIGNAL_")))

Handler = Callable[..., Any]
F = TypeVar("F", bound=Handler)

LONGEST_HOLD = 5.0
"""Most seconds that a run waits for the handlers of earlier signals of its task."""


class Signals:
    """The handlers of each signal, in the order in which they were connected."""

    def __init__(self) -> None:
        self.handlers: dict[str, list[Handler]] = {}
        """Empty while there are none. It stays the same object, so that checking it costs next to nothing."""
        self.handler_gate = HandlerGate()

    def declare(self, signals: tuple[str, ...]) -> Callable[[F], F]:
        """Return a decorator that connects its function. Raise ValueError for missing parentheses or an unknown signal."""
        if signals and callable(signals[0]):
            raise ValueError("write @huey.signal() with parentheses, and the signals in them if not all are wanted")

        def connect(handler: F) -> F:
            self.connect(handler, signals)
            return handler

        return connect

    def connect(self, handler: Handler, signals: Iterable[str]) -> None:
        """Call *handler* for *signals*, or for all. Raise ValueError for an unknown signal, or a generator or coroutine function."""
        check_runs_when_called(handler, "a handler of signals")
        for signal in _known(signals):
            connected = self.handlers.get(signal, [])
            if handler not in connected:
                # A new list each time: another thread may be iterating over the old one.
                self.handlers[signal] = [*connected, handler]

    def disconnect(self, handler: Handler, signals: Iterable[str]) -> None:
        """Stop calling *handler* for *signals*, or for all if none are given."""
        for signal in _known(signals):
            left = [it for it in self.handlers.get(signal, []) if it is not handler and it != handler]
            if left:
                self.handlers[signal] = left
            else:
                self.handlers.pop(signal, None)

    def wants(self, *signals: str) -> bool:
        """Return True if one of *signals* has a handler."""
        return any(signal in self.handlers for signal in signals)

    def emit(self, signal: str, task: Any, *extra: Any) -> None:
        """Call the handlers of *signal*."""
        for handler in self.handlers.get(signal, ()):
            try:
                handler(signal, task, *extra)
            except BaseException as error:  # The user's function: it may raise anything, and the task continues.
                if is_ctrl_c(error):
                    raise
                log.exception("the handler %r of signal %r raised; the task and the other handlers continue", handler, signal)


class HandlerGate:
    """A gate that delays the next run of a task until the handlers of its earlier signals have returned, so that its signals stay in order
    although another thread may run it."""

    def __init__(self) -> None:
        self._held: dict[str, threading.Event] = {}

    @contextmanager
    def holding(self, ids: Iterable[str]) -> Iterator[None]:
        """Make ``wait`` for one of *ids* wait until the block ends."""
        ids = list(ids)
        self.hold(ids)
        try:
            yield
        finally:
            self.release(ids)

    def hold(self, ids: Iterable[str]) -> None:
        for id in ids:
            self._held[id] = threading.Event()

    def release(self, ids: Iterable[str]) -> None:
        for id in ids:
            if (event := self._held.pop(id, None)) is not None:
                event.set()

    def wait(self, id: str) -> None:
        """Wait while *id* is held, but not for ever: a handler may itself wait for the task."""
        if (event := self._held.get(id)) is not None:
            event.wait(LONGEST_HOLD)


def _known(signals: Iterable[str]) -> tuple[str, ...]:
    given = tuple(signals)
    for signal in given:
        if signal not in SIGNALS:
            hint = did_you_mean(str(signal), SIGNALS) or f"; there are {', '.join(SIGNALS)}"
            raise ValueError(f"{signal!r} is not a signal{hint}")
    return given or SIGNALS

"""Signals: what happens to tasks, told inside this process to whoever connected a function.

A handler is called with the signal and the task, where and when it happens; it may be slow, and then so is what it watches. One that
raises is logged; the task goes on, and so do the other handlers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from huey.runtime.functions import refuse_what_does_not_run
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

LONGEST_HOLD = 5.0
"""Seconds that a task waits for the handlers of what happened to it before; then it goes on."""


class Signals:
    """Handlers by signal, in the order in which they were connected."""

    def __init__(self) -> None:
        self.handlers: dict[str, list[Handler]] = {}
        """Empty while nobody wants to know; the same object always, so that a look at it costs next to nothing."""
        self.turnstile = HandlerGate()

    def connect(self, handler: Handler, signals: Iterable[str]) -> None:
        """Call *handler* for these signals; for all, if there are none. ValueError: no such signal; a generator function or coroutine."""
        refuse_what_does_not_run(handler, "a handler of signals")
        for signal in _known(signals):
            connected = self.handlers.get(signal, [])
            if handler not in connected:
                # A new list each time: who is just going through the old one is not disturbed.
                self.handlers[signal] = [*connected, handler]

    def disconnect(self, handler: Handler, signals: Iterable[str]) -> None:
        """Call it no more for these signals, or for any."""
        for signal in _known(signals):
            left = [it for it in self.handlers.get(signal, []) if it is not handler and it != handler]
            if left:
                self.handlers[signal] = left
            else:
                self.handlers.pop(signal, None)

    def wants(self, *signals: str) -> bool:
        """Whether somebody wants to know of one of these."""
        return any(signal in self.handlers for signal in signals)

    def emit(self, signal: str, task: Any, *extra: Any) -> None:
        """Call the handlers of *signal*."""
        for handler in self.handlers.get(signal, ()):
            try:
                handler(signal, task, *extra)
            except BaseException as error:  # The user's function: it may raise anything, and nothing of it concerns the task.
                if is_ctrl_c(error):
                    raise
                log.exception("the handler %r of signal %r raised; the task and the other handlers go on", handler, signal)


class HandlerGate:
    """Keeps the next run of a task waiting until the handlers of what happened to it before have returned: so that signals come in order,
    although another thread may have the task in hand by then."""

    def __init__(self) -> None:
        self._held: dict[str, threading.Event] = {}

    @contextmanager
    def holding(self, ids: Iterable[str]) -> Iterator[None]:
        """Whoever comes with one of *ids* waits until the block ends."""
        ids = list(ids)
        self.hold(ids)
        try:
            yield
        finally:
            self.let_go(ids)

    def hold(self, ids: Iterable[str]) -> None:
        for id in ids:
            self._held[id] = threading.Event()

    def let_go(self, ids: Iterable[str]) -> None:
        for id in ids:
            if (event := self._held.pop(id, None)) is not None:
                event.set()

    def pass_through(self, id: str) -> None:
        """Wait while *id* is held, but not for ever: a handler may itself wait for the task."""
        if (event := self._held.get(id)) is not None:
            event.wait(LONGEST_HOLD)


def _known(signals: Iterable[str]) -> tuple[str, ...]:
    given = tuple(signals)
    for signal in given:
        if signal not in SIGNALS:
            hint = did_you_mean(str(signal), SIGNALS) or f"; there are {', '.join(SIGNALS)}"
            raise ValueError(f"{signal!r} is no signal{hint}")
    return given or SIGNALS

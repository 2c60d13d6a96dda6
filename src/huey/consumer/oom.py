"""When memory runs out, let the kernel end a worker rather than its supervisor; programs that tasks start are as likely as usual.

A program inherits the likelihood of the process that starts it. So a worker gives its own up for the moment of each start.
"""

from __future__ import annotations

import sys
from typing import Any

from huey.runtime.clock import Clock, Micros, micros

MORE_LIKELY = 200
"""Of a thousand points."""
MOMENT = 1.0
"""Seconds after the start of a program in which the worker is no more likely than it."""
_STARTS = frozenset({"subprocess.Popen", "os.posix_spawn", "os.system", "os.fork", "os.forkpty"})
"""Audit events before a program, or a copy of this process, is started."""
_FILE = "/proc/self/oom_score_adj"


class Likelihood:
    """Of this process. Where the system has none, or forbids it, the kernel chooses by size, and nothing happens here."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._usual: int | None = None
        self._given_up: Micros = 0

    def raise_it(self) -> None:
        """From now on, but for starts of programs."""
        self._usual = _read()
        if self._usual is not None and _write(min(1000, self._usual + MORE_LIKELY)):
            sys.addaudithook(self._mind_starts)

    def _mind_starts(self, event: str, args: tuple[Any, ...]) -> None:
        # Called for very many events: whatever is not a start goes on at once.
        if event in _STARTS and self._usual is not None:
            self._given_up = self._clock.monotonic()
            _write(self._usual)

    def look(self) -> None:
        """Raise it again when the last start is a moment ago. To be called about once a second."""
        if self._given_up and self._usual is not None and self._clock.monotonic() - self._given_up > micros(MOMENT):
            self._given_up = 0
            _write(min(1000, self._usual + MORE_LIKELY))


def _read() -> int | None:
    try:
        with open(_FILE, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _write(points: int) -> bool:
    try:
        with open(_FILE, "w", encoding="ascii") as file:
            file.write(str(points))
        return True
    except OSError:
        return False

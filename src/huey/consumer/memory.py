"""Limit memory: ``--max-memory`` replaces workers that use too much, and the out-of-memory killer prefers workers to their supervisor."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from huey.consumer.process_table import Child
from huey.runtime.clock import SECOND, Clock, Micros, micros
from huey.runtime.logs import SafeLogger

log = SafeLogger("huey.consumer")

MIB = 2**20
GROWTH_FACTOR = 1.25
"""How far a worker may grow if it holds more than the limit before it has run anything."""
SHORT_LIFE_S = 60.0
"""A worker that passed the limit sooner than this after its start makes the next one stay longer."""
MIN_STAY_S, MAX_STAY_S = 5.0, 300.0
"""How long a worker stays in any case after one with such a short life; doubles each time."""


class MemoryLimit:
    """Stops workers that use more than *most* bytes, but never one after another for memory that each needs at its start. 0: no limit."""

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._min_age = 0.0
        self._seen: set[str] = set()
        self._idle_size = 0
        """The least memory that a worker used before it had run anything; 0 if not known."""
        self._has_logged = False

    def check(self, children: Iterable[Child]) -> None:
        """Ask workers that use too much memory to stop."""
        if not self._most:
            return
        children = list(children)
        self._seen &= {child.worker.id for child in children}
        for child in children:
            if child.scoreboard.is_ready and not child.is_stopping:
                self._check_child(child, resident_bytes(child.pid), self._clock.monotonic() - child.started)

    def _check_child(self, child: Child, holds: int, age: Micros) -> None:
        if child.worker.id not in self._seen:
            self._seen.add(child.worker.id)
            if not (child.scoreboard.running() or child.scoreboard.ended()):
                self._idle_size = min(holds, self._idle_size or holds)
        limit = self._most
        if self._idle_size >= limit:
            limit = int(self._idle_size * GROWTH_FACTOR)
            self._log_too_low(self._idle_size, limit)
        if holds <= limit or age < micros(self._min_age):
            return
        log.info("worker %s uses %d MiB, more than %d MiB; replacing it", child.worker.id, holds // MIB, limit // MIB)
        self._adapt_min_age(age / SECOND)
        child.request_stop()

    def _log_too_low(self, idle_size: int, limit: int) -> None:
        if not self._has_logged:
            self._has_logged = True
            log.error(
                "--max-memory %d is too low: a new worker already uses %d MiB; workers are replaced above %d MiB instead. Raise the limit",
                *(self._most // MIB, idle_size // MIB, limit // MIB),
            )

    def _adapt_min_age(self, age: float) -> None:
        if age >= max(SHORT_LIFE_S, 2 * self._min_age):
            self._min_age = 0.0
            return
        self._min_age = min(max(MIN_STAY_S, 2 * self._min_age), MAX_STAY_S)
        log.warning(
            "--max-memory %d was exceeded %.0f s after the worker started; the next one is kept for at least %g s. Raise the limit if this "
            "continues",
            *(self._most // MIB, age, self._min_age),
        )


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 if the system does not report it."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


# -- the out-of-memory killer -----------------------------------------------------------------------------------------------------------

OOM_SCORE_BONUS = 200
"""Of a thousand points."""
PROGRAM_START_S = 1.0
"""How long after starting a program the worker keeps its original score, which the program inherits."""
_START_EVENTS = frozenset({"subprocess.Popen", "os.posix_spawn", "os.system", "os.fork", "os.forkpty"})
"""Audit events that precede the start of a program or a fork."""
_OOM_FILE = "/proc/self/oom_score_adj"


class OomScore:
    """The out-of-memory score of this worker, which is higher than its supervisor's.

    Programs inherit the score of the process that starts them, so it is lowered for the moment of each start. Where the system has no such
    score, or forbids changing it, nothing happens here and the kernel chooses by size.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._original: int | None = None
        self._lowered_at: Micros = 0

    def raise_score(self) -> None:
        """Raise the score, except while programs are being started."""
        self._original = _read_oom_score()
        if self._original is not None and _write_oom_score(min(1000, self._original + OOM_SCORE_BONUS)):
            sys.addaudithook(self._on_audit_event)

    def _on_audit_event(self, event: str, args: tuple[Any, ...]) -> None:
        # Called for very many events: return at once for all others.
        if event in _START_EVENTS and self._original is not None:
            self._lowered_at = self._clock.monotonic()
            _write_oom_score(self._original)

    def raise_again(self) -> None:
        """Raise the score again if the last program was started a moment ago. Call it about once a second."""
        if self._lowered_at and self._original is not None and self._clock.monotonic() - self._lowered_at > micros(PROGRAM_START_S):
            self._lowered_at = 0
            _write_oom_score(min(1000, self._original + OOM_SCORE_BONUS))


def _read_oom_score() -> int | None:
    try:
        with open(_OOM_FILE, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _write_oom_score(points: int) -> bool:
    try:
        with open(_OOM_FILE, "w", encoding="ascii") as file:
            file.write(str(points))
        return True
    except OSError:
        return False

"""``--max-memory``: workers that hold more than they may are replaced, but never one after the other for what each needs by itself."""

from __future__ import annotations

from collections.abc import Iterable

from huey.consumer.processes import Child, memory_of
from huey.runtime.clock import SECOND, Clock, Micros, micros
from huey.runtime.logs import SafeLogger

log = SafeLogger("huey.consumer")

MIB = 2**20
ROOM = 1.25
"""A worker may grow by so much when it holds more than the limit before it has run anything."""
SHORT = 60.0
"""Seconds. A worker that passed the limit sooner than this after its start makes the next one stay longer."""
FIRST_STAY, LONGEST_STAY = 5.0, 300.0
"""Seconds that a worker stays in any case after one that passed the limit so soon; doubles each time."""


class MemoryLimit:
    """*most*: bytes that one worker may hold; 0: no limit."""

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._stay = 0.0
        self._seen: set[str] = set()
        self._fresh = 0
        """The least that a worker held which had run nothing yet; 0: not known."""
        self._is_told = False

    def look(self, children: Iterable[Child]) -> None:
        """Tell those that hold too much to end."""
        if not self._most:
            return
        children = list(children)
        self._seen &= {child.worker.id for child in children}
        for child in children:
            if child.page.is_ready and not child.is_leaving:
                self._mind(child, memory_of(child.pid), self._clock.monotonic() - child.started)

    def _mind(self, child: Child, holds: int, age: Micros) -> None:
        if child.worker.id not in self._seen:
            self._seen.add(child.worker.id)
            if not (child.page.running() or child.page.ended()):
                self._fresh = min(holds, self._fresh or holds)
        limit = self._most
        if self._fresh >= limit:
            limit = int(self._fresh * ROOM)
            self._tell_too_low(self._fresh, limit)
        if holds <= limit or age < micros(self._stay):
            return
        log.info("worker %s holds %d MiB, more than %d: another one takes its place", child.worker.id, holds // MIB, limit // MIB)
        self._learn(age / SECOND)
        child.tell_to_stop()

    def _tell_too_low(self, fresh: int, limit: int) -> None:
        if not self._is_told:
            self._is_told = True
            log.error(
                "--max-memory %d: a new worker already holds %d MiB; workers are replaced above %d MiB instead. Give it more",
                *(self._most // MIB, fresh // MIB, limit // MIB),
            )

    def _learn(self, age: float) -> None:
        if age >= max(SHORT, 2 * self._stay):
            self._stay = 0.0
            return
        self._stay = min(max(FIRST_STAY, 2 * self._stay), LONGEST_STAY)
        log.warning(
            "--max-memory %d was passed %.0f s after the worker's start: the next one stays for at least %g s. Give it more if that "
            "goes on",
            *(self._most // MIB, age, self._stay),
        )

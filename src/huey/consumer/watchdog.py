"""The supervisor's watchdog: a worker whose own threads stand still is replaced, one that is held from outside is left alone.

A worker that stands still keeps its lease, as the supervisor renews it: without this its tasks would be held for ever, without a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import Protocol

from huey.consumer.processes import Child
from huey.engine.stamps import ENGINE, LOOK, MAIN, OWN_THREADS, Standstill
from huey.runtime import host
from huey.runtime.clock import Clock, Micros, micros
from huey.runtime.logs import SafeLogger

log = SafeLogger("huey.consumer")

EVERY = 60.0
"""Seconds in which one worker of a place is replaced at most."""


class Keeper(Protocol):
    """What is needed of the supervisor."""

    def replace(self, child: Child, at_once: bool) -> None:
        """End a worker: at once, or when what it runs has ended."""

    def reaches_storage(self, child: Child) -> bool:
        """We can write into the storage of its queue now."""

    def places(self, child: Child) -> int:
        """How many workers there are of its queue and kind."""

    def name_of(self, child: Child, id: str) -> str:
        """The name of a task that it runs."""


class Watchdog:
    """*seconds*: how long a thread may stand still; 0: for ever."""

    def __init__(self, keeper: Keeper, clock: Clock, seconds: float) -> None:
        self._keeper = keeper
        self._clock = clock
        self._seconds = seconds
        self._replaced: dict[tuple[str, str], list[Micros]] = {}

    def begin(self, child: Child) -> None:
        """Watch over a worker from now on."""
        child.standstill = Standstill(self._seconds)

    def look(self, children: Iterable[Child], is_away: bool) -> None:
        """One look, once a second. *is_away*: we do not reach the storage, so the workers need not either."""
        for child in children:
            child.page.look()
            if is_away or not child.page.is_ready or self._is_excused(child):
                child.standstill.forget()
                continue
            now = self._clock.monotonic()
            frozen = child.standstill.look(now, child.page.stamps(), child.page.pulse)
            if self._sleeps(child):
                child.standstill.forget()
                continue
            if child.is_leaving:
                # It stops its other threads one by one.
                frozen = [thread for thread in frozen if thread == ENGINE]
            if child.standstill.is_pulseless:
                self._tell_of_gil(child)
            if frozen:
                self._deal_with(child, frozen, now)

    def _deal_with(self, child: Child, frozen: list[int], now: Micros) -> None:
        if not self._keeper.reaches_storage(child):
            # A write of ours does not pass either: another one is in the way, perhaps that of this worker, on a slow disk.
            child.standstill.forget()
        elif self._may_replace(child, now):
            self._tell_of_standstill(child, frozen)
            self._keeper.replace(child, ENGINE in frozen or MAIN in frozen)

    def _is_excused(self, child: Child) -> bool:
        """Whatever it does or does not do, it is not its fault."""
        if child.page.is_at_disk or not any(child.page.stamps()):
            return True
        return host.is_stopped(child.pid) or host.is_traced(child.pid)

    def _sleeps(self, child: Child) -> bool:
        """A thread of it has been asleep in the kernel since the last look. A busy worker has one in there now and then: that is none."""
        before, child.sleepers = child.sleepers, host.sleepers(child.pid) if child.standstill.is_counting else set()
        return bool(before & child.sleepers)

    def _may_replace(self, child: Child, now: Micros) -> bool:
        before = self._replaced.setdefault((child.queue, child.worker.kind), [])
        before[:] = [at for at in before if now - at < micros(EVERY)]
        if len(before) >= max(1, self._keeper.places(child)):
            return False
        before.append(now)
        return True

    def _tell_of_standstill(self, child: Child, frozen: list[int]) -> None:
        log.critical(
            "worker %s (pid %d) stands still: no sign of life of its %s for %d s; another worker takes its place, no task is to blame",
            *(child.worker.id, child.pid, ", ".join(OWN_THREADS[thread] for thread in frozen), ceil(self._seconds / LOOK)),
        )

    def _tell_of_gil(self, child: Child) -> None:
        running = child.page.running()
        names = ", ".join(f"{self._keeper.name_of(child, it.id)} {it.id}" for it in running[:5]) or "none"
        log.warning(
            "worker %s (pid %d) has run no Python for %d s: a task holds the interpreter's lock (GIL); it is left alone. Running there: %s",
            *(child.worker.id, child.pid, child.standstill.still, names),
        )

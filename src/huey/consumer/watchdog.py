"""The supervisor's watchdog: a worker whose own threads stand still is replaced, one that is held from outside is left alone.

A worker that stands still keeps its lease, as the supervisor renews it: without this its tasks would be held for ever, without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil

from huey import host
from huey.clock import Clock, Micros, micros
from huey.consumer.processes import Child
from huey.engine.stamps import ENGINE, LOOK, MAIN, OWN_THREADS, Standstill
from huey.logs import SafeLogger

log = SafeLogger("huey.consumer")

EVERY = 60.0
"""Seconds in which one worker of a place is replaced at most."""

Replace = Callable[[Child, bool], None]
"""Ends a worker; *at once*, or when what it runs has ended."""


class Watchdog:
    """*seconds*: how long a thread may stand still; 0: for ever. *replace* is called for a worker that has to go, *name_of* for the name
    of a task of it by id."""

    def __init__(self, clock: Clock, seconds: float, replace: Replace, name_of: Callable[[Child, str], str]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._replace = replace
        self._name_of = name_of
        self._replaced: dict[tuple[str, str], list[Micros]] = {}

    def begin(self, child: Child) -> None:
        """Watch over a worker from now on."""
        child.standstill = Standstill(self._seconds)

    def look(self, children: Iterable[Child], is_away: bool, places: Callable[[Child], int]) -> None:
        """One look, once a second. *is_away*: we do not reach the storage, so the workers need not either. *places*: how many workers of
        that kind there are."""
        for child in children:
            child.page.look()
            if is_away or not child.page.is_ready or self._is_excused(child):
                child.standstill.forget()
                continue
            now = self._clock.monotonic()
            frozen = child.standstill.look(now, child.page.stamps(), child.page.pulse)
            if child.is_leaving:
                # It stops its other threads one by one.
                frozen = [thread for thread in frozen if thread == ENGINE]
            if child.standstill.is_pulseless:
                self._tell_of_gil(child)
            if frozen and self._may_replace(child, places(child), now):
                self._tell_of_standstill(child, frozen)
                self._replace(child, ENGINE in frozen or MAIN in frozen)

    def _is_excused(self, child: Child) -> bool:
        """Whatever it does or does not do, it is not its fault."""
        if child.page.is_at_disk or not any(child.page.stamps()):
            return True
        return host.is_stopped(child.pid) or host.is_traced(child.pid) or host.is_in_kernel(child.pid)

    def _may_replace(self, child: Child, places: int, now: Micros) -> bool:
        before = self._replaced.setdefault((child.queue, child.worker.kind), [])
        before[:] = [at for at in before if now - at < micros(EVERY)]
        if len(before) >= max(1, places):
            return False
        before.append(now)
        return True

    def _tell_of_standstill(self, child: Child, frozen: list[int]) -> None:
        log.critical(
            "worker %s (pid %d) stands still: its %s has not gone on for %d s; another worker takes its place, its tasks run again",
            *(child.worker.id, child.pid, ", ".join(OWN_THREADS[thread] for thread in frozen), ceil(self._seconds / LOOK)),
        )

    def _tell_of_gil(self, child: Child) -> None:
        running = child.page.running()
        names = ", ".join(f"{self._name_of(child, it.id)} {it.id}" for it in running[:5]) or "none"
        log.warning(
            "worker %s (pid %d) has run no Python for %d s: a task holds the interpreter's lock (GIL); it is left alone. Running there: %s",
            *(child.worker.id, child.pid, child.standstill.still, names),
        )

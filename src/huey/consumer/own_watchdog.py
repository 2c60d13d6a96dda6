"""The watchdog of a consumer inside a program: there is no supervisor, and the program must live on."""

from __future__ import annotations

import os
from collections.abc import Callable

from huey.consumer.lives import Lives, NotMended
from huey.engine.outage import Outage
from huey.engine.stamps import OWN_THREADS, Board, Standstill
from huey.runtime import host
from huey.runtime.clock import Clock


class OwnWatchdog:
    """Looks, in a thread of its own, whether the others go on. *seconds*: how long they may stand still; 0: for ever. *give_up* is called
    once, with the reason."""

    def __init__(self, clock: Clock, seconds: float, board: Board, outage: Outage, give_up: Callable[[str], None]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._board = board
        self._outage = outage
        self._give_up = give_up
        self._standstill = Standstill(seconds)
        self._syncs: set[int] = set()
        self._sleepers: set[tuple[str, str]] = set()
        self._has_given_up = False

    def look(self, lives: Lives) -> None:
        """One look, once a second. If this thread does not come to it, Python does not run, or the machine: that counts for nothing."""
        if self._has_given_up:
            return
        try:
            lives.look()
        except NotMended as error:
            self._has_given_up = True
            return self._give_up(str(error))
        if self._is_excused():
            return self._standstill.forget()
        if frozen := self._standstill.look(self._clock.monotonic(), self._board.stamps()):
            self._has_given_up = True
            names = ", ".join(OWN_THREADS[thread] for thread in frozen)
            self._give_up(f"no sign of life of its {names} for {self._seconds:g} s")

    def _is_excused(self) -> bool:
        """The storage is away, the disk is slow, or somebody holds the process."""
        before, self._syncs = self._syncs, host.syncs()
        me = os.getpid()
        asleep, self._sleepers = self._sleepers, host.sleepers(me) if self._standstill.is_counting else set()
        return bool(before & self._syncs or asleep & self._sleepers) or self._outage.is_on_beside("engine") or host.is_traced(me)

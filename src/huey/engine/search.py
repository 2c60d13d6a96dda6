"""Looks for tasks that no worker could run so far, and that this one can: at its start, and every few seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from huey.exceptions import StorageError
from huey.runtime.clock import Clock, Micros, micros
from huey.storage.base import Storage
from huey.storage.rows import Missing, Worker
from huey.task.lifecycle import UNKNOWN_DELAY
from huey.task.record import Lease

MOST = 32
"""Tasks that one look takes at most; more are looked for at once."""
KINDS = 500
"""Names that one look asks for at most."""


class Search:
    """*can_run*: whether tasks that wait for something can be run here."""

    def __init__(self, storage: Storage, worker: Worker, clock: Clock, can_run: Callable[[Missing], bool]) -> None:
        self._storage = storage
        self._worker = worker
        self._clock = clock
        self._can_run = can_run
        self._next: Micros = 0

    def take_up(self, room: Callable[[], int], start: Callable[[Sequence[Lease]], None], lost: Callable[[object], None]) -> bool:
        """If it is time, start as many as there is room for. False: the storage is away, and *lost* was told."""
        if self._clock.monotonic() < self._next or (want := room()) <= 0:
            return True
        try:
            start(self._found(want))
        except StorageError as error:
            lost(error)
            return False
        return True

    def _found(self, room: int) -> list[Lease]:
        self._next = self._clock.monotonic() + micros(UNKNOWN_DELAY)
        mine = [missing for missing in self._storage.missing() if self._can_run(missing)][:KINDS]
        if not mine:
            return []
        want = min(room, MOST)
        leases = self._storage.claim_missing(self._worker, mine, want)
        if len(leases) == want:
            self._next = 0
        return leases

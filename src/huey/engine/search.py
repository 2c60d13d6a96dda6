"""Finds tasks that no worker could run so far and that this one can: at its start, and every few seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from huey.exceptions import StorageError
from huey.runtime.clock import Clock, Micros, micros
from huey.storage.base import Storage
from huey.storage.rows import Missing, Worker
from huey.task.lifecycle import UNKNOWN_DELAY
from huey.task.record import Lease

MOST = 32
"""Tasks that one search claims at most; if it finds as many, the next search starts at once."""
KINDS = 500
"""Names that one search asks for at most."""


class Search:
    """*can_run*: returns whether tasks that wait for something can be run here."""

    def __init__(self, storage: Storage, worker: Worker, clock: Clock, can_run: Callable[[Missing], bool]) -> None:
        self._storage = storage
        self._worker = worker
        self._clock = clock
        self._can_run = can_run
        self._next: Micros = 0

    def claim_due(self, capacity: Callable[[], int], start: Callable[[Sequence[Lease]], None], failed: Callable[[object], None]) -> bool:
        """If a search is due, start as many tasks as there is *capacity* for. Return False during an outage, after calling *failed*."""
        if self._clock.monotonic() < self._next or (want := capacity()) <= 0:
            return True
        try:
            start(self._claim(want))
        except StorageError as error:
            failed(error)
            return False
        return True

    def _claim(self, capacity: int) -> list[Lease]:
        self._next = self._clock.monotonic() + micros(UNKNOWN_DELAY)
        mine = [missing for missing in self._storage.missing() if self._can_run(missing)][:KINDS]
        if not mine:
            return []
        want = min(capacity, MOST)
        leases = self._storage.claim_missing(self._worker, mine, want)
        if len(leases) == want:
            self._next = 0
        return leases

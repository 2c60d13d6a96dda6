"""The progress that the tasks of one worker report, on its way to the storage: written with the next turn, the last report only."""

from __future__ import annotations

from collections.abc import Iterable

from huey.exceptions import StorageError
from huey.runtime.clock import Clock
from huey.runtime.current_run import Run
from huey.storage.base import Storage
from huey.task.lifecycle import Finish, State
from huey.task.progress import KEPT_S, PROGRESS, encode


class ProgressNotes:
    """Reports of running tasks that are not stored yet. Any thread may add one; one thread writes them."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._latest: dict[Run, bytes] = {}
        self._stored: set[str] = set()
        """Tasks of which a report is stored, until their runs end."""

    def __bool__(self) -> bool:
        """True if there are reports to write."""
        return bool(self._latest)

    def note(self, run: Run, fraction: float, message: str | None) -> None:
        """Note a report; it replaces the last one of that run. Raise ValueError or TypeError if it cannot be stored."""
        self._latest[run] = encode(run[1], fraction, message, self._clock.now())

    def write(self, finishes: Iterable[Finish] = ()) -> None:
        """Store the reports, and remove those of runs that have succeeded by *finishes*. Raise StorageError; what is left is kept."""
        if not (self._latest or self._stored):
            return
        ended = [finish for finish in finishes if finish.lease.id in self._stored or finish.lease[:2] in self._latest]
        for finish in ended:
            if finish.state == State.SUCCEEDED:
                self._latest.pop(finish.lease[:2], None)
        while self._latest:
            run, data = self._latest.popitem()
            try:
                self._storage.put(PROGRESS, run[0], data, KEPT_S)
            except StorageError:
                self._latest.setdefault(run, data)
                raise
            self._stored.add(run[0])
        for finish in ended:
            if finish.state == State.SUCCEEDED and finish.lease.id in self._stored:
                self._storage.take(PROGRESS, [finish.lease.id], remove=True)
            self._stored.discard(finish.lease.id)

"""Find the one finish that the storage cannot store, which makes a turn fail, and fail only that task.

Each finish is first given to the storage unchanged. Nothing is done while the storage rejects even an empty turn, because then the finishes
are not the cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from huey.exceptions import StorageError
from huey.runtime.logs import SafeLogger
from huey.serializer.pickles import error_text
from huey.storage.base import Storage
from huey.storage.rows import Turn, Worker
from huey.task import reasons
from huey.task.lifecycle import Finish, Raised, decide
from huey.task.record import Lease

log = SafeLogger("huey.consumer")


Replace = Callable[[Finish, BaseException], Finish]
"""Replaces a finish that cannot be written by one that says so."""


def failing(finish: Finish, error: BaseException) -> Finish:
    """Return a failure to replace a finish that cannot be written."""
    description = {"error": f"EncodeError: the outcome of this run cannot be stored ({error_text(error)})", "traceback": ""}
    return decide(finish.lease, Raised(description, may_retry=False, reason=reasons.NOT_STORABLE), 0, finish.duration)


class Narrowing:
    """Writes a turn in parts. *replace*: see ``Replace``. *on_written*: gets what was written, part by part. *unwritable*: gets the runs
    for which no finish can be written; they count as stale."""

    def __init__(
        self,
        storage: Storage,
        worker: Worker,
        replace: Replace,
        on_written: Callable[[Turn, Sequence[Finish]], None],
        unwritable: set[tuple[str, int]],
    ) -> None:
        self._storage = storage
        self._worker = worker
        self._replace = replace
        self._on_written = on_written
        self._unwritable = unwritable

    def write(self, finishes: Sequence[Finish], events: Sequence[str]) -> None:
        """Write in parts what could not be written together. Raise StorageError during an outage; everything reported as written is
        written. Any other error means that the storage rejects even an empty turn."""
        self._storage.turn(self._worker, [], 0)
        try:
            if events:
                self._storage.turn(self._worker, [], 0, events)
        except StorageError:
            raise
        except Exception as error:  # Any error that the storage raises for a string that it cannot store.
            log.error("dropped %d events that cannot be written: %s", len(events), error_text(error))
        if finishes:
            self._write(list(finishes))

    def _write(self, part: list[Finish]) -> None:
        try:
            turn = self._storage.turn(self._worker, part, 0)
        except StorageError:
            raise
        except Exception as error:  # As above.
            middle = len(part) // 2
            if middle:
                self._write(part[:middle])
                self._write(part[middle:])
            else:
                self._fail(part[0], error)
        else:
            self._on_written(turn, part)

    def _fail(self, finish: Finish, error: Exception) -> None:
        lease = finish.lease
        log.error("task %s %s failed because its outcome cannot be stored: %s", lease.name, lease.id, error_text(error))
        for instead in (self._replace(finish, error), failing(finish, error)):
            try:
                turn = self._storage.turn(self._worker, [instead], 0)
            except StorageError:
                raise
            except Exception as again:  # As above.
                error = again
            else:
                self._on_written(turn, [instead])
                return
        log.critical(
            "task %s %s: no outcome can be stored; the worker keeps the task until it exits: %s", lease.name, lease.id, error_text(error)
        )
        # If it were released, it would run again and again without end.
        self._unwritable.add(lease[:2])
        self._on_written(Turn([], stale=[lease.id]), [finish])


def release(storage: Storage, worker: Worker, leases: Sequence[Lease]) -> None:
    """Release *leases*; a task that the storage cannot release stays with the worker until it exits. Raise StorageError during an
    outage."""
    try:
        storage.release(worker, leases)
    except StorageError:
        raise
    except Exception as error:  # As above.
        if len(leases) > 1:
            for lease in leases:
                release(storage, worker, [lease])
            return
        log.error("task %s cannot be released; the worker keeps it until it exits: %s", leases[0].id, error_text(error))

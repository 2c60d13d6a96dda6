"""When a turn cannot be written for what is in it: find the one end that the storage cannot take, and let it fail alone.

Each end is given to the storage as it is before anything is done about it, and nothing at all is done while the storage refuses an empty
turn: then it is not the ends that are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from huey.exceptions import StorageError
from huey.runtime.logs import SafeLogger
from huey.serializer.pickles import said
from huey.storage.base import Storage
from huey.storage.rows import Turn, Worker
from huey.task.lifecycle import Finish, Raised, decide
from huey.task.record import Lease

log = SafeLogger("huey.consumer")

REASON = "result not storable"

Replace = Callable[[Finish, BaseException], Finish]
"""Makes of an end that cannot be written one that says so."""


def failing(finish: Finish, error: BaseException) -> Finish:
    """The end of a task whose own end cannot be written."""
    told = {"error": f"EncodeError: the end of this run cannot be stored ({said(error)})", "traceback": ""}
    return decide(finish.lease, Raised(told, may_retry=False, reason=REASON), 0, finish.duration)


class Narrowing:
    """*replace*: see ``Replace``. *written*: told what was written, part by part. *stuck*: gets those of which no end can be written; they
    count as refused."""

    def __init__(
        self,
        storage: Storage,
        worker: Worker,
        replace: Replace,
        written: Callable[[Turn, Sequence[Finish]], None],
        stuck: set[tuple[str, int]],
    ) -> None:
        self._storage = storage
        self._worker = worker
        self._replace = replace
        self._written = written
        self._stuck = stuck

    def write(self, finishes: Sequence[Finish], events: Sequence[str]) -> None:
        """Write in parts what could not be written together. StorageError: the storage is away; what was told as written is. Any other
        error: it refuses even an empty turn."""
        self._storage.turn(self._worker, [], 0)
        try:
            if events:
                self._storage.turn(self._worker, [], 0, events)
        except StorageError:
            raise
        except Exception as error:  # Whatever the storage makes of a text that it cannot take.
            log.error("%d events cannot be written and are left out: %s", len(events), said(error))
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
                self._give_up(part[0], error)
        else:
            self._written(turn, part)

    def _give_up(self, finish: Finish, error: Exception) -> None:
        lease = finish.lease
        log.error("task %s %s: its end cannot be stored, so it fails: %s", lease.name, lease.id, said(error))
        for instead in (self._replace(finish, error), failing(finish, error)):
            try:
                turn = self._storage.turn(self._worker, [instead], 0)
            except StorageError:
                raise
            except Exception as again:  # As above.
                error = again
            else:
                self._written(turn, [instead])
                return
        log.critical(
            "task %s %s: no end of it can be stored; it stays with this worker until that ends: %s", lease.name, lease.id, said(error)
        )
        # Given back, it would only run again, and again to no end.
        self._stuck.add(lease[:2])
        self._written(Turn([], stale=[lease.id]), [finish])


def release(storage: Storage, worker: Worker, leases: Sequence[Lease]) -> None:
    """Give back tasks; one that the storage cannot take back stays with the worker until that ends. StorageError: it is away."""
    try:
        storage.release(worker, leases)
    except StorageError:
        raise
    except Exception as error:  # As above.
        if len(leases) > 1:
            for lease in leases:
                release(storage, worker, [lease])
            return
        log.error("task %s cannot be given back; it stays with this worker until that ends: %s", leases[0].id, said(error))

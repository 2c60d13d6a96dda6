"""Takes over what dead workers held, and removes what is past its time. Any live consumer does it; none has to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from huey.runtime import host
from huey.runtime.clock import SECOND, Clock, Micros, micros
from huey.runtime.host import alive_here
from huey.runtime.logs import SafeLogger
from huey.storage.base import LEASE, Storage
from huey.storage.rows import Worker, WorkerRow
from huey.task.lifecycle import Finish, WorkerDied, decide
from huey.task.record import Lease

log = SafeLogger("huey.consumer")

EVERY = 1.0
"""Seconds between two looks."""
PRUNE_EVERY = 60.0
"""Seconds between two clean-ups."""
LONGEST_GAP = 5 * SECOND
"""Between two looks that belong together."""
REMEMBERED = 60 * SECOND
"""How long one that was taken for dead is remembered; who lives gives a sign of it in less."""


Declare = Callable[[Lease], Lease]


def _as_it_is(lease: Lease) -> Lease:
    return lease


class Janitor:
    """Looks after the other workers of a queue. ``settle`` gives a final finish the error that its caller gets; ``declared`` tells a lease
    as it was signed.

    What it reclaims it holds as a worker of its own, one for each kind of the dead, and it reads from the storage what that is: whatever
    was cut off by an error, a lost reply or its own death is taken up again by the next look, here or elsewhere.
    """

    def __init__(
        self, storage: Storage, worker: Worker, clock: Clock, settle: Callable[[Finish], Finish], declared: Declare = _as_it_is
    ) -> None:
        self._storage = storage
        self._worker = worker
        self._heirs: dict[str, Worker] = {}
        self._clock = clock
        self._settle = settle
        self._declared = declared
        self._next_prune: Micros = 0
        self._silences = Silences(clock)
        self._missing: dict[str, tuple[Micros | None, Micros]] = {}
        """Whose process was not found here: the end of its lease as it was then, or None since it has given a sign of life; and when."""

    def enter(self) -> None:
        """From now on this worker is one that lives in this process."""
        alive_here.add(self._worker.id)

    def leave(self) -> None:
        alive_here.difference_update((self._worker.id, *self._heirs))

    def look(self) -> float | None:
        """Reclaim from the dead; prune now and then."""
        for row in self._silences.judged(self._storage.workers()):
            if row.worker.id in self._heirs:
                self._finish_what_is_held(row.worker)
            elif row.worker.id != self._worker.id and self._is_dead(row):
                self._take_over(row)
        if self._clock.monotonic() >= self._next_prune:
            while self._storage.prune() >= 500:
                pass
            self._next_prune = self._clock.monotonic() + micros(PRUNE_EVERY)
        return None

    def _is_dead(self, row: WorkerRow) -> bool:
        """As ``is_dead`` says; but who gives a sign of life after its process was not found here lives on another machine."""
        id, now = row.worker.id, self._clock.monotonic()
        before, _ = self._missing.get(id, (row.until, now))
        if before != row.until:
            self._missing[id] = None, now
            return row.is_expired
        if not is_dead(row, self._worker):
            return False
        if not row.is_expired:
            self._missing = {old: seen for old, seen in self._missing.items() if now - seen[1] < REMEMBERED} | {id: (row.until, now)}
        return True

    def _take_over(self, dead: WorkerRow) -> None:
        heir = self._heir_of(dead.worker)
        count = len(self._storage.reclaim(dead, heir))
        if dead.worker.id in self._missing:
            # It is forgotten: should it be known again, be it with the same end of its lease, that is a sign of life.
            self._missing[dead.worker.id] = None, self._clock.monotonic()
        if count:
            who = dead.worker
            log.warning("worker %s (pid %d on %s) died: %d tasks run again", who.id, who.pid, who.host, count)
        self._finish_what_is_held(heir)

    def _heir_of(self, dead: Worker) -> Worker:
        """Who holds what such a worker held. The kind goes on, so that who inherits from an heir judges alike."""
        heir = self._worker._replace(id=f"{self._worker.id}-{dead.kind}", kind=dead.kind)
        self._heirs[heir.id] = heir
        alive_here.add(heir.id)
        return heir

    def _finish_what_is_held(self, heir: Worker) -> None:
        # A supervised worker that is found here died with its supervisor: a kill of the whole group, nobody is to blame (C11).
        died = WorkerDied(is_suspect=heir.kind == "solo")
        now = self._clock.now()
        finishes = [decide(self._declared(lease), died, now) for lease in self._storage.leases(heir)]
        if finishes:
            self._storage.turn(heir, [self._settle(finish) if finish.error else finish for finish in finishes], want=0)
        self._storage.deregister(heir)


class Silences:
    """Which leases are over, by the clock of who looks: no two clocks are ever compared, so none has to be right.

    A lease is over when the same end of it was seen for the time of a lease. Seen means looked at: after a gap the count begins anew, since
    who was kept from looking (stopped, or the storage was away) does not know who was kept from giving signs of life.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[Micros, Micros]] = {}
        self._last: Micros = 0

    def judged(self, rows: Sequence[WorkerRow]) -> list[WorkerRow]:
        """*rows*, of this look at all workers, each with ``is_expired`` as it is for us."""
        now = self._clock.monotonic()
        before = self._seen if now - self._last <= LONGEST_GAP else {}
        self._last, self._seen = now, {}
        for row in rows:
            until, since = before.get(row.worker.id, (row.until, now))
            self._seen[row.worker.id] = row.until, since if until == row.until else now
        return [row._replace(is_expired=row.is_gone or now - self._seen[row.worker.id][1] >= LEASE) for row in rows]


def is_dead(row: WorkerRow, me: Worker) -> bool:
    """Where we see its pid, the kernel knows: a process that lives keeps its tasks however long it says nothing, unless it is stopped.
    Elsewhere the lease decides: ``row.is_expired``. A worker with a keeper is gone when both are: as long as the keeper lives, it deals
    with the death."""
    other = row.worker
    if (other.host_scope, other.host) != (me.host_scope, me.host):
        return row.is_expired
    processes = [(other.pid, other.start_time)]
    if other.supervisor:
        pid, _, born = other.supervisor.partition(":")
        processes.append((int(pid), int(born)))
    if other.id not in alive_here:
        # Of this very process, or of what it was before it replaced itself (exec keeps pid and start time).
        processes = [process for process in processes if process != (me.pid, me.start_time)]
    return all(_is_gone(pid, born, row) for pid, born in processes)


def _is_gone(pid: int, born: int, row: WorkerRow) -> bool:
    lives = host.lives(pid, born)
    if lives is None:
        return row.is_expired
    return not lives or (row.is_expired and host.is_stopped(pid))

"""The turn: one call of one script, and the claim that a listener prefetched before it (prefetching.py). Also the other calls of a worker
about its leases: release, takeover, heartbeat."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from huey.exceptions import StorageError, StorageFull, StorageUnavailable
from huey.runtime.clock import Micros, micros
from huey.runtime.failpoints import failpoint
from huey.storage.base import Waker
from huey.storage.helpers import CHUNK, newest
from huey.storage.redis.connection import EVALSHA
from huey.storage.redis.errors import unreachable
from huey.storage.redis.finishes import details, encode_finishes, too_heavy, who
from huey.storage.redis.lookups import ReadingStorage
from huey.storage.redis.messages import Arg, cancelled_of, lease_of, new_leases, promotion_of, raw_of, text_of, whole_or
from huey.storage.redis.prefetching import Command, ListenerState, PrefetchingListener
from huey.storage.redis.queue import RedisQueue
from huey.storage.redis.scripts import script
from huey.storage.redis.workflows import encode_outputs, opened_of
from huey.storage.rows import Missing, Turn, Worker, WorkerRow
from huey.task.bounds import is_storable
from huey.task.lifecycle import Finish
from huey.task.record import Lease

NO_FINISHES: tuple[list[int], list[Arg]] = ([0, 0, 0, 0, 1], [])
"""No finishes, as arguments of the script."""
NO_OUTPUTS: tuple[list[int], list[Arg], list[Arg]] = ([0, 0], [], [])
"""Nothing for tasks that wait for others, and none that follow."""
BeforeIO = Callable[[], None]


class WorkerStorage(ReadingStorage):
    """The methods of ``RedisStorage`` that workers call. *keeps_finished*: whether tasks that succeeded are kept for a while."""

    def __init__(self, queue: RedisQueue, result_ttl: float | None, keeps_finished: bool) -> None:
        super().__init__(queue)
        self._result_ttl: Arg = "" if result_ttl is None else micros(result_ttl)
        self._keeps_finished = keeps_finished
        self._lost_listener: str | None = None
        """The worker whose listener was lost with a claim in flight while its turn succeeded."""
        self._forget_listeners()

    def close(self) -> None:
        self._queue.close()
        self._forget_listeners()

    def _forget_listeners(self) -> None:
        """Drop all listeners, which have lost their connections."""
        self._of_thread = threading.local()
        self._prefetching: dict[str, PrefetchingListener] = {}
        """By worker: the listener that may have sent a claim for it, or hold what that brought."""

    # -- turn -----------------------------------------------------------------------------------------------------------------------------

    def turn(
        self,
        worker: Worker,
        finishes: Sequence[Finish],
        want: int,
        events: Sequence[str] = (),
        now: Micros | None = None,
        report_promoted: bool = False,
        before_io: BeforeIO | None = None,
    ) -> Turn:
        # One task may have two finishes: one that an outage kept back, and one of a later run.
        finishes, stale = newest(finishes) if len(finishes) > 1 else (finishes, [])
        for part in too_heavy(finishes):
            stale += self.turn(worker, part, 0, (), now, before_io=before_io).stale
            finishes = finishes[len(part) :]
        listener = self._prefetching.get(worker.id)
        if self._lost_listener == worker.id:
            # The result of the lost claim is unknown. The engine reads what the worker holds, as after any outage.
            self._lost_listener = None
            raise unreachable(self._queue.where, ConnectionError("the connection on which this worker waited was lost"))
        if listener is None or listener is not self._listener:
            return self._turn(worker, finishes, want, events, now, stale, report_promoted, before_io)
        # This turn cancels a blocked listener's claim. Tasks that a claim has already brought count towards *want*.
        prefetched = Turn([]) if listener.state is ListenerState.BLOCKED else self._take_prefetched(worker, listener)
        if prefetched.leases and want and not (finishes or events):
            return prefetched._replace(stale=stale)
        still_wanted = max(0, want - len(prefetched.leases))
        try:
            turn = self._turn(worker, finishes, still_wanted, events, now, stale, report_promoted, before_io)
        except StorageUnavailable:
            self._drop_listener(worker)
            raise
        if listener.state is ListenerState.BLOCKED:
            try:
                prefetched = self._take_prefetched(worker, listener)
            except StorageError:
                self._drop_listener(worker)
                self._lost_listener = worker.id
        return self._merged(prefetched, turn, worker, want)

    def _merged(self, prefetched: Turn, turn: Turn, worker: Worker, want: int) -> Turn:
        """Merge two turns into one and return it. Release prefetched tasks if there are more than *want* in total."""
        if len(turn.leases) + len(prefetched.leases) > want:
            self.release(worker, prefetched.leases)
            prefetched = prefetched._replace(leases=[])
        return turn._replace(
            leases=prefetched.leases + turn.leases,
            cancelled=prefetched.cancelled + turn.cancelled,
            promoted=prefetched.promoted + turn.promoted,
            opened=prefetched.opened + turn.opened,
            may_have_more=turn.may_have_more or prefetched.may_have_more,
        )

    def _turn(
        self,
        worker: Worker,
        finishes: Sequence[Finish],
        want: int,
        events: Sequence[str],
        now: Micros | None,
        stale: list[str],
        report_promoted: bool,
        before_io: BeforeIO | None,
    ) -> Turn:
        queue, listener, is_full = self._queue, self._listener, False
        failpoint("turn:before-commit")
        while True:
            counts, ends = encode_finishes(finishes, self._keeps_finished) if finishes else NO_FINISHES
            mode = 1 if is_full else "p" if report_promoted else 0
            more, outputs, follow_ups = encode_outputs(finishes) if finishes else NO_OUTPUTS
            rest = (mode, queue.name, len(events), *counts, "", *more, *events, *outputs, *ends, *follow_ups)
            if before_io is not None:
                before_io()
            try:
                cancellation = () if listener is None else listener.cancellation()
                answer = queue.call("turn", *self._head(worker, want), *rest, now=now, before=cancellation, after=queue.durable)
            except StorageFull:
                if is_full:
                    raise
                is_full = True
                continue
            if answer[0] == 0:
                break
            found = {text_of(id) for id in answer[1]}
            stale += [finish.lease.id for finish in finishes if finish.lease.id in found]
            finishes = [finish for finish in finishes if finish.lease.id not in found]
        failpoint("turn:after-commit")
        return self._parsed(worker, answer, want, stale, is_full)

    def _head(self, worker: Worker, want: int) -> tuple[Arg, ...]:
        """Return the first arguments of the script, after the time."""
        identity = (worker.id, details(worker), who(worker), lanes_of(worker))
        return (self._queue.lease_time(), *identity, want, self._result_ttl)

    def _parsed(self, worker: Worker, answer: list[Any], want: int, stale: list[str], is_full: bool) -> Turn:
        ids, messages = answer[1], answer[2]
        if len(answer) < 5:
            self._queue.is_followed = False
            leases = self._with_printable_ids(worker, new_leases(ids, messages))
            return Turn(leases, stale, may_have_more=len(leases) == want > 0 or len(answer) > 3, storage_full=is_full)
        states, cancelled, promoted, revoked, next_due, is_paused, is_followed, may_have_more, opened = answer[3:]
        self._queue.is_followed = bool(is_followed)
        leases = [lease_of(id, message, state) for id, message, state in zip(ids, messages, states, strict=True)]
        return Turn(
            self._with_printable_ids(worker, leases),
            stale,
            [cancelled_of(each) for each in cancelled],
            [promotion_of(each) for each in promoted],
            [text_of(id) for id in revoked],
            whole_or(float, next_due, 0) if next_due else None,
            bool(may_have_more),
            bool(is_paused),
            bool(is_followed),
            is_full,
            opened=[opened_of(each) for each in opened],
        )

    def _with_printable_ids(self, worker: Worker, leases: list[Lease]) -> list[Lease]:
        """Return *leases*, with new ids for damaged tasks whose ids are not text, so that they can be reported."""
        odd = [lease for lease in leases if not (lease.name or is_storable(lease.id))]
        if odd:
            named = self._queue.call("rename_ids", worker.id, *(raw_of(lease.id) for lease in odd), once=True)
            names = {lease.id: name.decode() for lease, name in zip(odd, named, strict=True)}
            leases = [lease._replace(id=names.get(lease.id, lease.id)) for lease in leases]
        return leases

    # -- listening ------------------------------------------------------------------------------------------------------------------------

    def listen(self, worker: Worker, timeout: float, waker: Waker, prefetch: bool = False, report_promoted: bool = False) -> bool:
        def make_claim(listener: PrefetchingListener) -> Command | None:
            # A claim that waits on the server can only use the server's time.
            if not prefetch or self._queue.has_own_clock:
                return None
            self._prefetching[worker.id] = listener
            mode = "p" if report_promoted else 0
            rest = (mode, self._queue.name, 0, *NO_FINISHES[0], listener.connection.client, *NO_OUTPUTS[0])
            return (EVALSHA, script("turn").sha, 1, self._queue.prefix, self._queue.now(), *self._head(worker, 1), *rest)

        lanes = lanes_of(worker)
        try:
            if timeout <= 0:
                return self._has_ready(lanes)
            return self._listener_of_thread().listen(lanes, timeout, waker, make_claim)
        except BaseException:
            # The next reply on its connection may belong to any command.
            self._drop_listener()
            raise

    def _has_ready(self, lanes: str) -> bool:
        queue, listener = self._queue, self._listener
        cancellation = () if listener is None else listener.cancellation()
        is_ready, _ = queue.call("check_ready", lanes, 0, before=cancellation)
        return bool(is_ready)

    def deregister(self, worker: Worker) -> None:
        listener = self._prefetching.pop(worker.id, None)
        if listener is not None and not listener.connection.is_closed:
            try:
                listener.end_wait()
                self.release(worker, self._take_prefetched(worker, listener).leases)
            except StorageError:
                self._queue.pool.drop(listener.connection)
                raise
        self._queue.call("deregister", worker.id)

    @property
    def _listener(self) -> PrefetchingListener | None:
        """The listener of this thread, or None."""
        listener: PrefetchingListener | None = getattr(self._of_thread, "listener", None)
        return listener

    def _listener_of_thread(self) -> PrefetchingListener:
        """Return the listener of this thread; create a new one after a fork or an outage."""
        listener = self._listener
        if listener is None or not listener.is_usable:
            listener = self._of_thread.listener = PrefetchingListener(self._queue)
        return listener

    def _drop_listener(self, worker: Worker | None = None) -> None:
        """Drop the listener of this thread, which may have prefetched for *worker*."""
        if worker is not None:
            self._prefetching.pop(worker.id, None)
        listener, self._of_thread.listener = self._listener, None
        if listener is not None:
            self._queue.pool.drop(listener.connection)

    def _take_prefetched(self, worker: Worker, listener: PrefetchingListener) -> Turn:
        claimed = listener.take_claimed()
        return Turn([]) if claimed is None else self._parsed(worker, claimed, 1, [], False)

    # -- leases ---------------------------------------------------------------------------------------------------------------------------

    def release(self, worker: Worker, leases: Sequence[Lease]) -> None:
        for start in range(0, len(leases), CHUNK):
            pairs: list[Arg] = [part for lease in leases[start : start + CHUNK] for part in (raw_of(lease.id), lease.token)]
            self._queue.call("release", worker.id, *pairs)

    def claim_missing(self, worker: Worker, missing: Sequence[Missing], want: int, now: Micros | None = None) -> list[Lease]:
        which = [part for each in missing for part in each]
        return self._take_leases("claim_missing", worker.id, details(worker), want, *which, now=now)

    def reclaim(self, dead: WorkerRow, worker: Worker) -> list[Lease]:
        failpoint("reclaim:before-commit")
        leases = self._take_leases("reclaim", worker.id, details(worker), raw_of(dead.worker.id), dead.until, who(dead.worker))
        failpoint("reclaim:after-commit")
        return leases

    def heartbeat(self, workers: Sequence[Worker]) -> None:
        if workers:
            known = [part for worker in workers for part in (worker.id, details(worker))]
            self._queue.call("heartbeat", self._queue.lease_time(), *known)

    def leases(self, worker: Worker) -> list[Lease]:
        ids, messages, states, tokens = self._queue.call("leases", raw_of(worker.id))
        found = zip(ids, messages, states, (whole_or(int, token, 0) for token in tokens), strict=True)
        return [lease_of(*each) for each in found]

    def _take_leases(self, verb: str, *arguments: Arg, now: Micros | None = None) -> list[Lease]:
        queue = self._queue
        found = queue.call(verb, queue.lease_time(), *arguments, now=now, after=queue.durable)
        return [lease_of(*each) for each in zip(*found, strict=True)]


def lanes_of(worker: Worker) -> str:
    """Return the lanes that *worker* claims from, in order: ``u`` for suspects, ``o`` for other tasks."""
    return "u" * worker.takes_suspects + "o" * worker.takes_others

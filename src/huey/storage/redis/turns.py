"""The turn, and the claim that a wake-up brings along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from huey.exceptions import StorageError, StorageFull, StorageUnavailable
from huey.runtime.clock import Micros, micros
from huey.runtime.failpoints import failpoint
from huey.storage.base import Waker
from huey.storage.helpers import newest
from huey.storage.redis.connection import EVALSHA
from huey.storage.redis.errors import unreachable
from huey.storage.redis.finishes import details, ends_of, too_heavy, who
from huey.storage.redis.messages import Arg, lease_of, new_leases, promotion_of, raw_of, refusal_of, text_of, whole_or
from huey.storage.redis.scripts import script
from huey.storage.redis.waking import Ear, WakingVerbs, has_brought, lanes_of
from huey.storage.rows import Turn, Worker
from huey.task.bounds import is_storable
from huey.task.lifecycle import Finish
from huey.task.record import Lease

NOTHING: tuple[list[int], list[Arg]] = ([0, 0, 0, 0, 1], [])
"""No finishes, as arguments."""


class TurningVerbs(WakingVerbs):
    """``turn``, ``listen`` and ``deregister``."""

    _durable: tuple[Arg, ...] | None
    _is_followed: bool
    _expecting: dict[str, Ear]
    """By worker: where a claim of its may be under way, or has brought what no turn has handed on."""
    _is_deaf_for: str | None
    """The worker whose waiting connection was lost while a turn of it went well."""

    def turn(
        self,
        worker: Worker,
        finishes: Sequence[Finish],
        want: int,
        events: Sequence[str] = (),
        now: Micros | None = None,
        report_promoted: bool = False,
        before_io: Callable[[], None] | None = None,
    ) -> Turn:
        # Of one task there may be two: one that an outage kept back, and one of a run that came after.
        finishes, refused = newest(finishes) if len(finishes) > 1 else (finishes, [])
        for part in too_heavy(finishes):
            refused += self.turn(worker, part, 0, (), now, before_io=before_io).stale
            finishes = finishes[len(part) :]
        ear = self._expecting.get(worker.id)
        if self._is_deaf_for == worker.id:
            # What its lost connection has claimed is not known: who calls looks what it holds, as after any outage.
            self._is_deaf_for = None
            raise unreachable(self._connections.where, ConnectionError("the connection on which this worker waited was lost"))
        mine: Ear | None = getattr(self._local, "ear", None)
        if ear is None or ear is not mine:
            return self._turn(worker, finishes, want, events, now, refused, report_promoted, before_io)
        # A claim that is under way is ended by this turn; what it has brought before counts as wanted.
        early = Turn([]) if ear.is_blocked else self._handed_on(worker, ear)
        if early.leases and want and not (finishes or events):
            return early._replace(stale=refused)
        try:
            turn = self._turn(worker, finishes, max(0, want - len(early.leases)), events, now, refused, report_promoted, before_io)
        except StorageUnavailable:
            self._forget(worker)
            raise
        if ear.is_blocked:
            try:
                early = self._handed_on(worker, ear)
            except StorageError:
                self._forget(worker)
                self._is_deaf_for = worker.id
        return self._with(early, turn, worker, want)

    def _forget(self, worker: Worker) -> None:
        """This thread's waiting connection is of no use any more."""
        self._expecting.pop(worker.id, None)
        self._deafen()

    def _with(self, early: Turn, turn: Turn, worker: Worker, want: int) -> Turn:
        """One turn of two; what was claimed early and is one too many goes back."""
        if len(turn.leases) + len(early.leases) > want:
            self.release(worker, early.leases)
            early = early._replace(leases=[])
        return turn._replace(
            leases=early.leases + turn.leases,
            cancelled=early.cancelled + turn.cancelled,
            promoted=early.promoted + turn.promoted,
            may_have_more=turn.may_have_more or early.may_have_more,
        )

    def _turn(
        self,
        worker: Worker,
        finishes: Sequence[Finish],
        want: int,
        events: Sequence[str],
        now: Micros | None,
        refused: list[str],
        report_promoted: bool,
        before_io: Callable[[], None] | None,
    ) -> Turn:
        is_full = False
        failpoint("turn:before-commit")
        while True:
            counts, ends = ends_of(finishes, self._retention.is_on) if finishes else NOTHING
            rest = (self._asked(is_full, report_promoted), self.name, len(events), *counts, "", *events, *ends)
            if before_io is not None:
                before_io()
            try:
                answer = self._connections.call("turn", *self._head(worker, want, now), *rest, before=self._unblock(), after=self._durable)
            except StorageFull:
                if is_full:
                    raise
                is_full = True
                continue
            if answer[0] == 0:
                break
            gone = {text_of(id) for id in answer[1]}
            refused += [finish.lease.id for finish in finishes if finish.lease.id in gone]
            finishes = [finish for finish in finishes if finish.lease.id not in gone]
        failpoint("turn:after-commit")
        return self._brought(worker, answer, want, refused, is_full)

    def _head(self, worker: Worker, want: int, now: Micros | None) -> tuple[Arg, ...]:
        """The first arguments of a turn."""
        ttl = "" if self.result_ttl is None else micros(self.result_ttl)
        who_it_is = (worker.id, details(worker), who(worker), lanes_of(worker))
        return (self._prefix, self._now(now), self._lease_time(), *who_it_is, want, ttl)

    def _asked(self, is_full: bool, report_promoted: bool) -> Arg:
        """What else a turn is to mind: that there is no room, or that what became ready is to be named."""
        return 1 if is_full else "p" if report_promoted else 0

    def _brought(self, worker: Worker, answer: list[Any], want: int, refused: list[str], is_full: bool) -> Turn:
        ids, messages = answer[1], answer[2]
        if len(answer) < 5:
            self._is_followed = False
            leases = self._named(worker, new_leases(ids, messages))
            return Turn(leases, refused, may_have_more=len(leases) == want > 0 or len(answer) > 3, storage_full=is_full)
        states, cancelled, promoted, stop, soonest, is_paused, is_followed, is_filled = answer[3:]
        self._is_followed = bool(is_followed)
        leases = [lease_of(id, message, state) for id, message, state in zip(ids, messages, states, strict=True)]
        return Turn(
            self._named(worker, leases),
            refused,
            [refusal_of(each) for each in cancelled],
            [promotion_of(each) for each in promoted],
            [text_of(id) for id in stop],
            whole_or(float, soonest, 0) if soonest else None,
            bool(is_filled),
            bool(is_paused),
            bool(is_followed),
            is_full,
        )

    def _named(self, worker: Worker, leases: list[Lease]) -> list[Lease]:
        """*leases*, those whose ids are no text under others, by which they can be spoken of."""
        odd = [lease for lease in leases if not (lease.name or is_storable(lease.id))]
        if odd:
            ids = [raw_of(lease.id) for lease in odd]
            named = self._connections.call("rename_ids", self._prefix, self._now(), worker.id, *ids, once=True)
            names = {lease.id: name.decode() for lease, name in zip(odd, named, strict=True)}
            leases = [lease._replace(id=names.get(lease.id, lease.id)) for lease in leases]
        return leases

    # -- what a wake-up brings along ------------------------------------------------------------------------------------------------------

    def listen(self, worker: Worker, timeout: float, waker: Waker, prefetch: bool = False, report_promoted: bool = False) -> bool:
        # The time of a claim that waits has to be the server's.
        if not prefetch or self._has_own_clock:
            return self._hear(worker, timeout, waker, lambda ear: None)

        def claim(ear: Ear) -> tuple[Arg, ...]:
            self._expecting[worker.id] = ear
            return (
                EVALSHA,
                script("turn").sha,
                1,
                *self._head(worker, 1, None),
                self._asked(False, report_promoted),
                self.name,
                0,
                *NOTHING[0],
                ear.connection.client,
            )

        return self._hear(worker, timeout, waker, claim)

    def deregister(self, worker: Worker) -> None:
        ear = self._expecting.pop(worker.id, None)
        if ear is not None and not ear.connection.is_closed:
            try:
                for command in self._ends(ear):
                    self._connections.command(*command)
                self.release(worker, self._handed_on(worker, ear).leases)
            except StorageError:
                self._connections.drop(ear.connection)
                raise
        self._connections.call("deregister", self._prefix, self._now(), worker.id)

    def _handed_on(self, worker: Worker, ear: Ear) -> Turn:
        """What a claim brought that nobody knows of yet. A blocking command that is under way has been ended."""
        ear.settle()
        claimed, ear.claimed = ear.claimed, None
        return self._brought(worker, claimed, 1, [], False) if has_brought(claimed) else Turn([])

"""The crank. ``turn()`` is one trip to the storage: write what is done, fetch what there is room for. ``run()`` turns until told to stop.

    runners  --finishes-->  engine.turn()  --storage.turn(worker, finishes, want)-->  storage
             <---leases---                 <-----------------Turn-------------------

The engine knows no Huey: it is given a storage, runners, a clock. It never runs a task itself, so that a stuck task never stops it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence

from huey.engine.end_log import EndLog
from huey.engine.narrowing import Narrowing, Replace, failing, release
from huey.engine.outage import Outage
from huey.engine.run_hooks import RunHooks
from huey.engine.runners.base import Runners
from huey.engine.search import Search
from huey.engine.stamps import ENGINE, LocalBoard, Stamp
from huey.exceptions import StorageError, StorageFull
from huey.runtime.clock import SECOND, Clock, Micros, micros
from huey.runtime.logs import SafeLogger
from huey.runtime.waker import Waker
from huey.storage.base import Storage
from huey.storage.rows import Turn, Worker
from huey.task import events
from huey.task.lifecycle import Finish, Snoozed, decide
from huey.task.record import Lease

log = SafeLogger("huey.consumer")

LARGEST_TURN = 256
"""Tasks that one turn brings at most."""
MOST_AHEAD = 3 * LARGEST_TURN
"""Tasks in hand at most: the runners are at those of one turn while the next one is written and brought."""
LOOK_AHEAD = 0.05
"""Seconds of work, proven short, that may be claimed beyond what can start now."""
LINGER = 0.005
"""Seconds that a finish waits for company while there is other work to start."""
MOMENT = 0.001
"""Seconds that an engine whose runners are all busy waits for one of them to end, before it listens for the next task."""
STUCK = 0.05
"""Seconds without progress after which waiting tasks go back to the queue."""
SHORT = 100e-6
"""Seconds. Waking a second thread for tasks shorter than this costs more than it brings."""
PATIENCE = 1.0
"""Seconds that a suspect waits for a worker that runs nothing else; then it runs beside what does."""
ALONE = 10.0
"""Seconds that a suspect has a worker for itself; then others may start beside it."""
OUTAGE_GAP, LONGEST_OUTAGE_GAP = 0.5, 1.0
"""Seconds between two tries while the storage is away: at first, and after a while. What cannot be written yet is sent each time."""
LONGEST_REST = 1.0
CAREFUL = 10.0
"""Seconds after an at-most-once task was seen, in which nothing is claimed ahead of a free runner."""
STOP_LOOK = 1.0
"""Seconds after which it turns while tasks run, though there is nothing to write or claim: one of them may have been revoked."""


class Engine:
    """Turns the crank of one worker."""

    def __init__(
        self,
        storage: Storage,
        worker: Worker,
        runners: Runners,
        clock: Clock,
        waker: Waker,
        outage: Outage | None = None,
        *,
        quota: int | None = None,
        used_up: Callable[[], None] = lambda: None,
        attendance: RunHooks | None = None,
        ask_to_stop: Callable[[Collection[str]], None] | None = None,
        replace: Replace = failing,
        stamp: Stamp | None = None,
        search: Search | None = None,
    ) -> None:
        """*quota*: tasks to run at most; *used_up* is called when they have ended. *attendance*: told what the turns wrote and brought.
        *ask_to_stop*: called with the ids of tasks that run here and are revoked. *replace*: for ends that the
        storage cannot take. *stamp*: shows that the storage answers it. *search*: finds what no worker could run so far."""
        self._storage = storage
        self._worker = worker
        self._runners = runners
        self._clock = clock
        self._waker = waker
        self._quota = quota
        self._used_up = used_up
        self._outage = outage or Outage(clock)
        self._end_log = EndLog(clock)
        self._attendance = attendance
        self._ask_to_stop = ask_to_stop
        self._replace = replace
        self._stamp = stamp or Stamp(LocalBoard(), ENGINE, clock)
        self._search = search
        self._turned: Micros = 0
        self._unwritten: list[Finish] = []
        self._unreturned: list[Lease] = []
        self._suspects: list[Lease] = []
        self._suspects_since: Micros = 0
        self._alone: tuple[str, int] = ("", 0)
        self._alone_since: Micros = 0
        self._running: dict[tuple[str, int], Lease] = {}
        self._last: Turn = Turn([])
        self._told: list[str] = []
        self._mean: float | None = None
        self._ahead = runners.count
        self._careful_until: Micros = 0
        self._is_stopping = False
        self._quit = threading.Event()
        self._is_away = False
        self._progress: tuple[int, Micros] = (0, 0)
        self._to_wake = 0
        """Runners that are to be awake for what was brought, and may be asleep."""
        self._stuck: set[tuple[str, int]] = set()
        """Runs of which no end can be written."""
        self._unstarted: deque[Lease] = deque()
        """Given to the runners; those that have started are taken off, and told, with the next turn."""
        self._portion = LARGEST_TURN
        """Tasks that a turn may ask for: fewer than usual while they are heavy."""

    # -- one turn -----------------------------------------------------------------------------------------------------------------------

    def turn(self) -> bool:
        """Write what is done, fetch what there is room for, start it. False when the storage is away or full; nothing is forgotten then."""
        finishes = self._gather()
        reports = self._attendance is not None and self._attendance.wants_promotions
        try:
            turn = self._storage.turn(self._worker, finishes, self._room(), self._told, report_promoted=reports, before_io=self._wake)
        except Exception as error:  # Away, or whatever the storage makes of a value that it cannot take.
            return self._could_not_turn(error, finishes)
        finally:
            self._wake()
        self._stamp.show()
        self._unwritten, self._told = [], []
        if turn.storage_full:
            self._lost_touch("the disk is full; ends of tasks are still written")
        elif self._is_away:
            self._is_away = False
            self._give_back_unknown()
        self._give_back([])
        if not self._is_away:
            self._outage.ends("engine", len(finishes))
        if turn.stale:
            log.warning("%d finishes refused: they were written before, or their lease was lost (%s ...)", len(turn.stale), turn.stale[0])
        self._last = turn
        self._weigh(turn)
        if turn.is_followed:
            self._told = [events.of_promotion(it) for it in turn.promoted] + [events.of_refusal(it) for it in turn.cancelled]
        self._hand_on(turn, finishes)
        self._start(turn.leases)
        return not turn.storage_full

    def _could_not_turn(self, error: Exception, finishes: Sequence[Finish]) -> bool:
        """The storage is away: False. Or it cannot take what the turn has: write what can be written, and True."""
        if not isinstance(error, StorageError):
            told, self._told = self._told, []
            try:
                Narrowing(self._storage, self._worker, self._replace, self._note_written, self._stuck).write(finishes, told)
                # The turn may have claimed some before it failed.
                self._give_back_unknown()
                return True
            except StorageError as away:
                error = away
        if isinstance(error, StorageFull):
            # An answer too: whoever watches need not do anything.
            self._stamp.show()
        self._lost_touch(error)
        return False

    def _note_written(self, turn: Turn, finishes: Sequence[Finish]) -> None:
        written = {finish.lease[:2] for finish in finishes}
        self._unwritten = [finish for finish in self._unwritten if finish.lease[:2] not in written]
        self._stamp.show()
        self._hand_on(turn, finishes)

    def _hand_on(self, turn: Turn, finishes: Sequence[Finish]) -> None:
        """Tell those whom it concerns what a turn wrote and brought, before what it brought is started."""
        self._turned = self._clock.monotonic()
        self._end_log.after(finishes, turn.stale, turn.cancelled)
        if self._attendance is not None:
            self._attendance.after(turn, finishes)
        if turn.revoked_running and self._ask_to_stop is not None:
            self._ask_to_stop(turn.revoked_running)

    def _gather(self) -> list[Finish]:
        """What is to be written: what an earlier turn could not, and what ended since."""
        ended = self._runners.collect()
        self._unwritten += ended
        self._note_started()
        for finish in ended:
            self._running.pop(finish.lease[:2], None)
            if self._last.is_followed:
                self._told += events.of_finish(finish)
        self._count(len(ended))
        self._learn(ended)
        return self._unwritten

    def _note_started(self) -> None:
        """Runners take tasks in the order in which they were given, so all but the last have started: told once, when it is so."""
        for _ in range(len(self._unstarted) - self._runners.waiting()):
            self._told.append(events.of_start(self._unstarted.popleft()))

    def _count(self, ended: int) -> None:
        if self._quota is not None and ended:
            self._quota -= ended
            if self._quota <= 0:
                self._used_up()

    def _learn(self, ended: Sequence[Finish]) -> None:
        """How long tasks take decides how far ahead may be claimed; it grows by doubling and falls at once."""
        if not ended:
            return
        if self._careful_until and self._clock.monotonic() < self._careful_until:
            return
        mean = sum(finish.duration for finish in ended) / len(ended)
        self._mean = mean if self._mean is None else max(mean, (self._mean + mean) / 2)
        count = self._runners.count
        allowed = count + int(LOOK_AHEAD / max(self._mean, 1e-6)) * count
        self._ahead = max(count, min(allowed, 2 * self._ahead, MOST_AHEAD))
        self._runners.low_water = (self._ahead - count) // 2

    def _room(self) -> int:
        """How many tasks to claim."""
        if self._is_stopping or self._is_away or self._suspects or self._runs_alone():
            return 0
        in_hand = len(self._running) - self._runners.ended()
        room = min(self._portion, self._ahead - in_hand)
        if self._quota is not None:
            room = min(room, self._quota - len(self._running))
        return max(0, room)

    def _may_start_suspect(self) -> bool:
        """Nothing else runs, or what does has kept a suspect waiting for too long."""
        if not self._suspects:
            return False
        return not self._running or self._clock.monotonic() - self._suspects_since > micros(PATIENCE)

    def _runs_alone(self) -> bool:
        """A suspect runs, and not for so long that the others must not wait any more."""
        return self._alone in self._running and self._clock.monotonic() - self._alone_since < micros(ALONE)

    def _none_ahead(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        """*leases* without at-most-once tasks that no runner is free for: those go back. One that waits here would be lost with us (C3)."""
        if not any(lease.is_at_most_once for lease in leases):
            return leases
        self._careful_until = self._clock.monotonic() + micros(CAREFUL)
        self._ahead, self._runners.low_water = self._runners.count, 0
        free = max(0, self._runners.count - len(self._running) + self._runners.ended())
        ahead = [lease for lease in leases[free:] if lease.is_at_most_once]
        self._give_back(ahead)
        return [lease for lease in leases if lease not in ahead]

    def _start(self, leases: Sequence[Lease]) -> None:
        if any(lease.options is not None for lease in leases):
            leases = self._none_ahead(leases)
        fresh = leases
        if any(lease.solo_crashes for lease in leases):
            fresh = [lease for lease in leases if not lease.is_suspect]
            self._suspects += [lease for lease in leases if lease.is_suspect]
            self._suspects_since = self._clock.monotonic()
        if not fresh and self._may_start_suspect():
            # A task whose worker died while holding it runs alone: if it kills again, it takes nobody along, no other suspect either.
            fresh, others = self._suspects[:1], self._suspects[1:]
            self._suspects = []
            self._give_back(others)
            self._alone, self._alone_since = fresh[0][:2], self._clock.monotonic()
        if not fresh:
            return
        for lease in fresh:
            self._running[lease[:2]] = lease
        if self._last.is_followed:
            self._unstarted += fresh
        is_short = self._mean is not None and self._mean < SHORT
        self._runners.start(fresh, 0)
        self._to_wake = 1 if is_short else len(self._running)
        if not self._is_time():
            # Else they are woken in the middle of the turn that follows: Python runs one thread at a time, so what they did before that
            # would hold up the turn, and they would have nothing left to do while it waits for the storage.
            self._wake()
        self._progress = (self._runners.waiting(), self._clock.monotonic())

    def _wake(self) -> None:
        """Wake the runners that are still to be woken, if any: in the middle of a turn, and before anything that waits."""
        count, self._to_wake = self._to_wake, 0
        if count:
            self._runners.start([], count)

    def _lost_touch(self, why: object) -> None:
        self._is_away = True
        self._outage.begins("engine", why)

    # -- the loop -----------------------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Turn whenever there is a reason to, until ``stop()``; ``drain`` then ends what runs."""
        found, gap = True, OUTAGE_GAP
        while True:
            self._waker.clear()
            if self._is_stopping:
                return
            if self._search is not None and not self._search.take_up(self._room, self._start, self._lost_touch):
                found = True
            if found or self._is_time():
                found = not self.turn()
                if found:
                    self._wake()
                    self._quit.wait(gap)
                gap = min(2 * gap, LONGEST_OUTAGE_GAP) if found else OUTAGE_GAP
            else:
                found = self._rest()

    def _is_time(self) -> bool:
        """There is a reason to turn now."""
        waiting = self._runners.waiting()
        if self._attendance is not None and self._attendance.is_awaiting and self._runners.ended():
            return True
        if self._last.may_have_more and waiting <= self._few() and self._room() > 0:
            return True
        if waiting == 0 and (self._has_news() or self._may_start_suspect()):
            return True
        # A revoked task that runs is named by the next turn, and none may be due for long.
        return self._ask_to_stop is not None and bool(self._running) and self._clock.monotonic() - self._turned >= micros(STOP_LOOK)

    def _few(self) -> int:
        """Tasks in hand that are few enough to bring more. None where they are heavy: those of one turn fill the memory that is theirs."""
        return 0 if self._portion < LARGEST_TURN else self._runners.low_water

    def _weigh(self, turn: Turn) -> None:
        """After a turn that was cut short by the size of the tasks ask for no more than it brought, then for a little more each time."""
        if turn.hit_byte_limit:
            self._portion = max(1, len(turn.leases))
        elif len(turn.leases) == self._portion < LARGEST_TURN:
            self._portion = min(LARGEST_TURN, self._portion + 1 + self._portion // 8)

    def _has_news(self) -> bool:
        is_started = len(self._unstarted) > self._runners.waiting()
        return bool(is_started or self._runners.ended() or self._told or self._unwritten or self._unreturned)

    def _rest(self) -> bool:
        """Wait for whatever comes first: a runner that ends, new work, the next due time. True: turn now."""
        self._wake()
        self._end_log.look()
        self._stamp.show(LONGEST_REST)
        if self._runners.waiting():
            self._waker.wait(LINGER)
            self._mind_the_stuck()
            return self._has_news()
        if not self._runners.idle() and self._waker.wait(MOMENT):
            return self._has_news()
        if self._room() > 0:
            try:
                reports = self._attendance is not None and self._attendance.wants_promotions
                return self._storage.listen(self._worker, LONGEST_REST, self._waker, prefetch=True, report_promoted=reports)
            except StorageError as error:
                self._lost_touch(error)
                return True
        self._waker.wait(LONGEST_REST)
        return False

    def _mind_the_stuck(self) -> None:
        """Tasks wait and nothing moves: wake another runner; if all are busy, let another worker have them."""
        waiting, now = self._runners.waiting(), self._clock.monotonic()
        before, since = self._progress
        if waiting != before:
            self._progress = (waiting, now)
        elif waiting and self._runners.idle():
            self._runners.start([], self._runners.count)
        elif waiting and now - since > micros(STUCK):
            self._ahead = self._runners.count
            self._runners.low_water = 0
            self._give_back(self._runners.take_back())

    def mistrust(self) -> None:
        """After an error that nobody foresaw: take the next turn for the first one after an outage."""
        self._is_away = True

    def successor(self) -> Engine:
        """An engine that ends what this one has begun, should this one stand still in the middle of a turn: ``drain`` it."""
        given = (self._storage, self._worker, self._runners, self._clock, self._waker, self._outage)
        it = Engine(*given, attendance=self._attendance, ask_to_stop=self._ask_to_stop)
        it._running, it._suspects = dict(self._running), list(self._suspects)
        it._unwritten, it._unreturned = list(self._unwritten), list(self._unreturned)
        it._is_stopping = True
        it.mistrust()
        return it

    # -- stopping -----------------------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Claim nothing more; ``run`` returns soon. Callable from any thread or signal handler."""
        self._is_stopping = True
        self._quit.set()
        self._waker.wake()

    def drain(self, timeout: float | None, say_held: Callable[[int], None] = lambda count: None) -> list[Lease]:
        """After ``run``: give back what has not started, write what ends within *timeout* seconds (None: no limit), return what still
        runs. *say_held*: told how many tasks are still held."""
        self._give_back(self._runners.take_back() + self._suspects)
        self._suspects = []
        deadline = None if timeout is None else self._clock.monotonic() + micros(timeout)
        while self._running or self._unwritten or self._unreturned or self._runners.ended():
            self._waker.clear()
            self.turn()
            say_held(len(self._running) + len(self._unwritten) + len(self._unreturned))
            left = 1.0 if deadline is None else (deadline - self._clock.monotonic()) / SECOND
            if left <= 0:
                break
            if self._running or self._unwritten or self._unreturned:
                self._waker.wait(min(left, OUTAGE_GAP))
        self._end_log.flush()
        if self._unwritten:
            log.warning("the ends of %d tasks could not be written; they run again", len(self._unwritten))
        return list(self._running.values())

    def cut_short(self) -> None:
        """Put back what still runs, no try counted. Only for a process that ends right after."""
        now = self._clock.now()
        self._gather()
        self._unwritten += [decide(lease, Snoozed(0, "shutdown"), now) for lease in self._running.values()]
        self.turn()

    def _give_back_unknown(self) -> None:
        """Release what the storage says we hold and we know nothing of: claimed by a turn whose reply was lost."""
        known = {*self._running, *self._stuck, *(finish.lease[:2] for finish in self._unwritten), *(lease[:2] for lease in self._suspects)}
        try:
            held = self._storage.leases(self._worker)
        except StorageError as error:
            self._lost_touch(error)
            return
        self._unreturned += [lease for lease in held if lease[:2] not in known]

    def _give_back(self, leases: Sequence[Lease]) -> None:
        """Release tasks that never started; what cannot be released now is kept for the next turn."""
        for lease in leases:
            self._running.pop(lease[:2], None)
        if leases and self._unstarted:
            back = {lease[:2] for lease in leases}
            self._unstarted = deque(lease for lease in self._unstarted if lease[:2] not in back)
        self._unreturned += leases
        if self._unreturned:
            try:
                release(self._storage, self._worker, self._unreturned)
                self._unreturned = []
            except StorageError as error:
                self._lost_touch(error)

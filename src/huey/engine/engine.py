"""The engine. Each `turn()` writes finished runs and claims as many tasks as there is capacity for, in one storage call.

    runners  --finishes-->  engine.turn()  --storage.turn(worker, finishes, want)-->  storage
             <---leases---                 <-----------------Turn-------------------

`run()` makes a turn whenever there is a reason to, until `stop()`. The engine has no Huey: it is given a storage, runners and a clock. It
never runs a task itself, so a task that hangs cannot block it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence

from huey.engine.end_log import EndLog
from huey.engine.narrowing import Narrowing, Replace, failing, release
from huey.engine.outage import Outage
from huey.engine.prefetch import Prefetch, Search, Suspects
from huey.engine.progress_notes import ProgressNotes
from huey.engine.run_hooks import RunHooks
from huey.engine.runners.threads import Runners
from huey.engine.stamps import ENGINE, LocalBoard, Stamp
from huey.exceptions import StorageError, StorageFull
from huey.runtime.clock import SECOND, Clock, Micros, micros
from huey.runtime.logs import SafeLogger
from huey.runtime.waker import Waker
from huey.storage.base import Storage
from huey.storage.rows import Turn, Worker
from huey.task import events, reasons
from huey.task.lifecycle import Finish, Snoozed, decide
from huey.task.record import Lease

log = SafeLogger("huey.consumer")

LINGER = 0.005
"""Seconds that a finish waits for more finishes while there is other work to start."""
MOMENT = 0.001
"""Seconds that an engine whose runners are all busy waits for one of them to end, before it listens for the next task."""
STUCK = 0.05
"""Seconds without progress after which waiting tasks go back to the queue."""
OUTAGE_GAP, LONGEST_OUTAGE_GAP = 0.5, 1.0
"""Seconds between tries during an outage of the storage: at first, and after a while. Each try sends the unwritten finishes."""
LONGEST_REST = 1.0
"""Maximum seconds that an idle engine waits before it checks again."""
CAREFUL = 10.0
"""Seconds after the claim of an at-most-once task in which tasks are claimed only for free runners."""
REVOCATION_CHECK = 1.0
"""Seconds between turns while tasks run, even if there is nothing to write or claim: a running task may have been revoked."""


class Engine:
    """The loop between one worker's runners and the storage."""

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
        on_quota_used: Callable[[], None] = lambda: None,
        run_hooks: RunHooks | None = None,
        ask_to_stop: Callable[[Collection[str]], None] | None = None,
        replace: Replace = failing,
        stamp: Stamp | None = None,
        search: Search | None = None,
        notes: ProgressNotes | None = None,
        prefetch: Prefetch | None = None,
    ) -> None:
        """Create the engine. *quota*: how many tasks to run; *on_quota_used* is called when they have ended. *run_hooks*: gets what turns
        wrote and claimed. *ask_to_stop*: gets the ids of revoked tasks that run. *replace*: turns a finish that cannot be stored into one
        that can. *stamp*: shows that the storage answers. *search*: finds tasks no worker ran. *notes*: progress. *prefetch*: how many."""
        self._storage = storage
        self._worker = worker
        self._runners = runners
        self._clock = clock
        self._waker = waker
        self._quota = quota
        self._on_quota_used = on_quota_used
        self._outage = outage or Outage(clock)
        self._end_log = EndLog(clock)
        self._run_hooks = run_hooks
        self._ask_to_stop = ask_to_stop
        self._replace = replace
        self._stamp = stamp or Stamp(LocalBoard(), ENGINE, clock)
        self._search = search
        self._notes = ProgressNotes(storage, clock) if notes is None else notes
        self._prefetch = Prefetch(runners.count) if prefetch is None else prefetch
        self._suspects = Suspects(clock)
        self._last_turn = Turn([])
        self._last_turn_at: Micros = 0
        self._running: dict[tuple[str, int], Lease] = {}
        """The tasks that were given to the runners and are not finished."""
        self._unstarted: deque[Lease] = deque()
        """Those given to the runners while there are followers; the next turn publishes which have started."""
        self._unwritten: list[Finish] = []
        """Finishes that no turn has written yet."""
        self._unreleased: list[Lease] = []
        """Tasks whose release has not reached the storage yet."""
        self._unwritable: set[tuple[str, int]] = set()
        """Runs for which the storage accepts no finish at all."""
        self._pending_events: list[str] = []
        """Events for the next turn to publish."""
        self._to_wake = 0
        """The number of runners that the claimed tasks need, and that may be asleep."""
        self._progress: tuple[int, Micros] = (0, 0)
        """The number of waiting tasks, and since when it has been that number."""
        self._careful_until: Micros = 0
        self._is_stopping = self._in_outage = False
        self._stop_requested = threading.Event()

    # -- one turn -----------------------------------------------------------------------------------------------------------------------

    def turn(self) -> bool:
        """Write finishes, claim tasks up to the capacity, and start them. Return False in an outage, which only another turn can end: the
        storage is unavailable or full. Finishes that were not written are kept for that turn."""
        finishes = self._collect_finishes()
        reports = self._reports_promoted()
        try:
            turn = self._storage.turn(
                self._worker, finishes, self._capacity(), self._pending_events, report_promoted=reports, before_io=self._wake_runners
            )
        except Exception as error:  # An outage, or any error that the storage raises for a value that it cannot store.
            return self._turn_failed(error, finishes)
        finally:
            self._wake_runners()
        self._stamp.show()
        self._unwritten, self._pending_events = [], []
        self._note_answer(turn, len(finishes))
        self._last_turn = turn
        self._prefetch.observe_claim(len(turn.leases), turn.hit_byte_limit)
        if turn.is_followed:
            self._pending_events = [events.of_promotion(it) for it in turn.promoted] + [events.of_cancelled(it) for it in turn.cancelled]
            self._pending_events += [events.of_opened(it) for it in turn.opened]
        self._report(turn, finishes)
        self._write_notes(finishes)
        self._start(turn.leases)
        # What follows the turn asks the storage too, so an outage may also have begun now.
        return not self._in_outage

    @property
    def last_turn(self) -> Turn:
        """What the storage returned for the last turn."""
        return self._last_turn

    def search(self) -> bool:
        """Start tasks that no worker could run so far but this one can, if it is time to look for them. Return False in an outage."""
        return self._search is None or self._search.claim_due(self._capacity, self._start, self._storage_failed)

    def _note_answer(self, turn: Turn, written: int) -> None:
        """Record an answer of the storage: it ends an outage, unless the storage is full, which pauses claims like an outage."""
        if turn.storage_full:
            self._storage_failed("the disk is full; finished tasks are still written")
        elif self._in_outage:
            self._in_outage = False
            self._release_unknown()
        if self._unreleased:
            self._release([])
        if not self._in_outage:
            self._outage.ends("engine", written)
        if turn.stale:
            log.warning("%d finishes were stale: already written, or their lease was lost (%s ...)", len(turn.stale), turn.stale[0])

    def _reports_promoted(self) -> bool:
        """Return whether a signal handler wants to know which scheduled tasks became ready."""
        return self._run_hooks is not None and self._run_hooks.wants_promotions

    def _turn_failed(self, error: Exception, finishes: Sequence[Finish]) -> bool:
        """Handle an outage, or a value that the storage cannot store: write everything else. Return False in an outage."""
        if not isinstance(error, StorageError):
            pending, self._pending_events = self._pending_events, []
            try:
                Narrowing(self._storage, self._worker, self._replace, self._note_written, self._unwritable).write(finishes, pending)
                # The turn may have claimed tasks before it failed.
                self._release_unknown()
                return not self._in_outage
            except StorageError as outage:
                error = outage
        if isinstance(error, StorageFull):
            # This is an answer too, so the watchdog need not act.
            self._stamp.show()
        self._storage_failed(error)
        return False

    def _note_written(self, turn: Turn, finishes: Sequence[Finish]) -> None:
        written = {finish.lease[:2] for finish in finishes}
        self._unwritten = [finish for finish in self._unwritten if finish.lease[:2] not in written]
        self._stamp.show()
        self._report(turn, finishes)

    def _report(self, turn: Turn, finishes: Sequence[Finish]) -> None:
        """Report what a turn wrote and claimed to the log, the hooks and the time limits, before the claimed tasks start."""
        self._last_turn_at = self._clock.monotonic()
        self._end_log.on_turn(finishes, turn.stale, turn.cancelled)
        if self._run_hooks is not None:
            self._run_hooks.on_turn(turn, finishes)
        if turn.revoked_running and self._ask_to_stop is not None:
            self._ask_to_stop(turn.revoked_running)

    def _write_notes(self, finishes: Sequence[Finish]) -> None:
        """Write the progress of the tasks that run, and remove that of those that have succeeded."""
        try:
            self._notes.write(finishes)
        except StorageError as error:
            self._storage_failed(error)

    def _collect_finishes(self) -> list[Finish]:
        """Return the finishes to write: those that an earlier turn could not write, and those of runs that have ended since."""
        ended = self._runners.collect()
        self._unwritten += ended
        # Runners take tasks in the order in which they were submitted, so all but the waiting ones have started.
        for _ in range(len(self._unstarted) - self._runners.waiting() if self._unstarted else 0):
            self._pending_events.append(events.of_start(self._unstarted.popleft()))
        for finish in ended:
            self._running.pop(finish.lease[:2], None)
            if self._last_turn.is_followed:
                self._pending_events += events.of_finish(finish)
        if ended:
            if self._quota is not None:
                self._quota -= len(ended)
                if self._quota <= 0:
                    self._on_quota_used()
            if not self._careful_until or self._clock.monotonic() >= self._careful_until:
                self._prefetch.observe([finish.duration for finish in ended])
                self._runners.low_water = self._prefetch.low_water
        return self._unwritten

    # -- what is claimed and started ----------------------------------------------------------------------------------------------------

    def _capacity(self) -> int:
        """Return how many tasks to claim."""
        if self._is_stopping or self._in_outage or self._suspects.waiting or self._suspects.runs_alone(self._running):
            return 0
        running = len(self._running)
        capacity = self._prefetch.capacity(running - self._runners.ended())
        if self._quota is not None:
            capacity = min(capacity, self._quota - running)
        return max(0, capacity)

    def _without_surplus(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        """Release at-most-once tasks that no runner is free for, and return the others: one that waits here would be lost with this
        worker."""
        if not any(lease.is_at_most_once for lease in leases):
            return leases
        self._careful_until = self._clock.monotonic() + micros(CAREFUL)
        self._stop_prefetching()
        free = max(0, self._runners.count - len(self._running) + self._runners.ended())
        surplus = [lease for lease in leases[free:] if lease.is_at_most_once]
        self._release(surplus)
        return [lease for lease in leases if lease not in surplus]

    def _stop_prefetching(self) -> None:
        self._prefetch.reset()
        self._runners.low_water = 0

    def _start(self, leases: Sequence[Lease]) -> None:
        if any(lease.options is not None for lease in leases):
            leases = self._without_surplus(leases)
        if any(lease.solo_crashes for lease in leases):
            self._suspects.add([lease for lease in leases if lease.is_suspect])
            leases = [lease for lease in leases if not lease.is_suspect]
        if not leases:
            if not self._suspects.may_start(self._running):
                return
            # It runs alone: if it crashes its worker again, no other task and no other suspect is affected. Its time alone begins after
            # the release, which may take long.
            self._release(self._suspects.take_all(but=1))
            leases = [self._suspects.start_one()]
        for lease in leases:
            self._running[lease[:2]] = lease
        if self._last_turn.is_followed:
            self._unstarted += leases
        self._runners.submit(leases)
        self._to_wake = 1 if self._prefetch.is_short else len(self._running)
        if not self._should_turn():
            # Otherwise they are woken in the middle of the next turn: Python runs one thread at a time, so if they ran earlier they would
            # delay the turn, and would have nothing left to do while it waits for the storage.
            self._wake_runners()
        self._progress = (self._runners.waiting(), self._clock.monotonic())

    def _wake_runners(self) -> None:
        """Wake the runners that are still needed. Called in the middle of a turn, and before anything that waits."""
        count, self._to_wake = self._to_wake, 0
        if count:
            self._runners.wake(count)

    def _storage_failed(self, reason: object) -> None:
        """Stop claiming until a turn succeeds."""
        self._in_outage = True
        self._outage.begins("engine", reason)

    # -- the loop -----------------------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Make turns whenever there is a reason to, until `stop()`; `drain` then finishes the running tasks."""
        is_due, gap = True, OUTAGE_GAP
        while True:
            self._waker.clear()
            if self._is_stopping:
                return
            if not self.search():
                is_due = True
            if is_due or self._should_turn():
                is_due = not self.turn()
                if is_due:
                    self._wake_runners()
                    self._stop_requested.wait(gap)
                gap = min(2 * gap, LONGEST_OUTAGE_GAP) if is_due else OUTAGE_GAP
            else:
                is_due = self._wait()

    def _should_turn(self) -> bool:
        """Return whether there is a reason for a turn now."""
        waiting = self._runners.waiting()
        if self._run_hooks is not None and self._run_hooks.is_awaiting and self._runners.ended():
            return True
        if self._last_turn.may_have_more and waiting <= self._prefetch.refill_at and self._capacity() > 0:
            return True
        if waiting == 0 and (self._has_news() or self._suspects.may_start(self._running)):
            return True
        # A turn reports running tasks that were revoked, and there may be no other reason for one for a long time.
        can_stop = self._ask_to_stop is not None and bool(self._running)
        return can_stop and self._clock.monotonic() - self._last_turn_at >= micros(REVOCATION_CHECK)

    def _has_news(self) -> bool:
        """Return whether there is anything to write."""
        is_started = len(self._unstarted) > self._runners.waiting()
        return bool(is_started or self._runners.ended() or self._pending_events or self._unwritten or self._unreleased or self._notes)

    def _wait(self) -> bool:
        """Wait until a run ends, new work arrives or the next task is due, whichever comes first. Return True to make a turn now."""
        self._wake_runners()
        self._end_log.flush_if_due()
        self._stamp.show(LONGEST_REST)
        if self._runners.waiting():
            self._waker.wait(LINGER)
            self._return_stalled()
            return self._has_news()
        if not self._runners.idle() and self._waker.wait(MOMENT):
            return self._has_news()
        if self._capacity() > 0:
            try:
                return self._storage.listen(
                    self._worker, LONGEST_REST, self._waker, prefetch=True, report_promoted=self._reports_promoted()
                )
            except StorageError as error:
                self._storage_failed(error)
                return True
        self._waker.wait(LONGEST_REST)
        return False

    def _return_stalled(self) -> None:
        """Wake another runner if tasks wait and none has started for a while; if all are busy, release the tasks for another worker."""
        waiting, now = self._runners.waiting(), self._clock.monotonic()
        before, since = self._progress
        if waiting != before:
            self._progress = (waiting, now)
        elif waiting and self._runners.idle():
            self._runners.wake(self._runners.count)
        elif waiting and now - since > micros(STUCK):
            self._stop_prefetching()
            self._release(self._runners.take_back())

    def assume_outage(self) -> None:
        """Treat the next turn as the first after an outage, so that unknown claims are released. Called after an unexpected error."""
        self._in_outage = True

    def successor(self) -> Engine:
        """Return an engine whose `drain` finishes what this one has begun, in case this one hangs in the middle of a turn."""
        parts = (self._storage, self._worker, self._runners, self._clock, self._waker, self._outage)
        it = Engine(*parts, run_hooks=self._run_hooks, ask_to_stop=self._ask_to_stop)
        it._running, it._suspects.waiting = dict(self._running), list(self._suspects.waiting)
        it._unwritten, it._unreleased = list(self._unwritten), list(self._unreleased)
        it._is_stopping = True
        it.assume_outage()
        return it

    # -- stopping -----------------------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop claiming, so that `run` returns soon. May be called from any thread or signal handler."""
        self._is_stopping = True
        self._stop_requested.set()
        self._waker.wake()

    def drain(self, timeout: float | None, report_held: Callable[[int], None] = lambda count: None) -> list[Lease]:
        """Release tasks that have not started, write the finishes of those that end within *timeout* seconds (None: no limit), and return
        those that still run. Called after `run`. *report_held* gets the number of tasks that are still held."""
        self._release(self._runners.take_back() + self._suspects.take_all())
        deadline = None if timeout is None else self._clock.monotonic() + micros(timeout)
        while self._running or self._unwritten or self._unreleased or self._runners.ended():
            self._waker.clear()
            self.turn()
            report_held(len(self._running) + len(self._unwritten) + len(self._unreleased))
            left = 1.0 if deadline is None else (deadline - self._clock.monotonic()) / SECOND
            if left <= 0:
                break
            if self._running or self._unwritten or self._unreleased:
                self._waker.wait(min(left, OUTAGE_GAP))
        self._end_log.flush()
        if self._unwritten:
            log.warning("could not write the results of %d finished tasks; these tasks will run again", len(self._unwritten))
        return list(self._running.values())

    def requeue_running(self) -> None:
        """Requeue the tasks that still run without counting a try. Only for a process that exits right afterwards."""
        now = self._clock.now()
        self._collect_finishes()
        self._unwritten += [decide(lease, Snoozed(0, reasons.SHUTDOWN), now) for lease in self._running.values()]
        self.turn()

    def _release_unknown(self) -> None:
        """Release tasks that this worker holds in the storage without knowing it: a turn claimed them, but its reply was lost."""
        known = {*self._running, *self._unwritable, *(finish.lease[:2] for finish in self._unwritten)}
        known.update(lease[:2] for lease in self._suspects.waiting)
        try:
            held = self._storage.leases(self._worker)
        except StorageError as error:
            self._storage_failed(error)
            return
        self._unreleased += [lease for lease in held if lease[:2] not in known]

    def _release(self, leases: Sequence[Lease]) -> None:
        """Release tasks that never started; those that cannot be released now are kept for the next turn."""
        for lease in leases:
            self._running.pop(lease[:2], None)
        if leases and self._unstarted:
            back = {lease[:2] for lease in leases}
            self._unstarted = deque(lease for lease in self._unstarted if lease[:2] not in back)
        self._unreleased += leases
        if self._unreleased:
            try:
                release(self._storage, self._worker, self._unreleased)
                self._unreleased = []
            except StorageError as error:
                self._storage_failed(error)

"""What must hold in every history of a queue: the properties I1 to I12 of RELIABILITY 3, as a ledger that is kept beside a storage.
Those of tasks that wait for others, I13 and I14, are in edges.py.

The ledger is told each verb that was applied, with its answer, and knows by itself who holds what, since when, and at which place. It never
asks the storage for what it could be told wrong: a storage that hands one task out twice, or forgets a fence, contradicts it at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from huey.engine.prefetch import ALONE
from huey.runtime.clock import SECOND, Clock, Micros, micros
from huey.storage.base import FOREVER, LEASE, Storage
from huey.storage.rows import EventFactory, Missing, Revocation, TaskIds, Turn, Worker, WorkerRow
from huey.task.lifecycle import FINAL, CancelledAtClaim, Finish, State
from huey.task.record import Lease, Record
from huey.task.record_options import read_constraints
from huey.task.workflow import FAILED, SUCCEEDED, TaskRef, Workflow
from tests.simulator.edges import BY_PARENT, Edges, Gift
from tests.simulator.entry import Entry
from tests.simulator.limits import Limits
from tests.simulator.rules import demand

REASONS = ("error", "lost", "poison", "timeout", "unknown task", "newer record", "undecodable", "result not storable")
"""Why a task may be FAILED (I12)."""
MINUTE: Micros = 60 * SECOND


class Ledger:
    """Believes nothing, remembers everything. ``counts``: how often each transition was seen (*sometimes* assertions)."""

    def __init__(self, storage: Storage, clock: Clock, periods: dict[str, int], edges: Edges) -> None:
        self.storage = storage
        self._clock = clock
        self._edges = edges
        edges.ledgers[storage.name] = self
        self._periods = periods
        """Minutes between two ticks, by name of the periodic task."""
        self.counts = edges.counts
        self.entries: dict[str, Entry] = {}
        self.open: dict[str, Entry] = {}
        """Tasks that have not ended."""
        self.is_paused = False
        self._limits = Limits()
        self._marks: dict[tuple[str, Micros | None], Revocation] = {}
        """Of ids that are not held, and of enqueues that are not known."""
        self._leases: set[tuple[str, int]] = set()
        """Each id and token that was ever handed out."""
        self._seen: dict[str, Micros] = {}
        """When each worker gave its last sign of life."""
        self._first_tick: dict[str, Micros] = {}
        self._alone: dict[tuple[str, int], Micros] = {}
        self._last_tick: dict[str, Micros] = {}
        self._fired: set[tuple[str, Micros]] = set()

    # -- verbs that were applied --------------------------------------------------------------------------------------------------------

    def enqueue(self, duplicates: Mapping[str, str], records: Sequence[Record], make_events: EventFactory | None = None) -> None:
        comes_again = {record.id: read_constraints(record.options).own is not None for record in records}
        held = sorted(id for id in comes_again if comes_again[id] and id in self.open)
        demand(sorted(duplicates) == held, "C1", f"{held} are held, the answer was {dict(duplicates)}")
        self.counts["enqueued while it was held"] += len(held)
        for record in records:
            former = self.entries.get(record.id)
            if former is None or (former.state is not None and comes_again[record.id]):
                self.begin(record)

    def begin(self, record: Record, *, waits: bool = False) -> None:
        """A task was put in."""
        former = self.entries.get(record.id)
        entry = self.entries[record.id] = self.open[record.id] = Entry(record, self._clock.now())
        of_id = self._marks.pop((record.id, None), None)
        entry.mark = (None if entry.terms.own is None else self._marks.pop((record.id, entry.terms.own), None)) or of_id
        entry.waits = waits
        if former is not None:
            self.counts["enqueued again"] += 1
            # Whatever an earlier run still does, its tokens are none of the new one's.
            entry.token, entry.lost, entry.live = former.token, former.lost, former.live
            demand(self.storage.peek("result", record.id) is None, "I4", f"{record.id} was enqueued again and has its old result")

    def enqueue_workflow(self, answer: Mapping[TaskRef, str], workflow: Workflow, make_events: EventFactory | None = None) -> None:
        self._edges.settle_left()
        held = {each.ref: each.record.id for each in workflow.tasks if self._edges.is_held(each.ref)}
        demand(dict(answer) == held, "C1", f"of a workflow {sorted(held)} are held, the answer was {dict(answer)}")
        if held:
            self.counts["workflow put in already"] += 1
        else:
            self._edges.enqueue(workflow)
            self.counts["workflow"] += 1

    def turn(self, turn: Turn, worker: Worker, finishes: Sequence[Finish], want: int, *_: object, **__: object) -> None:
        now = self._clock.now()
        self._seen[worker.id] = self._clock.monotonic()
        self._edges.opened.clear()
        self._edges.settle_left()
        refused = [finish.lease.id for finish in finishes if not self._finished(worker, finish, now)]
        demand(sorted(refused) == sorted(turn.stale), "I2", f"refused {turn.stale}, but the leases were gone of {refused}")
        self.counts["finish refused"] += len(refused)
        for entry in self.open.values():
            if entry.due is not None and entry.due <= now and not entry.waits:
                entry.ready_at, entry.due, entry.missing = entry.due, None, None
                self.counts["promoted"] += 1
        self._limits.end_windows(self.open.values(), now, awaited=True)
        ready = sorted(self._limits.ready(self.open.values()), key=lambda entry: entry.rank)
        claimed = [self._claimed(worker, lease, now) for lease in turn.leases] + [self.entries[it.id] for it in turn.cancelled]
        self._check_order(ready, claimed, turn, want)
        for refusal in turn.cancelled:
            self._turned_away(refusal, now)
        if turn.cancelled:
            self._edges.settle_left()
        self._edges.check_opened(turn.opened)

    def _finished(self, worker: Worker, finish: Finish, now: Micros) -> bool:
        id, token = finish.lease.id, finish.lease.token
        entry = self.entries[id]
        if entry.holder != (worker.id, token):
            self._check_no_follow_ups(finish)
            return False
        demand(entry.state is None, "I2", f"{id} had ended as {entry.state} and was finished again as {finish.state}")
        entry.holder = None
        if finish.value is not None:
            entry.value = finish.value
            demand(self.storage.peek("result", id) == finish.value, "I4", f"{id}#{token} was finished, its result is not to be seen")
        entry.failures += finish.reason in ("error", "result not storable")
        if finish.state != State.QUEUED:
            self.end(entry, finish.state, finish.reason, self._gift_of(finish))
        elif entry.is_revoked(now):
            self.end(entry, State.CANCELLED, "revoked", Gift())
            self.counts["cancelled while running"] += 1
        else:
            self.counts[f"queued: {finish.reason}"] += 1
            if (expires := finish.expires_at(now)) is not None:
                entry.record = entry.record._replace(expires=expires)
            entry.is_suspect = finish.solo_crashes > 0
            due = finish.due_at(now)
            entry.due = due if due is not None and due > now else None
            entry.missing = Missing(finish.lease.name, finish.reason or "") if finish.unknown_until is not None and entry.due else None
            entry.ready_at = due if due is not None and due <= now else now
        if finish.state == State.FAILED:
            self._check_failure(entry, finish)
        if finish.follow_ups is not None:
            self._edges.enqueue(finish.follow_ups)
            self._edges.added[TaskRef(self.storage.name, id)] = [each.ref for each in finish.follow_ups.tasks]
            self.counts["followed up"] += 1
        return True

    def _gift_of(self, finish: Finish) -> Gift:
        ref = TaskRef(self.storage.name, finish.lease.id)
        is_failure = finish.error is not None and finish.reason != "revoked"
        if finish.state == State.SUCCEEDED:
            return Gift(SUCCEEDED, finish.value if finish.output is None else finish.output)
        return Gift(FAILED, None, ref) if finish.state == State.FAILED or is_failure else Gift()

    def _check_no_follow_ups(self, refused: Finish) -> None:
        for queue, record in [] if refused.follow_ups is None else refused.follow_ups.tasks:
            ledger = self._edges.ledgers[queue]
            is_known = record.id in ledger.entries or ledger.storage.get(record.id) is None
            demand(is_known, "I2", f"the finish of {refused.lease.id} was refused, and {record.id} was put in with it")

    def _check_failure(self, entry: Entry, finish: Finish) -> None:
        reason, retries = finish.reason, finish.lease.retries
        demand(reason in REASONS, "I12", f"{finish.lease.id} is FAILED, for {reason!r}")
        is_used_up = reason != "error" or entry.failures == retries + 1
        demand(is_used_up, "I12", f"{finish.lease.id} is FAILED after {entry.failures} failures, it had {retries} retries")

    def end(self, entry: Entry, state: str, reason: str | None, gift: Gift | None) -> None:
        """A task has ended, and gives *gift* to those that wait for it. None: not in this step."""
        entry.state, entry.reason, entry.waits = state, reason, False
        if entry.mark is not None and entry.mark.once:
            entry.mark = None
        del self.open[entry.record.id]
        self.counts[state if reason is None else f"{state}: {reason}"] += 1
        row = self.storage.get(entry.record.id)
        held = (State.SUCCEEDED, None) if row is None else (row.state, row.reason)
        demand(held == (state, reason), "I1", f"{entry.record.id} must have ended as {state} ({reason}), the storage has it as {held}")
        if gift is not None:
            self._edges.ended(TaskRef(self.storage.name, entry.record.id), gift)

    def queue(self, entry: Entry) -> None:
        """What a task waited for has ended."""
        now = self._clock.now()
        entry.waits, entry.ready_at = False, now
        entry.due = entry.due if entry.due is not None and entry.due > now else None

    def wait_again(self, entry: Entry) -> None:
        """What a task waited for, and was cancelled for, is to run again."""
        entry.state, entry.reason, entry.waits, entry.mark = None, None, True, None
        entry.record = entry.record._replace(expires=None)
        self.open[entry.record.id] = entry

    def _claimed(self, worker: Worker, lease: Lease, now: Micros) -> Entry:
        entry = self.entries[lease.id]
        name = f"{lease.id}#{lease.token}"
        demand(entry.state is None, "I1", f"{name} was handed out, it had ended as {entry.state}")
        demand(entry.holder is None, "I3", f"{name} was handed out to {worker.id}, {entry.holder} holds it")
        demand(not entry.waits, "I14", f"{name} was handed out, it waits for others")
        demand(entry.due is None, "C8", f"{name} was handed out before its time")
        demand(not entry.is_revoked(now), "will", f"{name} was handed out, it is revoked")
        demand(not entry.is_expired(now), "will", f"{name} was handed out, it has expired")
        demand(lease.ready_at == entry.ready_at, "I9", f"{name} has ready_at {lease.ready_at}, it belongs to {entry.ready_at}")
        self._take(entry, worker, lease)
        self._limits.claimed(entry, self.open.values(), now)
        self.counts["claimed"] += 1
        return entry

    def _take(self, entry: Entry, worker: Worker, lease: Lease) -> None:
        demand(lease.token > entry.token, "I2", f"the token of {lease.id} went from {entry.token} to {lease.token}")
        demand(lease[:2] not in self._leases, "I2", f"{lease.id}#{lease.token} came twice")
        self._leases.add(lease[:2])
        entry.token = lease.token
        entry.holder = (worker.id, lease.token)

    def _turned_away(self, refusal: CancelledAtClaim, now: Micros) -> None:
        entry = self.entries[refusal.id]
        is_so = entry.is_revoked(now) if refusal.reason == "revoked" else entry.is_expired(now)
        demand(is_so, "will", f"{refusal.id} was turned away as {refusal.reason}, it is not")
        demand(entry.is_ready, "I1", f"{refusal.id} was turned away, it was not ready")
        self.end(entry, State.CANCELLED, refusal.reason, Gift())

    def _check_order(self, ready: list[Entry], claimed: list[Entry], turn: Turn, want: int) -> None:
        demand(not (self.is_paused and claimed), "will", f"{len(claimed)} tasks were claimed while the queue was paused")
        leased = [entry.rank for entry in claimed][: len(turn.leases)]
        demand(leased == sorted(leased), "I9", f"claimed out of order: {[lease.id for lease in turn.leases]}")
        best = {entry.record.id for entry in ready[:want] if not self.is_paused}
        found = {entry.record.id for entry in claimed}
        demand(found >= best, "I9", f"{sorted(best - found)} are ready, a turn passed them over")
        demand(found <= best, "I9", f"{sorted(found - best)} were claimed before their turn")

    def claim_missing(self, leases: list[Lease], worker: Worker, missing: Sequence[Missing], want: int) -> None:
        now = self._clock.now()
        self._seen[worker.id] = self._clock.monotonic()
        demand(not (self.is_paused and leases), "will", f"{len(leases)} tasks were claimed while the queue was paused")
        waiting = sorted(
            (it for it in self.open.values() if it.missing in missing and (it.due or 0) > now), key=lambda it: it.rank[0][1:] + it.rank[1:]
        )
        taken = {lease.id for lease in leases}
        for entry in [] if self.is_paused else waiting[:want]:
            demand(entry.record.id in taken or not entry.is_plain, "I9", f"{entry.record.id} can run on {worker.id}, and was not claimed")
            if entry.record.id in taken:
                entry.due, entry.missing = None, None
            else:
                entry.due = now
        for lease in leases:
            self._claimed(worker, lease, now)
            self.counts["taken up"] += 1

    def release(self, answer: None, worker: Worker, leases: Sequence[Lease]) -> None:
        for lease in leases:
            entry = self.entries[lease.id]
            if entry.holder == (worker.id, lease.token):
                demand(entry.holder not in entry.started, "C2", f"{lease.id} was given back by {worker.id}, which had started it")
                entry.holder = None
                self._limits.released(entry)
                self.counts["released"] += 1

    def reclaim(self, leases: list[Lease], dead: WorkerRow, worker: Worker) -> None:
        now = self._clock.monotonic()
        self._seen[worker.id] = now
        seen = self._seen.get(dead.worker.id)
        if seen is None or seen + LEASE != dead.until:
            demand(not leases, "I3", f"reclaimed from {dead.worker.id}, which had given a sign of life")
            return
        del self._seen[dead.worker.id]
        demand(seen + LEASE <= now or not leases, "I3", f"reclaimed from {dead.worker.id}, {now - seen} us after its sign of life")
        held = sorted(id for id, entry in self.open.items() if entry.holder is not None and entry.holder[0] == dead.worker.id)
        demand(held == sorted(lease.id for lease in leases), "I1", f"{dead.worker.id} held {held}, not all was reclaimed")
        for lease in leases:
            entry = self.entries[lease.id]
            assert entry.holder is not None
            entry.lost.add(entry.holder)
            self._take(entry, worker, lease)
            self.counts["reclaimed"] += 1

    def heartbeat(self, answer: None, workers: Sequence[Worker]) -> None:
        for worker in workers:
            self._seen[worker.id] = self._clock.monotonic()

    def deregister(self, answer: None, worker: Worker) -> None:
        if not any(entry.holder is not None and entry.holder[0] == worker.id for entry in self.open.values()):
            self._seen.pop(worker.id, None)

    def revoke(self, answer: None, target: TaskIds, until: Micros | None = None, once: bool = False) -> None:
        ids, enqueue = target
        mark = Revocation(FOREVER if until is None else until, once)
        for id in ids:
            entry = self.entries.get(id)
            if id in self.open and enqueue in (None, self.open[id].terms.own):
                self.open[id].mark = mark
            elif enqueue is not None and (entry is None or entry.state == State.SUCCEEDED or entry.terms.own != enqueue):
                # It is over or never comes, unless its call is made again late, since the answer was lost. (One of which a row says that it
                # is over can no longer be revoked.)
                self._marks[id, enqueue] = mark
                self.counts["revoked another enqueue"] += 1
            elif enqueue is None and (entry is None or entry.state == State.SUCCEEDED or entry.terms.own is not None):
                self._marks[id, None] = mark

    def restore(self, restored: list[str], target: TaskIds) -> None:
        for id in target.ids:
            mark = self.open[id].mark if id in self.open else self._marks.pop((id, None), None)
            if id in self.open:
                self.open[id].mark = None
            demand((mark is not None) == (id in restored), "will", f"restore of {id} says {restored}, the mark was {mark}")
            self.counts["restored"] += id in restored

    def retry(self, put_back: list[str], ids: Sequence[str]) -> None:
        known = {id: entry for id in ids if (entry := self.entries.get(id)) is not None}
        may = [id for id, it in known.items() if it.state in (State.FAILED, State.CANCELLED) and it.reason not in BY_PARENT]
        demand(put_back == may, "I1", f"{put_back} were put back by hand, it should have been {may}")
        for id in put_back:
            old = self.entries[id]
            entry = self.entries[id] = self.open[id] = Entry(old.record._replace(eta=None, expires=None), self._clock.now())
            entry.token, entry.lost, entry.live = old.token, old.lost, old.live
            demand(self.storage.peek("result", id) is None, "I4", f"{id} was put back by hand and still has its old result")
            self.counts["put back by hand"] += 1
        self._edges.put_back([TaskRef(self.storage.name, id) for id in put_back])

    def prune(self, answer: int) -> None:
        self._edges.settle_left()
        self._limits.end_windows(self.open.values(), self._clock.now(), awaited=False)

    def pause(self, answer: None, on: bool) -> None:
        self.is_paused = on

    def tick(self, fired: bool, name: str, tick: Micros, record: Record | None, events: Sequence[str] = ()) -> None:
        last = self._last_tick.get(name)
        demand(fired == (last is None or last < tick), "I7", f"{name}: the last tick was {last}, {tick} was {'' if fired else 'not '}fired")
        if not fired:
            self.counts["tick refused"] += 1
            return
        self._last_tick[name] = tick
        self._first_tick.setdefault(name, tick)
        if record is not None:
            demand(tick % (self._periods[name] * MINUTE) == 0, "I7", f"{name} was fired at {tick}, which is none of its minutes")
            self._fired.add((name, tick))
            self.counts["tick fired"] += 1
            self.enqueue({}, [record])

    # -- what a worker does by itself ---------------------------------------------------------------------------------------------------

    def body_starts(self, worker: Worker, lease: Lease, for_queue: Sequence[Lease]) -> None:
        entry, me = self.entries[lease.id], (worker.id, lease.token)
        # One that waited too long for a worker of its own runs beside the others; one that got it keeps it for a while.
        if lease.is_suspect and not for_queue:
            self._alone[lease[:2]] = self._clock.monotonic()
        since = self._clock.monotonic() - micros(ALONE)
        suspects = [it.id for it in for_queue if self._alone.get(it[:2], 0) > since]
        demand(not suspects, "C11", f"{lease.id} starts beside {suspects}, which should run alone")
        for other in [me, *entry.live]:
            demand(other == entry.holder or other in entry.lost, "I3", f"{lease.id} starts as {me}, {other} runs without a right to it")
        entry.live.append(me)
        entry.started.add(me)
        if me == entry.holder:
            self._edges.check_gifts(TaskRef(self.storage.name, lease.id), self.storage)

    def body_ends(self, worker: Worker, lease: Lease) -> None:
        self.entries[lease.id].live.remove((worker.id, lease.token))

    def looked(self, at: Micros) -> None:
        """A scheduler looked, at that time, and nothing went wrong: the newest tick that was due has fired, or a newer one."""
        for name, minutes in self._periods.items():
            due = at - at % (minutes * MINUTE)
            first, last = self._first_tick.get(name), self._last_tick.get(name, 0)
            is_settled = first is not None and ((name, due) in self._fired or last > due or first >= due)
            demand(is_settled, "I7", f"{name}: the tick of {due} did not fire")

    def check_waiting(self) -> None:
        """What waits for a limit, or for others, waits in the storage too."""
        parked = {id for id, entry in self.open.items() if entry.missing is not None and entry.due is not None and entry.holder is None}
        blocked = {entry.record.id for entry in self._limits.blocked(self.open.values())}
        found = {row.id for row in self.storage.find(State.BLOCKED, limit=10_000)}
        demand(found == blocked | parked, "I10", f"{sorted(found)} are blocked, it should be {sorted(blocked | parked)}")
        self.counts["blocked"] += len(blocked)

    # -- in the end ---------------------------------------------------------------------------------------------------------------------

    def check_results(self) -> None:
        for id, entry in self.entries.items():
            if entry.value is not None:
                found = self.storage.peek("result", id)
                demand(found == entry.value, "I4", f"the result of {id} was {entry.value!r} and is {found!r}")

    def check_end(self, acknowledged: Sequence[str]) -> None:
        """Nothing runs, nothing waits: every task has ended, once, and is to be seen as that."""
        for id, entry in [(id, self.entries.get(id)) for id in [*acknowledged, *self.entries]]:
            demand(entry is not None and entry.state in FINAL, "I1", f"{id} never ended; the storage has {self.storage.get(id)}")
            row = self.storage.get(id)
            assert entry is not None
            demand((State.SUCCEEDED if row is None else row.state) == entry.state, "I1", f"{id} ended as {entry.state}, it is {row}")
        self.check_results()

    def check_quiet(self) -> None:
        """All workers have gone: no lease, no worker, no waiting task is left over."""
        counts, workers = self.storage.counts(), self.storage.workers()
        demand(counts[:3] == (0, 0, 0) == (counts.blocked, counts.waiting, 0), "I11", f"left over: {counts}")
        demand(not workers, "I11", f"left over: {[row.worker.id for row in workers]}")

    def check_clean(self) -> None:
        """Past every retention, after a prune: nothing at all is left over."""
        marked = [id for id in self.entries if self.storage.get_revocation(TaskIds([id])) is not None]
        demand(not marked, "I11", f"marks left over: {marked}")
        demand(not any(self.storage.counts()), "I11", f"left over: {self.storage.counts()}")
        edges = self.storage.edges(list(self.entries))
        demand(not edges, "I11", f"edges left over: {edges[:3]}")

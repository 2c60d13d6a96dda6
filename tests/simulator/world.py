"""A history: workers and producers come and go, faults happen, time passes; in the end all must be well."""

from __future__ import annotations

import hashlib
import random
import traceback
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

from huey.cron import crontab
from huey.engine.prefetch import ALONE
from huey.exceptions import StorageError, StorageUnavailable
from huey.registry import Registry
from huey.runtime.clock import SECOND, Ids, Micros, micros
from huey.serializer import Codec
from huey.storage.base import LEASE, Storage
from huey.storage.memory import MemoryStorage
from huey.storage.rows import TaskIds
from huey.task.lifecycle import State
from huey.task.options import TaskOptions
from huey.task.periodic import PeriodicWrapper
from huey.task.record import Record
from huey.task.record_options import Constraints, with_constraints, with_edges
from huey.task.workflow import THEN, Edge, QueuedRecord, TaskRef, Workflow
from huey.testing.clock import FakeClock
from tests.simulator.edges import Edges
from tests.simulator.flows import Flows
from tests.simulator.ledger import Ledger
from tests.simulator.node import Body, CommandConnection, Killed, Node
from tests.simulator.rules import Violation
from tests.simulator.workflows import grow

PERIODS = {"every": 1, "second": 2}
"""Periodic tasks and the minutes between their ticks."""
CALL_FAULTS = ("lost call", "lost reply", "dies before", "dies after", "stalls before", "stalls after")
"""What may happen to any call to the storage."""
RARE_CALLS = ("janitor.reclaim", "janitor.turn", "scheduler.ticks", "scheduler.tick", "engine.release", "heartbeat.deregister")
LIKELIER = {**dict.fromkeys(RARE_CALLS, 10), "janitor.workers": 5}
"""How much likelier the faults of some calls are than those of others."""
LAST_WORDS = ("returns", "returns nothing", "must not retry", "is not storable", "cancels", "cancels with an error")
LIMITS = [
    None,
    *(
        with_constraints(None, Constraints(concurrency_key=key, max_running=most, rate=rate))
        for key, most, rate in (("one", 1, None), ("two", 2, None), ("rate", None, (3, 5 * SECOND)), ("both", 1, (2, 10 * SECOND)))
    ),
]
"""Options of tasks: no limits, or one of these."""
LIKELY_LIMITS = (85, 5, 5, 3, 2)
OWN = {f"own{n}": ("raises", "returns") if n % 2 else ("returns",) for n in range(6)}
"""Ids that come again and again, and what their runs bring."""


class Simulation:
    """One history. ``run()`` lives it; then ``violation``, ``counts`` and ``digest`` tell about it."""

    def __init__(self, seed: int, steps: int = 500, *, storage: Callable[..., Storage] = MemoryStorage) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.clock = FakeClock()
        self.storage = storage("sim", clock=self.clock)
        self.counts = Counter[str]()
        self.edges = Edges(self.counts)
        queues = [self.storage, self.storage.for_queue("other")][: self.rng.choice((1, 1, 2))]
        self.ledgers = [Ledger(queue, self.clock, PERIODS, self.edges) for queue in queues]
        self.flows = Flows(self.edges, self._insist)
        self.trace: list[str] = []
        self.violation: Violation | None = None
        self.bodies: dict[str, Body] = {}
        self.runs: Counter[str] = Counter()
        self.nodes: list[Node] = []
        self.paused: list[tuple[Node, Micros, Callable[[], None]]] = []
        self.acknowledged: list[TaskRef] = []
        self.left = steps
        self.luck = 0.0
        self._away_until: Micros = 0
        self._depth = 0
        self._born = 0
        self._enqueues = 1_000
        # Few histories have bodies that kill, and few of them: each takes twenty workers along.
        self._killers = self.rng.randint(1, 3) if self.rng.random() < 0.1 else 0
        self._most = self.rng.randint(1, 5) + len(queues) - 1
        self.crew: tuple[int, ...] = self.rng.choice(((1,), (2,), (4,), (1, 1, 2, 4)))
        self._producers = {ledger.storage.name: CommandConnection(self, ledger, "producer") for ledger in self.ledgers}
        self._build_application()

    def _build_application(self) -> None:
        self.new_id = Ids(self.clock, self.rng)
        self.codec = Codec("sim", is_trusted=lambda: True)
        self.registry = Registry()
        for name, minutes in PERIODS.items():
            host = cast(Any, SimpleNamespace(new_id=self._new_tick_id, utc=True))
            self.registry.register(PeriodicWrapper(host, lambda: None, name, TaskOptions(), crontab(minute=f"*/{minutes}")))

    def _new_tick_id(self) -> str:
        id = self.new_id()
        self.bodies[id] = Body(0.5, ("returns nothing",))
        return id

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()

    def tell(self, *words: str) -> None:
        self.trace.append(f"{self.clock.monotonic() / SECOND:.6f} {' '.join(words)}")

    # -- a history ----------------------------------------------------------------------------------------------------------------------

    def run(self) -> Simulation:
        try:
            self.luck = 0.012
            while self.left > 0:
                self.step()
            self._settle()
            self._complete_flows()
            self._close()
        except Violation as violation:
            self._break_off(violation)
        except Exception as error:  # Whatever it is: no part may raise that here.
            self._break_off(Violation("raised", f"{error!r} in {traceback.extract_tb(error.__traceback__)[-1].name}"))
        return self

    def _break_off(self, violation: Violation) -> None:
        self.violation = violation
        self.tell("VIOLATION", str(violation))

    def step(self) -> None:
        """Some time passes, every worker does what is due, and one more thing happens."""
        self.left -= 1
        self.clock.forward(self.rng.choice((0.0, 0.001, 0.02, 0.02, 0.3, 1.0, 1.0, 4.0)))
        self._work()
        likely = self._happenings()
        self.rng.choices(list(likely), list(likely.values()))[0]()
        if self.left % 3 == 0:
            self._check_waiting()

    def _happenings(self) -> dict[Callable[[], None], int]:
        """What may happen next, and how likely it is."""
        crowd = 60 if not self.nodes else 8 if len(self.nodes) < self._most else 0
        calm = {
            self._nothing: 50,
            self._produce: 30,
            self._burst: 2,
            self._produce_workflow: 8,
            self._replace: 1,
            self._produce_again: 6,
            self._start_node: crowd,
            self._follow: 1,
        }
        will = {
            self._cancel_flow: 1,
            self._retry_flow: 2,
            self._revoke: 5,
            self._revoke_an_enqueue: 1,
            self._restore: 4,
            self._put_back_by_hand: 2,
            self._pause_queue: 1,
        }
        harm = {self._crash: 1, self._pause: 2, self._set_clock: 1, self._stop_node: 1, self._go_away: 1}
        return calm | will | harm

    def _work(self) -> None:
        now = self.clock.monotonic()
        for node, until, thaw in [it for it in self.paused if it[1] <= now]:
            self.paused.remove((node, until, thaw))
            self.tell(node.name, "goes on")
            thaw()
        still = [node for node, _, _ in self.paused]
        for node in self.rng.sample(self.nodes, len(self.nodes)):
            if node in self.nodes and node not in still and not node.is_stalled:
                self._guard(node, node.step)

    def _guard(self, node: Node, act: Callable[[], None]) -> None:
        try:
            act()
        except Killed:
            self._bury(node)

    def _bury(self, node: Node) -> None:
        self.tell(node.name, "is dead")
        node.runners.vanish()
        self.nodes.remove(node)

    def meanwhile(self, node: Node) -> None:
        """*node* stands still in the middle of a call, and the others go on."""
        if self._depth:
            return
        node.is_stalled = True
        thaw, since = node.runners.freeze(), self.clock.monotonic()
        self._others_go_on()
        if self.clock.monotonic() - since > LEASE:
            self.counts["stalled beyond the lease"] += 1
        thaw()
        node.is_stalled = False

    def _others_go_on(self) -> None:
        if self._depth == 0:
            self._depth = 1
            for _ in range(self.rng.randint(1, 25)):
                self.step()
            self._depth = 0

    def bad_luck(self, call: str, node: Node | None) -> str | None:
        """What goes wrong with this call, if anything does."""
        fault = None
        if self.clock.monotonic() < self._away_until:
            fault = "away"
        elif self.rng.random() < self.luck * LIKELIER.get(call, 1):
            fault = self.rng.choice(CALL_FAULTS if node is not None else CALL_FAULTS[:2])
        return fault

    # -- what happens -------------------------------------------------------------------------------------------------------------------

    def _nothing(self) -> None:
        """As most of the time."""

    def _produce(self) -> None:
        self._enqueue(self._some_queue(), [self._new_task() for _ in range(self.rng.choice((1, 1, 2, 5)))])

    def _produce_workflow(self) -> None:
        self._enqueue_workflow(grow(self.rng, self._new_queued))

    def _enqueue_workflow(self, workflow: Workflow) -> None:
        if self._insist(self._some_queue(), "enqueue_workflow", workflow):
            self.acknowledged += [each.ref for each in workflow.tasks]
            self.flows.begin(workflow)

    def _new_queued(self) -> QueuedRecord:
        return QueuedRecord(self._some_queue().storage.name, self._new_task())

    def new_follow_ups(self) -> Workflow:
        """Return tasks that the end of a run puts in: one, or a pipeline."""
        tasks = [self._new_queued() for _ in range(self.rng.choice((1, 1, 2)))]
        return Workflow(tasks, [Edge(one.ref, other.ref, THEN) for one, other in pairwise(tasks)])

    def _replace(self) -> None:
        """A task of a workflow is put off: another takes its position. Its call is not made again."""
        ledger = self._some_queue()
        refs = [ref for id, entry in ledger.open.items() if self.edges.has_edges(ref := TaskRef(ledger.storage.name, id))]
        if refs:
            old, new = self.rng.choice(refs), self._new_queued()
            self.flows.replaced(old)
            new = new._replace(record=new.record._replace(options=with_edges(new.record.options, *self.edges.shape(old))))
            try:
                self._producers[old.queue].call("enqueue_workflow", Workflow([new], [], {new.ref: old}))
            except StorageUnavailable:
                self.counts["client gives up"] += 1

    def _produce_again(self) -> None:
        """Ids of somebody's own, mostly some that were there before."""
        records = [self._own_task(id) for id in self.rng.sample(list(OWN), self.rng.choice((1, 1, 3)))]
        self._enqueue(self.ledgers[0], records, may_be_late=True)

    def _own_task(self, id: str) -> Record:
        self.bodies[id] = Body(self.rng.choice((0.01, 0.5)), OWN[id]) if id not in self.bodies else self.bodies[id]
        self._enqueues += 1
        return Record(id, "task", b"", retries=self.rng.choice((0, 1)), options=with_constraints(None, Constraints(own=self._enqueues)))

    def _revoke_an_enqueue(self) -> None:
        own = [(id, entry.terms.own) for id, entry in self.ledgers[0].entries.items() if entry.terms.own is not None]
        if own:
            id, enqueue = self.rng.choice(own)
            self._insist(self.ledgers[0], "revoke", TaskIds([id], enqueue if self.rng.random() < 0.5 else 1))

    def _burst(self) -> None:
        records = [Record(f"t{len(self.bodies) + n:04}", "burst", b"") for n in range(60)]
        self.bodies.update({record.id: Body(20e-6, ("returns",)) for record in records})
        self._enqueue(self._some_queue(), records)

    def _new_task(self) -> Record:
        rng, id, now = self.rng, f"t{len(self.bodies):04}", self.clock.now()
        last = rng.choices(LAST_WORDS, (60, 10, 4, 4, 4, 2))[0]
        first: tuple[str, ...] = rng.choices(((), ("raises",), ("raises",) * 3, ("snoozes",), ("is unknown",)), (60, 12, 8, 5, 5))[0]
        takes = rng.choices((20e-6, 0.01, 0.5, 3.0, 40.0), (3, 3, 6, 6, 1))[0]
        self.bodies[id] = Body(takes, (*first, last), is_followed_up=rng.random() < 0.03)
        if rng.random() < 0.004:
            self.bodies[id] = Body(20e-6, ("is unknown",))
        if self._killers and rng.random() < 0.05:
            self._killers -= 1
            self.bodies[id] = Body(0.01, ("dies",))
        eta = now + micros(rng.choice((0.5, 5.0, 60.0))) if rng.random() < 0.15 else None
        expires = now + micros(rng.choice((0.2, 5.0, 30.0))) if rng.random() < 0.1 else None
        tries, delay = rng.choice((0, 1, 3)), rng.choice((0.0, 0.5, 10.0))
        return Record(id, "task", b"", rng.choice((0, 0, 0, 1, -1)), eta, expires, tries, delay, rng.choices(LIMITS, LIKELY_LIMITS)[0])

    def _enqueue(self, ledger: Ledger, records: list[Record], *, may_be_late: bool = False) -> None:
        if self._insist(ledger, "enqueue", records, may_be_late=may_be_late):
            self.acknowledged += [TaskRef(ledger.storage.name, record.id) for record in records]

    def _insist(self, ledger: Ledger, *call: Any, may_be_late: bool = False) -> bool:
        """A client that calls again at once, or later; True once it has an answer."""
        for _ in range(4):
            try:
                self._producers[ledger.storage.name].call(*call)
                return True
            except StorageUnavailable:
                self.counts["client calls again"] += 1
                if may_be_late:
                    # Who calls again may do so late: if its task has ended by then, that is one more run.
                    self._others_go_on()
        return False

    def _some_queue(self) -> Ledger:
        return self.rng.choice(self.ledgers)

    def _some_id(self, ledger: Ledger) -> str:
        # Mostly one that waits or runs, sometimes one that has ended or is to come.
        known = list(ledger.open if self.rng.random() < 0.8 else ledger.entries)
        return self.rng.choice(known) if known and self.rng.random() < 0.9 else f"t{len(self.bodies):04}"

    def _revoke(self) -> None:
        ledger, until = self._some_queue(), None
        id = self._some_id(ledger)
        # The mark of an id that nobody holds is pruned once it is over: on a clock that is set back it would not come back.
        if id in ledger.open and self.rng.random() < 0.2:
            until = self.clock.now() + micros(self.rng.choice((1.0, 20.0)))
        self._insist(ledger, "revoke", TaskIds([id]), until, self.rng.random() < 0.3)

    def _restore(self) -> None:
        ledger = self._some_queue()
        marked = [id for id, entry in ledger.open.items() if entry.mark is not None]
        self._insist(ledger, "restore", TaskIds([self.rng.choice(marked) if marked else self._some_id(ledger)]))

    def _put_back_by_hand(self) -> None:
        ledger = self._some_queue()
        ended = [id for id, entry in ledger.entries.items() if entry.state in (State.FAILED, State.CANCELLED)]
        self._insist(ledger, "retry", [self.rng.choice(ended) if ended else self._some_id(ledger)])

    def _cancel_flow(self) -> None:
        if flows := self.flows.members():
            self.flows.cancel(self.rng.choice(flows[-3:]))

    def _retry_flow(self) -> None:
        if flows := self.flows.members():
            self.flows.retry(self.rng.choice(flows))

    def _pause_queue(self) -> None:
        ledger = self._some_queue()
        self._insist(ledger, "pause", not ledger.is_paused and self.rng.random() < 0.7)

    def _follow(self) -> None:
        self.counts["followed"] += 1
        self._some_queue().storage.follow(None)

    def _start_node(self, ledger: Ledger | None = None) -> None:
        self._born += 1
        node = Node(self, ledger or self._some_queue(), self._born)
        self.tell(node.name, f"starts with {node.runners.count} runners on {node.ledger.storage.name}")
        self.nodes.append(node)

    def _pick(self) -> Node | None:
        busy = [node for node, _, _ in self.paused]
        free = [node for node in self.nodes if node not in busy and not node.is_stalled]
        return self.rng.choice(free) if free else None

    def _crash(self) -> None:
        node = self._pick()
        if node is not None:
            self.counts["crash"] += 1
            self._bury(node)

    def _pause(self) -> None:
        node, seconds = self._pick(), self.rng.choice((1.0, 10.0, 20.0, 60.0))
        if node is not None:
            self.counts["paused beyond the lease" if seconds > 15 else "paused"] += 1
            self.tell(node.name, f"is paused for {seconds} s")
            self.paused.append((node, self.clock.monotonic() + micros(seconds), node.runners.freeze()))

    def _set_clock(self) -> None:
        step = self.rng.choice((-300, -60, -1, 1, 60, 300))
        self.counts["clock set back" if step < 0 else "clock set ahead"] += 1
        self.tell(f"the clock is set by {step} s")
        self.clock.set(self.clock.now() + step * SECOND)

    def _go_away(self) -> None:
        seconds = self.rng.choice((0.5, 3.0, 20.0))
        self.counts["storage away"] += 1
        self.tell(f"the storage is away for {seconds} s")
        self._away_until = self.clock.monotonic() + micros(seconds)

    def _stop_node(self) -> None:
        node = self._pick()
        if node is not None:
            self.counts["stop"] += 1
            self._stop(node)

    def _stop(self, node: Node) -> None:
        self.tell(node.name, "stops")
        try:
            node.stop(self.rng.choice((0.0, 0.5, 5.0)), cut_short=self.rng.random() < 0.7)
        except (Killed, StorageError):
            self.tell(node.name, "did not stop well")
        if node in self.nodes:
            self._bury(node)

    # -- the end ------------------------------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """No more faults: whatever was acknowledged comes to its end."""
        self.luck, self._away_until = 0.0, 0
        self.tell("no more faults")
        for producer in self._producers.values():
            producer.call("pause", False)
        for round in range(900):
            if not self._is_unsettled():
                break
            for ledger in self.ledgers:
                if sum(node.ledger is ledger for node in self.nodes) < 2:
                    self._start_node(ledger)
            # Only tasks are left that nobody knows, and those that wait for them: they are given up after a day.
            open = [(id, entry) for ledger in self.ledgers for id, entry in ledger.open.items()]
            is_parked = all(entry.waits or self.bodies[id].script == ("is unknown",) for id, entry in open)
            self.clock.forward(86400.0 if open and is_parked and round % 4 == 0 else 2.0)
            self._work()
            if round % 4 == 0:
                self._check_waiting()
        for ledger in self.ledgers:
            ledger.check_end([ref.id for ref in self.acknowledged if ref.queue == ledger.storage.name])
            for id, entry in ledger.entries.items():
                # Longer than that others start beside it, and may kill its worker again and again.
                if entry.reason == "poison" and self.bodies[id].script != ("dies",) and self.bodies[id].takes < ALONE:
                    raise Violation("C11", f"{id} failed as poison, its body never killed a worker")

    def _complete_flows(self) -> None:
        """Whatever was wrong is mended, and each flow is retried: then it completes, and what had succeeded does not run again."""
        flows = self.flows.members()
        kept = {ref.id: self.runs[ref.id] for refs in flows for ref in refs if self.edges.entry(ref).state == State.SUCCEEDED}
        self.tell("all is mended")
        for refs in flows:
            self.bodies.update((ref.id, Body(0.01, ("returns",))) for ref in refs)
            self.flows.retry(refs)
        self._settle()
        self.flows.check_complete(flows)
        again = [id for id, runs in kept.items() if self.runs[id] != runs]
        if again:
            raise Violation("I2", f"flows were retried, and {again} ran again, which had succeeded")

    def _is_unsettled(self) -> bool:
        known = {row.worker.id for ledger in self.ledgers for row in ledger.storage.workers()}
        return bool(self.paused or any(ledger.open for ledger in self.ledgers)) or known != {node.name for node in self.nodes}

    def _check_waiting(self) -> None:
        self.edges.check_waiting()
        for ledger in self.ledgers:
            ledger.check_waiting()

    def _close(self) -> None:
        for node in list(self.nodes):
            self._stop(node)
        for ledger in self.ledgers:
            ledger.check_quiet()
        self.clock.forward(31 * 86400.0)
        while any([ledger.storage.prune() for ledger in self.ledgers]):
            continue
        for ledger in self.ledgers:
            ledger.check_clean()

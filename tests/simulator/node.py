"""One worker process of a simulation, turned by hand: its engine, janitor and scheduler, its runners, and the wire to the storage."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol, cast

from huey.consumer.janitor import JANITOR_INTERVAL_S, Janitor
from huey.consumer.scheduler import Scheduler
from huey.engine.engine import Engine
from huey.engine.prefetch import Search
from huey.exceptions import StorageError, StorageUnavailable
from huey.registry import Registry
from huey.runtime.clock import Ids, Micros, micros
from huey.runtime.host import boot_id
from huey.runtime.waker import Waker
from huey.serializer import Codec
from huey.storage.base import HEARTBEAT_S, Storage
from huey.storage.rows import Features, Turn, Worker
from huey.task.lifecycle import Cancelled, CancelledAtClaim, Finish, Outcome, Raised, Returned, Snoozed, State, Unrunnable, decide
from huey.task.record import Lease, Record
from huey.task.workflow import Edge, Workflow
from huey.testing.clock import FakeClock
from tests.simulator.edges import read_gifts
from tests.simulator.ledger import Ledger
from tests.simulator.rules import Violation

ERROR = {"error": "Boom()", "traceback": "..."}


class World(Protocol):
    """What a node needs of its history."""

    clock: FakeClock
    rng: random.Random
    counts: Counter[str]
    registry: Registry
    codec: Codec
    new_id: Ids
    bodies: dict[str, Body]
    runs: Counter[str]
    crew: tuple[int, ...]
    """How many runners a node may have."""

    def tell(self, *words: str) -> None: ...

    def new_follow_ups(self) -> Workflow:
        """Return tasks that the end of a run puts in."""

    def bad_luck(self, verb: str, node: Node | None) -> str | None: ...

    def meanwhile(self, node: Node) -> None: ...


class Killed(BaseException):
    """The worker that makes this call is gone."""


class Rested(BaseException):
    """The engine came round once."""


class Body(NamedTuple):
    """What a task does: how long it takes, and what each of its runs brings; the last word is repeated."""

    takes: float
    script: tuple[str, ...]
    is_followed_up: bool = False
    """Whether each failure has a handler, and each success adds tasks."""

    def outcome(self, run: int, lease: Lease) -> Outcome:
        word = self.script[min(run, len(self.script)) - 1]
        if word == "dies":
            raise Killed
        outcomes: dict[str, Outcome] = {
            "returns": Returned(f"{lease.id}#{lease.token}".encode()),
            "returns nothing": Returned(None),
            "raises": Raised(ERROR),
            "must not retry": Raised(ERROR, may_retry=False, reason="undecodable"),
            "is not storable": Raised(ERROR, may_retry=False, reason="result not storable"),
            "snoozes": Snoozed(2.0, "limit"),
            "cancels": Cancelled("cancelled"),
            "cancels with an error": Cancelled("cancelled", ERROR),
            "is unknown": Unrunnable(ERROR),
        }
        return outcomes[word]


class HandWaker(Waker):
    """A waker whose waits end at once. After ``rounds`` clearings it lets the engine out of its loop; ``rest`` is what that would wait."""

    def __init__(self, passes: Callable[[float], None]) -> None:
        self.is_rung = False
        self.rounds = 0.0
        self.rest = 0.0
        self._passes = passes

    def wake(self) -> None:
        self.is_rung = True

    def clear(self) -> None:
        if self.rounds <= 0:
            raise Rested
        self.rounds -= 1
        self.is_rung = False

    def wait(self, timeout: float | None = None) -> bool:
        self.rest = timeout or 0.0
        self._passes(self.rest)
        return self.is_rung

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        """Nothing is open."""


class Run:
    """A body at work."""

    def __init__(self, lease: Lease, ends: Micros, takes: float, is_replaced: bool) -> None:
        self.lease = lease
        self.ends = ends
        self.takes = takes
        self.is_replaced = is_replaced


class ScriptedRunners:
    """Runners made of nothing but a clock. ``advance`` runs what would have run since."""

    def __init__(self, world: World, node: Node, count: int) -> None:
        self.count = count
        self.low_water = 0
        self.runs: list[Run] = []
        self._world = world
        self._node = node
        self._ready: deque[Lease] = deque()
        self._done: list[Finish] = []
        self._at = world.clock.monotonic()
        self._awake = 0
        """Runners that are not asleep: what is ready waits for these."""

    def submit(self, leases: Sequence[Lease]) -> None:
        self._ready.extend(leases)

    def wake(self, count: int) -> None:
        self._awake = max(self._awake, min(count, self.count))

    def collect(self) -> list[Finish]:
        done, self._done = self._done, []
        return done

    def ended(self) -> int:
        return len(self._done)

    def take_back(self) -> list[Lease]:
        taken = list(self._ready)
        self._ready.clear()
        return taken

    def waiting(self) -> int:
        return len(self._ready)

    def idle(self) -> int:
        return self.count - self._awake

    def advance(self) -> None:
        until = self._world.clock.monotonic()
        while True:
            while self._ready and len(self.runs) < self._awake:
                self._begin(self._ready.popleft())
            self._awake = len(self.runs)
            run = min(self.runs, key=lambda run: run.ends, default=None)
            if run is None or run.ends > until:
                break
            self._at = max(self._at, run.ends)
            self._end(run)
        self._at = until

    def _begin(self, lease: Lease) -> None:
        world = self._world
        world.runs[lease.id] += 1
        world.tell(self._node.name, "body", f"{lease.id}#{lease.token}")
        self._node.ledger.body_starts(self._node.worker, lease, [run.lease for run in self.runs])
        takes = world.bodies[lease.id].takes
        # What its parents gave goes to the task that takes its position.
        is_replaced = len(read_gifts(self._node.ledger.storage, lease.id)) < lease.parents
        self.runs.append(Run(lease, self._at + micros(takes), takes, is_replaced))

    def _end(self, run: Run) -> None:
        world, lease = self._world, run.lease
        outcome = world.bodies[lease.id].outcome(world.runs[lease.id], lease)
        if run.is_replaced:
            outcome = Raised(ERROR, may_retry=False, reason="undecodable")
        self.runs.remove(run)
        self._node.ledger.body_ends(self._node.worker, lease)
        self._done.append(self._followed_up(settle(decide(lease, outcome, world.clock.now(), run.takes))))
        if not self._ready or len(self._ready) == self.low_water:
            self._node.waker.wake()

    def _followed_up(self, finish: Finish) -> Finish:
        """As the executor does: what waits for the task gets more than its result, and some ends put tasks in."""
        if finish.state == State.SUCCEEDED and finish.lease.has_children:
            finish = finish._replace(output=b"for children" + (finish.value or b""))
        is_followed_up = (finish.state == State.SUCCEEDED or finish.error is not None) and self._world.bodies[
            finish.lease.id
        ].is_followed_up
        return finish._replace(follow_ups=self._world.new_follow_ups()) if is_followed_up else finish

    def freeze(self) -> Callable[[], None]:
        """Stop, as under SIGSTOP. What is returned lets go on."""
        since = self._world.clock.monotonic()

        def thaw() -> None:
            self._at = self._world.clock.monotonic()
            for run in self.runs:
                run.ends += self._at - since

        return thaw

    def vanish(self) -> None:
        for run in self.runs:
            self._node.ledger.body_ends(self._node.worker, run.lease)
        self.runs.clear()


def settle(finish: Finish) -> Finish:
    """A final failure has an error for its caller."""
    return finish._replace(value=f"failed: {finish.reason}".encode()) if finish.state == State.FAILED else finish


class CommandConnection:
    """The storage as one part of a node sees it: calls and replies may be lost, and the node may die or stall on either side of them."""

    def __init__(self, world: World, ledger: Ledger, part: str, node: Node | None = None) -> None:
        self._world = world
        self._ledger = ledger
        self._part = part
        self._name = part if node is None else f"{node.name}.{part}"
        self._node = node
        self.failures = 0

    @property
    def features(self) -> Features:
        return self._ledger.storage.features

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.call(verb, *args, **kwargs)

    def call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        world = self._world
        fault = self._fault(verb)
        self._suffer(fault, "before", is_lost=fault in ("lost call", "away"))
        answer = in_order(verb, getattr(self._ledger.storage, verb)(*args, **kwargs))
        world.tell(self._name, verb, told(args), "->", told(answer))
        witness = getattr(self._ledger, verb, None)
        if witness is not None:
            try:
                witness(answer, *args, **kwargs)
            except Exception as error:  # the engine would take it for an error of the storage, and hide it
                raise Violation("ledger", f"{verb} {told(args)} {kwargs}: {error!r}") from error
        self._suffer(fault, "after", is_lost=fault == "lost reply")
        return answer

    def listen(self, worker: Worker, timeout: float, waker: Waker, prefetch: bool = False, report_promoted: bool = False) -> bool:
        fault = self._fault("listen")
        self._suffer(fault, "before", is_lost=fault in ("lost call", "lost reply", "away"))
        return waker.wait(timeout)

    def _fault(self, verb: str) -> str | None:
        fault = self._world.bad_luck(f"{self._part}.{verb}", self._node)
        if fault is not None:
            self._world.tell(self._name, verb, fault)
            self._world.counts.update((fault, f"{fault} of {self._part}.{verb}"))
        return fault

    def _suffer(self, fault: str | None, side: str, is_lost: bool) -> None:
        if is_lost:
            self.failures += 1
            raise StorageUnavailable(f"{fault}")
        if fault == f"dies {side}":
            raise Killed
        if fault == f"stalls {side}" and self._node is not None:
            self._world.meanwhile(self._node)


def in_order(verb: str, answer: Any) -> Any:
    """What the contract leaves open, made the same for every storage."""
    if verb == "workers":
        return sorted(answer, key=lambda row: str(row.worker.id))
    if verb == "turn":
        return answer._replace(stale=sorted(answer.stale), promoted=sorted(answer.promoted), opened=sorted(answer.opened))
    if verb == "missing":
        return sorted(answer)
    return 0 if verb == "prune" else answer


TOLD: dict[type, Callable[[Any], str]] = {
    Lease: lambda lease: f"{lease.id}#{lease.token}",
    Finish: lambda finish: f"{finish.lease.id}#{finish.lease.token}={finish.state}:{finish.reason}:{finish.due}",
    Worker: lambda worker: str(worker.id),
    Record: lambda record: str(record.id),
    CancelledAtClaim: lambda refusal: str(refusal.id),
    Turn: lambda turn: f"{told(turn.leases)} refused {told(turn.stale)} cancelled {told(turn.cancelled)}",
    Workflow: lambda workflow: f"{told([task.record for task in workflow.tasks])} {told(workflow.edges)}",
    Edge: lambda edge: f"{edge.parent.id}-{edge.kind}-{edge.child.id}",
    dict: lambda items: f"{len(items)} items",
}


def told(thing: Any) -> str:
    """Arguments and answers, short, and the same in every process."""
    kind = type(thing)
    if kind is str or kind is int or thing is None:
        return str(thing)
    if kind in TOLD:
        return TOLD[kind](thing)
    if callable(thing):
        return "callable"
    if isinstance(thing, list | tuple):
        return f"[{' '.join([told(it) for it in thing])}]"
    return str(thing)


class Node:
    """One worker process: the parts of a Consumer, turned by hand."""

    def __init__(self, world: World, ledger: Ledger, number: int) -> None:
        self.name = f"w{number}"
        self.ledger = ledger
        # A process space of its own on this machine: nobody sees its pid, the lease decides who lives.
        self.worker = Worker(self.name, "host", number, f"{boot_id()}/{number}", 0)
        self.world = world
        self.wires = {part: CommandConnection(world, ledger, part, self) for part in ("engine", "janitor", "scheduler", "heartbeat")}
        self.waker = HandWaker(self._let_pass)
        self.runners = ScriptedRunners(world, self, world.rng.choice(world.crew))
        engine, janitor, scheduler = (cast(Storage, self.wires[part]) for part in ("engine", "janitor", "scheduler"))
        # Which worker knows what is chance.
        search = Search(engine, self.worker, world.clock, lambda missing: world.rng.random() < 0.5)
        self.engine = Engine(engine, self.worker, self.runners, world.clock, self.waker, search=search)
        # The engine waits out an outage on an event of its own.
        self.engine._stop_requested = cast(Any, SimpleNamespace(wait=self.waker.wait, set=self.waker.wake))
        self.janitor = Janitor(janitor, self.worker, world.clock, settle)
        self.scheduler = Scheduler(scheduler, world.registry, world.codec, world.clock)
        self.is_stalled = False
        self.is_draining = False
        self._next: dict[str, Micros] = {}

    def _let_pass(self, seconds: float) -> None:
        if self.is_draining:
            self.world.clock.forward(seconds)
            self.runners.advance()

    def step(self) -> None:
        """Whatever is due, in any order: threads have none."""
        parts = [("engine", self._crank), ("heartbeat", self._beat), ("janitor", self.janitor.run_once), ("scheduler", self._tick)]
        self.world.rng.shuffle(parts)
        self.runners.advance()
        for name, act in parts:
            now = self.world.clock.monotonic()
            if now >= self._next.get(name, 0) or (name == "engine" and self.waker.is_rung):
                pause = self._guarded(act)
                every = {"heartbeat": HEARTBEAT_S, "janitor": JANITOR_INTERVAL_S, "scheduler": 60.0, "engine": 0.0}[name]
                self._next[name] = now + micros(every if pause is None else pause)

    def _guarded(self, act: Callable[[], float | None]) -> float | None:
        """As a Service: an error ends one look, not the loop."""
        try:
            return act()
        except StorageError:
            self.world.counts["service failed"] += 1
            return None

    def _beat(self) -> None:
        self.wires["heartbeat"].call("heartbeat", [self.worker])

    def _tick(self) -> float:
        wire, at = self.wires["scheduler"], self.world.clock.now()
        failures = wire.failures
        pause = self.scheduler.run_once()
        if wire.failures == failures:
            self.ledger.looked(at)
        return pause

    def _crank(self) -> float:
        # Twice around: a turn, and a rest with what comes after it.
        self.waker.rounds, self.waker.rest = 2, 0.0
        try:
            self.engine.run()
        except Rested:
            self.runners.advance()
        except StorageError as error:
            raise Violation("C15", f"the engine of {self.name} ended, the storage was away: {error}") from error
        # Now and then somebody enqueues, and a look that was to come later comes at once.
        return self.waker.rest * self.world.rng.random()

    def stop(self, timeout: float, *, cut_short: bool) -> None:
        """As ``Consumer.stop``, or with *cut_short* as its process ends when tasks do not."""
        self.is_draining, self.waker.rounds = True, float("inf")
        self.engine.stop()
        still = self.engine.drain(timeout)
        self.world.counts["cut short"] += len(still)
        self.runners.vanish()
        if still and cut_short:
            self.engine.requeue_running()
        self.wires["heartbeat"].call("deregister", self.worker)

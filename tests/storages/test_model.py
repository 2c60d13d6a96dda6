"""Any verbs in any order: every storage answers as the one in memory does.

There are 15 walks of up to 40 steps, the same each time; `make chaos` takes 150 that chance chooses. HUEY_MODEL_EXAMPLES sets their number,
and lets chance (``--hypothesis-seed``) choose them.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from huey.runtime.clock import SECOND, Clock
from huey.runtime.waker import Waker
from huey.storage.base import Storage
from huey.storage.locks import Holder
from huey.storage.memory import MemoryStorage
from huey.storage.redis import RedisStorage
from huey.storage.rows import Missing, TaskIds, TaskName, TaskRow, Turn, WorkerRow
from huey.storage.sqlite.storage import SqliteStorage
from huey.task.lifecycle import Finish, State
from huey.task.record import Lease, Record
from huey.task.record_options import DONE, FIRST, WAITING, Constraints, with_constraints
from huey.task.workflow import JOIN, THEN, Edge, ParentEnd, QueuedRecord, TaskRef, Workflow
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import is_followed, publish, worker
from tests.support.redis_server import shared_server

T = TypeVar("T")
EXAMPLES = int(os.environ.get("HUEY_MODEL_EXAMPLES", "15"))
STEPS = 40


def memory(folder: str, clock: Clock) -> Storage:
    return MemoryStorage("test", clock=clock)


def sqlite(folder: str, clock: Clock) -> Storage:
    return SqliteStorage("test", filename=os.path.join(folder, "huey.db"), clock=clock, fsync=False)


def redis(folder: str, clock: Clock) -> Storage:
    storage = RedisStorage("model", port=shared_server().port, clock=clock)
    # Tokens of locks go on growing after a flush of the queue; the model begins anew.
    storage._queue.command("FLUSHDB")
    return storage


FACTORIES: dict[str, Callable[[str, Clock], Storage]] = {"memory": memory, "sqlite": sqlite, "redis": redis}

WORKERS = [worker(f"worker-{kind}")._replace(kind=kind) for kind in ("solo", "thread", "quarantine")]
IDS = ["a", "b", "c", "d", "A", "ä'%"]
NAMES = ["app.add", "app.Add", ""]
KEYS = ["a", "k"]
HOUR, DAY = 3600.0, 86400.0
LIMITS: dict[str | None, tuple[int | None, tuple[int, int] | None]] = {
    None: (None, None),
    "one": (1, None),
    "two": (2, None),
    "rate": (None, (1, 2 * SECOND)),
    "both": (2, (3, 60 * SECOND)),
}
"""By concurrency key, how many tasks may run, and their rate."""

who = st.sampled_from(WORKERS)
some_ids = st.lists(st.sampled_from(IDS), unique=True, max_size=4)
names = st.sampled_from(NAMES)
kinds = st.sampled_from(["result", "data", "other"])
keys = st.sampled_from(KEYS)
values = st.sampled_from([b"", b"v", b"w"])
ttls = st.sampled_from([None, 1.0, HOUR])
delays = st.sampled_from([-HOUR, -1.0, 0.0, 0.000001, 1.0, 30.0, HOUR, 20 * DAY])
a_time = st.none() | delays
reasons = st.sampled_from([None, "error", "limit"])
errors = st.sampled_from([None, {"error": "E()", "traceback": "..."}, {"error": "F()"}])
numbers = st.integers(0, 3)

record_fields = st.fixed_dictionaries(
    {
        "id": st.sampled_from(IDS),
        "name": names,
        "payload": values,
        "priority": st.integers(-1, 1),
        "eta": a_time,
        "expires": st.none() | delays,
        "retries": numbers,
        "retry_delay": st.sampled_from([0.0, 1.5]),
        "options": st.sampled_from([None, "{}"]),
    }
)
terms = st.builds(
    Constraints,
    unique=st.sampled_from([None, None, "u", "v"]),
    unique_for=st.sampled_from([DONE, WAITING, 1.0, HOUR]),
    concurrency_key=st.sampled_from([None, *LIMITS]),
    at_most_once=st.booleans(),
    id_ttl=st.sampled_from([None, None, 1.0, HOUR]),
    own=st.sampled_from([None, 1, 2, 3]),
).map(
    lambda wishes: with_constraints(
        None,
        wishes._replace(
            max_running=LIMITS[wishes.concurrency_key][0],
            rate=LIMITS[wishes.concurrency_key][1],
            id_ttl=wishes.own and wishes.id_ttl,
        ),
    )
)
sharing_fields = st.builds(lambda fields, options: fields | {"options": options}, record_fields, terms)
enqueues = st.sampled_from([None, None, FIRST, 1, 2, 3])
holders = st.sampled_from([Holder("p"), Holder("q")])
finish_fields = st.fixed_dictionaries(
    {
        "pick": st.integers(0, 7),
        "state": st.sampled_from([State.SUCCEEDED, State.FAILED, State.CANCELLED, State.QUEUED, State.QUEUED]),
        "due": a_time,
        "attempt": numbers,
        "solo_crashes": numbers,
        "deaths": numbers,
        "unknown_until": st.sampled_from([None, 0, 1]),
        "reason": reasons,
        "value": st.none() | values,
        "error": errors,
        "duration": st.sampled_from([0.0, 0.001, 0.25, 20_000.0]),
        "output": st.none() | values,
    }
)


class Agreement(RuleBasedStateMachine):
    """A storage and the model, in step, by one clock."""

    make: Callable[[str, Clock], Storage]

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.folder = tempfile.TemporaryDirectory(prefix="huey-model-")
        self.waker = Waker()
        self.model: Storage = MemoryStorage("test", clock=self.clock)
        self.real = self.make(self.folder.name, self.clock)
        self.leases: list[Lease] = []
        self.tokens: list[int] = []
        self.dead: list[WorkerRow] = []
        self.positions = self.model.follow(None)[0], self.real.follow(None)[0]

    def teardown(self) -> None:
        self.real.close()
        self.waker.close()
        self.folder.cleanup()

    def both(self, verb: Callable[[Storage], T], alike: Callable[[T], Any] = lambda answer: answer) -> T:
        expected, answer = verb(self.model), verb(self.real)
        assert alike(answer) == alike(expected)
        return expected

    def at(self, delay: float | None) -> int | None:
        return None if delay is None else self.clock.now() + round(delay * SECOND)

    def record(self, fields: dict[str, Any]) -> Record:
        return Record(**fields | {"eta": self.at(fields["eta"]), "expires": self.at(fields["expires"])})

    # -- time ---------------------------------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.000001, 1.0, 1.0, 16.0, 16.0, HOUR, 8 * DAY, 31 * DAY]))
    def time_passes(self, seconds: float) -> None:
        self.clock.forward(seconds)

    @rule(seconds=st.sampled_from([-DAY, -HOUR, -1.0, 1.0, HOUR, DAY]))
    def the_clock_is_set(self, seconds: float) -> None:
        self.clock.set(self.clock.now() + round(seconds * SECOND))

    # -- life ---------------------------------------------------------------------------------------------------------------------------

    @rule(fields=st.lists(record_fields, max_size=4))
    def enqueue(self, fields: list[dict[str, Any]]) -> None:
        records = [self.record(each) for each in fields]
        self.both(lambda storage: storage.enqueue(records))

    @rule(fields=st.lists(sharing_fields, min_size=1, max_size=4), is_told=st.booleans())
    def enqueue_constrained(self, fields: list[dict[str, Any]], is_told: bool) -> None:
        records = [self.record(each) for each in fields]
        self.both(lambda storage: storage.enqueue(records, (lambda: [f'"{record.id}"' for record in records]) if is_told else None))

    @rule(
        fields=st.lists(record_fields | sharing_fields, min_size=1, max_size=4, unique_by=lambda fields: fields["id"]),
        links=st.lists(st.tuples(numbers, numbers, st.sampled_from([THEN, JOIN])), max_size=5),
        outside=st.none() | st.sampled_from(IDS),
        old=st.none() | st.sampled_from(IDS),
        is_told=st.booleans(),
    )
    def enqueue_workflow(
        self, fields: list[dict[str, Any]], links: list[tuple[int, int, str]], outside: str | None, old: str | None, is_told: bool
    ) -> None:
        tasks = [QueuedRecord("test", self.record(each)) for each in fields]
        # Nearly always from an earlier task to a later one, now and then from one that may be held.
        pairs = [(min(one, other) % len(tasks), max(one, other) % len(tasks), kind) for one, other, kind in links]
        edges = [Edge(tasks[one].ref, tasks[other].ref, kind, n) for n, (one, other, kind) in enumerate(pairs) if one != other]
        if outside is not None:
            edges.append(Edge(TaskRef("test", outside), tasks[-1].ref, THEN, 9))
        own_ids = {each["id"] for each in fields}
        replaces = {tasks[0].ref: TaskRef("test", old)} if old is not None and old not in own_ids else {}
        first = [task.record.id for task in tasks if all(edge.child != task.ref for edge in edges)]

        def put(storage: Storage) -> Any:
            named = [task._replace(queue=storage.name) for task in tasks]
            own = {TaskRef("test", id): TaskRef(storage.name, id) for id in IDS}
            moved = [edge._replace(parent=own[edge.parent], child=own[edge.child]) for edge in edges]
            new = {own[one]: own[other] for one, other in replaces.items()}
            try:
                stand_ins = storage.enqueue_workflow(
                    Workflow(named, moved, new), (lambda: [f'"{id}"' for id in first]) if is_told else None
                )
            except ValueError:
                return "refused"
            return {ref.id: other for ref, other in stand_ins.items()}

        self.both(put)

    @rule(by=who, want=st.integers(0, 4))
    def claim(self, by: Any, want: int) -> None:
        self.leases += self.both(lambda storage: storage.turn(by, [], want), turn_alike).leases

    @precondition(lambda self: self.leases)
    @rule(
        by=who,
        fields=st.lists(finish_fields, max_size=3),
        want=st.integers(0, 2),
        events=st.lists(st.sampled_from(["{}", "[]"]), max_size=2),
    )
    def work(self, by: Any, fields: list[dict[str, Any]], want: int, events: list[str]) -> None:
        ends = {end.lease.id: end for end in map(self.finish, fields)}
        turn = self.both(lambda storage: storage.turn(by, list(ends.values()), want, events), turn_alike)
        self.leases += turn.leases

    @precondition(lambda self: self.leases)
    @rule(fields=finish_fields, is_sent_twice=st.booleans())
    def finish_what_is_held(self, fields: dict[str, Any], is_sent_twice: bool) -> None:
        end = self.finish(fields)
        row = self.model.get(end.lease.id)
        by = next((one for one in WORKERS if row is not None and one.id == row.worker), WORKERS[0])
        for _ in range(1 + is_sent_twice):
            self.leases += self.both(lambda storage: storage.turn(by, [end], 1), turn_alike).leases

    def finish(self, fields: dict[str, Any]) -> Finish:
        lease = self.leases[-1 - fields["pick"] % len(self.leases)]
        return Finish(lease, **{key: value for key, value in fields.items() if key != "pick"} | {"due": self.at(fields["due"])})

    @precondition(lambda self: self.leases)
    @rule(by=who, want=st.integers(1, 3), reason=reasons)
    def take_up_what_was_missing(self, by: Any, want: int, reason: str | None) -> None:
        self.both(lambda storage: storage.missing(), sorted)
        missing = [Missing(name, reason or "") for name in NAMES]
        self.leases += self.both(lambda storage: storage.claim_missing(by, missing, want))

    @rule(by=who, first=st.integers(1, 4))
    def release(self, by: Any, first: int) -> None:
        self.both(lambda storage: storage.release(by, self.leases[-first:]))

    @rule(some=st.lists(who, unique=True), is_leaving=st.booleans())
    def beat_or_leave(self, some: list[Any], is_leaving: bool) -> None:
        self.both(lambda storage: [storage.deregister(one) for one in some] if is_leaving else storage.heartbeat(some))

    @rule()
    def look_for_dead_workers(self) -> None:
        self.dead = self.model.workers()

    @precondition(lambda self: self.dead)
    @rule(pick=st.integers(0, 2), heir=who)
    def reclaim(self, pick: int, heir: Any) -> None:
        dead = self.dead[pick % len(self.dead)]
        if dead.worker != heir:
            self.leases += self.both(lambda storage: storage.reclaim(dead, heir), sorted)

    @rule(name=names, delay=delays, fields=st.none() | record_fields | sharing_fields)
    def tick(self, name: str, delay: float, fields: dict[str, Any] | None) -> None:
        tick, record = self.at(delay) or 0, None if fields is None else self.record(fields)
        self.both(lambda storage: storage.tick(name, tick, record))

    # -- will ---------------------------------------------------------------------------------------------------------------------------

    @rule(ids=some_ids, until=a_time, once=st.booleans(), enqueue=enqueues)
    def cancel(self, ids: list[str], until: float | None, once: bool, enqueue: int | None) -> None:
        self.both(lambda storage: storage.revoke(TaskIds(ids, enqueue), self.at(until), once))

    @rule(name=names, until=a_time, once=st.booleans())
    def cancel_name(self, name: str, until: float | None, once: bool) -> None:
        self.both(lambda storage: storage.revoke(TaskName(name), self.at(until), once))

    @rule(ids=some_ids, name=st.none() | names, enqueue=enqueues)
    def restore(self, ids: list[str], name: str | None, enqueue: int | None) -> None:
        self.both(lambda storage: storage.restore(TaskIds(ids, enqueue)) if name is None else [storage.restore(TaskName(name))], sorted)

    @rule(ids=some_ids)
    def retry(self, ids: list[str]) -> None:
        self.both(lambda storage: storage.retry(ids), sorted)

    @rule(ids=some_ids)
    def discard(self, ids: list[str]) -> None:
        self.both(lambda storage: storage.discard(ids), sorted)

    @rule(on=st.booleans())
    def pause(self, on: bool) -> None:
        self.both(lambda storage: storage.pause(on))

    # -- events and values ---------------------------------------------------------------------------------------------------------------

    @rule(events=st.lists(st.sampled_from(["{}", "[]"]), max_size=2), is_read=st.booleans())
    def tell(self, events: list[str], is_read: bool) -> None:
        self.both(lambda storage: publish(storage, events))
        if is_read:
            (model, expected), (real, read) = self.model.follow(self.positions[0]), self.real.follow(self.positions[1])
            assert read == expected
            self.positions = model, real

    @rule(verb=st.sampled_from(["put", "put", "put_if_absent", "pop", "take", "delete"]), kind=kinds, key=keys, value=values, ttl=ttls)
    def keep_values(self, verb: str, kind: str, key: str, value: bytes, ttl: float | None) -> None:
        arguments = {"put": (key, value, ttl), "put_if_absent": (key, value, ttl, True), "take": (KEYS, True)}.get(verb, (key,))
        self.both(lambda storage: getattr(storage, verb.removesuffix("_if_absent"))(kind, *arguments))
        self.both(lambda storage: storage.peek(kind, key))

    # -- locks and rates ------------------------------------------------------------------------------------------------------------------

    @rule(name=keys, holder=holders, pick=st.none() | st.integers(0, 3), ttl=ttls)
    def lock(self, name: str, holder: Holder, pick: int | None, ttl: float | None) -> None:
        if pick is not None and self.leases:
            lease = self.leases[-1 - pick % len(self.leases)]
            holder = Holder(lease.id, lease.token)
        self.tokens.append(self.both(lambda storage: storage.acquire_lock(name, holder, ttl)) or 0)

    @rule(verb=st.sampled_from(["release_lock", "renew_locks", "flush_locks"]), name=keys, holder=holders, pick=st.integers(0, 3))
    def unlock(self, verb: str, name: str, holder: Holder, pick: int) -> None:
        token = self.tokens[-1 - pick % len(self.tokens)] if self.tokens else 0
        arguments: dict[str, tuple[Any, ...]] = {"release_lock": (name, token), "renew_locks": (holder,), "flush_locks": ([name],)}
        self.both(lambda storage: getattr(storage, verb)(*arguments[verb]))

    @rule(name=keys, limit=numbers, per=st.sampled_from([1.0, 60.0, HOUR]), is_forgotten=st.booleans())
    def rate(self, name: str, limit: int, per: float, is_forgotten: bool) -> None:
        self.both(lambda storage: storage.rate(name, per, reset=True) if is_forgotten else storage.hit_rate_limit(name, limit, per))

    # -- house --------------------------------------------------------------------------------------------------------------------------

    @rule(is_closed=st.booleans())
    def keep_house(self, is_closed: bool) -> None:
        # How many went is left open: a storage may keep several events as one.
        for storage in (self.model, self.real):
            _ = storage.close() if is_closed else storage.prune()

    @precondition(lambda self: len(self.leases) > 3)
    @rule()
    def flush(self) -> None:
        self.both(lambda storage: storage.flush())
        # Whether events told before can still be read is left open.
        self.positions = self.model.follow(None)[0], self.real.follow(None)[0]

    # -- looking ------------------------------------------------------------------------------------------------------------------------

    @invariant()
    def all_looks_agree(self) -> None:
        self.both(lambda storage: storage.find(), rows_sorted)
        self.both(lambda storage: storage.find(State.QUEUED), rows_alike)
        self.both(lambda storage: storage.find(name=NAMES[0]), rows_sorted)
        self.both(lambda storage: [storage.get(id) for id in IDS], lambda rows: [row and row_alike(row) for row in rows])
        self.both(lambda storage: (storage.counts(), storage.ticks(), is_followed(storage)))
        self.both(lambda storage: storage.workers(), sorted)
        self.both(lambda storage: storage.counts())
        self.both(lambda storage: (storage.stats(0), storage.stats(self.clock.now())))
        self.both(lambda storage: [storage.items(kind) for kind in ("result", "data", "other")])
        self.both(lambda storage: ([storage.listen(worker, 0, self.waker) for worker in WORKERS], storage.wait(IDS[:2], 0)))

    @invariant()
    def all_edges_agree(self) -> None:
        self.both(lambda storage: [(it[0].id, it[1].id, *it[2:]) for it in storage.edges(IDS)], sorted_edges)
        self.both(lambda storage: [[end_alike(end) for end in storage.parent_ends(id)] for id in IDS])
        waiting = [row.id for row in self.model.find(State.WAITING)]
        edges = self.model.edges(waiting)
        for id in waiting:
            # No task waits for what can no longer happen.
            parents = [edge.parent.id for edge in edges if edge.child.id == id and edge.outcome is None]
            assert any(row is not None and row.finished is None for row in map(self.model.get, parents)), id

    @invariant()
    def all_marks_agree(self) -> None:
        self.both(lambda storage: [storage.get_revocation(TaskIds([id])) for id in IDS])
        self.both(lambda storage: [storage.get_revocation(TaskName(name)) for name in NAMES])
        self.both(lambda storage: storage.get_revocation(TaskIds([IDS[0]]), TaskName(NAMES[0])))
        self.both(lambda storage: [storage.get_revocation(TaskIds([id], enqueue)) for id in IDS for enqueue in (0, 1, 2, 3)])

    @invariant()
    def all_that_is_shared_agrees(self) -> None:
        self.both(lambda storage: [storage.find_lock(name) for name in KEYS])
        self.both(lambda storage: [storage.rate(name, per) for name in KEYS for per in (1.0, 60.0, HOUR)])


def sorted_edges(edges: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(edges, key=str)


def end_alike(end: ParentEnd) -> tuple[Any, ...]:
    return end._replace(parent=TaskRef("", end.parent.id), error=end.error and json.loads(end.error))


def row_alike(row: TaskRow) -> TaskRow:
    """Without what the contract leaves open: the place of what is not ready yet, the worker of what does not run."""
    is_replaced = row.state == State.CANCELLED and row.token == 0 and '"parents"' in (row.options or "")
    was_ready = row.state != State.WAITING and not is_replaced and not (row.reason or "").startswith("parent ")
    place = row.ready_at if row.due is None and was_ready else 0
    if not was_ready:
        row = row._replace(due=None)
    error = row.error and json.loads(row.error)
    if isinstance(error, dict) and "failed" in error:
        error = error["failed"][1]
    texts: dict[str, Any] = {"error": error, "attempts": row.attempts and json.loads(row.attempts)}
    return row._replace(ready_at=place, worker=row.worker if row.state == State.RUNNING else None, **texts)


def rows_alike(rows: list[TaskRow]) -> list[TaskRow]:
    return [row_alike(row) for row in rows]


def rows_sorted(rows: list[TaskRow]) -> list[TaskRow]:
    return sorted(rows_alike(rows), key=lambda row: row.id)


def turn_alike(turn: Turn) -> Turn:
    return turn._replace(
        stale=sorted(turn.stale),
        cancelled=sorted(turn.cancelled),
        promoted=sorted(turn.promoted),
        revoked_running=sorted(turn.revoked_running),
        opened=sorted(it._replace(queue="") for it in turn.opened),
    )


@pytest.mark.timeout(180 + EXAMPLES)
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_every_answer_agrees_with_the_model(kind: str) -> None:
    walk(kind, EXAMPLES, is_fixed="HUEY_MODEL_EXAMPLES" not in os.environ)


@pytest.mark.chaos
@pytest.mark.parametrize("kind", FACTORIES)
def test_every_answer_agrees_on_many_walks(kind: str) -> None:
    walk(kind, 10 * EXAMPLES, is_fixed=False)


def walk(kind: str, examples: int, is_fixed: bool) -> None:
    make = FACTORIES[kind]
    with tempfile.TemporaryDirectory() as folder:
        make(folder, FakeClock()).close()
    # The same walks each time: a suite that finds something new by chance cannot say what a change broke.
    walks = settings(
        max_examples=examples, stateful_step_count=STEPS, deadline=None, derandomize=is_fixed, suppress_health_check=list(HealthCheck)
    )

    run_state_machine_as_test(type("Walk", (Agreement,), {"make": staticmethod(make)}), settings=walks)

"""What somebody else writes under the keys of a queue in Redis stops nobody: scripts run whole, bad records are dead letters."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
import redis

from huey import RedisHuey
from huey.runtime.clock import SECOND
from huey.runtime.waker import Waker
from huey.storage.locks import Holder
from huey.storage.redis import RedisStorage, keys, scripts
from huey.storage.rows import Missing, TaskIds, TaskName
from huey.task.lifecycle import Finish, Raised, Returned, State, WorkerDied, decide
from huey.testing.clock import FakeClock
from huey.testing.contract.constraints import limited, unique
from huey.testing.contract.edges import chord, pipeline, reasons, states
from huey.testing.contract.tools import ME, OTHER, is_followed, publish, task
from huey.testing.contract.tools import worker as worker_named
from tests.support.redis_places import misplaced, places
from tests.support.redis_server import shared_server

NAMES = (f"damaged {n}" for n in count())
ERROR = {"error": "ValueError()", "traceback": ""}
LATE = worker_named("worker-3")
STAMP = b"-1750075200000000"


@pytest.fixture
def client() -> Iterator[Any]:
    with redis.Redis(port=shared_server().port) as client:
        # Some look at each key; those that other tests left would take most of the time.
        client.flushdb()
        yield client


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def storage(clock: FakeClock) -> Iterator[RedisStorage]:
    storage = RedisStorage(next(NAMES), port=shared_server().port, clock=clock, keep_finished=5)
    yield storage
    storage.flush()
    storage.close()


def filled(storage: RedisStorage, clock: FakeClock) -> None:
    """A queue that has something in every place."""
    storage.enqueue_workflow(chord(storage, task("m1", priority=99), task("m2", priority=99)))
    storage.enqueue_workflow(pipeline(storage, task("s1", priority=99), "s2"))
    members = storage.turn(ME, [], 3).leases
    storage.turn(ME, [decide(lease, Raised(ERROR), clock.now()) for lease in members if lease.id != "m2"], 0)
    storage.enqueue([task("done"), task("failed"), task("runs"), task("lost"), task("tried", retries=3, priority=9)])
    storage.follow(None)
    leases = {lease.id: lease for lease in storage.turn(ME, [], 5, ['{"event": 1}']).leases}
    ends = [decide(leases["done"], Returned(b"value"), clock.now()), decide(leases["failed"], Raised(ERROR), clock.now())]
    storage.turn(ME, [*ends, decide(leases["tried"], Raised(ERROR), clock.now())], 0)
    storage.release(ME, [leases["lost"]])
    (lost,) = storage.turn(OTHER, [], 1).leases
    storage.turn(OTHER, [decide(lost, WorkerDied(alone=True), clock.now())], 0)
    storage.enqueue([task("ready"), task("high", priority=3), task("later", delay=60 * SECOND), task("brief", expires_in=10**9)])
    storage.enqueue([limited("l1"), limited("l2"), unique("u1", "key"), unique("u2", "other", 60.0)])
    storage.revoke(TaskIds(["later"]), clock.now() + SECOND)
    storage.revoke(TaskIds(["unknown"]))
    storage.revoke(TaskName("app.nobody"))
    storage.put("data", "key", b"value", 60)
    storage.acquire_lock("lock", Holder("process"))
    storage.acquire_lock("of a run", Holder("runs", 1))
    storage.hit_rate_limit("rate", 5, 60)
    storage.tick("app.tick", clock.now(), task("ticked"))


def every_verb(storage: RedisStorage, clock: FakeClock) -> None:
    """Each verb once, so that each script runs."""
    fresh = (str(n) for n in count())
    storage.enqueue([task(next(fresh))])
    storage.enqueue([task(next(fresh), priority=5), task(next(fresh), delay=SECOND)], lambda: ["{}", "{}"])
    storage.enqueue([limited(next(fresh)), unique(next(fresh), "key"), unique(next(fresh), "other", 60.0)])
    storage.tick("app.tick", clock.now() + SECOND, task(next(fresh)))
    storage.enqueue_workflow(pipeline(storage, next(fresh), next(fresh)))
    storage.parent_ends("callback")
    storage.edges(["callback", "m2"])
    storage.heartbeat([LATE])
    taken = storage.turn(LATE, [], 3).leases
    storage.release(LATE, taken[2:])
    storage.turn(LATE, [decide(lease, Raised(ERROR), clock.now()) for lease in taken[:2]], 0, ["{}"])
    storage.leases(LATE)
    for row in storage.workers():
        if row.worker.id == ME.id:
            storage.reclaim(row, LATE)
    storage.deregister(worker_named("nobody"))
    storage.revoke(TaskIds(["ready", "nothing"]), clock.now() + SECOND)
    storage.restore(TaskIds(["ready", "nothing"]))
    storage.get_revocation(TaskIds(["ready"]), TaskName("app.nobody"))
    storage.retry(["failed"])
    storage.discard(["done"])
    storage.keep(["done"], clock.now())
    storage.pause(True)
    storage.pause(False)
    storage.claim_missing(LATE, storage.missing() or [Missing("app.nobody", "")], 1)
    storage.counts()
    storage.stats(0)
    storage.find()
    storage.find("queued")
    storage.get("ready")
    storage.ticks()
    storage.put("result", "x", b"1")
    storage.put("data", "key", b"2", if_absent=True)
    storage.peek("data", "key")
    storage.take("data", ["key"], remove=True)
    storage.items("data")
    storage.wait(["runs"], 0)
    storage.listen(LATE, 0, Waker())
    storage.follow(0)
    is_followed(storage)
    publish(storage, ["{}"])
    token = storage.acquire_lock("lock", Holder("another"))
    storage.find_lock("lock")
    storage.renew_locks(Holder("process"))
    storage.release_lock("lock", token or 1)
    storage.flush_locks()
    storage.hit_rate_limit("rate", 5, 60)
    storage.rate("rate", 60)
    storage.rate("rate", 60, reset=True)
    storage.prune()


def drained(storage: RedisStorage, clock: FakeClock) -> list[str]:
    """Run what is there until nothing is; the ids that ran."""
    ran: list[str] = []
    for _ in range(9):
        clock.forward(120)
        leases = storage.turn(LATE, [], 100).leases + storage.turn(OTHER, [], 100).leases
        held = {lease[:2]: lease for worker in (LATE, OTHER) for lease in storage.leases(worker)}
        for worker in (LATE, OTHER):
            storage.turn(worker, [decide(lease, Returned(None), clock.now()) for lease in held.values()], 0)
        ran += [lease.id for lease in leases]
    return ran


KEYS = [*keys.TYPES, "q:3", "h:worker-1", "v:data", "x:data", "xn:data"]


@pytest.mark.parametrize("name", KEYS)
def test_a_key_of_a_wrong_type_loses_no_task(name: str, storage: RedisStorage, clock: FakeClock, client: Any) -> None:
    filled(storage, clock)
    prefix = keys.prefix(storage.name)
    client.delete(prefix + name)
    if name in ("en", "ln", "tn"):
        client.rpush(prefix + name, "somebody's")
    else:
        client.set(prefix + name, "somebody's")

    every_verb(storage, clock)
    storage.prune()

    assert misplaced(client, prefix) == {}
    storage.enqueue([task("good")])
    assert "good" in drained(storage, clock)
    assert misplaced(client, prefix) == {}


@pytest.mark.parametrize("name", KEYS)
def test_a_queue_with_a_key_of_a_wrong_type_can_be_emptied(name: str, storage: RedisStorage, clock: FakeClock, client: Any) -> None:
    filled(storage, clock)
    prefix = keys.prefix(storage.name)
    client.delete(prefix + name)
    client.rpush(prefix + name, "somebody's") if name in ("en", "ln", "tn") else client.set(prefix + name, "somebody's")

    for _ in range(2):
        storage.flush("scheduled")
        storage.flush("ready")
        storage.prune()

    assert misplaced(client, prefix) == {}
    counts = storage.counts()
    assert (counts.scheduled, counts.ready, counts.blocked) == (0, 0, 0)


@pytest.mark.parametrize("name", ["q:0", "s", "z"])
def test_what_stood_in_a_key_set_aside_is_put_back(
    name: str, storage: RedisStorage, clock: FakeClock, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    filled(storage, clock)
    prefix = keys.prefix(storage.name)
    held = set(places(client, prefix))
    client.set(prefix + name, "somebody's")

    storage.turn(LATE, [], 0)
    storage.listen(LATE, 0, Waker())
    storage.counts()
    with caplog.at_level(logging.CRITICAL):
        storage.prune()

    assert client.get(f"{prefix}damaged:{name}") == b"somebody's"
    assert f"damaged: ({prefix}{name})" in caplog.text
    assert set(places(client, prefix)) == held
    assert misplaced(client, prefix) == {}


def test_every_script_is_run_by_these_tests(storage: RedisStorage, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = set()
    call = storage._queue.call
    monkeypatch.setattr(storage._queue, "call", lambda name, *rest, **more: ran.add(name) or call(name, *rest, **more))
    filled(storage, clock)
    every_verb(storage, clock)
    storage.flush("scheduled")

    verbs = {path.stem for path in scripts.FOLDER.glob("*.lua")}
    assert verbs - ran <= {"repair", "rename_ids", "unwatch_results", "watch_results", "flush"}


GARBAGE: dict[str, Callable[[Any, str], object]] = {
    "a state that is no msgpack": lambda client, p: client.hset(p + "d", "tried", b"\xc1garbage"),
    "a state of other types": lambda client, p: client.hset(p + "d", "tried", b"\x93\xa1a\xa1b\xa1c"),
    "a state that is a number": lambda client, p: client.hset(p + "d", "tried", b"\x07"),
    "terms that are no msgpack": lambda client, p: client.hset(p + "t", "l1", b"\xc1"),
    "an id nobody has, ready": lambda client, p: client.lpush(p + "q:0", "ghost"),
    "an id nobody has, at a priority": lambda client, p: client.lpush(p + "q:3", "ghost"),
    "an id nobody has, scheduled": lambda client, p: client.zadd(p + "s", {"ghost": 1}),
    "an id nobody has, scheduled at no time": lambda client, p: client.zadd(p + "s", {"ghost": "-inf", "ghost2": "inf"}),
    "short members": lambda client, p: client.zadd(p + "z", {"a": 0, "": 0}) and client.zadd(p + "u", {"b": 0}),
    "an id nobody has, waiting": lambda client, p: client.zadd(p + "lw", {"0" * 74 + "ghost": 0, "x": 0}),
    "an id nobody has, held": lambda client, p: client.hset(p + "h:worker-1", "ghost", "1"),
    "a token that is no number": lambda client, p: client.hset(p + "h:worker-1", "runs", "one"),
    "a priority that is no number": lambda client, p: client.zadd(p + "p", {"high": 3}),
    "a list's end": lambda client, p: client.hset(p + "l", "0", "garbage"),
    "a count": lambda client, p: client.hset(p + "n", mapping={key: "many" for key in client.hkeys(p + "n")}),
    "a count of nothing": lambda client, p: client.hset(p + "n", "x:y", "z"),
    "a row of statistics": lambda client, p: [
        client.hset(key, mapping={name: b"short" for name in client.hkeys(key)}) for key in client.scan_iter(p + "st60:*")
    ],
    "a minute of statistics": lambda client, p: client.zadd(p + "st60", {"noon": 1}),
    "marks": lambda client, p: client.hset(p + "rv", "ready", "") and client.hset(p + "rn", "app.add", "soon"),
    "marks of ids nobody has": lambda client, p: client.hset(p + "ru", "x", "?"),
    "a lock": lambda client, p: client.hset(p + "lk", "lock", b"\xc1") and client.hset(p + "lk", "more", b"\x91\x01"),
    "a lock of nobody": lambda client, p: client.zadd(p + "lp", {"x": 0}),
    "a rate": lambda client, p: client.hset(p + "rt", "rate", "often"),
    "a unique key of an id nobody has": lambda client, p: client.hset(p + "uk", "key", "ghost"),
    "what the clock holds": lambda client, p: client.hset(p + "kp", "uother", "x"),
    "a tick": lambda client, p: client.hset(p + "tk", "app.tick", "noon"),
    "a follower": lambda client, p: client.hset(p + "c", "followed", "somebody"),
    "an event": lambda client, p: client.xadd(p + "ev", {"a": "b"}, id="9999999999999-0"),
    "a position": lambda client, p: client.set(p + "en", "garbage"),
    "a lock's token": lambda client, p: client.set(p + "ln", "garbage"),
    "a value without a stamp": lambda client, p: client.hset(p + "v:data", b"\xff", b"?"),
    "a count of values": lambda client, p: client.hset(p + "xn:data", mapping={key: "x" for key in client.hkeys(p + "xn:data")}),
    "a cursor": lambda client, p: client.hset(p + "sc", mapping={"lk": "x", "v:data": "-"}),
    "a worker that is no JSON": lambda client, p: client.hset(p + "w", ME.id, "{"),
    "a worker without a row": lambda client, p: client.hdel(p + "w", ME.id),
    "a worker of other types": lambda client, p: client.hset(p + "w", ME.id, '["worker-1", 5, "x", null, [], {}, 7]'),
    "a worker's name that is no text": lambda client, p: client.zadd(p + "wl", {b"\xff\xfe": 1}),
    "a lease without an end": lambda client, p: client.zadd(p + "wl", {"worker-1": "inf"}),
    "a kind that is no text": lambda client, p: client.sadd(p + "k", b"\xff"),
    "the highest token": lambda client, p: client.set(p + "tn", "high"),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_inside_a_key_stops_nobody(what: str, storage: RedisStorage, clock: FakeClock, client: Any) -> None:
    filled(storage, clock)
    prefix = keys.prefix(storage.name)
    GARBAGE[what](client, prefix)

    every_verb(storage, clock)

    storage.enqueue([task("good")])
    assert "good" in drained(storage, clock)
    assert misplaced(client, prefix) == {}


def message(head: bytes, payload: bytes = b"\x01\x00\x80\x05)N\x86.") -> bytes:
    return STAMP + b"%06d" % len(head) + head + payload


MESSAGES = {
    "nothing": b"",
    "short": b"-17",
    "no length": STAMP + b"abcdef[]",
    "no time": b"-whenever it came" + b'000004["a"]',
    "a head that ends early": message(b'["app.good"'),
    "a head that is longer than all": STAMP + b"999999" + b'["app.good"]',
    "no list": message(b'{"name": "app.good"}'),
    "an empty list": message(b"[]"),
    "a name that is a number": message(b"[7]"),
    "a name that is no text": message(b'["app.\xff\xfe"]'),
    "a name with a surrogate": message(b'["app.\\ud800"]'),
    "a name with NUL": message(b'["app.\\u0000"]'),
    "a priority that is a text": message(b'["app.good", "high"]'),
    "a priority beyond all": message(b'["app.good", 1e300]'),
    "a half priority": message(b'["app.good", 0.5]'),
    "retries that are negative": message(b'["app.good", 0, -1]'),
    "a delay that is no number": message(b'["app.good", 0, 0, NaN]'),
    "an expiry that is a list": message(b'["app.good", 0, 0, 0, [1]]').replace(b"-", b"x", 1),
    "an eta that is infinite": message(b'["app.good", 0, 0, 0, null, 1e999]').replace(b"-", b"x", 1),
    "options that are no JSON": message(b'["app.good", 0, 0, 0, null, null, "{"]'),
    "options that are a number": message(b'["app.good", 0, 0, 0, null, null, 5]'),
    "options that are a list": message(b'["app.good", 0, 0, 0, null, null, "{\\"constraints\\": {\\"unique\\": 5}}"]'),
    "options of another type": message(b'["app.good", 0, 0, 0, null, null, "{\\"timeout\\": \\"long\\"}"]'),
    "a head of brackets": message(b"[" * 5000),
}


@pytest.fixture
def huey() -> Iterator[Any]:
    huey = RedisHuey(next(NAMES), port=shared_server().port)
    huey.task(name="app.good")(lambda *args: "good")
    yield huey
    huey.flush()
    huey.storage.close()


def run_one(huey: Any) -> None:
    """Run what is there in a consumer of this program, until a task of our own has its result."""
    good = huey.registry.find("app.good")
    with_consumer = huey.create_consumer(workers=1)
    with_consumer.start()
    try:
        assert good().get(blocking=True, timeout=10) == "good"
    finally:
        with_consumer.stop(timeout=5)


@pytest.mark.parametrize("state", [None, b"\xc1"], ids=["new", "with a state that cannot be read"])
@pytest.mark.parametrize("what", MESSAGES)
def test_an_unreadable_message_becomes_a_dead_letter(what: str, state: bytes | None, huey: Any, client: Any) -> None:
    prefix = keys.prefix(huey.name)
    huey.storage.open()
    client.hset(prefix + "m", "odd", MESSAGES[what])
    if state is not None:
        client.hset(prefix + "d", "odd", state)
    client.rpush(prefix + "q:0", "odd")
    assert [info.id for info in huey.inspector.tasks()] == ["odd"]

    run_one(huey)

    (letter,) = huey.inspector.tasks("failed")
    assert (letter.id, letter.reason) == ("odd", "undecodable")
    assert client.hget(prefix + "m", "odd") == MESSAGES[what]
    assert huey.inspector.discard("odd") == ["odd"]
    assert huey.inspector.tasks() == []


def test_what_a_newer_release_says_behind_a_head_is_ignored(huey: Any, client: Any) -> None:
    prefix = keys.prefix(huey.name)
    huey.storage.open()
    head = b'["app.good",0,0,0,null,null,null,null,null,{"what": "a newer huey has"}]'
    client.hset(prefix + "m", "newer", message(head, huey.codec.encode("task", "newer", ((), None))))
    client.rpush(prefix + "q:0", "newer")

    run_one(huey)

    assert huey.result("newer") == "good"


@pytest.mark.parametrize("id", [b"\xff\xfe", b"\xc3", b"ab\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc0\xaf"])
def test_an_id_that_is_no_text_becomes_a_named_dead_letter(id: bytes, huey: Any, client: Any) -> None:
    prefix = keys.prefix(huey.name)
    huey.storage.open()
    client.hset(prefix + "m", id, message(b'["app.good"]'))
    client.rpush(prefix + "q:0", id)

    run_one(huey)

    (letter,) = huey.inspector.tasks("failed")
    assert letter.reason == "undecodable"
    letter.id.encode()
    assert client.hget(prefix + "m", letter.id) == message(b'["app.good"]')
    assert huey.inspector.discard(letter.id) == [letter.id]
    assert client.hlen(prefix + "m") == 0
    assert misplaced(client, prefix) == {}


def test_a_task_whose_message_is_gone_ends_with_its_run(storage: RedisStorage, clock: FakeClock, client: Any) -> None:
    prefix = keys.prefix(storage.name)
    storage.enqueue([limited("a", priority=1), limited("b")])
    (lease,) = storage.turn(ME, [], 1).leases
    client.hdel(prefix + "m", "a")

    turn = storage.turn(ME, [decide(lease, Raised(ERROR), clock.now())], 1)

    assert turn.stale == []
    assert [lease.id for lease in turn.leases] == ["b"]


def test_ids_without_a_message_do_not_stop_the_others(storage: RedisStorage, client: Any) -> None:
    storage.enqueue([task("a"), task("b", payload=b"x" * 9_000_000), task("c")])
    prefix = keys.prefix(storage.name)
    client.linsert(prefix + "q:0", "before", "a", "ghost 1")
    client.linsert(prefix + "q:0", "before", "b", "ghost 2")

    first, second = storage.turn(ME, [], 9), storage.turn(ME, [], 9)

    assert ([lease.id for lease in first.leases], [lease.id for lease in second.leases]) == (["a", "b"], ["c"])
    assert client.hkeys(prefix + "h:worker-1") == [b"a", b"b", b"c"]


DUES = [-62135596800 * SECOND, -(10**16), -1, 0, 1, 253402300799 * SECOND, 2**53 + 1]


@pytest.mark.parametrize("due", DUES)
def test_a_task_put_back_takes_no_neighbour_along(due: int, storage: RedisStorage, clock: FakeClock, client: Any) -> None:
    storage.enqueue([task(id, priority=p) for id, p in (("a", 0), ("b", 0), ("c", 5), ("d", -5))])
    (lease, *_) = storage.turn(ME, [], 1).leases

    storage.turn(ME, [Finish(lease, State.QUEUED, due=due)], 0)

    assert misplaced(client, keys.prefix(storage.name)) == {}
    assert {lease.id for lease in storage.turn(OTHER, [], 9).leases} == {"a", "b", "c", "d"} - ({"c"} if due > clock.now() else set())


@pytest.mark.parametrize("seconds", [1e10, 8.3e9, 1e-9])
def test_a_result_that_is_kept_for_whatever_time_is_what_it_was(seconds: float, clock: FakeClock) -> None:
    storage = RedisStorage(next(NAMES), port=shared_server().port, clock=clock, result_ttl=seconds)
    storage.enqueue([task("a")])
    (lease,) = storage.turn(ME, [], 1).leases
    storage.turn(ME, [decide(lease, Returned(b"value"), clock.now())], 0)
    storage.put("data", "key", b"value", seconds)

    assert storage.peek("result", "a") in (b"value", None if seconds < 1 else b"value")
    assert storage.peek("data", "key") in (b"value", None if seconds < 1 else b"value")
    storage.flush()
    storage.close()


@pytest.mark.parametrize("lost", ["message", "edges"])
def test_a_task_that_waits_for_a_lost_one_is_cancelled(
    lost: str, storage: RedisStorage, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    prefix = keys.prefix(storage.name)
    storage.enqueue_workflow(pipeline(storage, "a", "b", "c"))
    assert (storage.prune(), states(storage, "b", "c")) == (0, ["waiting"] * 2)
    if lost == "message":
        client.hdel(prefix + keys.MESSAGES, "a")
    else:
        client.delete(prefix + keys.EDGES_TO, prefix + keys.EDGES_FROM)

    with caplog.at_level(logging.WARNING, "huey"):
        storage.prune()

    assert (reasons(storage, "b"), storage.counts().waiting) == (["orphaned"], 0)
    assert "these tasks waited for others that can no longer end, and were cancelled (orphaned): b" in caplog.text

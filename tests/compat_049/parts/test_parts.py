"""Sections M, N and O: the base classes, and the parts that ship."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from huey.backends import dummy, redis_backend, sqlite_backend
from huey.backends.base import BaseDataStore, BaseEventEmitter, BaseQueue, BaseSchedule
from huey.exceptions import ConfigurationError
from huey.testing.contract.tools import Call
from huey.utils import EmptyData
from tests.compat_049.parts.conftest import MakeParts, in_redis, in_sqlite
from tests.support.helpers import SOURCE, bare_environment

NOON = datetime(2026, 1, 5, 12, 0, 0, 250_000)


def texts(found: Any) -> Any:
    """Redis gives bytes."""
    if isinstance(found, list):
        return [texts(it) for it in found]
    return found.decode() if isinstance(found, bytes) else found


@pytest.mark.parametrize("module", ["redis_backend", "sqlite_backend", "dummy"])
def test_S6_S7_S144_the_modules_have_their_classes_by_role(module: str) -> None:
    components = importlib.import_module(f"huey.backends.{module}").Components

    assert len(components) == 4
    assert [issubclass(kind, base) for kind, base in zip(components[:3], (BaseQueue, BaseDataStore, BaseSchedule), strict=True)] == [
        True
    ] * 3
    assert components.events is None or issubclass(components.events, BaseEventEmitter)


def test_S6_the_names_of_the_redis_module() -> None:
    from huey.backends.redis_backend import RedisBlockingQueue, RedisDataStore, RedisEventEmitter, RedisQueue, RedisSchedule

    assert issubclass(RedisBlockingQueue, RedisQueue)
    assert {RedisDataStore.__mro__[-1], RedisEventEmitter.__mro__[-1], RedisSchedule.__mro__[-1]} == {object}


def test_S10_S153_a_base_queue_keeps_its_name_and_connection() -> None:
    queue = BaseQueue("n", a=1)

    assert (queue.name, queue.connection) == ("n", {"a": 1})


def test_S154_a_base_queue_does_not_block() -> None:
    assert BaseQueue.blocking is False


@pytest.mark.parametrize(
    ("part", "method", "arguments"),
    [
        *((BaseQueue, method, arguments) for method, arguments in (("write", ["a"]), ("read", []), ("remove", ["a"]), ("flush", []))),
        (BaseQueue, "__len__", []),
        *((BaseDataStore, method, arguments) for method, arguments in (("put", ["k", 1]), ("peek", ["k"]), ("get", ["k"]), ("flush", []))),
        *((BaseSchedule, method, arguments) for method, arguments in (("add", ["a", NOON]), ("read", [NOON]), ("flush", []))),
        (BaseEventEmitter, "emit", ["{}"]),
    ],
)
def test_S158_what_a_part_does_not_have_is_not_implemented(part: Any, method: str, arguments: list[Any]) -> None:
    with pytest.raises(NotImplementedError):
        getattr(part("n"), method)(*arguments)


def test_S39_S155_S156_a_queue_is_first_in_first_out(parts: tuple[Any, Any, Any]) -> None:
    queue = parts[0]
    queue.read_timeout = 1

    assert queue.write("a") is None
    queue.write("b")

    assert (len(queue), texts(queue.read()), texts(queue.read()), len(queue)) == (2, "a", "b", 0)


def test_S156_an_empty_queue_gives_none(parts: tuple[Any, Any, Any]) -> None:
    parts[0].read_timeout = 1

    assert parts[0].read() is None


def test_S157_remove_takes_all_that_are_equal(parts: tuple[Any, Any, Any]) -> None:
    queue = parts[0]
    for data in "cdc":
        queue.write(data)

    assert (queue.remove("c"), queue.remove("c"), len(queue), texts(queue.read())) == (2, 0, 1, "d")


def test_S158_flush_empties_a_queue(parts: tuple[Any, Any, Any]) -> None:
    parts[0].write("a")

    parts[0].flush()

    assert len(parts[0]) == 0


def test_S159_S160_S161_a_store_is_a_dict(parts: tuple[Any, Any, Any]) -> None:
    store = parts[1]
    store.put("k", "u")
    store.put("k", "v")

    assert store.peek("x") is EmptyData
    assert store.get("x") is EmptyData
    assert (texts(store.peek("k")), texts(store.peek("k")), texts(store.get("k"))) == ("v", "v", "v")
    assert store.get("k") is EmptyData


def test_S162_flush_empties_a_store(parts: tuple[Any, Any, Any]) -> None:
    parts[1].put("k", "v")

    parts[1].flush()

    assert parts[1].peek("k") is EmptyData


def test_S163_S164_a_schedule_gives_what_is_due_in_order(parts: tuple[Any, Any, Any]) -> None:
    schedule, moment = parts[2], timedelta(microseconds=1)
    for data, time_ in (("late", NOON + moment), ("now", NOON), ("early", NOON - moment)):
        schedule.add(data, time_)

    assert texts(schedule.read(NOON)) == ["early", "now"]
    assert schedule.read(NOON) == []
    assert texts(schedule.read(NOON + moment)) == ["late"]


def test_S165_flush_empties_a_schedule(parts: tuple[Any, Any, Any]) -> None:
    parts[2].add("a", NOON)

    parts[2].flush()

    assert parts[2].read(NOON) == []


# Redis


def test_S167_a_redis_queue_is_a_list_that_is_polled(port: int) -> None:
    queue = redis_backend.RedisQueue("q", host="127.0.0.1", port=port)

    queue.write("a")

    assert queue.blocking is False
    assert queue.conn.type("huey.queue.q") == b"list"


def test_S168_a_blocking_queue_waits_for_a_message(port: int) -> None:
    queue = redis_backend.RedisBlockingQueue("q", host="127.0.0.1", port=port)
    call = Call(queue.read)

    redis_backend.RedisQueue("q", host="127.0.0.1", port=port).write("a")

    assert queue.blocking is True
    assert call.answer() == b"a"


def test_S169_read_timeout_ends_the_wait(port: int) -> None:
    begin = time.monotonic()

    assert redis_backend.RedisBlockingQueue("q", read_timeout=1, host="127.0.0.1", port=port).read() is None
    assert 0.9 < time.monotonic() - begin < 5


def test_S169_a_short_socket_timeout_ends_it_too(port: int) -> None:
    assert redis_backend.RedisBlockingQueue("q", host="127.0.0.1", port=port, socket_timeout=0.2).read() is None


def test_S170_S171_results_are_a_hash_the_schedule_a_sorted_set(port: int) -> None:
    _, store, schedule = in_redis(port, "app")
    store.put("k", "v")
    schedule.add("a", NOON)

    assert (store.conn.type("huey.results.app"), store.conn.type("huey.scheduled.app")) == (b"hash", b"zset")


def test_S172_events_go_to_the_channel_of_that_name(port: int) -> None:
    emitter = redis_backend.RedisEventEmitter("My-Channel", host="127.0.0.1", port=port)
    with emitter.conn.pubsub() as pubsub:
        pubsub.subscribe("My-Channel")
        assert pubsub.get_message(timeout=5)["type"] == "subscribe"

        emitter.emit("x")

        message = pubsub.get_message(timeout=5)
    assert (message["type"], message["channel"], message["data"]) == ("message", b"My-Channel", b"x")


@pytest.mark.parametrize(
    ("one", "other"), [("My-App", "y-pp"), ("my-app", "myapp"), ("a", "a.held.w"), ("a", "a.workers"), ("a", "a.ticks"), ("a b", "a%20b")]
)
def test_S173_two_names_do_not_meet(make_shipped: MakeParts, one: str, other: str) -> None:
    queue, store, schedule = make_shipped(one)
    queue.write("held")
    queue.register("w", "text")
    queue.claim("w", 1)
    queue.write("a")
    store.put("k", "v")
    schedule.add("a", NOON)
    queue.tick("task", 1, None)

    for part in make_shipped(other):
        part.flush()
    others = make_shipped(other)

    assert (len(others[0]), others[1].peek("k"), others[2].read(NOON), others[0].ticks()) == (0, EmptyData, [], {})
    assert (texts(queue.held("w")), queue.registered()) == (["held"], {"w": "text"})
    assert (len(queue), texts(store.peek("k")), texts(schedule.read(NOON)), queue.ticks()) == (1, "v", ["a"], {"task": 1})


def test_S22_nothing_connects_before_it_is_used() -> None:
    assert redis_backend.RedisQueue("q", host="127.0.0.1", port=1).name == "q"


def test_a_password_is_in_no_repr() -> None:
    queue = redis_backend.RedisQueue("q", password="geheim")

    assert "geheim" not in repr(queue)


def test_only_a_server_of_this_machine_is_trusted() -> None:
    assert redis_backend.RedisQueue("q").is_trusted
    assert redis_backend.RedisQueue("q", unix_socket_path="/run/redis.sock").is_trusted
    assert redis_backend.RedisQueue("q", host="::1").is_trusted
    assert not redis_backend.RedisQueue("q", host="redis.example.org").is_trusted


def test_an_option_that_the_client_does_not_know_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"redis\.Redis"):
        redis_backend.RedisQueue("q", hots="127.0.0.1")


def test_S1_without_redis_py_the_way_out_is_told(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); from huey.backends.redis_backend import RedisQueue; RedisQueue('q')"

    ended = subprocess.run([sys.executable, "-S", "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=20)

    assert ended.returncode == 1
    assert "pip install redis hiredis" in ended.stderr


# SQLite


def test_S174_the_file_is_made_and_private(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    before = os.umask(0)
    try:
        queue = sqlite_backend.SqliteQueue("n", location=path)
        queue.write("a")
    finally:
        os.umask(before)

    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    assert queue.is_trusted


@pytest.mark.parametrize("location", [":memory:", "", None])
def test_S144_a_database_in_memory_is_refused(location: Any) -> None:
    with pytest.raises(ValueError, match="location="):
        sqlite_backend.SqliteQueue("n", location)


def test_S175_another_process_finds_what_was_written(tmp_path: Path) -> None:
    queue, store, schedule = in_sqlite(tmp_path)
    queue.write("a")
    store.put("k", "v")
    schedule.add("s", NOON)
    code = """
import sys
from datetime import datetime
from huey.backends.sqlite_backend import SqliteDataStore, SqliteQueue, SqliteSchedule
found = [kind('app', sys.argv[1]) for kind in (SqliteQueue, SqliteDataStore, SqliteSchedule)]
print(found[0].read(), found[1].get('k'), found[2].read(datetime(2027, 1, 1)))
"""

    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "parts.db")], env=bare_environment(), capture_output=True, text=True, timeout=20
    )

    assert (ended.stdout, ended.stderr) == ("a v ['s']\n", "")
    assert (queue.read(), store.peek("k"), schedule.read(NOON)) == (None, EmptyData, [])


def test_S175_a_fork_leaves_parent_and_child_with_a_file_each(tmp_path: Path) -> None:
    queue = in_sqlite(tmp_path)[0]
    queue.write("a")

    pid = os.fork()
    if pid == 0:
        try:
            queue.write("b")
            os._exit(0)
        finally:
            os._exit(1)

    assert os.waitpid(pid, 0)[1] == 0
    assert (queue.read(), queue.read(), queue.read()) == ("a", "b", None)


def test_S176_of_many_readers_each_message_goes_to_one(make_shipped: MakeParts) -> None:
    queue, read, lock = make_shipped()[0], [], threading.Lock()
    queue.read_timeout = 0.1
    for n in range(20):
        queue.write(str(n))

    def drain() -> None:
        while (data := queue.read()) is not None:
            with lock:
                read.append(texts(data))

    for call in [Call(drain) for _ in range(4)]:
        call.answer()

    assert sorted(read, key=int) == [str(n) for n in range(20)]


# What the shipped ones have beside


def test_what_is_claimed_is_held_until_it_is_acknowledged(make_shipped: MakeParts) -> None:
    queue, _, schedule = make_shipped()
    for part in (queue, schedule):
        for data in "abc":
            queue.write(data) if part is queue else schedule.add(data, NOON)

        claimed = part.claim("w", 2, NOON)

        assert texts(claimed) == texts(part.held("w")) == ["a", "b"]
        assert (len(part), texts(part.waiting(9))) == (1, ["c"])
        assert part.ack("w", claimed[0])
        assert not part.ack("w", claimed[0])
        assert not part.ack("other", claimed[1])
        assert texts(part.held("w")) == ["b"]


def test_what_takes_the_place_of_a_message_goes_where_it_shall(make_shipped: MakeParts) -> None:
    queue = make_shipped()[0]
    for data in "abcd":
        queue.write(data)
    a, b, c = queue.claim("w", 3)

    assert queue.ack("w", a, "last")
    assert queue.ack("w", b, "first", first=True)
    assert queue.ack("w", c, "inherited", successor="x")
    assert not queue.ack("w", a, "never")

    assert texts(queue.waiting(9)) == ["first", "d", "last"]
    assert (queue.held("w"), texts(queue.held("x"))) == ([], ["inherited"])


def test_a_holder_is_forgotten_once_it_holds_nothing(make_shipped: MakeParts) -> None:
    queue = make_shipped()[0]
    queue.write("a")
    queue.register("w", "text")
    queue.register("w", "newer")
    (a,) = queue.claim("w", 1)

    queue.deregister("w")
    assert queue.registered() == {"w": "newer"}

    queue.ack("w", a)
    queue.deregister("w")
    assert queue.registered() == {}


def test_a_tick_is_noted_once_with_its_message(make_shipped: MakeParts) -> None:
    queue = make_shipped()[0]

    assert [queue.tick("t", at, data) for at, data in ((2, "a"), (2, "b"), (1, "c"), (3, "d"), (4, None))] == [
        True,
        False,
        False,
        True,
        True,
    ]
    assert texts(queue.waiting(9)) == ["a", "d"]
    assert queue.ticks() == {"t": 4}


def test_dummy_parts_share_nothing() -> None:
    one, other = dummy.DummyQueue("n"), dummy.DummyQueue("n")

    one.write("a")

    assert (len(one), len(other), bool(other)) == (1, 0, True)

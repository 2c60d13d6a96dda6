"""Connections to a Redis server: shared, given back on every path, few however many threads and queues there are."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
import redis

from huey import RedisHuey
from huey.exceptions import ConfigurationError, StorageError, StorageUnavailable
from huey.storage.redis import RedisStorage, shared_listeners
from huey.storage.redis import pool as pools
from huey.storage.redis.errors import translated
from huey.storage.redis.shared_listeners import ResultListener
from huey.task.lifecycle import Finish, State
from huey.testing.contract.house import exit_code_of
from huey.testing.contract.tools import ME, Call, is_followed, publish, task
from tests.support.helpers import wait_until
from tests.support.redis_server import ALWAYS, Server, shared_server

NAMES = (f"connections {n}" for n in count())


@pytest.fixture
def admin() -> Iterator[Any]:
    with redis.Redis(port=shared_server().port) as client:
        yield client


@pytest.fixture
def mine() -> Iterator[Callable[..., RedisStorage]]:
    """Makes storages of one new name on the shared server; at the end they are closed."""
    made, name = [], next(NAMES)

    def make(name: str = name, **options: Any) -> RedisStorage:
        ways = options if {"connection_pool", "client", "url"} & set(options) else {"port": shared_server().port} | options
        made.append(RedisStorage(name, **ways))
        return made[-1]

    yield make
    for storage in made:
        storage.close()


def pool_of(kind: type[redis.ConnectionPool] = redis.ConnectionPool, most: int = 4, **options: Any) -> Any:
    return kind(port=shared_server().port, max_connections=most, **options)


def lent(pool: Any) -> int:
    """Connections of a pool of redis-py that somebody has."""
    if isinstance(pool, redis.BlockingConnectionPool):
        return int(pool.max_connections) - pool.pool.qsize()
    return len(pool._in_use_connections)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def kill_all_but(admin: Any) -> None:
    admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


# -- given back on every path -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [redis.ConnectionPool, redis.BlockingConnectionPool])
def test_a_thousand_reconnects_leak_nothing(mine: Callable[..., RedisStorage], kind: type[redis.ConnectionPool]) -> None:
    pool = pool_of(kind, timeout=1) if kind is redis.BlockingConnectionPool else pool_of()
    storage = mine(connection_pool=pool)
    storage.open()
    before = descriptors()

    for _ in range(1000):
        sock = storage._queue.pool._free[-1].transport._sock
        sock.shutdown(socket.SHUT_RDWR)
        assert storage.counts().is_paused is False

    assert lent(pool) == 1
    assert descriptors() <= before
    storage.close()
    assert lent(pool) == 0


def test_a_pool_of_our_own_has_no_limit_but_that_of_the_user(mine: Callable[..., RedisStorage]) -> None:
    storage = mine()
    connections = [storage._queue.take() for _ in range(130)]
    for connection in connections:
        storage._queue.pool.release(connection)

    assert storage._queue.most is None
    assert mine(max_connections=7)._queue.most == 7
    assert mine(url=shared_server().url + "?max_connections=8")._queue.most == 8


def test_connections_that_the_server_kills_go_back(mine: Callable[..., RedisStorage], admin: Any) -> None:
    pool = pool_of()
    storage = mine(connection_pool=pool)

    for n in range(20):
        storage.enqueue([task(str(n))])
        kill_all_but(admin)

    assert storage.counts().ready == 20
    assert lent(pool) <= 1


def test_connections_of_a_server_that_restarts_go_back() -> None:
    with Server(None, *ALWAYS) as server:
        pool = redis.ConnectionPool(port=server.port, max_connections=3)
        storage = RedisStorage("app", connection_pool=pool, enqueue_timeout=10)
        for n in range(5):
            storage.enqueue([task(str(n))])
            server.stop(signal.SIGKILL)
            with pytest.raises(StorageUnavailable):
                storage.counts()
            server.start()

        assert storage.counts().ready == 5
        storage.close()
        assert lent(pool) == 0


def test_a_connection_whose_answer_comes_too_late_goes_back(mine: Callable[..., RedisStorage], admin: Any) -> None:
    pool = pool_of(socket_timeout=0.05)
    storage = mine(connection_pool=pool, enqueue_timeout=0.1)
    storage.open()

    for _ in range(3):
        admin.client_pause(150, all=True)
        with pytest.raises(StorageUnavailable):
            storage.turn(ME, [], 1)
        admin.client_unpause()
        storage.open()

    assert lent(pool) == 1


def test_a_waiting_threads_connection_goes_back_with_it(mine: Callable[..., RedisStorage]) -> None:
    pool = pool_of()
    storage = mine(connection_pool=pool)
    storage.open()

    for _ in range(20):
        thread = threading.Thread(target=storage._listener_of_thread)
        thread.start()
        thread.join()

    wait_until(lambda: lent(pool) <= 1)


def test_storages_that_are_forgotten_give_their_connections_back(mine: Callable[..., RedisStorage]) -> None:
    pool = pool_of()
    for n in range(30):
        RedisStorage(f"forgotten {n}", connection_pool=pool).open()
    gc.collect()

    assert lent(pool) == 0


def test_what_is_dropped_under_the_pools_lock_goes_back_later(mine: Callable[..., RedisStorage]) -> None:
    pool = pool_of()
    storage = mine(connection_pool=pool)
    connection = storage._queue.take()

    def hold() -> None:
        with pool._lock:
            held.set()
            let_go.wait(10)

    held, let_go = threading.Event(), threading.Event()
    holding = Call(hold)
    held.wait(10)
    del connection
    let_go.set()
    holding.answer()
    assert lent(pool) == 1

    storage.open()
    assert lent(pool) == 1


def test_a_forked_child_leaves_the_parents_connections(mine: Callable[..., RedisStorage]) -> None:
    pool = pool_of()
    storage = mine(connection_pool=pool)
    storage.enqueue([task("a")])
    waiting = until_it_waits(storage, "a")
    before = lent(pool)

    def is_well() -> bool:
        storage.enqueue([task("b")])
        finds = storage.counts().ready == 2 and not storage.wait(["a"], 0.05)
        return finds and lent(pool) == 2

    assert exit_code_of(is_well) == 0
    assert storage.counts().ready == 2
    storage.put("result", "a", b"5")
    assert waiting.answer()
    assert lent(pool) == before


def until_it_waits(storage: RedisStorage, *ids: str, timeout: float | None = 20) -> Call[bool]:
    """A thread that waits for results; the server knows of it."""
    call = Call(lambda: storage.wait(ids, timeout))
    wait_until(lambda: all(storage._queue.command(b"HEXISTS", storage._prefix + "wt", id) for id in ids))
    return call


def test_a_text_that_cannot_be_sent_is_no_outage(mine: Callable[..., RedisStorage]) -> None:
    storage = mine()
    storage.open()
    free = list(storage._queue.pool._free)

    for act in (lambda: storage.put("data", "a\ud800", b"x"), lambda: storage._queue.command(b"GET", "\udfff")):
        with pytest.raises((StorageError, ValueError)) as told:
            act()
        assert not isinstance(told.value, StorageUnavailable)

    assert list(storage._queue.pool._free) == free


# -- few of them ------------------------------------------------------------------------------------------------------------------------


def test_queues_of_one_process_share_their_connections(admin: Any) -> None:
    huey = RedisHuey("q", url=shared_server().url)
    len(huey)
    clients, files = len(admin.client_list()), descriptors()

    queues = [huey.on(f"by on {n}") for n in range(500)] + [RedisHuey(f"apart {n}", url=shared_server().url) for n in range(500)]
    for queue in queues[::50]:
        len(queue)

    assert len(admin.client_list()) <= clients
    assert descriptors() <= files
    huey.close()
    assert len(queues[0]) == 0
    for queue in queues:
        queue.close()


def test_queues_with_other_options_do_not_share(mine: Callable[..., RedisStorage]) -> None:
    here = mine(password=None)

    assert here._queue.pool is mine(name="another", password=None)._queue.pool
    assert here._queue.pool is not mine(db=1)._queue.pool
    assert here._queue.pool is not mine(connection_pool=pool_of())._queue.pool


def test_a_closing_queue_leaves_others_their_connections(mine: Callable[..., RedisStorage]) -> None:
    one, other = mine(name="one"), mine(name="other")
    one.open()
    other.open()
    waiting = until_it_waits(other, "a")

    one.close()
    other.put("result", "a", b"5")

    assert waiting.answer()
    other.flush()


def test_three_hundred_threads_wait_on_one_connection(mine: Callable[..., RedisStorage], admin: Any) -> None:
    storage = mine()
    storage.open()
    before = len(admin.client_list())
    calls = [Call(lambda n=n: storage.wait([str(n)], 20)) for n in range(300)]  # type: ignore[misc]
    wait_until(lambda: storage._queue.command(b"HLEN", storage._prefix + "wt") == 300)

    assert len(admin.client_list()) - before <= 10
    assert sum("cmd=blpop" in f"cmd={client['cmd']}" for client in admin.client_list() if client["flags"] == "b") <= 1
    for n in range(300):
        storage.put("result", str(n), b"5")
    assert all(call.answer() for call in calls)
    assert len(admin.client_list()) - before <= 10
    storage.flush()


def test_a_hundred_pools_of_four_serve_many_threads() -> None:
    pools_of_four = [pool_of() for _ in range(100)]
    storages = [RedisStorage(f"of four {n}", connection_pool=pool) for n, pool in enumerate(pools_of_four)]
    waits = [until_it_waits(storage, "a") for storage in storages[:20]]
    calls = [Call(lambda storage=storage, n=n: storage.enqueue([task(str(n))])) for storage in storages for n in range(8)]  # type: ignore[misc]
    for call in calls:
        call.answer()

    assert max(map(lent, pools_of_four)) <= 4
    assert {storage.counts().ready for storage in storages} == {8}
    for storage in storages[:20]:
        storage.put("result", "a", b"5")
    assert all(wait.answer() for wait in waits)
    for storage in storages:
        storage.flush()
        storage.close()
    assert max(map(lent, pools_of_four)) == 0


def test_who_follows_events_shares_one_connection_too(mine: Callable[..., RedisStorage], admin: Any) -> None:
    storage = mine()
    start = storage.follow(None)[0]
    before = len(admin.client_list())
    followers = [Call(lambda: storage.follow(start, 20)) for _ in range(50)]
    wait_until(lambda: any(client["cmd"] == "xread" for client in admin.client_list()))

    assert len(admin.client_list()) - before <= 10
    wait_until(lambda: is_followed(storage))
    publish(storage, ["{}"])

    assert {tuple(told) for _, told in (each.answer() for each in followers)} == {("{}",)}


# -- waits ------------------------------------------------------------------------------------------------------------------------------


def test_several_threads_wait_for_the_same_result(mine: Callable[..., RedisStorage]) -> None:
    storage = mine()
    waits = [until_it_waits(storage, "a", "b") for _ in range(5)] + [until_it_waits(storage, "b") for _ in range(5)]

    storage.put("result", "b", b"5")

    assert all(wait.answer() for wait in waits)


def test_one_wakes_whom_it_concerns(mine: Callable[..., RedisStorage]) -> None:
    storage = mine()
    first, second = until_it_waits(storage, "a"), until_it_waits(storage, "b")

    storage.put("result", "b", b"5")
    assert second.answer()
    assert first.is_waiting

    storage.put("result", "a", b"5")
    assert first.answer()


def test_a_queue_that_comes_later_is_heard_at_once(mine: Callable[..., RedisStorage]) -> None:
    first, second = mine(), mine(name="comes later")
    waiting = until_it_waits(first, "a")
    later = until_it_waits(second, "a")
    shared_listener = second._queue.pool.shared_listener(ResultListener)

    assert set(shared_listener._blocked_on or ()) == {first._prefix, second._prefix}
    second.put("result", "a", b"5")
    assert later.answer()
    assert waiting.is_waiting
    first.put("result", "a", b"5")
    assert waiting.answer()
    second.flush()


def test_a_wait_ends_on_time_whoever_leads_and_leaves_no_mark(mine: Callable[..., RedisStorage]) -> None:
    storage = mine()
    longer = until_it_waits(storage, "long")
    waits = [Call(lambda n=n: storage.wait([f"{n}", f"{n} too"], 0.05 + n / 500)) for n in range(50)]  # type: ignore[misc]

    assert not any(wait.answer() for wait in waits)
    assert storage._queue.command(b"HKEYS", storage._prefix + "wt") == [b"long"]
    storage.put("result", "long", b"5")
    assert longer.answer()


def test_when_the_leader_leaves_another_leads_on(mine: Callable[..., RedisStorage]) -> None:
    storage = mine()
    leading = until_it_waits(storage, "first")
    led = [until_it_waits(storage, f"{n}") for n in range(3)]

    storage.put("result", "first", b"5")
    assert leading.answer()
    for n, wait in enumerate(led):
        storage.put("result", f"{n}", b"5")
        assert wait.answer()


def test_thousands_of_results_are_waited_for_at_once(mine: Callable[..., RedisStorage]) -> None:
    storage = mine()
    ids = [str(n) for n in range(5000)]
    waiting = until_it_waits(storage, *ids[::1000])
    every = Call(lambda: storage.wait(ids, 20))
    wait_until(lambda: storage._queue.command(b"HLEN", storage._prefix + "wt") == 5000)

    storage.put("result", "4321", b"5")

    assert every.answer()
    assert waiting.is_waiting
    storage.put("result", "4000", b"5")
    assert waiting.answer()
    storage.flush()


def test_a_wait_survives_that_its_connection_is_killed(mine: Callable[..., RedisStorage], admin: Any) -> None:
    storage = mine()
    waits = [until_it_waits(storage, f"{n}") for n in range(10)]

    for n, wait in enumerate(waits):
        kill_all_but(admin)
        storage.put("result", f"{n}", b"5")
        assert wait.answer()


def test_a_wait_survives_a_restart_of_the_server() -> None:
    with Server(None, *ALWAYS) as server:
        storage = RedisStorage("app", port=server.port)
        waits = [until_it_waits(storage, f"{n}") for n in range(5)]

        server.stop(signal.SIGKILL)
        server.start()
        wait_until(lambda: is_put(storage, "3"))

        assert waits[3].answer()
        for n in (0, 1, 2, 4):
            storage.put("result", f"{n}", b"5")
        assert all(wait.answer() for wait in waits)
        storage.close()


def is_put(storage: RedisStorage, id: str) -> bool:
    try:
        storage.put("result", id, b"5")
    except StorageUnavailable:
        return False
    return True


def test_a_wait_at_an_absent_server_says_so_in_each_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huey.storage.redis.shared_listeners.OUTAGE_TOLERANCE_S", 0.1)
    with Server() as server:
        storage = RedisStorage("app", port=server.port)
        waits = [until_it_waits(storage, f"{n}", timeout=None) for n in range(5)]
        server.stop(signal.SIGKILL)

        errors = []
        for wait in waits:
            with pytest.raises(StorageUnavailable, match="cannot reach the server") as told:
                wait.answer()
            errors.append(told.value)

        assert len({id(error) for error in errors}) == 5
        storage.close()


def test_a_wait_that_interrupts_one_in_its_own_thread_ends_too(mine: Callable[..., RedisStorage]) -> None:
    storage, heard = mine(), []

    def interrupt(*about: object) -> None:
        storage.put("result", "inner", b"5")
        heard.append((storage.wait(["inner"], 5), storage.wait(["never"], 0.05)))

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        poking = Call(lambda: poke(storage))
        assert storage.wait(["outer"], 20)
        poking.answer()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [(True, False)]


def poke(storage: RedisStorage) -> None:
    wait_until(lambda: storage._queue.command(b"HEXISTS", storage._prefix + "wt", "outer"))
    os.kill(os.getpid(), signal.SIGUSR1)
    wait_until(lambda: storage.peek("result", "inner"))
    storage.put("result", "outer", b"5")


def test_an_error_that_strikes_the_leader_is_its_own(mine: Callable[..., RedisStorage], monkeypatch: pytest.MonkeyPatch) -> None:
    storage = mine()
    shared_listener = storage._queue.pool.shared_listener(ResultListener)
    real = shared_listener._await_reply
    strikes = [KeyboardInterrupt("struck")]

    def hear(seconds: float) -> None:
        if len(shared_listener._all()) > 1 and strikes:
            raise strikes.pop()
        real(seconds)

    monkeypatch.setattr(shared_listener, "_await_reply", hear)
    first = until_it_waits(storage, "a")
    second = until_it_waits(storage, "b")
    with pytest.raises(KeyboardInterrupt):
        first.answer()

    storage.put("result", "b", b"5")
    assert second.answer()


# -- pools that are too small -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [redis.ConnectionPool, redis.BlockingConnectionPool])
def test_an_exhausted_pool_says_that_it_is_the_pool(
    mine: Callable[..., RedisStorage], kind: type[redis.ConnectionPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "POOL_TIMEOUT_S", 0.2)
    # One that lets its callers wait for ever does not make us wait for ever.
    pool = pool_of(kind, most=1, timeout=None) if kind is redis.BlockingConnectionPool else pool_of(most=1)
    storage = mine(connection_pool=pool, enqueue_timeout=0.1)
    taken = storage._queue.take()

    with pytest.raises(StorageError, match=r"max_connections=1.*a consumer needs up to 4") as told:
        storage.enqueue([task()])
    assert "cannot reach the server" not in str(told.value)

    storage._queue.pool.release(taken)
    storage.enqueue([task()])


def test_a_pool_of_one_says_at_once_that_nobody_can_wait(mine: Callable[..., RedisStorage], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "POOL_TIMEOUT_S", 0.2)
    monkeypatch.setattr(shared_listeners, "OUTAGE_TOLERANCE_S", 600.0)
    storage = mine(connection_pool=pool_of(most=1))
    storage.enqueue([task("a")])

    with pytest.raises(StorageUnavailable, match="max_connections=1"):
        storage.wait(["a"], 60.0)


@pytest.mark.parametrize(
    ("said", "way_out"), [("NOREPLICAS Not enough good replicas", "start them"), ("READONLY You can't", "the primary")]
)
def test_a_server_that_takes_no_writes_is_told_with_the_way_out(said: str, way_out: str) -> None:
    error = translated(said, "here")
    assert isinstance(error, StorageUnavailable)
    assert said in str(error)
    assert way_out in str(error)


def test_a_call_waits_for_a_connection_that_comes_back(mine: Callable[..., RedisStorage]) -> None:
    storage = mine(connection_pool=pool_of(most=1))

    calls = [Call(lambda n=n: storage.enqueue([task(str(n))])) for n in range(50)]  # type: ignore[misc]
    for call in calls:
        call.answer()

    assert storage.counts().ready == 50


@pytest.mark.parametrize("most", [1, 2])
def test_a_consumer_with_too_small_a_pool_is_refused(most: int) -> None:
    huey = RedisHuey("small", connection_pool=pool_of(most=most))

    with pytest.raises(ConfigurationError, match=f"max_connections={most}, and a consumer needs 4"):
        huey.create_consumer(periodic=False).start()
    huey.close()


@pytest.mark.parametrize("most", [3, 4])
def test_a_consumer_works_with_four_connections_or_three(most: int) -> None:
    huey = RedisHuey("four", connection_pool=pool_of(most=most))
    add = huey.task(name="add")(lambda a, b: a + b)
    consumer = huey.create_consumer(workers=2, periodic=False)
    consumer.start()

    results = [Call(lambda n=n: add(n, 1).get(blocking=True, timeout=20)) for n in range(20)]  # type: ignore[misc]

    assert [each.answer() for each in results] == list(range(1, 21))
    consumer.stop()
    huey.close()


def test_a_server_with_as_many_clients_as_it_takes_says_so() -> None:
    with Server(None, "--maxclients", "4") as server:
        taken = [redis.Redis(port=server.port, single_connection_client=True) for _ in range(4)]
        with pytest.raises(StorageUnavailable, match=r"maxclients.*a consumer needs up to 4"):
            RedisStorage("app", port=server.port).open()
        for client in taken:
            client.close()


def test_ends_of_tasks_are_told_to_who_waits(mine: Callable[..., RedisStorage]) -> None:
    storage = mine()
    storage.enqueue([task(str(n)) for n in range(40)])
    waits = [until_it_waits(storage, str(n)) for n in range(40)]

    leases = storage.turn(ME, [], 40).leases
    storage.turn(ME, [Finish(lease, State.SUCCEEDED, value=b"5") for lease in leases], 0)

    assert all(wait.answer() for wait in waits)
    storage.flush()

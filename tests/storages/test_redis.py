"""The storage in Redis keeps the contract, on the machine's server, the wheel's 6.2 and a Valkey, and the promises of its own."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from huey import RedisHuey
from huey.exceptions import ConfigurationError, EncodeError, StorageFull, StorageRefused, StorageUnavailable
from huey.runtime.clock import SECOND
from huey.runtime.waker import Waker
from huey.storage.base import Storage
from huey.storage.locks import Held, Holder
from huey.storage.redis import RedisStorage, keys
from huey.storage.redis.connection import SPIN_BACKOFF, CommandConnection
from huey.storage.redis.storage import OPENING
from huey.storage.rows import Counts, TaskIds
from huey.task.lifecycle import Finish, State
from huey.task.record_options import WAITING
from huey.testing.clock import FakeClock
from huey.testing.contract import EdgeRules, KeepingRules, SharingRules, StorageContract
from huey.testing.contract.constraints import limited, unique
from huey.testing.contract.house import exit_code_of
from huey.testing.contract.tools import ME, OTHER, Call, is_followed, publish, task
from tests.storages.redis_storages import Make, makes, server_of
from tests.support.helpers import wait_until
from tests.support.redis_server import ALWAYS, Server


class TestRedis(StorageContract, KeepingRules, SharingRules, EdgeRules):
    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def storage(self, clock: FakeClock, make: Make) -> Storage:
        return make(clock=clock)

    @pytest.fixture
    def another(self, clock: FakeClock, make: Make) -> Callable[[], Storage]:
        return lambda: make(clock=clock)

    @pytest.fixture
    def keeping(self, clock: FakeClock, make: Make) -> Callable[..., Storage]:
        return lambda keep_finished: make(clock=clock, keep_finished=keep_finished)


class TestOldRedis(TestRedis):
    @pytest.fixture
    def make(self) -> Iterator[Make]:
        yield from makes(server_of("wheel"))


class TestDurableValkey(TestRedis):
    """Each call waits for the server's disk; the scripts are the same as without that."""

    @pytest.fixture
    def make(self) -> Iterator[Make]:
        yield from makes(server_of("valkey", *ALWAYS), durable=True)


def test_a_durable_call_waits_for_the_servers_disk() -> None:
    port = server_of("valkey", "--appendonly", "yes").port
    with redis.Redis(port=port) as client:
        storage = RedisStorage("app", port=port, durable=True)

        storage.enqueue([task("a")])

        assert client.info("commandstats")["cmdstat_waitaof"]["calls"] >= 1
        assert [lease.id for lease in storage.turn(ME, [], 1).leases] == ["a"]
        storage.close()


def test_durable_needs_a_server_that_appends() -> None:
    storage = RedisStorage("app", port=server_of("valkey").port, durable=True)

    with pytest.raises(StorageRefused, match="appendonly yes"):
        storage.open()
    storage.close()


# -- names and keys ---------------------------------------------------------------------------------------------------------------------


def test_names_that_share_a_server_never_meet(make: Make) -> None:
    names = ["a b", "a%20b", "a_b", "A b", "a{b", "a}b", "{a}b", "ä", "a:b", "a\nb"]
    storages = [make(name) for name in names]

    for storage in storages:
        storage.enqueue([task("same")])

    assert all(len(storage.find()) == 1 for storage in storages)
    assert set(names) <= set(storages[0].queues())
    storages[0].flush()
    assert [len(storage.find()) for storage in storages] == [0] + [1] * (len(names) - 1)
    for storage in storages:
        storage.flush()


def test_all_keys_of_a_queue_share_a_hash_tag() -> None:
    assert keys.prefix("my app}{") == "huey:{my%20app%7D%7B}:"


def test_nothing_is_left_when_all_is_done_and_read(make: Make, server: Any) -> None:
    storage = make()
    storage.enqueue([task(f"{n}", priority=n % 3, eta=1 if n % 2 else None) for n in range(30)])
    leases = storage.turn(ME, [], 30).leases
    storage.release(ME, leases[:10])
    finishes = [Finish(lease, State.SUCCEEDED, value=b"v") for lease in leases[10:]]
    again = storage.turn(ME, finishes, 30).leases
    storage.turn(ME, [Finish(lease, State.SUCCEEDED, value=b"v") for lease in again], 1)

    storage.take("result", [str(n) for n in range(30)], remove=True)
    storage.deregister(ME)

    assert keys_left(storage, server) <= {"l", "st60", "wake", "tn", "pr"}


def keys_left(storage: RedisStorage, server: Any) -> set[str]:
    """What stands under its prefix, each up to its first colon."""
    start = storage._prefix
    found = server.keys(start.replace("{", "\\{") + "*")
    return {key.decode().removeprefix(start).partition(":")[0] for key in found}


def test_nothing_is_left_of_tasks_with_terms_and_of_locks(make: Make, server: Any) -> None:
    storage = make()
    records = [unique("a"), unique("b", "l", WAITING), *(limited(f"l{n}", 2) for n in range(5)), limited("later", eta=1)]
    storage.enqueue(records)
    storage.revoke(TaskIds(["l4"]))
    ran = set()
    while leases := (turn := storage.turn(ME, [], 9)).leases:
        ran |= {lease.id for lease in leases} | {refusal.id for refusal in turn.cancelled}
        assert storage.acquire_lock("lock", Holder(leases[0].id, leases[0].token)) is not None
        storage.release(ME, leases[1:2])
        storage.turn(ME, [Finish(lease, State.SUCCEEDED) for lease in leases], 0)
    storage.release_lock("lock", storage.acquire_lock("lock", Holder("p")) or 0)
    storage.flush_locks()
    storage.deregister(ME)
    storage.discard(["l4"])

    left = keys_left(storage, server)
    assert ran == {record.id for record in records}
    assert left <= {"l", "st60", "wake", "ln", "tn", "pr"}


# -- locks and lost answers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("losses", "is_open"), [(7, True), (10**6, False)])
def test_opening_survives_lost_answers_but_no_absent_server(
    make: Make, monkeypatch: pytest.MonkeyPatch, losses: int, is_open: bool
) -> None:
    clock = FakeClock()
    storage, lost, read, began = make(clock=clock), count(), CommandConnection.read, clock.monotonic()

    def lossy(connection: CommandConnection) -> Any:
        answer = read(connection)
        if next(lost) < losses:
            raise StorageUnavailable("the answer was lost")
        return answer

    monkeypatch.setattr(CommandConnection, "read", lossy)

    with nullcontext() if is_open else pytest.raises(StorageUnavailable):
        storage.open()
    assert 0 < clock.monotonic() - began <= OPENING * SECOND


def test_a_lock_whose_answer_was_lost_once_is_taken(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = make()
    monkeypatch.setattr(CommandConnection, "read", losing(1, CommandConnection.read))

    token = storage.acquire_lock("l", Holder("p"))

    assert storage.find_lock("l") == Held("l", token or 0, Holder("p"))
    assert storage.acquire_lock("l", Holder("p")) is None


def test_a_lock_without_an_answer_is_freed_by_the_heartbeat(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, another = make(), make()
    kept = storage.acquire_lock("other", Holder("p"))
    with monkeypatch.context() as patch:
        patch.setattr(CommandConnection, "read", losing(2, CommandConnection.read))
        with pytest.raises(StorageUnavailable):
            storage.acquire_lock("l", Holder("p"))
    assert another.find_lock("l") is not None

    assert storage.renew_locks(Holder("p")) == 1
    assert storage.renew_locks(Holder("p")) == 1
    assert (another.find_lock("l"), another.find_lock("other")) == (None, Held("other", kept or 0, Holder("p")))


def losing(times: int, read: Callable[[CommandConnection], Any]) -> Callable[[CommandConnection], Any]:
    """Reads that lose so many answers of taking a lock, after the server has given them."""
    lost = count()

    def lossy(connection: CommandConnection) -> Any:
        answer = read(connection)
        # A token; numbers of connections are asked for with no token given yet.
        if isinstance(answer, int) and connection.client and next(lost) < times:
            raise StorageUnavailable("the answer was lost")
        return answer

    return lossy


def test_locks_are_renewed_on_a_server_without_room(make: Make, server: Any) -> None:
    storage = make()
    storage.acquire_lock("l", Holder("p"))
    server.config_set("maxmemory", 1)
    try:
        assert storage.renew_locks(Holder("p")) == 1
        with pytest.raises(StorageFull):
            storage.acquire_lock("m", Holder("p"))
        with pytest.raises(StorageFull):
            storage.enqueue([limited("a")])
    finally:
        server.config_set("maxmemory", 0)
    assert storage.find() == []


def test_a_slow_reply_is_waited_for_and_the_next_as_usual() -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    connection = CommandConnection(SimpleNamespace(_sock=ours, disconnect=ours.close), "here")

    def answer_late() -> None:
        wait_until(lambda: connection._spins_to_skip == SPIN_BACKOFF)
        theirs.sendall(b"+late\r\n")

    late = Call(answer_late)
    with theirs:
        connection.spin_for_reply()
        assert connection.read() == b"late"
        late.answer()
        theirs.sendall(b"+next\r\n")
        connection.spin_for_reply()
        assert connection.read() == b"next"
        assert connection._spins_to_skip == SPIN_BACKOFF - 1
    connection.close()


def test_a_forked_childs_connections_are_its_own(make: Make) -> None:
    storage = make()
    storage.enqueue([task("a")])

    def is_well(who: int) -> bool:
        storage.enqueue([task(f"{who}-{n}") for n in range(50)])
        return all(storage.peek("data", "none") is None for _ in range(200))

    # All at once; none may read another one's answer.
    children = [Call(lambda who=who: exit_code_of(lambda: is_well(who))) for who in range(3)]  # type: ignore[misc]

    assert is_well(9)
    assert [child.answer() for child in children] == [0, 0, 0]
    assert storage.counts().ready == 201


def test_low_priorities_come_last_also_beside_the_lists(make: Make) -> None:
    storage = make(clock=FakeClock())
    storage.enqueue([task("c", priority=-1)])
    storage.enqueue([task("a"), task("b", priority=-1), task("d")])

    assert [lease.id for lease in storage.turn(ME, [], 9).leases] == ["a", "d", "b", "c"]


# -- what the server does ---------------------------------------------------------------------------------------------------------------


def test_scripts_that_the_server_forgot_are_told_again(make: Make, server: Any) -> None:
    storage = make()
    storage.enqueue([task("a")])
    server.script_flush()

    assert [lease.id for lease in storage.turn(ME, [], 1).leases] == ["a"]
    server.script_flush()
    waker = Waker()
    assert not storage.listen(ME, 0.05, waker)
    assert not storage.wait(["a"], 0.05)
    waker.close()


def test_a_turn_brings_no_more_than_8_mib(make: Make) -> None:
    storage = make()
    for n in range(5):
        storage.enqueue([task(str(n), payload=b"x" * 3_000_000)])

    turns = [storage.turn(ME, [], 5) for _ in range(3)]

    assert [[lease.id for lease in turn.leases] for turn in turns] == [["0", "1", "2"], ["3", "4"], []]
    assert [turn.may_have_more for turn in turns] == [True, False, False]
    ends = [Finish(lease, State.SUCCEEDED, value=b"y" * 3_000_000) for turn in turns for lease in turn.leases]
    assert storage.turn(ME, ends, 0).stale == []
    assert storage.counts() == Counts(results=5)


def test_a_full_server_takes_ends_but_no_tasks() -> None:
    with Server() as server, redis.Redis(port=server.port) as admin:
        storage = RedisStorage("full", port=server.port)
        storage.enqueue([task("a"), task("b")])
        (lease,) = storage.turn(ME, [], 1).leases
        admin.config_set("maxmemory", "1mb")

        with pytest.raises(StorageFull, match="maxmemory"):
            storage.enqueue([task("c")])
        turn = storage.turn(ME, [Finish(lease, State.SUCCEEDED, value=b"5")], 1)

        assert (turn.storage_full, turn.leases, turn.stale) == (True, [], [])
        assert storage.peek("result", "a") == b"5"
        admin.config_set("maxmemory", "0")
        assert [lease.id for lease in storage.turn(ME, [], 1).leases] == ["b"]
        assert storage.get("c") is None
        storage.close()


def test_a_result_is_waited_for_without_polling(make: Make, server: Any) -> None:
    storage = make()
    storage.enqueue([task("a")])
    (lease,) = storage.turn(ME, [], 1).leases
    waiting = Call(lambda: storage.wait(["a"], 10))
    wait_until(lambda: server.exists(storage._prefix + "wt"))
    before = server.info("commandstats")["cmdstat_evalsha"]["calls"]

    storage.turn(ME, [Finish(lease, State.SUCCEEDED, value=b"5")], 0)

    assert waiting.answer()
    assert server.info("commandstats")["cmdstat_evalsha"]["calls"] - before == 1


def test_what_nobody_listens_to_is_not_published(make: Make, server: Any) -> None:
    def published() -> int:
        return int(server.info("commandstats").get("cmdstat_publish", {"calls": 0})["calls"])

    storage, before = make(), published()

    publish(storage, ["1", "2", "3"])

    assert published() == before


def test_events_are_published_on_the_channel_of_the_name(make: Make, server: Any) -> None:
    storage = make("My App")
    with server.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("My App")
        wait_until(lambda: is_followed(storage))

        publish(storage, ["{}"])
        storage.enqueue([task("a")], lambda: ['{"status": "enqueued"}'])
        storage.enqueue([task("b")], lambda: ['{"status": "enqueued too"}'])

        heard: list[bytes] = []
        wait_until(lambda: heard.append(message["data"]) if (message := listener.get_message(timeout=1)) else len(heard) == 3)
    assert heard == [b"{}", b'{"status": "enqueued"}', b'{"status": "enqueued too"}']
    storage.flush()


# -- bad input --------------------------------------------------------------------------------------------------------------------------


def test_without_redis_py_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)

    with pytest.raises(RuntimeError, match="pip install redis hiredis"):
        RedisHuey("app")


def test_constructing_connects_to_nothing() -> None:
    assert repr(RedisHuey("app", port=1).storage) == "<RedisStorage 'app' in Redis localhost:1/0>"


def test_an_option_that_does_not_exist_is_told_at_once() -> None:
    with pytest.raises(ConfigurationError, match="hots"):
        RedisHuey("app", hots="localhost")
    with pytest.raises(ConfigurationError, match="hots"):
        RedisHuey("app", url="redis://localhost", hots="localhost")


def test_two_ways_to_name_the_server_are_one_too_many() -> None:
    with pytest.raises(ConfigurationError, match="url="):
        RedisHuey("app", url="redis://localhost", connection_pool=redis.ConnectionPool())
    with pytest.raises(ConfigurationError, match="port"):
        RedisHuey("app", port=1, connection_pool=redis.ConnectionPool())
    with pytest.raises(ConfigurationError, match="rediss"):
        RedisHuey("app", url="http://localhost")


def test_a_server_that_cannot_be_reached_is_told_in_time() -> None:
    storage = RedisStorage("app", port=1, enqueue_timeout=0.2)

    with pytest.raises(StorageUnavailable, match="localhost:1/0"):
        storage.enqueue([task()])
    with pytest.raises(StorageUnavailable):
        storage.turn(ME, [], 1)


def test_a_wrong_password_is_refused_and_never_shown() -> None:
    with Server(None, "--requirepass", "right-one") as server:
        wrong = RedisStorage("app", port=server.port, password="wrong-one", enqueue_timeout=0.2)
        missing = RedisStorage("app", port=server.port)
        right = RedisStorage("app", url=f"redis://:right-one@127.0.0.1:{server.port}/0")

        told = []
        for storage in (wrong, missing):
            with pytest.raises(StorageRefused) as refused:
                storage.open()
            told.append(str(refused.value))
        right.open()

        assert all("password" in text for text in told)
        assert not any("wrong-one" in text or "right-one" in text for text in [*told, repr(wrong), repr(right)])
        right.close()


def test_a_key_that_somebody_else_put_there_is_named(make: Make, server: Any) -> None:
    storage = make()
    server.set(storage._prefix + "m", "theirs")

    with pytest.raises(StorageRefused, match="holds a string"):
        storage.enqueue([task()])

    server.delete(storage._prefix + "m")
    storage.enqueue([task()])


def test_a_server_too_old_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                while data := connection.recv(4096):
                    info = b"redis_version:5.0.14\r\n"
                    answers = [b"$%d\r\n%s\r\n" % (len(info), info)] * data.count(b"INFO") or [b":1\r\n"] * data.count(b"*")
                    connection.sendall(b"".join(answers))

        serving = Call(serve)
        storage = RedisStorage("app", port=port)
        with pytest.raises(StorageRefused, match=r"Redis 5\.0\.14; huey needs 6\.2"):
            storage.open()
        storage.close()
        serving.answer()


def test_durable_needs_a_server_that_can() -> None:
    storage = RedisStorage("app", port=server_of("wheel").port, durable=True)

    with pytest.raises(StorageRefused, match="WAITAOF"):
        storage.open()
    storage.close()


def test_pickles_of_any_class_are_for_a_server_on_this_machine() -> None:
    local: list[dict[str, Any]] = [
        {},
        {"host": "127.0.0.1"},
        {"host": "::1"},
        {"unix_socket_path": "/run/redis.sock"},
        {"url": "redis://localhost:7000"},
    ]
    remote: list[dict[str, Any]] = [
        {"host": "10.0.0.1"},
        {"host": "redis.example"},
        {"host": "127.example"},
        {"url": "rediss://u:p@redis.example/1"},
    ]

    assert [RedisStorage("app", **each).is_trusted for each in (*local, *remote)] == [True] * len(local) + [False] * len(remote)


def test_an_unsigned_class_for_a_remote_server_is_refused() -> None:
    huey = RedisHuey("app", host="redis.example")

    @huey.task()
    def show(value: object) -> None:
        """Never run."""

    with pytest.raises(EncodeError, match="secret="):
        show(Server)


# -- outages ----------------------------------------------------------------------------------------------------------------------------


def test_a_server_that_restarts_costs_time_only() -> None:
    with Server(None, *ALWAYS) as server:
        storage, other = (RedisStorage("app", port=server.port, enqueue_timeout=10) for _ in range(2))
        storage.enqueue([task("a"), task("b")])
        leases = storage.turn(ME, [], 1).leases
        listening = Call(lambda: listens(storage))
        server.stop(signal.SIGKILL)
        enqueueing = Call(lambda: other.enqueue([task("c")]))

        with pytest.raises(StorageUnavailable):
            storage.turn(ME, [Finish(leases[0], State.SUCCEEDED, value=b"5")], 1)
        server.start()

        enqueueing.answer()
        assert isinstance(listening.answer(), StorageUnavailable | bool)
        turn = storage.turn(ME, [Finish(leases[0], State.SUCCEEDED, value=b"5")], 2)
        assert (turn.stale, [lease.id for lease in turn.leases]) == ([], ["b", "c"])
        storage.close()
        other.close()


def listens(storage: RedisStorage) -> object:
    waker = Waker()
    try:
        return storage.listen(OTHER, 20, waker)
    except StorageUnavailable as error:
        return error
    finally:
        waker.close()

"""What is given as the server: clients, pools, addresses. What cannot work is said when it is given; no error shows a secret."""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.sentinel import Sentinel

from huey import RedisHuey
from huey.exceptions import ConfigurationError, HueyException, StorageRefused, StorageUnavailable
from huey.storage.redis import RedisStorage
from huey.storage.redis.connection import CommandConnection
from huey.storage.redis.errors import masked
from huey.storage.redis.queue import risks
from tests.support.helpers import running
from tests.support.redis_server import Server, shared_server

SECRET = "hunter2-and-a-half"


def works(huey: Any) -> bool:
    add = huey.task(name="add")(lambda a, b: a + b)
    with running(huey):
        there: bool = add(1, 2).get(blocking=True, timeout=15) == 3
    huey.close()
    return there


# -- clients and pools ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"client": redis.asyncio.Redis()},
        lambda: {"client": redis.asyncio.Redis().pipeline()},
        lambda: {"client": redis.asyncio.RedisCluster(host="localhost")},
        lambda: {"client": AsyncSentinel([("localhost", 1)]).master_for("main")},
        lambda: {"connection_pool": redis.asyncio.ConnectionPool()},
        lambda: {"connection_pool": redis.asyncio.BlockingConnectionPool()},
    ],
)
def test_what_is_of_asyncio_is_refused_when_it_is_given(make: Callable[[], dict[str, Any]]) -> None:
    with pytest.raises(ConfigurationError, match=r"redis\.asyncio: huey needs a plain"):
        RedisHuey("app", **make())


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: {"client": "redis://localhost"}, "an address goes into url="),
        (lambda: {"connection_pool": "redis://localhost"}, "an address goes into url="),
        (lambda: {"client": Sentinel([("localhost", 1)])}, "sentinel.master_for"),
        (lambda: {"client": Sentinel([("localhost", 1)]).slave_for("main")}, "leads to a replica"),
        (lambda: {"client": redis.ConnectionPool()}, "it goes into connection_pool="),
        (lambda: {"connection_pool": redis.Redis()}, "it goes into client="),
        (lambda: {"client": object()}, "huey needs a redis.Redis"),
        (lambda: {"connection_pool": object()}, "huey needs a redis.ConnectionPool"),
        (lambda: {"client": redis.Redis}, "huey needs a redis.Redis"),
        (lambda: {"url": b"redis://localhost"}, "must be a string"),
    ],
)
def test_what_is_no_client_or_pool_is_refused_with_what_to_give(make: Callable[[], dict[str, Any]], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        RedisHuey("app", **make())


def test_an_imitation_without_a_server_is_refused() -> None:
    class FakeConnection(redis.Connection):
        pass

    FakeConnection.__module__ = "fakeredis._connection"

    with pytest.raises(ConfigurationError, match="MemoryHuey"):
        RedisHuey("app", client=redis.Redis(connection_pool=redis.ConnectionPool(connection_class=FakeConnection)))

    class Unplugged(redis.Connection):
        def connect(self, *about: Any) -> None:
            """Nothing: it has no socket."""

        def can_read(self, timeout: float = 0) -> bool:
            return False

    with pytest.raises(ConfigurationError, match="not a connection over a socket"):
        RedisStorage("app", connection_pool=redis.ConnectionPool(connection_class=Unplugged)).open()


def test_clients_of_many_kinds_work() -> None:
    port = shared_server().port
    closed = redis.Redis(port=port)
    closed.ping()
    closed.close()
    pool = redis.ConnectionPool(port=port)
    pool.disconnect()

    for client in (closed, redis.Redis(port=port).pipeline(), redis.Redis(port=port, single_connection_client=True)):
        assert works(RedisHuey("ways", client=client))
    assert works(RedisHuey("ways", client=redis.Redis(port=port, protocol=3, decode_responses=True)))
    assert works(RedisHuey("ways", connection_pool=pool))


# -- addresses --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}",
        f"redis://localhost:{SECRET}",
        f"redis://:pa/{SECRET}@localhost:6379/0",
        f"redis://:pa#{SECRET}@localhost:6379/0",
        f"redis://:pa?{SECRET}@localhost:6379/0",
        f"redis://token/{SECRET}@localhost:6379/0",
        f"redis://{SECRET}?x@localhost/0",
        f"redis://{SECRET}#@localhost/0",
        f"redis://{SECRET}/more@localhost/0",
        f"redis://:pa[{SECRET}@localhost:6379/0",
        f"redis://:x@[{SECRET}/0",
        f"redis://localhost/{SECRET}",
        f"redis://localhost/0?{SECRET}=1",
        f"redis://localhost/0?socket_timeout={SECRET}",
        f"redis://localhost:99999/0?password={SECRET}",
        f"{SECRET}:pw@localhost:6379",
        f"http://:{SECRET}@localhost",
        f"redis:{SECRET}@localhost",
        f"://:{SECRET}@localhost",
        f"unix:///tmp/redis.sock?{SECRET}",
        f"unix:///tmp/redis.sock?{SECRET}=1",
        f"redis://:{SECRET}@ho\nst:abc/0",
        SECRET,
        "",
    ],
)
def test_an_unreadable_address_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        RedisHuey("app", url=url)

    assert "url=" in str(refused.value)
    shown = "".join(traceback.format_exception(refused.value)) if url else ""
    told = "\n".join(line for line in shown.splitlines() if not line.startswith("    "))
    assert SECRET not in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://localhost",
        "redis://localhost/",
        "redis://user:p%2Fw%23@localhost:7000/3?socket_timeout=2",
        "redis://:pw@[::1]:7000",
        "redis://localhost?client_name=a%40b&db=2",
        "rediss://localhost?ssl_cert_reqs=none",
        "unix:///run/redis@1.sock?db=1",
        "unix://user:pw@/run/redis.sock",
    ],
)
def test_addresses_that_are_right_are_taken(url: str) -> None:
    assert "pw" not in repr(RedisStorage("app", url=url))


@contextmanager
def answering(answer: Callable[[bytes], bytes]) -> Iterator[int]:
    """The port of a server, or something that takes itself for one, that says what *answer* makes of what it hears."""
    from huey.testing.contract.tools import Call

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    while data := connection.recv(65536):
                        connection.sendall(answer(data))

        Call(serve)
        try:
            yield int(listening.getsockname()[1])
        finally:
            listening.shutdown(socket.SHUT_RDWR)


def repeating(data: bytes) -> bytes:
    """As a server without AUTH does it."""
    parts = [part.decode() for part in data.split(b"\r\n")[2::2]]
    return f"-ERR unknown command '{parts[0]}', with args beginning with: {' '.join(map(repr, parts[1:]))} \r\n".encode()


def babbling(data: bytes) -> bytes:
    """In words of its own, and cut off."""
    return b"-ERR bad request: " + data.replace(b"\r\n", b" ")[:60] + b"\r\n"


@pytest.mark.parametrize("answer", [repeating, babbling])
@pytest.mark.parametrize(
    "given",
    [
        {"password": SECRET},
        {"username": "a-token-of-a-user", "password": SECRET},
        {"username": "a-token-of-a-user", "password": SECRET, "protocol": 3},
        {"url": f"redis://:{SECRET}@localhost:PORT/0"},
        {"url": f"redis://a-token-of-a-user:{SECRET}@localhost:PORT/0"},
        {"url": f"redis://localhost:PORT/0?password={SECRET}"},
    ],
)
def test_no_error_shows_a_password_or_user_that_a_server_repeats(
    given: dict[str, Any], answer: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with answering(answer) as port:
        options: dict[str, Any] = {key: str(value).replace("PORT", str(port)) if key == "url" else value for key, value in given.items()}
        ways: list[dict[str, Any]] = [options if "url" in options else {"port": port} | options]
        if "url" not in options:
            ways.append({"client": redis.Redis(port=port, **options)})
        for way in ways:
            with pytest.raises(HueyException) as told:
                RedisStorage("app", enqueue_timeout=0.1, **way).open()

            shown = "".join(traceback.format_exception(told.value))
            told_lines = "\n".join(line for line in shown.splitlines() if not line.startswith("    "))
            for part in ("hunter2", "a-half", "a-token", "of-a-user"):
                assert part not in told_lines
    assert "hunter2" not in caplog.text


def test_parts_of_secrets_are_masked() -> None:
    assert masked("told hunter2-and", [SECRET]) == "told ***"
    assert masked("db 1 of a", ["a"]) == "db 1 of ***"
    assert masked("nothing of it", [SECRET, ""]) == "nothing of it"


# -- what evicts ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def evicting() -> Iterator[tuple[Server, Any]]:
    with Server() as server, redis.Redis(port=server.port) as admin:
        yield server, admin


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_a_server_that_evicts_tasks_is_refused(policy: str, evicting: tuple[Server, Any]) -> None:
    server, admin = evicting
    admin.config_set("maxmemory", "100mb")
    admin.config_set("maxmemory-policy", policy)

    with pytest.raises(StorageRefused, match=f"evicts keys.*{policy}.*noeviction"):
        RedisStorage("app", port=server.port).open()

    admin.config_set("maxmemory-policy", "noeviction")
    RedisStorage("app", port=server.port).open()


def test_a_lost_reply_hides_no_warning(evicting: tuple[Server, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    server, admin = evicting
    admin.config_set("maxmemory", "0")
    admin.config_set("maxmemory-policy", "allkeys-lru")
    storage = RedisStorage("app", port=server.port)
    storage.open()
    lost, asked = [StorageUnavailable("the reply was lost")], risks

    def losing(connection: CommandConnection) -> list[str]:
        if lost:
            raise lost.pop()
        return asked(connection)

    monkeypatch.setattr("huey.storage.redis.storage.risks", losing)

    assert "allkeys-lru" in storage.startup_warnings(1, True)[0]
    storage.close()


@pytest.mark.parametrize(("policy", "maxmemory"), [("volatile-lru", "100mb"), ("volatile-ttl", "0"), ("allkeys-lru", "0")])
def test_a_server_that_may_evict_is_told_of_at_the_start(
    policy: str, maxmemory: str, evicting: tuple[Server, Any], caplog: pytest.LogCaptureFixture
) -> None:
    server, admin = evicting
    admin.config_set("maxmemory", maxmemory)
    admin.config_set("maxmemory-policy", policy)

    assert works(RedisHuey("app", port=server.port))
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING and policy in record.getMessage()]) == 1


def test_a_server_that_comes_back_evicting_is_refused(evicting: tuple[Server, Any]) -> None:
    server, admin = evicting
    storage = RedisStorage("app", port=server.port)
    storage.open()
    admin.config_set("maxmemory", "100mb")
    admin.config_set("maxmemory-policy", "allkeys-lru")
    admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    with pytest.raises(StorageRefused, match="evicts keys"):
        storage.open()
    storage.close()


def test_a_server_that_cannot_be_reached_is_still_told_as_away() -> None:
    with pytest.raises(StorageUnavailable, match="cannot reach the server"):
        RedisStorage("app", port=1).open()

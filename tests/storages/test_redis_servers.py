"""The ways to a Redis server: a unix socket, TLS, a user with a password, a pool, a cluster, Sentinel and its fail-over."""

from __future__ import annotations

import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.cluster import RedisCluster
from redis.sentinel import Sentinel

from huey import Huey, RedisHuey, chord
from huey.exceptions import ConfigurationError, StorageRefused, StorageUnavailable
from huey.storage.redis import RedisStorage
from huey.storage.redis.source import verify_host
from huey.testing.contract.tools import ME, task
from tests.support.helpers import drain, running, wait_until
from tests.support.mortals import mortal
from tests.support.redis_server import PROGRAMS, Server


def works(huey: Huey) -> bool:
    """A task goes in, runs, and its result is fetched."""
    add = huey.task(name="add")(lambda a, b: a + b)
    with running(huey):
        there: bool = add(1, 2).get(blocking=True, timeout=15) == 3
    huey.close()
    return there


def test_by_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "redis.sock")
    with Server(None, "--unixsocket", path):
        huey = RedisHuey("app", unix_socket_path=path)

        assert repr(huey.storage) == f"<RedisStorage 'app' in Redis {path}/0>"
        assert huey.storage.is_trusted
        assert works(huey)
        assert works(RedisHuey("app", url=f"unix://{path}"))


def test_by_a_pool_with_text_answers_of_the_applications_own() -> None:
    with Server() as server, redis.ConnectionPool(port=server.port, max_connections=20, decode_responses=True) as pool:
        assert works(RedisHuey("app", connection_pool=pool))


def test_as_a_user_with_rights_on_huey_alone() -> None:
    with Server() as server, redis.Redis(port=server.port) as admin:
        admin.acl_setuser(
            "worker",
            enabled=True,
            passwords=["+pw"],
            keys=["huey:*"],
            channels=["*"],
            categories=["+@all", "-@admin"],
            commands=["+client"],
        )
        admin.acl_setuser("guest", enabled=True, passwords=["+pw"], keys=["other:*"], categories=["+@all"])

        assert works(RedisHuey("app", port=server.port, username="worker", password="pw"))
        with pytest.raises(StorageRefused, match="has no permission"):
            RedisStorage("app", port=server.port, username="guest", password="pw").open()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    words = (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem"
    )
    subprocess.run(["openssl", *words.split()], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_by_tls(certificate: Path) -> None:
    with encrypted(certificate, certificate / "cert.pem") as port:
        trusting: dict[str, Any] = {"ssl_ca_certs": str(certificate / "cert.pem")}
        assert works(RedisHuey("app", host="localhost", port=port, ssl=True, **trusting))
        assert works(RedisHuey("app", url=f"rediss://localhost:{port}/0", **trusting))
        with pytest.raises(StorageUnavailable, match=r"(?i)certificate"):
            RedisStorage("app", host="localhost", port=port, ssl=True).open()


def test_by_tls_the_certificate_has_to_be_that_of_the_host(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    # A certificate that the private authority signed, for another host.
    (tmp_path / "names").write_text("subjectAltName=DNS:other.example")
    for words in (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca-key.pem -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=other.example -keyout key.pem -out request.pem",
        "x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile names -out cert.pem",
    ):
        subprocess.run(["openssl", *words.split()], cwd=tmp_path, check=True, capture_output=True)
    trusting: dict[str, Any] = {"ssl_ca_certs": str(tmp_path / "ca.pem")}
    with encrypted(tmp_path, tmp_path / "ca.pem") as port:
        for way in ({"host": "localhost", "port": port, "ssl": True}, {"url": f"rediss://localhost:{port}/0"}):
            with pytest.raises(StorageUnavailable, match=r"(?i)hostname mismatch"):
                RedisStorage("app", **way, **trusting).open()
            # Who asks for it may do without.
            RedisStorage("app", **way, **trusting, ssl_check_hostname=False).open()
            RedisStorage("app", **way, ssl_cert_reqs="none").open()
        RedisStorage("app", url=f"rediss://localhost:{port}/0?ssl_cert_reqs=none").open()


@pytest.mark.parametrize(
    ("asked", "is_verified"),
    [({}, True), ({"ssl_cert_reqs": "none"}, False), ({"ssl_cert_reqs": None}, False), ({"ssl_cert_reqs": ssl.CERT_NONE}, False)],
)
def test_an_old_redis_py_is_told_to_check_host_names(asked: dict[str, Any], is_verified: bool) -> None:
    # As redis-py 5 has it.
    pool = redis.ConnectionPool(connection_class=redis.SSLConnection, ssl_check_hostname=False, **asked)

    verify_host(redis, pool, asked)

    assert pool.connection_kwargs["ssl_check_hostname"] is is_verified


@contextmanager
def encrypted(folder: Path, authority: Path) -> Iterator[int]:
    """The TLS port of a server that shows the certificate in *folder*."""
    files = ["--tls-cert-file", str(folder / "cert.pem"), "--tls-key-file", str(folder / "key.pem")]
    port = Server.free_port()
    try:
        server = Server(None, "--tls-port", str(port), *files, "--tls-ca-cert-file", str(authority), "--tls-auth-clients", "no")
    except AssertionError:
        pytest.skip("this redis-server has no TLS")
    with server:
        yield port


def test_in_a_cluster() -> None:
    with Server(None, "--cluster-enabled", "yes") as server, redis.Redis(port=server.port) as admin:
        admin.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        wait_until(lambda: b"cluster_state:ok" in admin.execute_command("CLUSTER", "INFO"))
        with RedisCluster(host="127.0.0.1", port=server.port) as client:
            assert works(RedisHuey("app", client=client, allow_pickle=True))
            refuses_to_cross_queues(RedisHuey("other", client=client))


def refuses_to_cross_queues(huey: Huey) -> None:
    """Workflows in one queue run; for one over two queues the error says why, and nothing is written."""
    here = huey.task(name="here")(lambda value=1: value + 1)
    there = huey.task(name="there", queue="mail")(lambda value: value)
    for workflow in (here.s().then(there), chord([here.s(), there.s(1)], here), chord([here.s()], there)):
        with pytest.raises(ConfigurationError, match="put its tasks into one queue, or use one server"):
            huey.enqueue(workflow)
    with pytest.raises(ConfigurationError, match=r"cannot handle failures of a task in .* put both into one queue"):
        huey.enqueue(here.s().error(there))
    assert (huey.pending_count(), huey.inspector.counts().waiting, huey.on("mail").pending_count()) == (0, 0, 0)
    results = huey.enqueue(here.s().then(here))
    drain(huey)
    assert results.get() == [2, 3]
    results = huey.enqueue(there.s(1).then(there).error(there))
    drain(huey.on("mail"))
    assert results.get() == [1, 1]
    huey.close()


@pytest.fixture
def watched() -> Iterator[tuple[Server, Server, Sentinel]]:
    """A master, its replica, and a Sentinel that watches them."""
    with Server() as master, Server(None, "--replicaof", "127.0.0.1", str(master.port)) as replica:
        with redis.Redis(port=replica.port) as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up")
        with sentinel_of(master) as port:
            yield master, replica, Sentinel([("127.0.0.1", port)], socket_timeout=1)


class sentinel_of(Server):
    def __init__(self, master: Server) -> None:
        self.master = master
        super().__init__(PROGRAMS["path"])

    def start(self) -> None:
        file = Path(self.folder.name) / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {self.master.port} 1\n"
            "sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 2000\n"
        )
        self.process = subprocess.Popen(
            [self.program, str(file), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        mortal(self.process)
        wait_until(self.answers)

    def __enter__(self) -> int:  # type: ignore[override]
        return self.port


@pytest.mark.timeout(60)
def test_by_sentinel_and_through_a_fail_over(watched: tuple[Server, Server, Sentinel]) -> None:
    master, replica, sentinel = watched
    wait_until(lambda: sentinel.discover_slaves("main"), timeout=20)
    storage = RedisStorage("app", client=sentinel.master_for("main", socket_timeout=2), enqueue_timeout=20)
    storage.enqueue([task("a")])
    (lease,) = storage.turn(ME, [], 1).leases
    with redis.Redis(port=master.port) as client:
        client.wait(1, 5000)

    master.stop(signal.SIGKILL)
    storage.enqueue([task("b")])

    assert repr(storage) == "<RedisStorage 'app' in Redis 'main' by Sentinel>"
    assert [held.id for held in storage.leases(ME)] == [lease.id]
    assert [lease.id for lease in storage.turn(ME, [], 5).leases] == ["b"]
    with redis.Redis(port=replica.port) as client:
        assert client.info("replication")["role"] == "master"
    storage.close()

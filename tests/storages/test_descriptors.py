"""What a process has open for its queues: little, however many they are, and nothing for those that are gone."""

from __future__ import annotations

import gc
import os
import resource
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from huey import SqliteHuey
from huey.exceptions import StorageFull, StorageUnavailable
from huey.runtime.clock import system_clock
from huey.runtime.waker import Waker
from huey.storage.sqlite.errors import translated
from huey.storage.sqlite.guard import Canary
from huey.storage.sqlite.watch import watch

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


def used(huey: SqliteHuey) -> SqliteHuey:
    huey.storage.put("data", "key", b"value")
    assert huey.storage.peek("data", "key") == b"value"
    return huey


def a_queue(path: Path) -> None:
    used(SqliteHuey("q", filename=path))


def a_queue_that_waits(path: Path) -> None:
    huey = used(SqliteHuey("q", filename=path))
    huey.storage.wait(["nobody"], 0.0)


def a_consumer_that_never_started(path: Path) -> None:
    used(SqliteHuey("q", filename=path)).create_consumer(workers=2)


def a_branch(path: Path) -> None:
    used(SqliteHuey("q", filename=path).on("other"))


def a_watch(path: Path) -> None:
    huey = used(SqliteHuey("q", filename=path))
    watch(huey.storage._database, system_clock)  # type: ignore[attr-defined]


def a_waker(path: Path) -> None:
    Waker()


def a_canary(path: Path) -> None:
    Canary(str(path))


@pytest.mark.parametrize("make", [a_queue, a_queue_that_waits, a_consumer_that_never_started, a_branch, a_watch, a_waker, a_canary])
def test_what_is_dropped_without_close_leaves_no_descriptor(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    before = descriptors()

    for _ in range(10):
        make(path)

    assert descriptors() <= before


@pytest.mark.parametrize("how", ["instances", "branches"])
def test_a_thousand_queues_of_one_file_share_descriptors(path: Path, how: str) -> None:
    first = used(SqliteHuey("q", filename=path, fsync=False))
    before = descriptors()

    queues = [SqliteHuey(f"q-{n}", filename=path, fsync=False) if how == "instances" else first.on(f"q-{n}") for n in range(1000)]
    for huey in queues:
        huey.storage.put("data", "key", b"value")

    assert descriptors() == before
    first.close()


def test_to_close_one_queue_leaves_the_others_of_the_file_open(path: Path) -> None:
    one, other = used(SqliteHuey("one", filename=path)), used(SqliteHuey("other", filename=path))
    writer = other.storage._database.state.connection  # type: ignore[attr-defined]

    one.close()

    assert other.storage._database.state.connection is writer  # type: ignore[attr-defined]
    assert other.storage.peek("data", "key") == b"value"
    assert used(one)
    before = descriptors()
    one.close()
    other.close()
    assert descriptors() < before


def test_queues_with_other_settings_have_own_connections(path: Path) -> None:
    one, other = SqliteHuey("q", filename=path), SqliteHuey("q", filename=path, timeout=5)

    assert one.storage._database is not other.storage._database  # type: ignore[attr-defined]


def test_queues_that_share_connections_work_in_a_forked_child(path: Path) -> None:
    one, other = used(SqliteHuey("one", filename=path)), used(SqliteHuey("other", filename=path))

    pid = os.fork()
    if not pid:
        try:
            used(other).storage.put("data", "from", b"child")
            os._exit(0)
        finally:
            os._exit(1)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert other.storage.peek("data", "from") == b"child"
    assert one.storage.peek("data", "from") is None
    one.close()
    other.close()


def test_a_process_without_descriptors_hears_so(path: Path) -> None:
    huey, error = SqliteHuey("q", filename=path), None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_one = os.open(os.devnull, os.O_RDONLY)
    os.close(next_one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, hard))
    try:
        huey.storage.put("data", "key", b"value")
    except Exception as caught:
        error = caught
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert isinstance(error, StorageUnavailable), error
    assert "has too many open files; raise its limit" in str(error)
    used(huey).close()


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE])
def test_a_quota_that_is_used_up_is_a_full_disk(code: int) -> None:
    """SQLite calls it an error of writing; so the ballast is given, and the ends of tasks are written."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code

    assert isinstance(translated(error, "queue.db"), StorageFull)

"""How threads wait on a SQLite file: one of them listens for all, and nobody misses a commit."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from huey.runtime.clock import system_clock
from huey.runtime.waker import Waker
from huey.storage.sqlite import notify
from huey.storage.sqlite import watch as watching
from huey.storage.sqlite.storage import SqliteStorage
from huey.storage.sqlite.watch import Watch, watch
from huey.testing.contract.tools import task
from tests.support.helpers import wait_until

LONG = 30.0
linux = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SqliteStorage]:
    storage = SqliteStorage("q", tmp_path / "huey.db", fsync=False)
    storage.open()
    yield storage
    storage.close()


@pytest.fixture(params=["inotify", "looking"])
def watch_it(request: pytest.FixtureRequest, storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Watch]:
    if request.param == "looking":
        _use_up_inotify(monkeypatch)
    elif sys.platform != "linux":
        pytest.skip("inotify is Linux's")
    return lambda: watch(storage._database, system_clock)


def _use_up_inotify(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(self: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(watching.Inotify, "__init__", none_left)
    monkeypatch.setattr(watching.Inotify, "close", lambda self: None)
    monkeypatch.setattr(watching, "_inotify", None)
    monkeypatch.setattr(watching, "_is_logged", False)


def in_thread(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def inotify_instances() -> int:
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}") == "anon_inode:inotify"
        except OSError:
            continue
    return found


def sleepers(it: Watch) -> int:
    return len(it._group._others) + (it._group._leader is not None)


def test_a_commit_wakes_all_that_wait(watch_it: Callable[[], Watch], storage: SqliteStorage) -> None:
    watches = [watch_it() for _ in range(5)]
    threads = [in_thread(lambda it=it: it.wait(LONG)) for it in watches]  # type: ignore[misc]
    wait_until(lambda: sleepers(watches[0]) == 5)

    SqliteStorage("q", storage.filename).enqueue([task()])

    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


def test_when_the_one_that_listens_leaves_another_one_listens(watch_it: Callable[[], Watch], storage: SqliteStorage) -> None:
    first, second, third = watch_it(), watch_it(), watch_it()
    waker = Waker()
    leaver = in_thread(lambda: first.wait(LONG, waker))
    wait_until(lambda: sleepers(first) == 1)
    stayers = [in_thread(lambda it=it: it.wait(LONG)) for it in (second, third)]  # type: ignore[misc]
    wait_until(lambda: sleepers(first) == 3)
    waker.wake()
    leaver.join(10)
    wait_until(lambda: first._group._leader in (second, third))

    storage.enqueue([task()])

    for thread in stayers:
        thread.join(10)
    assert not any(thread.is_alive() for thread in stayers)
    waker.close()


def test_one_that_does_not_listen_hears_its_waker(watch_it: Callable[[], Watch]) -> None:
    first, second, waker, answers = watch_it(), watch_it(), Waker(), list[bool]()
    listener = in_thread(lambda: first.wait(1.5))
    wait_until(lambda: sleepers(first) == 1)
    thread = in_thread(lambda: answers.append(second.wait(LONG, waker)))
    wait_until(lambda: sleepers(first) == 2)

    waker.wake()

    thread.join(10)
    assert answers == [True]
    waker.close()
    listener.join(10)


def test_a_commit_before_the_wait_counts(watch_it: Callable[[], Watch], storage: SqliteStorage) -> None:
    it = watch_it()
    storage.enqueue([task()])
    begun = time.monotonic()

    it.wait(LONG)

    assert time.monotonic() - begun < LONG / 2


def test_nobody_waits_longer_than_he_asked_for(watch_it: Callable[[], Watch]) -> None:
    first, second = watch_it(), watch_it()
    listener = in_thread(lambda: first.wait(0.1))
    begun = time.monotonic()

    second.wait(0.3)

    assert time.monotonic() - begun < 5
    listener.join(10)


@linux
def test_a_process_has_one_inotify_instance(tmp_path: Path) -> None:
    storages = [SqliteStorage("q", tmp_path / f"{n}.db", fsync=False) for n in range(3)]
    for storage in storages:
        storage.open()
    watches = [watch(storage._database, system_clock) for storage in storages for _ in range(20)]

    assert inotify_instances() == 1

    for it in watches:
        it.close()
    assert inotify_instances() == 0
    for storage in storages:
        storage.close()


@linux
def test_a_commit_wakes_who_waits_for_that_file_only(tmp_path: Path) -> None:
    one, other = (SqliteStorage("q", tmp_path / f"{n}.db", fsync=False) for n in "ab")
    one.open()
    other.open()
    mine, his = watch(one._database, system_clock), watch(other._database, system_clock)
    sleeper = in_thread(lambda: mine.wait(LONG))
    wait_until(lambda: sleepers(mine) == 1)
    follower = in_thread(lambda: his.wait(LONG))
    wait_until(lambda: sleepers(mine) == 2)

    other.enqueue([task()])
    follower.join(10)

    assert not follower.is_alive()
    one.enqueue([task()])
    sleeper.join(10)
    assert not sleeper.is_alive()
    one.close()
    other.close()


def test_where_inotify_is_used_up_one_connection_looks(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _use_up_inotify(monkeypatch)

    watches = [watch(storage._database, system_clock) for _ in range(20)]

    assert len({id(it._group) for it in watches}) == 1
    assert len(storage._database.watching) == 1
    assert [record.getMessage()[:31] for record in caplog.records] == ["no inotify instance is left for"] * (sys.platform == "linux")


@linux
def test_a_forked_child_has_an_ear_of_its_own(storage: SqliteStorage) -> None:
    mine = watch(storage._database, system_clock)

    pid = os.fork()
    if not pid:
        try:
            storage.open()
            its = watch(storage._database, system_clock)
            os._exit(0 if its._group is not mine._group and inotify_instances() == 1 else 1)
        finally:
            os._exit(2)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    storage.enqueue([task()])
    begun = time.monotonic()
    mine.wait(LONG)
    assert time.monotonic() - begun < LONG / 2


@linux
def test_a_wait_goes_on_when_the_log_is_a_new_file(storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last connection to close removes the log, and a fork closes all."""
    monkeypatch.setattr(notify, "SAFETY_CHECK_S", LONG)
    found = list[bool]()
    waiter = in_thread(lambda: found.append(storage.wait(["a"], LONG)))
    wait_until(lambda: watching._inotify is not None and watching._inotify._leader is not None)

    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    SqliteStorage("q", storage.filename).enqueue([task()])
    SqliteStorage("q", storage.filename).put("result", "a", b"1")

    waiter.join(10)
    assert found == [True]

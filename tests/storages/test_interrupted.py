"""Calls that interrupt a call of their own thread, beyond the rules that the contract has for every storage."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from huey import Huey, SqliteHuey
from huey.backends.sqlite_backend import SqliteQueue
from huey.exceptions import StorageUnavailable
from huey.storage.memory import MemoryStorage
from huey.storage.sqlite.storage import SqliteStorage
from huey.testing.contract.constraints import wishing
from huey.testing.contract.interrupted import Interruption, at_lines
from huey.testing.contract.tools import ME, OTHER, claim_ids, task


@pytest.fixture
def storage(tmp_path: Path) -> SqliteStorage:
    """It waits for the disk, and has little patience."""
    return SqliteStorage("test", tmp_path / "huey.db", fsync=True, timeout=1.0)


def ids(storage: Any) -> set[str]:
    return {row.id for row in storage.find(limit=10**6)}


def test_an_enqueue_that_interrupts_a_disk_wait_is_stored(storage: SqliteStorage) -> None:
    def check(n: str, _: None, inner: Interruption) -> None:
        assert not inner.was_rejected
        assert {"outer" + n, "inner" + n} <= ids(storage), f"at line {n}"

    at_lines(lambda n: storage.enqueue([task("outer" + n)]), lambda n: storage.enqueue([task("inner" + n)]), check, step=2)


def test_a_look_that_interrupts_a_look_has_its_answer(storage: SqliteStorage) -> None:
    storage.enqueue([task("a")])

    def check(n: str, found: Any, inner: Interruption) -> None:
        assert (found.id, inner.answer.id) == ("a", "a"), f"at line {n}"

    at_lines(lambda n: storage.get("a"), lambda n: storage.get("a"), check)


@pytest.mark.parametrize("first", ["enqueue", "find"])
def test_a_call_that_interrupts_the_opening_is_stored(tmp_path: Path, first: str) -> None:
    """The first call opens the file and makes its tables; what comes in between opens it as well."""

    def call(n: str) -> SqliteStorage:
        storage = SqliteStorage("test", tmp_path / f"{n}.db", fsync=False, timeout=10.0)
        opening.append(storage)
        if first == "find":
            storage.find()
            storage.enqueue([task("outer")])
        else:
            storage.enqueue([task("outer")])
        return storage

    def check(n: str, storage: SqliteStorage, inner: Interruption) -> None:
        # Before the storage is made there is nothing to call.
        is_stored = inner.answer != "too early" and not inner.was_rejected
        assert ids(storage) == ({"outer", "inner"} if is_stored else {"outer"}), f"at line {n}"
        storage.close()
        opening.clear()

    def inner(n: str) -> str:
        if not opening:
            return "too early"
        opening[0].enqueue([task("inner")])
        return "stored"

    opening: list[SqliteStorage] = []
    at_lines(call, inner, check, step=17)


def test_a_destructor_during_the_first_call_is_stored_beside_it(tmp_path: Path) -> None:
    before = gc.get_threshold()
    failed: list[object] = []
    for number in range(2, 60, 7):
        huey = SqliteHuey("app", filename=tmp_path / f"{number}.db", fsync=False, timeout=10.0)
        note = huey.task(name="note")(lambda what: what)

        class Thing:
            def __init__(self) -> None:
                self.me = self

            def __del__(self, note: Callable[[str], Any] = note) -> None:
                try:
                    note("destroyed")
                except Exception as error:
                    failed.append(error)

        gc.collect()
        # What is there already need not be looked through each time.
        gc.freeze()
        Thing()
        gc.set_threshold(number)
        try:
            note("called")
        finally:
            gc.set_threshold(*before)
        gc.collect()

        assert (len(huey), failed) == (2, [])
        huey.close()


def test_signals_during_calls_lose_nothing(storage: SqliteStorage) -> None:
    acknowledged: set[str] = set()
    count, inside = [0], [False]

    def put(id: str) -> None:
        storage.enqueue([wishing(id, unique=id)])
        acknowledged.add(id)

    def handler(number: int, frame: object) -> None:
        if not inside[0]:
            inside[0], count[0] = True, count[0] + 1
            put(f"handler{count[0]}")
            inside[0] = False

    put("first")
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0007)
    try:
        for n in range(60):
            put(f"main{n}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert acknowledged == ids(storage)
    assert count[0] > 0


def test_an_interrupted_turn_is_not_written_by_the_next_call(storage: SqliteStorage) -> None:
    """A turn that is ended from outside leaves nothing behind, although a call came in between."""
    storage.enqueue([task("a"), task("b")])
    claim_ids(storage)

    def at_end() -> None:
        storage.enqueue([wishing("inner", unique="inner")])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.turn(ME, [], 1, before_io=at_end)

    assert claim_ids(storage, 9, OTHER) == ["b", "inner"]


def test_a_close_that_interrupts_a_call_closes_with_the_next(storage: SqliteStorage) -> None:
    def check(n: str, _: None, inner: Interruption) -> None:
        storage.enqueue([task("next" + n)])
        assert {"outer" + n, "next" + n} <= ids(storage), f"at line {n}"

    at_lines(lambda n: storage.enqueue([task("outer" + n)]), lambda n: storage.close(), check, step=3)


def test_a_fork_that_interrupts_a_call_ends_well_or_is_told(storage: SqliteStorage) -> None:
    def fork(n: str) -> None:
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)

    def enqueue(n: str) -> bool:
        try:
            storage.enqueue([task("outer" + n)])
        except StorageUnavailable:
            return False
        return True

    def check(n: str, is_stored: bool, inner: Interruption) -> None:
        assert ("outer" + n in ids(storage)) or not is_stored, f"at line {n}"

    at_lines(enqueue, fork, check, step=5)


def test_no_descriptor_is_left_by_calls_inside_calls(storage: SqliteStorage) -> None:
    storage.enqueue([task("first")])
    storage.find()
    open_now = []

    for _ in range(3):
        at_lines(lambda n: storage.enqueue([task("a")]), lambda n: storage.enqueue([task("b")]), lambda n, _, inner: None, step=9)
        gc.collect()
        open_now.append(len(os.listdir("/proc/self/fd")))

    assert open_now[2] == open_now[1] == open_now[0]


def test_in_memory_a_refused_call_says_what_to_do() -> None:
    storage = MemoryStorage("test")
    said = []

    def tell() -> list[str]:
        with pytest.raises(StorageUnavailable) as refused:
            storage.get("a")
        said.append(str(refused.value))
        return ["event"]

    storage.follow(None)
    storage.enqueue([task("a")], tell)

    assert "nothing was done" in said[0]
    assert "hand the call to another thread" in said[0]
    assert storage.get("a") is not None


def test_a_call_that_interrupts_a_queue_in_parts_is_stored(tmp_path: Path) -> None:
    """Opening the file included."""

    def enqueue(id: str, n: str) -> str:
        Huey(SqliteQueue("app", location=str(tmp_path / n))).storage.enqueue([task(id)])
        return "stored"

    def check(n: str, _: str, inner: Interruption) -> None:
        assert (inner.answer, inner.was_rejected) == ("stored", False), f"at line {n}"
        assert ids(Huey(SqliteQueue("app", location=str(tmp_path / n))).storage) == {"outer", "inner"}, f"at line {n}"

    at_lines(lambda n: enqueue("outer", n), lambda n: enqueue("inner", n), check, step=29)

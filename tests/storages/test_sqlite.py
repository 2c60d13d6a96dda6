"""The storage in a SQLite file keeps the contract, and the promises of its own: rights, fork, one statement, no scans."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from huey.exceptions import ConfigurationError, StorageRefused
from huey.storage.base import Storage
from huey.storage.sql import statements
from huey.storage.sql.connection import MIB
from huey.storage.sql.sqlite import SqliteStorage
from huey.testing.clock import TurnableClock
from huey.testing.contract import StorageContract
from huey.testing.contract.tools import task

SQL = statements.load("sqlite")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., SqliteStorage]]:
    made: list[SqliteStorage] = []

    def make(name: str = "test", **options: object) -> SqliteStorage:
        storage = SqliteStorage(name, tmp_path / "huey.db", **options)  # type: ignore[arg-type]
        made.append(storage)
        return storage

    yield make
    for storage in made:
        storage.close()


class TestSqlite(StorageContract):
    @pytest.fixture
    def clock(self) -> TurnableClock:
        return TurnableClock()

    @pytest.fixture
    def storage(self, clock: TurnableClock, make: Callable[..., SqliteStorage]) -> Storage:
        return make(clock=clock, fsync=False)

    @pytest.fixture
    def another(self, clock: TurnableClock, make: Callable[..., SqliteStorage]) -> Callable[[], Storage]:
        return lambda: make(clock=clock, fsync=False)


def test_names_that_share_a_file_never_meet(make: Callable[..., SqliteStorage]) -> None:
    one, other = make("one"), make("other")
    same = task(id="same-id")

    one.enqueue([same])
    other.enqueue([same])
    one.put("data", "k", b"1")

    assert [row.id for row in other.find()] == ["same-id"]
    assert other.peek("data", "k") is None
    one.flush()
    assert [row.id for row in other.find()] == ["same-id"]


def test_the_file_is_private_from_its_first_byte(make: Callable[..., SqliteStorage], tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        storage = make()
        storage.enqueue([task()])
    finally:
        os.umask(before)

    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    assert storage.is_trusted


def test_a_file_that_others_may_write_is_not_trusted(make: Callable[..., SqliteStorage], tmp_path: Path) -> None:
    storage = make()
    storage.open()
    (tmp_path / "huey.db").chmod(0o666)

    assert not storage.is_trusted


def test_a_file_shared_with_a_group_is_trusted(make: Callable[..., SqliteStorage], tmp_path: Path) -> None:
    storage = make(file_mode=0o660)
    storage.open()

    assert (tmp_path / "huey.db").stat().st_mode & 0o777 == 0o660
    assert storage.is_trusted


def test_a_memory_database_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="MemoryHuey"):
        SqliteStorage("x", ":memory:")


def test_a_file_of_a_newer_release_is_refused(make: Callable[..., SqliteStorage], tmp_path: Path) -> None:
    make().open()
    with sqlite3.connect(tmp_path / "huey.db") as file:
        file.execute("UPDATE huey_meta SET value = '99' WHERE key = 'version'")
    file.close()

    with pytest.raises(StorageRefused, match="newer huey"):
        make().open()


def test_migrate_is_idempotent(make: Callable[..., SqliteStorage]) -> None:
    assert make().migrate() == make().migrate() == 1


def test_the_tables_of_an_application_are_left_alone(make: Callable[..., SqliteStorage], tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "huey.db") as file:
        file.execute("CREATE TABLE task (mine TEXT)")
        file.execute("INSERT INTO task VALUES ('kept')")
    file.close()

    storage = make()
    storage.enqueue([task()])
    storage.flush()

    with sqlite3.connect(tmp_path / "huey.db") as file:
        assert file.execute("SELECT mine FROM task").fetchall() == [("kept",)]
    file.close()


def test_the_log_does_not_grow_without_bound(make: Callable[..., SqliteStorage], tmp_path: Path) -> None:
    storage = make(fsync=False)
    payload = b"x" * 100_000
    for number in range(60):
        storage.enqueue([task(id=f"{number}-{n}", payload=payload) for n in range(10)])

    assert (tmp_path / "huey.db-wal").stat().st_size <= 34 * MIB


def _plan_of(trigger: str) -> list[str]:
    file = sqlite3.connect(":memory:")
    file.executescript(SQL["schema"])
    file.executescript(SQL["temporary"])
    found = re.search(rf"CREATE TEMP TRIGGER {trigger} .*? BEGIN(.*?)\nEND;", SQL["temporary"], re.DOTALL)
    assert found is not None
    plan: list[str] = []
    for statement in found[1].split(";"):
        if statement.strip():
            sql = re.sub(r"NEW\.\w+", "?", statement)
            plan += [row[3] for row in file.execute("EXPLAIN QUERY PLAN " + sql, [1] * sql.count("?"))]
    file.close()
    return plan


@pytest.mark.parametrize("trigger", ["crank", "strike", "inherit", "gather"])
def test_a_verb_never_scans_the_tasks_of_a_queue(trigger: str) -> None:
    for step in _plan_of(trigger):
        assert not re.search(r"SCAN huey_(task|result|mark)", step), step
        assert not re.search(r"SEARCH huey_task USING PRIMARY KEY \(queue=\?\)$", step), step


def test_a_turn_whose_statement_fails_changes_nothing_and_can_be_sent_again(make: Callable[..., SqliteStorage]) -> None:
    from huey.exceptions import StorageError
    from huey.lifecycle import Returned, decide
    from huey.testing.contract.tools import worker

    storage = make()
    me = worker()
    storage.enqueue([task(id="a"), task(id="b")])
    (lease,) = storage.turn(me, [], 1).leases
    finish = decide(lease, Returned(b"value"), 0)
    storage._file.write("CREATE TRIGGER full BEFORE INSERT ON huey_result BEGIN SELECT RAISE(FAIL, 'full'); END")

    with pytest.raises(StorageError):
        storage.turn(me, [finish], 1)
    assert storage.counts().running == 1
    assert storage.counts().ready == 1
    storage._file.write("DROP TRIGGER full")

    again = storage.turn(me, [finish], 1)
    assert again.refused == []
    assert [lease.id for lease in again.leases] == ["b"]
    assert storage.peek("result", "a") == b"value"

"""A task is enqueued inside the caller's own transaction, where the queue lives in the same SQLite file."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huey import Huey, MemoryHuey, SqliteHuey
from huey.exceptions import ConfigurationError, StorageUnavailable
from tests.support.helpers import bare_environment, read_until, running

KILLS = 20


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest.fixture
def huey(file: Path) -> Iterator[Huey]:
    huey = SqliteHuey("app", filename=file)
    yield huey
    huey.close()


@pytest.fixture
def mine(file: Path, huey: Huey) -> Iterator[sqlite3.Connection]:
    """The application's own connection and table."""
    huey.storage.open()
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT)")
    connection.commit()
    yield connection
    connection.close()


def test_a_commit_leaves_the_task_and_a_rollback_leaves_none(huey: Huey, mine: sqlite3.Connection) -> None:
    task = huey.task()(lambda n: n)

    with huey.using(mine):
        mine.execute("INSERT INTO orders (what) VALUES ('bread')")
        lost = task(1)
        assert len(huey) == 0, "others see it before the commit"
        mine.rollback()
        mine.execute("INSERT INTO orders (what) VALUES ('milk')")
        kept = task(2)
        mine.commit()

    assert [it.id for it in huey.pending()] == [kept.id]
    assert huey.storage.get(lost.id) is None
    assert mine.execute("SELECT what FROM orders").fetchall() == [("milk",)]
    with running(huey):
        assert kept.get(blocking=True, timeout=10) == 2


def test_a_commit_after_the_block_counts_too(huey: Huey, mine: sqlite3.Connection) -> None:
    task = huey.task()(lambda n: n)
    with running(huey):
        with mine, huey.using(mine):
            handle = task(3)
        assert handle.get(blocking=True, timeout=10) == 3


def test_outside_the_block_and_in_other_threads_nothing_changes(huey: Huey, mine: sqlite3.Connection) -> None:
    task = huey.task()(lambda n: n)
    with huey.using(mine):
        pass
    task(1)

    assert len(huey) == 1
    assert mine.in_transaction is False


def test_many_tasks_marks_and_events_are_part_of_it(huey: Huey, mine: sqlite3.Connection) -> None:
    task = huey.task()(lambda n: n)
    made = task.s(0)
    huey.revoke(made)
    events = huey.events(timeout=10)

    with huey.using(mine):
        group = task.map(range(1500))
        huey.enqueue(made)
        mine.commit()

    assert len(huey) == 1501
    read_until(events, "enqueued", made.id)
    assert huey.is_revoked(made)
    assert huey.storage.get(made.id).revoked_until is not None  # type: ignore[union-attr]
    assert len(group) == 1500


def test_whatever_rows_the_connection_gives_it_works(huey: Huey, mine: sqlite3.Connection) -> None:
    mine.row_factory = sqlite3.Row
    with huey.using(Wrapped(mine)):
        huey.task()(lambda: 1)()
        mine.commit()

    assert len(huey) == 1


class Wrapped:
    """As Django and SQLAlchemy have it."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection


def test_a_waiting_id_is_put_in_once_an_ended_one_runs_again(huey: Huey, mine: sqlite3.Connection) -> None:
    tokens: list[int] = []
    task = huey.task(context=True)(lambda n, task: tokens.append(task.token))

    for _ in range(3):
        with huey.using(mine):
            task.schedule(args=(1,), id="mine")
            task.schedule(args=(2,), id="mine")
            mine.commit()
        waiting = [it.args for it in huey.pending()]
        huey.execute(huey.dequeue())  # type: ignore[arg-type]
        assert (waiting, len(huey)) == ([(1,)], 0)

    assert tokens == sorted(set(tokens))
    assert len(tokens) == 3


def test_a_rollback_leaves_what_an_id_was_before(huey: Huey, mine: sqlite3.Connection) -> None:
    task = huey.task(context=True)(lambda task: task.token)
    before = task.schedule(id="mine")
    huey.execute(huey.dequeue())  # type: ignore[arg-type]

    with huey.using(mine):
        task.schedule(id="mine")
        mine.rollback()

    assert len(huey) == 0
    first = before.get(preserve=True)
    task.schedule(id="mine")
    assert huey.execute(huey.dequeue()) > first  # type: ignore[arg-type]


def test_another_file_is_refused(huey: Huey, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE t (a)")
        with pytest.raises(ConfigurationError, match=r"other\.db.*one transaction needs one file"), huey.using(other):
            raise AssertionError
    other.close()
    memory = sqlite3.connect(":memory:")
    with pytest.raises(ConfigurationError, match="in memory"), huey.using(memory):
        raise AssertionError
    memory.close()
    with pytest.raises(ConfigurationError, match="give a connection of sqlite3"), huey.using("app.db"):
        raise AssertionError


def test_another_kind_of_storage_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs a queue in the same SQLite file"), MemoryHuey().using(object()):
        raise AssertionError


def test_a_file_that_somebody_else_writes_is_busy(huey: Huey, mine: sqlite3.Connection, file: Path) -> None:
    other = sqlite3.connect(file)
    other.execute("BEGIN IMMEDIATE")
    mine.execute("PRAGMA busy_timeout = 0")

    with huey.using(mine), pytest.raises(StorageUnavailable):
        huey.task()(lambda: 1)()
    other.rollback()
    other.close()


PRODUCER = """
import os, signal, sqlite3, sys
from huey import SqliteHuey

place, steps = sys.argv[1], int(sys.argv[2])
huey = SqliteHuey("app", filename=place)
task = huey.task(name="app.task")(lambda n: n)
connection = sqlite3.connect(place)


def trace(frame, event, argument):
    # Each line of the enqueue, of whatever file, is one place to die at.
    global steps
    if event == "line":
        steps -= 1
        if steps < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return trace


with huey.using(connection):
    sys.settrace(trace)
    connection.execute("INSERT INTO orders (what) VALUES ('bread')")
    task(1)
    connection.commit()
sys.settrace(None)
print("committed", flush=True)
"""


def storm(place: Path, huey: Huey, mine: sqlite3.Connection, kills: int, stride: int) -> tuple[int, int]:
    """Kill a producer at every so-manieth line. How many were killed, how many came to their end."""
    killed = ended = 0
    for n in range(kills):
        child = subprocess.run(
            [sys.executable, "-c", PRODUCER, os.fspath(place), str(n * stride)], env=bare_environment(), capture_output=True, text=True
        )
        killed += child.returncode == -signal.SIGKILL
        ended += child.returncode == 0
        assert child.returncode in (0, -signal.SIGKILL), child.stderr
        orders = mine.execute("SELECT count(*) FROM orders").fetchone()[0]
        assert len(huey) == orders, f"killed after {n * stride} lines: {orders} orders, {len(huey)} tasks"
        assert orders >= ended
    return killed, ended


@pytest.mark.timeout(120)
def test_a_killed_producer_leaves_both_or_none(file: Path, huey: Huey, mine: sqlite3.Connection) -> None:
    killed, ended = storm(file, huey, mine, KILLS, stride=9)

    assert killed >= KILLS // 2
    assert killed + ended == KILLS


@pytest.mark.chaos
def test_a_producer_killed_at_every_line_leaves_both_or_none(file: Path, huey: Huey, mine: sqlite3.Connection) -> None:
    killed, _ = storm(file, huey, mine, 230, stride=1)

    assert killed >= 100

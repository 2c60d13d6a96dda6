"""Messages of huey 3.x and of 0.4.9 that wait in the same file or server: a consumer tells of them, and leaves them alone.

The tables, keys and files are those that the released versions write.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from huey import FileHuey, Huey, RedisHuey, SqliteHuey
from huey.backends.redis_backend import RedisDataStore, RedisQueue, RedisSchedule
from huey.backends.sqlite_backend import SqliteQueue, SqliteSchedule
from tests.support.helpers import running
from tests.support.redis_server import shared_server

TABLES_OF_3X = """
CREATE TABLE kv (queue text not null, key text not null, value blob not null, primary key(queue, key));
CREATE TABLE schedule (id integer not null primary key, queue text not null, data blob not null, timestamp real not null);
CREATE TABLE task (id integer not null primary key, queue text not null, data blob not null, priority real not null default 0.0);
INSERT INTO kv VALUES ('app', 'k', x'80');
INSERT INTO task (queue, data) VALUES ('app', x'8005'), ('app', x'8005'), ('it''s', x'8005');
INSERT INTO schedule (queue, data, timestamp) VALUES ('app', x'8005', 1700000000.5);
"""
TABLES_OF_049 = """
CREATE TABLE huey_queue_app (id INTEGER PRIMARY KEY AUTOINCREMENT, item BLOB);
CREATE TABLE huey_schedule_app (id INTEGER PRIMARY KEY AUTOINCREMENT, item BLOB, timestamp INTEGER);
CREATE TABLE huey_results_app (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, result BLOB);
INSERT INTO huey_queue_app (item) VALUES ('a'), ('b');
INSERT INTO huey_schedule_app (item, timestamp) VALUES ('c', 1);
"""
TABLES_OF_AN_APPLICATION = "CREATE TABLE task (id integer primary key, title text); INSERT INTO task (title) VALUES ('write');"


def told(huey: Huey, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a consumer says of it, and that it runs what is its own."""
    caplog.clear()
    caplog.set_level(logging.WARNING, "huey.consumer")
    with running(huey):
        assert huey.task(name="double")(lambda n: 2 * n)(4).get(blocking=True, timeout=10) == 8
    return [record.getMessage() for record in caplog.records if "earlier release" in record.getMessage()]


def dump(path: Path, *tables: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as file:
        return [row for table in tables for row in file.execute(f"SELECT * FROM {table}")]


def filled(path: Path, script: str) -> Path:
    with closing(sqlite3.connect(path)) as file:
        file.executescript(script)
    path.chmod(0o600)
    return path


def in_one_file(path: Path) -> Huey:
    return SqliteHuey("app", filename=path)


def in_parts(path: Path) -> Huey:
    from huey.backends.sqlite_backend import SqliteDataStore

    return Huey(SqliteQueue("app", path), SqliteDataStore("app", path), SqliteSchedule("app", path))


@pytest.mark.parametrize("make", [in_one_file, in_parts])
def test_messages_of_3x_in_the_same_file_are_counted_and_left(
    make: Callable[[Path], Huey], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = filled(tmp_path / "huey.db", TABLES_OF_3X)
    before = dump(path, "task", "schedule", "kv")
    huey = make(path)

    (line,) = told(huey, caplog)

    huey.close()
    places = """2 of queue 'app' in table task, 1 of queue "it's" in table task, 1 of queue 'app' in table schedule"""
    assert f"huey.db: 4 messages of an earlier release of huey wait here ({places})" in line
    assert "let the consumer of that release run until none is left, or give this queue another filename=" in line
    assert dump(path, "task", "schedule", "kv") == before


@pytest.mark.parametrize("make", [in_one_file, in_parts])
def test_messages_of_049_in_the_same_file_are_counted_and_left(
    make: Callable[[Path], Huey], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = filled(tmp_path / "huey.db", TABLES_OF_049)
    before = dump(path, "huey_queue_app", "huey_schedule_app")
    huey = make(path)

    (line,) = told(huey, caplog)

    huey.close()
    assert "3 messages of an earlier release of huey wait here (2 of queue 'app' in table huey_queue_app, 1 of queue 'app'" in line
    assert dump(path, "huey_queue_app", "huey_schedule_app") == before


@pytest.mark.parametrize("script", ["", TABLES_OF_AN_APPLICATION, TABLES_OF_3X + "DELETE FROM task; DELETE FROM schedule;"])
def test_nothing_is_said_where_nothing_waits(script: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    huey = in_one_file(filled(tmp_path / "huey.db", script))

    assert told(huey, caplog) == []
    huey.close()


def test_messages_of_a_folder_of_3x_are_counted_and_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (
        ".lock",
        "queue/ffff-01a22d759a96",
        "schedule/01a22dac8915",
        "schedule/01a22dac8916",
        "results/9/d/9dd4",
        "queue/notes.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\x80")
    huey = FileHuey("app", path=tmp_path)

    (line,) = told(huey, caplog)

    huey.close()
    assert f"{tmp_path}: 3 messages of an earlier release of huey wait here (1 in queue, 2 in schedule)" in line
    assert (tmp_path / "queue/ffff-01a22d759a96").read_bytes() == b"\x80"


@pytest.fixture
def server() -> Iterator[Any]:
    with redis.Redis(port=shared_server().port) as server:
        yield server
        server.flushdb()


def on_server(name: str) -> Huey:
    return RedisHuey(name, port=shared_server().port)


def in_parts_on_server(name: str) -> Huey:
    parts = (kind(name, port=shared_server().port) for kind in (RedisQueue, RedisDataStore, RedisSchedule))
    return Huey(*parts)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [on_server, in_parts_on_server])
def test_messages_of_earlier_releases_are_counted_and_left(
    make: Callable[[str], Huey], server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.lpush("huey.redis.myappv1", b"a", b"b")  # 0.4.9, and 3.x
    server.zadd("huey.redis.my-app v1", {b"c": 0})  # 3.x with priorities and clean_name=False
    server.zadd("huey.schedule.myappv1", {b"d": 1700000000, b"e": 4000000000})
    server.lpush("huey.redis.other", b"f")
    server.hset("huey.results.myappv1", "k", b"v")
    before = {key: server.dump(key) for key in server.keys("huey.redis.*") + server.keys("huey.schedule.*")}
    huey = make("my-app v1")

    (line,) = told(huey, caplog)

    huey.close()
    places = "2 in huey.redis.myappv1, 2 in huey.schedule.myappv1, 1 in huey.redis.my-app v1"
    assert f"5 messages of an earlier release of huey wait here ({places})" in line
    assert "another name or db=" in line
    assert {key: server.dump(key) for key in before} == before


@pytest.mark.parametrize("make", [on_server, in_parts_on_server])
def test_nothing_is_said_on_a_server_where_nothing_waits(
    make: Callable[[str], Huey], server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.set("huey.redis.app", "of somebody else")
    huey = make("app")
    huey.task(name="later")(lambda: 1).schedule(delay=3600)

    assert told(huey, caplog) == []
    huey.close()

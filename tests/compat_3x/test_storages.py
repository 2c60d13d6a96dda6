"""Section 12 of 3.x: storages by their names there, and options that are honoured or refused with the reason."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

import huey.storage
from huey import BlackHoleHuey, CySqliteHuey, FileHuey, SqliteHuey
from huey.exceptions import ConfigurationError
from huey.storage.memory import MemoryStorage
from huey.storage.sqlite.storage import SqliteStorage
from tests.support.helpers import running


def test_file_huey_keeps_a_sqlite_file_in_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "tasks"
    huey = FileHuey("app", folder, levels=4, use_thread_lock=True, result_ttl=60)
    task = huey.task()(lambda n: n)

    with running(huey):
        assert task(1).get(blocking=True, timeout=10) == 1
    huey.close()

    assert (folder / "huey.db").exists()
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert huey.storage.result_ttl == 60  # type: ignore[attr-defined]


@pytest.mark.parametrize("levels", [-1, 5, True])
def test_file_huey_takes_the_levels_of_3x_only(tmp_path: Path, levels: Any) -> None:
    with pytest.raises(ConfigurationError, match="levels"):
        FileHuey("app", tmp_path, levels=levels)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match="cannot create this folder"):
        FileHuey("app", tmp_path / "file" / "tasks")


def test_a_black_hole_keeps_nothing() -> None:
    huey = BlackHoleHuey("app")
    ran: list[int] = []
    task = huey.task()(ran.append)
    huey.periodic_task(lambda now: True)(lambda: ran.append(0))

    handle = task(1)
    huey.put("k", 1)
    handle.revoke()
    with running(huey, periodic=True):
        assert handle.get() is None
    assert (len(huey), huey.get("k"), huey.put_if_empty("k", 2), huey.get("k"), ran) == (0, None, True, None, [])
    assert task.map([1, 2]).get() == [None, None]


def test_cy_sqlite_is_the_same_as_sqlite() -> None:
    assert CySqliteHuey is SqliteHuey


@pytest.mark.parametrize(
    "options",
    [
        {"cache_mb": 4, "fsync": True, "journal_mode": "wal", "timeout": 3, "strict_fifo": True, "create_tables": True},
        {"fsync": False, "journal_mode": "WAL", "strict_fifo": False, "pragmas": None, "check_same_thread": False},
        {"isolation_level": None, "pragmas": ()},
    ],
)
def test_options_of_3x_are_honoured(tmp_path: Path, options: dict[str, Any]) -> None:
    huey = SqliteHuey("app", filename=tmp_path / "q.db", **options)
    huey.task()(lambda: 1)()
    (mode,) = huey.storage._database.writer.execute("PRAGMA journal_mode").fetchone()  # type: ignore[attr-defined]
    (cache,) = huey.storage._database.writer.execute("PRAGMA cache_size").fetchone()  # type: ignore[attr-defined]
    huey.close()

    assert mode == "wal"
    assert cache == -1024 * options.get("cache_mb", 8)


def test_pragmas_that_change_no_promise_are_honoured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "huey")
    pragmas = [("cache_size", -3000), ("mmap_size", 1 << 20), ("synchronous", "normal"), ("busy_timeout", 1500), ("journal_mode", "WAL")]
    huey = SqliteHuey("app", filename=tmp_path / "q.db", pragmas=[*pragmas, ("temp_store", "memory"), ("wal_autocheckpoint", 100)])
    huey.task()(lambda: 1)()
    storage: Any = huey.storage
    found = [storage._database.writer.execute(f"PRAGMA {name}").fetchone()[0] for name in ("cache_size", "mmap_size", "synchronous")]
    made_with = storage._made_with
    another = huey.storage.for_queue("other")
    huey.close()

    assert found == [-3000, 1 << 20, 1]
    assert (made_with["fsync"], made_with["timeout"]) == (False, 1.5)
    assert another._made_with == made_with  # type: ignore[attr-defined]
    assert "wal_autocheckpoint=100: workers checkpoint the log" in caplog.text


def test_a_pragma_and_an_option_may_not_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"synchronous=1 and fsync=True contradict"):
        SqliteHuey("app", filename=tmp_path / "q.db", fsync=True, pragmas={"synchronous": 1})
    SqliteHuey("app", filename=tmp_path / "q.db", fsync=True, pragmas={"synchronous": "FULL"}).close()


def test_create_tables_false_is_taken_and_the_tables_are_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "huey")
    huey = SqliteHuey("app", filename=tmp_path / "q.db", create_tables=False)
    huey.task()(lambda: 1)()
    counted = huey.pending_count()
    huey.close()

    assert counted == 1
    assert "create_tables=False is ignored: huey creates missing tables" in caplog.text


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("journal_mode", "delete", "process is killed"),
        ("pragmas", {"synchronous": 0}, "a power failure may destroy the file"),
        ("pragmas", [("synchronous", "OFF")], "a power failure may destroy the file"),
        ("pragmas", {"journal_mode": "memory"}, "process is killed"),
        ("pragmas", {"journal_mode": "off"}, "process is killed"),
        ("pragmas", {"locking_mode": "EXCLUSIVE"}, "no second process"),
        ("pragmas", {"temp_store": "file"}, "in memory"),
        ("pragmas", {"encoding": "utf-16"}, "in UTF-8"),
        ("pragmas", {"writable_schema": 1}, "does not support this pragma"),
        ("pragmas", {"cache_size": "1; DROP TABLE huey_task"}, "a number or a word"),
        ("pragmas", {"busy_timeout": "soon"}, "milliseconds"),
        ("pragmas", "cache_size", "a dict, or pairs"),
        ("isolation_level", "EXCLUSIVE", "one statement in autocommit"),
        ("check_same_thread", True, "share connections"),
        ("strict_fifo", "yes", "True or False"),
        ("cached_statements", 5, "cached_statements"),
    ],
)
def test_options_that_cannot_be_honoured_are_refused(tmp_path: Path, option: str, value: Any, reason: str) -> None:
    name = option.removesuffix("s")
    with pytest.raises(ConfigurationError, match=f"(?s){name}.*{reason}" if reason != option else option):
        SqliteHuey("app", filename=tmp_path / "q.db", **{option: value})


def test_tasks_of_one_priority_run_in_their_order(tmp_path: Path) -> None:
    huey = SqliteHuey("app", filename=tmp_path / "q.db", strict_fifo=True)
    ran: list[int] = []
    task = huey.task()(ran.append)
    with huey.batch():
        handles = [task(n) for n in range(50)]
    with running(huey):
        pass
    while (step := huey.dequeue()) is not None:
        huey.execute(step)
    huey.close()

    assert ran == list(range(50))
    assert len(handles) == 50


def test_names_of_huey_storage() -> None:
    assert huey.storage.SqliteStorage is huey.storage.CySqliteStorage is SqliteStorage
    assert issubclass(huey.storage.FileStorage, SqliteStorage)
    assert huey.storage.MemoryStorage is MemoryStorage
    assert issubclass(huey.storage.BlackHoleStorage, MemoryStorage)
    assert huey.storage.RedisStorage is huey.storage.PriorityRedisStorage
    assert huey.storage.RedisExpireStorage is huey.storage.PriorityRedisExpireStorage
    assert issubclass(huey.storage.RedisExpireStorage, huey.storage.RedisStorage)
    assert set(huey.storage._HOMES) <= set(dir(huey.storage))
    with pytest.raises(AttributeError, match="NoStorage"):
        huey.storage.NoStorage  # noqa: B018


def test_a_storage_that_is_not_built_says_so_at_its_import() -> None:
    with pytest.raises(ImportError, match="PostgreSQL comes in a later"):
        from huey.storage import PostgresStorage  # noqa: F401

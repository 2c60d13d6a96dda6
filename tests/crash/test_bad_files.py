"""Files that cannot be used: locked, full, read-only, damaged, foreign, newer, elsewhere.

Each is told at once by an error that names the file, the fact and the way out; no task is dropped for it: once the fault is gone,
everything runs.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huey import SqliteHuey
from huey.exceptions import StorageFull, StorageRefused, StorageUnavailable
from huey.storage.helpers import CHUNK
from huey.storage.sqlite.schema import SCHEMA_VERSION
from tests.crash import app as application
from tests.crash.tools import ROOT, Place, fill, locked, most_common_problems
from tests.support.helpers import wait_until

MIB = 1024 * 1024
IS_ROOT = os.geteuid() == 0


def finished(place: Any) -> Any:
    """Everything runs, as if there had been no fault."""
    place.finish()
    verdict = place.verdict()
    assert not verdict.problems, most_common_problems(verdict.problems) + "\n" + place.log()
    return verdict


def with_tasks(place: Any) -> Any:
    """A file with waiting tasks of some kinds that nobody has open; its path."""
    place.bulk(range(5))
    place.work(7, delay=0.1)
    place.flaky(1, failures=1)
    place.app.huey.close()
    return place.folder / "queue.db"


# -- locked -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow_machine
@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_locked_file_is_told_after_the_timeout(make_place: Any, how: Any) -> None:
    place = make_place(timeout=0.5)
    path = with_tasks(place)

    with locked(path, how):
        begun = time.monotonic()
        with pytest.raises(StorageUnavailable) as caught:
            place.app.work(1, 0)
        took = time.monotonic() - begun

    assert 0.5 <= took < 2
    assert str(path) in str(caught.value)
    assert "locked" in str(caught.value)
    assert "again" in str(caught.value)
    place.work(1)
    finished(place)


def test_threads_wait_for_a_locked_file_no_longer_than_one(make_place: Any) -> None:
    """The timeout is the caller's, not that of a row of callers."""
    place = make_place(timeout=0.5)
    path = with_tasks(place)
    place.storage.open()
    waits = []

    def call() -> None:
        begun = time.monotonic()
        with pytest.raises(StorageUnavailable):
            place.app.work(1, 0)
        waits.append(time.monotonic() - begun)

    with locked(path, "IMMEDIATE"):
        crew = [threading.Thread(target=call) for _ in range(6)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()

    assert len(waits) == 6
    assert max(waits) < 1.5


def test_a_lock_under_a_running_consumer_costs_time_only(make_place: Any) -> None:
    """What ends meanwhile is kept and written afterwards; nothing runs twice; the consumer lives."""
    place = make_place(timeout=0.3)
    for n in range(4):
        place.gated(n)
    place.bulk(range(20))
    consumer = place.start(workers=4)
    wait_until(lambda: len(place.runs()) >= 4, "tasks run")

    with locked(place.folder / "queue.db", "IMMEDIATE"):
        place.open_gate()
        wait_until(lambda: sum(run.end is not None and run.name == "gated" for run in place.runs()) == 4, "they end")
        wait_until(lambda: "storage unavailable" in place.log(), "the consumer says so")

    wait_until(place.is_done, "everything is done")
    wait_until(lambda: "storage is back" in place.log(), "the consumer says so")
    assert consumer.is_alive
    assert consumer.stop() == 0
    assert finished(place).reruns == 0


def test_a_lock_while_a_consumer_takes_over_costs_time_only(make_place: Any) -> None:
    """The one that takes over holds what the dead one held; if it cannot write the end of it at once, it does so later."""
    place = make_place(timeout=0.3)
    place.gated(1)
    holder = place.start(workers=1, periodic=False)
    wait_until(lambda: place.runs(), "it runs")
    heir = place.start(workers=1, periodic=False)
    wait_until(lambda: heir.is_known, "the heir lives")

    with locked(place.folder / "queue.db", "IMMEDIATE"):
        holder.kill()
        place.open_gate()
        wait_until(lambda: "storage unavailable" in place.log(), "it tries to take over")

    wait_until(place.is_done, "everything is done")
    assert heir.stop() == 0
    finished(place)


# -- not ours to use ----------------------------------------------------------------------------------------------------------------------


def aside(path: Any) -> Any:
    return path.rename(path.with_suffix(".aside"))


def garbage(path: Any) -> None:
    aside(path)
    path.write_bytes(b"Dear diary, this is not a database at all. " * 200)


def empty_but_for_a_header(path: Any) -> None:
    shutil.copy(aside(path), path)
    os.truncate(path, 4096)


def damaged(path: Any) -> None:
    shutil.copy(aside(path), path)
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


def directory(path: Any) -> None:
    aside(path)
    path.mkdir()


def symlink(path: Any) -> None:
    path.symlink_to(aside(path))


def dangling_symlink(path: Any) -> None:
    aside(path)
    path.symlink_to("nowhere.db")


def fifo(path: Any) -> None:
    aside(path)
    os.mkfifo(path)


def newer(path: Any) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE huey_meta SET value = value + 1 WHERE key = 'version'")
    connection.close()


def unreadable_version(path: Any) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE huey_meta SET value = 'two' WHERE key = 'version'")
    connection.close()


def of_another_user(path: Any) -> None:
    os.chown(path, 12345, 12345)


def restored(path: Any) -> None:
    """Take the fault away again."""
    kept = path.with_suffix(".aside")
    if kept.exists():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for rest in ("-wal", "-shm", "-journal", "-checkpoint"):
            path.with_name(path.name + rest).unlink(missing_ok=True)
        kept.rename(path)
        return
    os.chown(path, os.geteuid(), os.getegid())
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE huey_meta SET value = ? WHERE key = 'version'", (SCHEMA_VERSION,))
    connection.close()


FAULTS = [
    (garbage, "not a SQLite database", "another filename"),
    (empty_but_for_a_header, "damaged", "integrity_check"),
    (damaged, "damaged", "integrity_check"),
    (directory, "not a plain file", "filename="),
    (symlink, "not a plain file", "filename="),
    (dangling_symlink, "not a plain file", "filename="),
    (fifo, "not a plain file", "filename="),
    (newer, "newer huey", "upgrade"),
    (unreadable_version, "version", ""),
    pytest.param(of_another_user, "another user", "file_mode", marks=pytest.mark.skipif(not IS_ROOT, reason="only root gives files away")),
]
by_fault = pytest.mark.parametrize(("fault", "fact", "way_out"), FAULTS, ids=lambda it: getattr(it, "__name__", ""))


@by_fault
def test_what_cannot_be_used_is_refused_and_left_alone(place: Place, fault: Any, fact: Any, way_out: Any) -> None:
    path = with_tasks(place)
    fault(path)
    before = picture(path)

    for attempt in (lambda app: app.work(1, 0), lambda app: app.huey.storage.open(), lambda app: app.huey.create_consumer().start()):
        with pytest.raises(StorageRefused) as caught:
            attempt(application.make(place.folder))
        assert str(path) in str(caught.value)
        assert fact in str(caught.value)
        assert way_out in str(caught.value)

    assert picture(path) == before
    restored(path)
    finished(place)


def picture(path: Any) -> Any:
    """What must not change: kind, rights and content."""
    found = os.lstat(path)
    return stat.filemode(found.st_mode), found.st_uid, path.read_bytes() if stat.S_ISREG(found.st_mode) else None


@by_fault
def test_the_command_says_so_in_one_line_and_ends_with_1(place: Place, fault: Any, fact: Any, way_out: Any) -> None:
    path = with_tasks(place)
    (place.folder / "main.py").write_text(
        "from huey import SqliteHuey\nhuey = SqliteHuey('app', filename='queue.db')\n@huey.task()\ndef f(): pass\n", "utf-8"
    )
    fault(path)

    done = subprocess.run(
        [sys.executable, "-m", "huey.cli.consumer", "main.huey"], cwd=place.folder, capture_output=True, text=True, timeout=20, check=False
    )

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert fact in done.stderr
    assert way_out in done.stderr


def test_a_missing_folder_is_named(place: Place, tmp_path: Path) -> None:
    app = application.make(place.folder, filename=str(tmp_path / "no" / "such" / "queue.db"))

    with pytest.raises(StorageRefused, match=r"the folder .*/no/such does not exist; make it first"):
        app.work(1, 0)

    (tmp_path / "no" / "such").mkdir(parents=True)
    assert app.work(1, 0) is not None
    app.huey.close()


def test_an_empty_file_becomes_a_queue(tmp_path: Path) -> None:
    """``touch`` and ``mkstemp`` make one."""
    (tmp_path / "queue.db").touch()
    huey = SqliteHuey("app", filename=tmp_path / "queue.db")

    huey.task(name="a")(print)()

    assert len(huey) == 1
    huey.close()


def test_a_file_made_again_is_private_from_its_first_byte(tmp_path: Path) -> None:
    """S4, also for an instance that had the file open before."""
    path = tmp_path / "queue.db"
    huey = SqliteHuey("app", filename=path)
    task = huey.task(name="a")(print)
    task()
    huey.close()
    path.unlink()

    task()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    huey.close()


def test_a_file_is_looked_at_again_when_it_is_opened_again(tmp_path: Path) -> None:
    """S4: a link that somebody put in its place is not followed."""
    path = tmp_path / "queue.db"
    huey = SqliteHuey("app", filename=path)
    task = huey.task(name="a")(print)
    task()
    huey.close()
    symlink(path)

    with pytest.raises(StorageRefused, match="not a plain file"):
        task()


# -- rights -------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def open_folder() -> Iterator[Any]:
    """A folder that every user can reach: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)
        os.chmod(folder, 0o777)


def error_of_nobody(tmp_path: Path, folder: Any) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.scenes", "as_nobody", str(tmp_path), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_queue(folder: Any) -> None:
    huey = SqliteHuey("app", filename=folder / "queue.db")
    huey.storage.open()
    huey.close()


def test_a_read_only_file_is_named(tmp_path: Path, open_folder: Any) -> None:
    make_queue(open_folder)
    os.chmod(open_folder / "queue.db", 0o444)

    error = error_of_nobody(tmp_path, open_folder)

    assert error.startswith("StorageRefused")
    assert f"{open_folder}/queue.db: this process may not write the file; check its owner and rights" in error


def test_a_read_only_folder_is_named(tmp_path: Path, open_folder: Any) -> None:
    make_queue(open_folder)
    os.chmod(open_folder / "queue.db", 0o666)
    os.chmod(open_folder, 0o555)

    error = error_of_nobody(tmp_path, open_folder)

    assert error.startswith("StorageRefused")
    assert f"may not write into {open_folder}" in error


def test_a_folder_that_takes_no_file_is_named(tmp_path: Path, open_folder: Any) -> None:
    os.chmod(open_folder, 0o555)

    error = error_of_nobody(tmp_path, open_folder)

    assert error.startswith("StorageRefused")
    assert "cannot be made" in error
    assert "rights of its folder" in error


def test_a_folder_that_may_not_be_entered_is_not_called_missing(tmp_path: Path, open_folder: Any) -> None:
    """Who is told to make a folder that is there looks in the wrong place."""
    (open_folder / "inner" / "queue").mkdir(parents=True)
    os.chmod(open_folder / "inner", 0o700 if IS_ROOT else 0)

    error = error_of_nobody(tmp_path, open_folder / "inner" / "queue")
    os.chmod(open_folder / "inner", 0o777)

    assert error.startswith("StorageRefused")
    assert "does not exist" not in error


# -- full ---------------------------------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_keeps_what_was_acknowledged(make_place: Any, small_disk: Any) -> None:
    disk = small_disk(32)
    place = make_place(filename=str(disk / "queue.db"))
    place.bulk(range(5))
    ballast = fill(disk, leave=256 * 1024)

    with pytest.raises(StorageFull) as caught:
        all(place.work(n) for n in range(10_000))

    assert str(disk / "queue.db") in str(caught.value)
    assert "disk is full" in str(caught.value)
    assert "Free some space" in str(caught.value)
    ballast.unlink()
    place.work(1)
    finished(place)


def test_a_consumer_starts_and_works_with_little_room(make_place: Any, small_disk: Any) -> None:
    disk = small_disk(32)
    place = make_place(filename=str(disk / "queue.db"))
    place.bulk(range(50))
    fill(disk, leave=2 * MIB)

    finished(place)


def test_a_full_disk_under_a_running_consumer_costs_time_only(make_place: Any, small_disk: Any) -> None:
    """Results that do not fit are kept until there is room; the consumer lives and goes on by itself."""
    disk = small_disk(64)
    place = make_place(filename=str(disk / "queue.db"))
    place.gated(1)
    for n in range(20):
        place.large(n, 500_000)
    consumer = place.start(workers=1, periodic=False)
    wait_until(place.runs, "the first task runs, the others wait behind it")
    ballast = fill(disk)
    place.open_gate()
    wait_until(lambda: "storage unavailable" in place.log(), "the disk is full")

    ballast.unlink()

    wait_until(lambda: place.is_done() or not consumer.is_alive, "everything is done")
    assert consumer.stop() == 0, place.log()
    assert finished(place).reruns == 0


def test_what_was_written_is_not_told_to_have_failed(make_place: Any, small_disk: Any) -> None:
    """An error says that nothing was written: a caller who believes it calls again. Here the log finds no room for its checkpoint."""
    disk = small_disk(48)
    place = make_place(filename=str(disk / "queue.db"), fsync=False)
    told, size = [], 256 * 1024

    for n in range(34 * 4):
        try:
            place.app.work.schedule(args=(n, 0), kwargs={"task": b"x" * size}, id=f"n-{n}")
        except StorageFull:
            told.append(f"n-{n}")

    assert [id for id in told if place.storage.get(id) is not None] == []


def test_a_checkpoint_without_room_does_not_lose_leases(make_place: Any, small_disk: Any) -> None:
    """A consumer on a disk where its log finds no room to be moved: what it claims runs nevertheless, at the latest when there is room."""
    disk = small_disk(64)
    place = make_place(filename=str(disk / "queue.db"))
    for n in range(40):
        place.storage.put("data", f"key-{n}", bytes(500_000))
    place.bulk(range(600), seconds=0.004)
    assert (disk / "queue.db-wal").stat().st_size > 20_000_000, "the log is to be large when the consumer meets it"
    ballast = fill(disk, leave=8 * MIB)
    consumer = place.start(workers=2, periodic=False)
    wait_until(lambda: place.is_done() or "storage unavailable" in place.log() or not consumer.is_alive, "the consumer met the full disk")

    ballast.unlink()

    wait_until(lambda: place.is_done() or not consumer.is_alive, "everything is done", timeout=10)
    assert consumer.stop() == 0, place.log()
    finished(place)


def test_a_limit_on_file_sizes_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.scenes", "small_quota", str(tmp_path), str(256 * 1024)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)

    assert told["error"].startswith(("StorageFull", "StorageUnavailable"))
    assert str(tmp_path / "queue.db") in told["error"]
    huey = SqliteHuey("app", filename=tmp_path / "queue.db")
    assert {row.id for row in huey.storage.find(limit=CHUNK)} == {f"n-{n}" for n in told["acknowledged"]}
    huey.close()

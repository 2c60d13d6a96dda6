"""A file that is away for a while: kept locked by a stranger, moved, replaced, deleted, without its log.

One line says so; what runs goes on, its ends are kept and written later, nothing runs twice, and all goes on by itself (C15).
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from huey import SqliteHuey
from huey.exceptions import StorageRefused, StorageUnavailable
from huey.runtime import files
from huey.testing.contract.tools import worker
from tests.crash import app as application
from tests.crash.tools import Place, locked, most_common_problems
from tests.support.helpers import wait_until

RESUMES = 5.0
"""Seconds within which everything has to go on."""


def finished(place: Any) -> Any:
    verdict = place.verdict()
    assert not verdict.problems, most_common_problems(verdict.problems) + "\n" + place.log()
    return verdict


def told(place: Any) -> Any:
    """How often an outage was said to begin and to be over; tracebacks."""
    return place.log().count("storage unavailable"), place.log().count("storage is back"), place.log().count("Traceback")


def refused(place: Any) -> Any:
    """How many ends were said to be refused."""
    return sum(map(int, re.findall(r"(\d+) finishes were stale", place.log())))


# -- locked -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow_machine
@pytest.mark.chaos
@pytest.mark.timeout(90)
@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_file_that_is_locked_for_long_costs_time_only(place: Place, show: Any, how: Any) -> None:
    """With the usual timeouts."""
    for n in range(4):
        place.gated(n)
    place.bulk(range(20))
    consumer = place.start(workers=4)
    wait_until(lambda: len(place.runs()) >= 4, "tasks run")

    with locked(place.folder / "queue.db", how):
        place.open_gate()
        begun = time.monotonic()
        with pytest.raises(StorageUnavailable, match=r"locked.*again"):
            place.app.work(1, 0)
        took = time.monotonic() - begun
        share = consumer.cpu_share(17.0)
    begun = time.monotonic()
    wait_until(place.is_done, "everything is done")
    resumed = time.monotonic() - begun

    assert 5 <= took < 6
    assert share < 0.03, f"{share:.1%} of a core"
    assert resumed < RESUMES
    wait_until(lambda: "storage is back" in place.log(), "it is told")
    assert told(place) == (1, 1, 0), place.log()
    assert consumer.stop() == 0
    assert finished(place).reruns == 0
    show(f"enqueue gave up after {took:.2f} s, the consumer took {share:.1%} of a core, went on after {resumed:.2f} s")


@pytest.mark.slow_machine
@pytest.mark.chaos
@pytest.mark.timeout(90)
def test_a_consumer_can_be_stopped_while_the_file_is_locked(place: Place) -> None:
    """Within the limit, and what it could not write runs again."""
    place.gated(1)
    consumer = place.start(workers=1, periodic=False, shutdown_timeout=2)
    wait_until(lambda: len(place.runs()) == 1, "it runs")

    with locked(place.folder / "queue.db", "EXCLUSIVE"):
        place.open_gate()
        wait_until(lambda: place.runs()[0].end, "it has ended")
        begun = time.monotonic()
        consumer.ask_to_stop()
        assert consumer.process.wait(30) == 0
        took = time.monotonic() - begun

    assert took < 25
    assert "finished tasks; these tasks will run again" in place.log()
    place.finish(periodic=False)
    assert len(place.runs()) == 2


@pytest.mark.slow_machine
def test_enqueue_gives_up_before_other_calls_do(make_place: Any) -> None:
    place = make_place(timeout=1.5, enqueue_timeout=0.2)
    place.work(1)
    waits = {}

    with locked(place.folder / "queue.db", "IMMEDIATE"):
        for name, call in (("enqueue", lambda: place.app.work(2, 0)), ("put", lambda: place.storage.put("data", "key", b"value"))):
            begun = time.monotonic()
            with pytest.raises(StorageUnavailable):
                call()
            waits[name] = time.monotonic() - begun

    assert 0.2 <= waits["enqueue"] < 1.0
    assert 1.5 <= waits["put"] < 3.0


@pytest.mark.parametrize(("options", "expected"), [({}, 5.0), ({"timeout": 0.5}, 0.5), ({"timeout": 60.0, "enqueue_timeout": 20.0}, 20.0)])
def test_an_enqueue_waits_five_seconds_unless_told_otherwise(tmp_path: Path, options: Any, expected: Any) -> None:
    storage = SqliteHuey("app", filename=tmp_path / "queue.db", **options).storage

    assert storage._database._enqueue_timeout == expected  # type: ignore[attr-defined]


# -- moved, replaced, deleted -------------------------------------------------------------------------------------------------------------


def all_of(path: Any) -> Any:
    """The file and what SQLite keeps beside it."""
    return [path.with_name(path.name + end) for end in ("", "-wal", "-shm") if path.with_name(path.name + end).exists()]


def move(path: Any, folder: Any) -> None:
    folder.mkdir(exist_ok=True)
    for file in all_of(path):
        file.rename(folder / file.name)


@pytest.fixture
def busy(place: Any) -> Any:
    """A place whose consumer runs two tasks that wait for the gate."""
    for n in range(2):
        place.gated(n)
    place.consumer = place.start(workers=3, periodic=False)
    wait_until(lambda: len(place.runs()) == 2, "they run")
    return place


def test_a_file_that_is_moved_away_and_back_costs_time_only(busy: Any) -> None:
    path, aside = busy.folder / "queue.db", busy.folder / "aside"
    move(path, aside)
    busy.open_gate()
    wait_until(lambda: "storage unavailable" in busy.log(), "it is told")

    with pytest.raises(StorageUnavailable, match=r"the file is gone.*Put it back"):
        busy.app.work(5, 0)
    assert not path.exists(), "an empty file in its place would hide that it is gone"
    move(aside / "queue.db", busy.folder)

    wait_until(lambda: busy.is_done() and "storage is back" in busy.log(), "it goes on by itself", timeout=RESUMES)
    busy.work(6)
    wait_until(busy.is_done, "and runs new tasks")
    assert told(busy) == (1, 1, 0), busy.log()
    assert busy.consumer.stop() == 0
    assert {busy.app.huey.result(id, preserve=True) for id in busy.expected} == {0, 1, 36}
    assert len(busy.runs()) >= 3


def test_a_queue_that_is_copied_elsewhere_and_back_goes_on_there(busy: Any) -> None:
    """As when a disk is changed: the tasks that ran meanwhile are known in the copy, and their ends are written there."""
    path, aside = busy.folder / "queue.db", busy.folder / "aside"
    move(path, aside)
    wait_until(lambda: "storage unavailable" in busy.log(), "it is told")
    busy.open_gate()
    wait_until(lambda: all(run.end for run in busy.runs()), "what ran ends meanwhile")
    busy.app.huey.close()
    for file in all_of(aside / "queue.db"):
        shutil.copy2(file, busy.folder)

    wait_until(lambda: "storage is back" in busy.log() and busy.is_done(), "it goes on by itself", timeout=RESUMES)

    busy.work(7)
    wait_until(busy.is_done, "and runs new tasks")
    assert busy.consumer.stop() == 0
    assert finished(busy).reruns == 0


def test_a_new_file_in_the_place_of_a_deleted_one_is_opened(busy: Any) -> None:
    """What the old one held is lost to whoever deleted it, and the consumer says so; what comes into the new one runs."""
    path = busy.folder / "queue.db"
    for file in all_of(path):
        file.unlink()
    wait_until(lambda: "the file is gone" in busy.log(), "it is told")
    assert not path.exists()
    # With a setting of its own it has connections of its own, as another process would.
    newcomer = application.make(busy.folder, cache_mb=9)

    result = newcomer.work(5, 0)

    assert result.get(blocking=True, timeout=RESUMES) == 25
    busy.open_gate()
    wait_until(lambda: refused(busy) == 2, "the ends of the old tasks are told to be of no use")
    with pytest.raises(StorageUnavailable, match="was replaced by another one"):
        busy.app.work(6, 0)
    assert busy.app.work(6, 0).get(blocking=True, timeout=RESUMES) == 36
    wait_until(lambda: told(busy) == (1, 1, 0), "it is told that the outage is over")
    assert busy.consumer.stop() == 0
    newcomer.huey.close()


def test_an_enqueue_into_a_replaced_file_is_not_acknowledged(place: Place, tmp_path: Path) -> None:
    """The last moment counts: what was put into a file that nobody will read was not put in."""
    path = place.folder / "queue.db"
    place.app.work(1, 0)
    other = application.make(tmp_path / "place-0", filename=str(tmp_path / "other.db"))
    other.huey.storage.open()
    other.huey.close()

    for file in all_of(path):
        file.unlink()
    (tmp_path / "other.db").rename(path)

    with pytest.raises(StorageUnavailable, match="replaced by another one"):
        place.app.work(2, 0)
    assert place.app.work(3, 0)
    assert place.storage.counts().ready == 1


@pytest.mark.parametrize("name", ["what?.db", "100%.db", "a#b.db", "x%20y.db", "q.db?mode=ro"])
def test_a_file_may_have_any_name(tmp_path: Path, name: Any) -> None:
    huey = SqliteHuey("app", filename=tmp_path / name)

    huey.task(name="a")(print)()

    assert len(huey) == 1
    assert (tmp_path / name).stat().st_size
    huey.close()


def test_who_waits_for_a_result_hears_that_the_file_is_gone(place: Place) -> None:
    result = place.app.work(1, 0)
    move(place.folder / "queue.db", place.folder / "aside")

    with pytest.raises(StorageUnavailable, match="the file is gone"):
        result.get(blocking=True, timeout=10)


def test_who_begins_to_wait_hears_that_the_file_is_gone(place: Place) -> None:
    """Also in the moment between opening it and asking to be woken."""
    storage = place.app.huey.storage._storage
    storage.open()
    move(place.folder / "queue.db", place.folder / "aside")

    with pytest.raises(StorageUnavailable, match="the file is gone"):
        storage.listen(worker("w"), 0.0, None)


def test_a_deleted_log_is_told_and_what_it_held_is_kept(place: Place) -> None:
    """By the last process that still has it open."""
    ids = place.bulk(range(30))
    (place.folder / "queue.db-wal").unlink()

    with pytest.raises(StorageUnavailable, match="its log"):
        place.storage._database.verify_log()

    assert {row.id for row in place.storage.find()} == set(ids)
    place.finish(periodic=False)
    finished(place)


def test_a_consumer_notices_that_the_log_was_deleted(busy: Any) -> None:
    wait_until(lambda: (busy.folder / "queue.db-wal").exists(), "there is one")
    busy.app.huey.close()
    (busy.folder / "queue.db-wal").unlink()

    wait_until(lambda: "its log (-wal) was deleted" in busy.log(), "it is told")
    wait_until(lambda: "storage is back" in busy.log(), "it goes on", timeout=RESUMES)
    busy.open_gate()
    wait_until(busy.is_done, "what ran is written")
    assert busy.consumer.stop() == 0
    assert finished(busy).reruns == 0


def test_the_journal_mode_is_ours_whatever_a_stranger_set(busy: Any) -> None:
    path = busy.folder / "queue.db"
    stranger = sqlite3.connect(path, timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        stranger.execute("PRAGMA journal_mode = DELETE")
    stranger.close()
    busy.open_gate()
    wait_until(busy.is_done, "it goes on")
    assert busy.consumer.stop() == 0
    busy.app.huey.close()
    stranger = sqlite3.connect(path)
    assert stranger.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    stranger.close()

    busy.work(3)
    busy.finish(periodic=False)

    assert finished(busy).reruns == 0


def test_a_connection_that_failed_is_made_anew(place: Place) -> None:
    """An error of the disk may be over; a connection that met it may never find out."""
    place.app.work(1, 0)
    writer = place.storage._database.state.connection
    writer.execute("PRAGMA query_only = ON")
    with pytest.raises(StorageRefused, match="read-only"):
        place.app.work(2, 0)

    assert place.app.work(3, 0)

    assert place.storage._database.state.connection is not writer
    assert place.storage.counts().ready == 2


# -- network file systems -----------------------------------------------------------------------------------------------------------------


def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: Any) -> None:
    table = tmp_path / "mounts"
    table.write_text("".join(f"{what} {where} {kind} rw 0 0\n" for what, where, kind in lines), "utf-8")
    monkeypatch.setattr(files, "_MOUNTS", str(table))


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "glusterfs"])
@pytest.mark.parametrize("is_there", [True, False], ids=["an old file", "a new file"])
def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, is_there: Any) -> None:
    """Also for a file that is there already: other machines have it then."""
    share = tmp_path / "my share"
    share.mkdir()
    if is_there:
        before = SqliteHuey("app", filename=share / "queue.db")
        before.storage.open()
        before.close()
    place = str(share).replace(" ", "\\040")
    mounts(tmp_path, monkeypatch, ("/dev/sda", "/", "ext4"), ("server:/share", place, kind), ("proc", "/proc", "proc"))

    with pytest.raises(StorageRefused, match=rf"queue\.db: .*network file system \({kind}\).*Use a local disk.*allow_network=True"):
        SqliteHuey("app", filename=share / "queue.db").storage.open()

    assert (share / "queue.db").exists() == is_there
    insisting = SqliteHuey("app", filename=share / "queue.db", allow_network=True)
    insisting.storage.open()
    insisting.close()


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "virtiofs", "apfs", "fuseblk"])
def test_a_local_file_system_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    """Also above or beside one of the network."""
    mounts(tmp_path, monkeypatch, ("server:/", "/", "nfs"), ("x", tmp_path, kind), ("server:/", f"{tmp_path}/sub", "nfs"))

    SqliteHuey("app", filename=tmp_path / "queue.db").storage.open()


def test_of_two_mounts_on_one_place_the_last_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts(tmp_path, monkeypatch, ("server:/", tmp_path, "nfs"), ("x", tmp_path, "ext4"))

    SqliteHuey("app", filename=tmp_path / "queue.db").storage.open()


def test_where_the_system_does_not_tell_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MOUNTS", str(tmp_path / "nowhere"))

    SqliteHuey("app", filename=tmp_path / "queue.db").storage.open()

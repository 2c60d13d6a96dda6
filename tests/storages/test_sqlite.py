"""The storage in a SQLite file keeps the contract, and the promises of its own: rights, fork, one statement, no scans."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from huey import SqliteHuey
from huey.exceptions import ConfigurationError, StorageFull, StorageRefused, StorageUnavailable
from huey.runtime.clock import SECOND
from huey.storage.base import FOLLOWER, Storage
from huey.storage.sql.storage import load_statements
from huey.storage.sqlite import syncing
from huey.storage.sqlite.shared_files import close_if_changed
from huey.storage.sqlite.storage import SqliteStorage
from huey.storage.sqlite.syncing import MIB
from huey.task.lifecycle import Finish, Returned, State, decide
from huey.testing.clock import FakeClock
from huey.testing.contract import EdgeRules, KeepingRules, SharingRules, StorageContract
from huey.testing.contract.tools import task, worker
from tests.support.helpers import wait_until

SQL = load_statements("sqlite")
TEMPORARY = SQL["temporary"] + SQL["temporary_constraints"] + SQL["temporary_edges"]
# A flush of pending tasks has to find them.
TRIGGERS = sorted({*re.findall(r"CREATE TEMP TRIGGER (\w+)", TEMPORARY)} - {"drop_pending"})


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


class TestSqlite(StorageContract, KeepingRules, SharingRules, EdgeRules):
    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def storage(self, clock: FakeClock, make: Callable[..., SqliteStorage]) -> Storage:
        return make(clock=clock, fsync=False)

    @pytest.fixture
    def another(self, clock: FakeClock, make: Callable[..., SqliteStorage]) -> Callable[[], Storage]:
        return lambda: make(clock=clock, fsync=False)

    @pytest.fixture
    def keeping(self, clock: FakeClock, make: Callable[..., SqliteStorage]) -> Callable[..., Storage]:
        return lambda keep_finished: make(clock=clock, fsync=False, keep_finished=keep_finished)


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
    first = make()
    first.open()
    first.close()
    with sqlite3.connect(tmp_path / "huey.db") as file:
        file.execute("UPDATE huey_meta SET value = '99' WHERE key = 'version'")
    file.close()

    with pytest.raises(StorageRefused, match="newer huey"):
        make().open()


def test_migrate_is_idempotent(make: Callable[..., SqliteStorage]) -> None:
    assert make().open() == make().open() == 12


def test_a_file_of_an_earlier_schema_asks_for_a_new_file(make: Callable[..., SqliteStorage], tmp_path: Path) -> None:
    before = make()
    before.open()
    before.close()
    with sqlite3.connect(tmp_path / "huey.db") as file:
        file.execute("UPDATE huey_meta SET value = '7' WHERE key = 'version'")
    file.close()

    with pytest.raises(StorageRefused, match=r"has schema 7, but this huey needs schema 12.*give another filename="):
        make().open()


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
    file.executescript(TEMPORARY)
    found = re.search(rf"CREATE TEMP TRIGGER {trigger} .*? BEGIN(.*?)\nEND;", TEMPORARY, re.DOTALL)
    assert found is not None
    plan: list[str] = []
    for statement in found[1].split(";"):
        if statement.strip():
            sql = re.sub(r"NEW\.\w+", "?", statement)
            plan += [row[3] for row in file.execute("EXPLAIN QUERY PLAN " + sql, [1] * sql.count("?"))]
    file.close()
    return plan


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_verb_never_scans_the_tasks_of_a_queue(trigger: str) -> None:
    for step in _plan_of(trigger):
        # Whether there are edges at all is asked of the first row.
        step = step.removesuffix("SCAN huey_edge USING COVERING INDEX huey_edge_parent") if trigger == "do_turn" else step
        assert not re.search(r"SCAN (huey_(task|result|value|stats|edge)|[te])\b", step), step
        assert not re.search(r"SEARCH huey_task USING PRIMARY KEY \(queue=\?\)$", step), step


def test_a_clean_up_does_not_read_the_tasks_that_wait() -> None:
    """It holds the write lock: a million waiting tasks would hold up everybody for a third of a second."""
    file = sqlite3.connect(":memory:")
    file.executescript(SQL["schema"])
    plan = [row[3] for row in file.execute("EXPLAIN QUERY PLAN " + SQL["prune_ended_find"], {"queue": 1, "ended": 1})]
    file.close()

    assert any("huey_ended" in step for step in plan)
    assert not [step for step in plan if step.startswith("SEARCH huey_task USING PRIMARY KEY (queue=?)") or "SCAN huey_task" in step]


def test_looking_at_few_tasks_reads_no_others(make: Callable[..., SqliteStorage]) -> None:
    storage = make()
    for statement in ("find_running", "find_ended", "find_ready", "find_suspects", "find_scheduled"):
        values = dict.fromkeys(re.findall(r":(\w+)", SQL[statement]), 1)
        plan = [row[3] for row in storage._database.read("EXPLAIN QUERY PLAN " + SQL[statement], values)] if storage._queue else []
        assert "USING INDEX huey_" in plan[0], (statement, plan)


def test_who_keeps_no_succeeded_tasks_removes_what_others_kept(make: Callable[..., SqliteStorage]) -> None:
    keeps, keeps_none = make(keep_finished=10), make()
    keeps.enqueue([task(id="a")])
    (lease,) = keeps.turn(worker(), [], 1).leases
    keeps.turn(worker(), [Finish(lease, State.SUCCEEDED)], 0)
    before = len(keeps_none.find())

    keeps_none.prune()

    assert (before, keeps.find()) == (1, [])


def test_a_queue_counts_for_itself(make: Callable[..., SqliteStorage]) -> None:
    one, other = make("one"), make("other")
    one.enqueue([task(id="a"), task(id="b")])

    assert (len(one.stats(0)), other.stats(0)) == (1, [])
    assert one.queues() == other.queues() == ["one", "other"]


def test_a_turn_whose_statement_fails_changes_nothing(make: Callable[..., SqliteStorage]) -> None:
    from huey.exceptions import StorageError

    storage = make()
    me = worker()
    storage.enqueue([task(id="a"), task(id="b")])
    (lease,) = storage.turn(me, [], 1).leases
    finish = decide(lease, Returned(b"value"), 0)
    storage._database.execute("CREATE TRIGGER full BEFORE INSERT ON huey_result BEGIN SELECT RAISE(FAIL, 'full'); END")

    with pytest.raises(StorageError):
        storage.turn(me, [finish], 1)
    assert storage.counts().running == 1
    assert storage.counts().ready == 1
    storage._database.execute("DROP TRIGGER full")

    again = storage.turn(me, [finish], 1)
    assert again.stale == []
    assert [lease.id for lease in again.leases] == ["b"]
    assert storage.peek("result", "a") == b"value"


def _log_generation(folder: Path) -> bytes:
    """The salts in the log's header: others after each restart."""
    return (folder / "huey.db-wal").read_bytes()[16:24]


def test_a_checkpoint_restarts_the_log_itself(make: Callable[..., SqliteStorage], tmp_path: Path) -> None:
    storage = make()
    storage.enqueue([task(id="a")])
    before = _log_generation(tmp_path)

    assert storage._database.log.checkpoint()
    restarted = _log_generation(tmp_path)
    storage.enqueue([task(id="b")])

    assert before != restarted == _log_generation(tmp_path)


def test_one_process_makes_one_checkpoint_at_a_time(make: Callable[..., SqliteStorage]) -> None:
    one, other = make("one"), make("other")
    one.open()
    other.open()
    during: list[bool] = []
    size = one._database.log.size

    def look() -> int:
        during.append(other._database.log.checkpoint())
        return size()

    one._database.log.size = look  # type: ignore[method-assign]

    assert one._database.log.checkpoint()
    assert during == [False]


def test_a_log_that_cannot_be_moved_does_not_fail_the_write(make: Callable[..., SqliteStorage], caplog: pytest.LogCaptureFixture) -> None:
    storage = make()
    storage.open()

    def broken() -> bool:
        raise StorageFull("no room")

    storage._database.log.checkpoint = broken  # type: ignore[method-assign]
    storage._database.log.units = 10**6
    storage.enqueue([task(id="a")])

    assert storage.get("a") is not None
    assert "will try again later" in caplog.text


def test_threads_wait_together_no_longer_than_the_timeout(make: Callable[..., SqliteStorage]) -> None:
    storage = make(timeout=0.05)
    storage.open()
    is_held, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        with storage._database.write_lock:
            is_held.set()
            may_go.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    is_held.wait(20)
    try:
        with pytest.raises(StorageUnavailable, match="other threads"):
            storage.enqueue([task()])
    finally:
        may_go.set()
        thread.join()


def test_a_turn_hands_out_no_more_than_eight_mebibytes(make: Callable[..., SqliteStorage]) -> None:
    storage = make(fsync=False)
    for number in range(6):
        storage.enqueue([task(id=f"{number}", payload=bytes(3 * MIB))])

    first = storage.turn(worker(), [], 6)

    assert ([lease.id for lease in first.leases], first.hit_byte_limit) == (["0", "1", "2"], True)
    assert storage.counts().ready == 3
    rest = storage.turn(worker(), [], 6)
    assert ([lease.id for lease in rest.leases], rest.hit_byte_limit) == (["3", "4", "5"], False)


def test_a_file_whose_log_was_deleted_is_left_at_the_end(make: Callable[..., SqliteStorage], tmp_path: Path) -> None:
    storage = make()
    storage.enqueue([task()])
    (tmp_path / "huey.db-wal").unlink()

    with suppress(StorageUnavailable):
        close_if_changed(storage._database)

    assert storage._database.state.connection is None


def test_somebody_elses_table_of_our_name_is_refused(make: Callable[..., SqliteStorage], tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "huey.db") as file:
        file.execute("CREATE TABLE huey_meta (other TEXT)")
    file.close()

    with pytest.raises(StorageRefused, match="huey_meta was not made by huey"):
        make().open()


def test_an_enqueue_whose_sync_fails_says_so_and_can_be_repeated(
    make: Callable[..., SqliteStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    storage, to_disk = make(), syncing.to_disk  # type: ignore[attr-defined]
    storage.open()

    monkeypatch.setattr(syncing, "to_disk", broken)
    with pytest.raises(StorageUnavailable, match="may not be on disk"):
        storage.enqueue([task(id="a")])
    monkeypatch.setattr(syncing, "to_disk", to_disk)
    storage.enqueue([task(id="a")])

    assert [row.id for row in storage.find()] == ["a"]


def test_a_worker_may_start_before_the_disk_has_the_task(make: Callable[..., SqliteStorage], monkeypatch: pytest.MonkeyPatch) -> None:
    storage, other, seen = make(), make(), []
    storage.open()
    monkeypatch.setattr(syncing, "to_disk", lambda fd: seen.extend(other.find()))

    storage.enqueue([task(id="a")])

    assert [row.id for row in seen] == ["a"]


def test_threads_that_enqueue_at_the_same_time_share_a_sync(make: Callable[..., SqliteStorage], monkeypatch: pytest.MonkeyPatch) -> None:
    storage = make()
    storage.enqueue([task(id="first")])
    asked, may_go, syncs = threading.Event(), threading.Event(), []

    def slow(fd: int) -> None:
        syncs.append(fd)
        asked.set()
        assert may_go.wait(20)

    monkeypatch.setattr(syncing, "to_disk", slow)
    threads = [threading.Thread(target=storage.enqueue, args=([task(id=str(number))],)) for number in range(8)]
    threads[0].start()
    assert asked.wait(20)
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: len(storage.find()) == 9)
    may_go.set()
    for thread in threads:
        thread.join(20)

    assert len(syncs) == 2


def test_chunks_of_one_call_wait_for_the_disk_once(make: Callable[..., SqliteStorage], monkeypatch: pytest.MonkeyPatch) -> None:
    storage, syncs = make(), []
    storage.open()
    monkeypatch.setattr(syncing, "to_disk", syncs.append)

    with storage.bulk_enqueue() as place:
        for number in range(5):
            place.enqueue([task(id=str(number))])
        before = len(syncs)
        # Another thread's call is no part of it.
        thread = threading.Thread(target=storage.enqueue, args=([task(id="other")],))
        thread.start()
        thread.join(20)
        for_queue = len(syncs)
        place.enqueue([task(id="last")])
    with suppress(LookupError), storage.bulk_enqueue() as place:
        place.enqueue([task(id="after")])
        raise LookupError
    after = len(syncs)
    storage.enqueue([task(id="alone")])

    assert (before, for_queue, after, len(syncs)) == (0, 1, 3, 4)


def test_an_enqueue_notices_who_began_to_follow(make: Callable[..., SqliteStorage]) -> None:
    clock = FakeClock()
    storage, other = make(clock=clock), make(clock=clock)
    storage.enqueue([task(id="before")], lambda: ["before"])

    position, _ = other.follow(None)
    for id in ("one", "two"):
        storage.enqueue([task(id=id)], lambda id=id: [id])  # type: ignore[misc]
    told = other.follow(position)[1]
    clock.forward(FOLLOWER / SECOND + 1)
    for id in ("three", "four"):
        storage.enqueue([task(id=id)], lambda: pytest.fail("nobody follows"))
    storage.enqueue([task(id="one")], lambda: pytest.fail("nobody follows"))

    assert told == ["one", "two"]
    assert sorted(row.id for row in storage.find()) == ["before", "four", "one", "three", "two"]


LOSES_ITS_DESCRIPTORS = """
import os, sys
from huey import Huey
from huey.exceptions import StorageRefused

huey = Huey("app", filename=sys.argv[1])
work = huey.task(name="work")(lambda n: n)
work(0)
huey.storage.counts()
os.closerange(3, 256)
strangers = [open(f"{sys.argv[1]}-stranger-{n}", "w+b") for n in range(8)]
again = Huey("app", filename=sys.argv[1])
for call in (lambda: work(1), huey.storage.counts, huey.close, lambda: work(2), lambda: again.storage.counts(), again.close):
    try:
        call()
    except StorageRefused as error:
        print(error)
for stranger in strangers:
    stranger.seek(0)
    assert stranger.read() == b"", "a file of somebody else was written into"
"""


def test_a_process_with_closed_descriptors_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "huey.db"

    done = subprocess.run([sys.executable, "-c", LOSES_ITS_DESCRIPTORS, str(path)], capture_output=True, text=True, timeout=20, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("other code closed the descriptors of this process") == 4
    with sqlite3.connect(path) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert file.execute("SELECT count(*) FROM huey_task").fetchall() == [(1,)]
    file.close()


def test_a_thread_that_finds_the_file_gone_tells_the_others(make: Callable[..., SqliteStorage], tmp_path: Path) -> None:
    """Else their calls go on to succeed for a moment, and the outage begins and ends many times."""
    storage = make(fsync=False)
    storage.enqueue([task(id="a")])
    storage._database.verify_same_file()
    for file in tmp_path.glob("huey.db*"):
        file.unlink()

    with pytest.raises(StorageUnavailable, match="the file is gone"):
        storage.wait(["a"], 0.1)
    with pytest.raises(StorageUnavailable, match="the file is gone"):
        storage.turn(worker(), [], 1)


def test_a_process_ends_quietly_when_its_folder_is_gone(tmp_path: Path) -> None:
    script = """
import shutil, sys
from huey import SqliteHuey
from huey.storage.sqlite.shared_files import _databases
huey = SqliteHuey("app", filename=sys.argv[1] + "/queue/huey.db")
f = huey.task(name="f")(lambda n: n)
f(1)
consumer = huey.create_consumer(workers=1)
consumer.start()
f(2).get(blocking=True, timeout=20)
consumer.stop()
f(3)
shutil.rmtree(sys.argv[1] + "/queue")
"""
    (tmp_path / "queue").mkdir()
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("blocked", ["busy", "its shared memory was deleted"])
def test_the_first_enqueue_waits_no_longer_than_others(tmp_path: Path, blocked: str) -> None:
    script = """
import sys, time
from huey import SqliteHuey
huey = SqliteHuey("other", filename=sys.argv[1], timeout=600, enqueue_timeout=0.2)
try:
    huey.task(name="f")(lambda: 0)()
except Exception as error:
    print(type(error).__name__, error)
"""
    file = tmp_path / "huey.db"
    huey = SqliteHuey("app", filename=str(file))
    huey.task(name="g")(lambda: 0)()
    other = sqlite3.connect(file, isolation_level=None)
    if blocked == "busy":
        other.execute("BEGIN IMMEDIATE")
    else:
        (tmp_path / "huey.db-shm").unlink()

    said = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, timeout=60, check=False).stdout
    other.close()
    huey.close()

    assert said.startswith("StorageUnavailable")
    assert ("while other processes have it open" in said) == (blocked != "busy")

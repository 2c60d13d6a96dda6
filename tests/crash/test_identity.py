"""A file of the queue that is deleted or replaced while it is in use never costs an acknowledged task.

Whoever does it, a cleaner of /tmp, a backup, ``rm *-shm``: processes never go on with different files, and what is acknowledged stays.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from huey import SqliteHuey
from huey.exceptions import HueyException, StorageError, StorageRefused, StorageUnavailable
from tests.support.helpers import SOURCE, bare_environment, wait_until

PROCESS = """
import sys
from huey import SqliteHuey
from huey.exceptions import HueyException

huey = SqliteHuey("q", filename=sys.argv[1], enqueue_timeout=0.2, timeout=0.2)
t = huey.task(name="t")(print)
for line in sys.stdin:
    word = line.strip()
    if word == "close":
        break
    try:
        print("ack", t().id, flush=True)
    except HueyException as error:
        print("error", type(error).__name__, error, flush=True)
"""


class Process:
    """Another process with the queue; it enqueues when asked to."""

    def __init__(self, path: Path) -> None:
        self._it = subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**bare_environment(), "PYTHONPATH": str(SOURCE)},
        )
        self.acknowledged: set[str] = set()
        self.errors: list[str] = []

    def enqueue(self) -> bool:
        assert self._it.stdin is not None
        assert self._it.stdout is not None
        self._it.stdin.write("put\n")
        self._it.stdin.flush()
        kind, _, rest = self._it.stdout.readline().strip().partition(" ")
        if kind == "ack":
            self.acknowledged.add(rest)
        else:
            self.errors.append(rest)
        return kind == "ack"

    def leave(self) -> None:
        """End as a program does that comes to its end."""
        with suppress(OSError):
            self._it.communicate("close\n", timeout=20)

    def kill(self) -> None:
        self._it.kill()
        self._it.wait()
        for pipe in (self._it.stdin, self._it.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def start(path: Path) -> Iterator[Callable[[], Process]]:
    started: list[Process] = []

    def start() -> Process:
        started.append(Process(path))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def held(path: Path) -> set[str]:
    huey = SqliteHuey("q", filename=path)
    try:
        return {row.id for row in huey.storage.find(limit=10_000)}
    finally:
        huey.close()


def whole(path: Path) -> bool:
    with sqlite3.connect(path) as file:
        answer = file.execute("PRAGMA integrity_check").fetchall()
    file.close()
    return bool(answer == [("ok",)])


def deleted(path: Path) -> None:
    path.unlink()


def copied_over_itself(path: Path) -> None:
    """A file of the same size and content in its place."""
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def zeros(path: Path) -> None:
    size = path.stat().st_size
    path.with_name("zeros").write_bytes(bytes(size))
    path.with_name("zeros").chmod(0o600)
    path.with_name("zeros").replace(path)


def linked_and_unlinked(path: Path) -> None:
    """It lives on under another name."""
    os.link(path, f"{path}-aside")
    path.unlink()


def moved(path: Path) -> None:
    path.rename(f"{path}-aside")


FAULTS = [deleted, copied_over_itself, zeros, linked_and_unlinked, moved]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("endings", [("-shm",), ("-wal",), ("-shm", "-wal")])
def test_what_was_acknowledged_outlives_replaced_side_files(
    path: Path, start: Callable[[], Process], fault: Callable[[Path], None], endings: tuple[str, ...]
) -> None:
    ends = "leave" if fault in FAULTS[::2] else "kill"
    old, idle = start(), start()
    for process in (old, old, idle):
        assert process.enqueue()
    for ending in endings:
        fault(Path(f"{path}{ending}"))
    new = start()

    new.enqueue()
    for _ in range(3):
        for process in (old, new):
            process.enqueue()
    getattr(idle, ends)()
    for _ in range(3):
        for process in (new, old):
            process.enqueue()

    assert old.enqueue(), "it goes on by itself once nobody has other files"
    assert new.enqueue()
    for process in (old, new):
        getattr(process, ends)()
    acknowledged = old.acknowledged | new.acknowledged | idle.acknowledged
    assert acknowledged <= held(path), f"{len(acknowledged - held(path))} of {len(acknowledged)} are lost"
    assert whole(path)


@pytest.mark.parametrize("endings", [("-shm",), ("-wal",), ("-shm", "-wal")])
def test_a_call_hears_at_once_of_a_replaced_side_file(path: Path, start: Callable[[], Process], endings: tuple[str, ...]) -> None:
    old = start()
    assert old.enqueue()
    for ending in endings:
        Path(f"{path}{ending}").unlink()

    assert not old.enqueue()
    assert old.enqueue()

    assert old.errors[0].startswith("StorageUnavailable")
    assert "deleted or replaced while in use" in old.errors[0]
    assert "you can safely try again" in old.errors[0]


@pytest.mark.parametrize("endings", [("-shm",), ("-wal",), ("-shm", "-wal")])
def test_a_process_that_ends_idle_saves_what_it_acknowledged(path: Path, start: Callable[[], Process], endings: tuple[str, ...]) -> None:
    """It has not called since; SQLite would, when it closes, move an outdated log and delete that of others."""
    old = start()
    assert old.enqueue()
    for ending in endings:
        Path(f"{path}{ending}").unlink()
    new = start()
    assert not new.enqueue(), "nobody comes in beside it"

    old.leave()

    assert new.enqueue()
    new.kill()
    assert old.acknowledged | new.acknowledged <= held(path)
    assert whole(path)


def test_who_is_kept_out_hears_why(path: Path, start: Callable[[], Process]) -> None:
    old, new = start(), start()
    assert old.enqueue()
    Path(f"{path}-shm").unlink()

    assert not new.enqueue()

    assert "was deleted or replaced while other processes have it open" in new.errors[0]
    assert "Restart those that are idle" in new.errors[0]


def test_a_file_replaced_in_use_takes_no_acknowledged_task(path: Path, start: Callable[[], Process], tmp_path: Path) -> None:
    """What is acknowledged after the change is in the new file, at the first call as at any other."""
    other = tmp_path / "other.db"
    SqliteHuey("q", filename=other).storage.open()
    shutil.copy2(other, tmp_path / "backup.db")
    old = start()
    assert old.enqueue()
    before = set(old.acknowledged)
    for ending in ("-wal", "-shm"):
        Path(f"{path}{ending}").unlink()
    (tmp_path / "backup.db").replace(path)

    for _ in range(4):
        old.enqueue()
    old.kill()

    assert old.acknowledged > before
    assert old.acknowledged - before <= held(path)


def test_a_log_of_a_file_that_was_here_before_is_not_read(path: Path, start: Callable[[], Process], tmp_path: Path) -> None:
    """After a kill the log stays; who then puts a backup there does not mean it."""
    first = SqliteHuey("q", filename=path)
    first.storage.open()
    first.close()
    shutil.copy2(path, tmp_path / "backup.db")
    old = start()
    assert old.enqueue()
    old.kill()
    (tmp_path / "backup.db").replace(path)

    with pytest.raises(StorageRefused, match="belongs to an earlier file"):
        held(path)

    Path(f"{path}-wal").rename(tmp_path / "log")
    Path(f"{path}-shm").unlink()
    assert held(path) == set()


@pytest.mark.parametrize("how", ["renamed", "link changed"])
def test_the_next_call_notices_a_renamed_folder(tmp_path: Path, how: str) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    (tmp_path / "now").symlink_to("one")
    folder = tmp_path / "now" if how == "link changed" else one
    huey = SqliteHuey("q", filename=folder / "queue.db")
    put = huey.task(name="t")(print)
    put()

    if how == "renamed":
        one.rename(tmp_path / "three")
    else:
        (tmp_path / "now").unlink()
        (tmp_path / "now").symlink_to("two")

    with pytest.raises(StorageUnavailable, match="the file is gone"):
        put()
    huey.close()


def test_a_change_during_a_turn_writes_no_end(path: Path) -> None:
    """The commit went into a log that nobody else sees; the engine hears so and writes the end again."""
    from huey.task.lifecycle import Finish, State
    from huey.testing.contract.tools import task, worker

    storage = SqliteHuey("q", filename=path).storage
    me = worker()
    storage.enqueue([task(id="a")])
    (lease,) = storage.turn(me, [], 1).leases

    def strike() -> None:
        Path(f"{path}-wal").unlink()

    with pytest.raises(StorageUnavailable, match="log"):
        storage.turn(me, [Finish(lease, State.SUCCEEDED, value=b"x")], 0, before_io=strike)
    storage.turn(me, [Finish(lease, State.SUCCEEDED, value=b"x")], 0)

    assert storage.counts().running == 0
    assert storage.peek("result", "a") == b"x"
    storage.close()


def test_an_idle_consumer_notices_and_goes_on(make_place: Callable[..., object]) -> None:
    place = make_place()  # type: ignore[var-annotated]
    consumer = place.start(workers=2, periodic=False)  # type: ignore[attr-defined]
    wait_until(lambda: consumer.is_known, "it lives")
    folder = place.folder  # type: ignore[attr-defined]
    place.app.huey.close()  # type: ignore[attr-defined]
    (folder / "queue.db-shm").unlink()
    wait_until(lambda: "deleted or replaced" in place.log(), "it is told")  # type: ignore[attr-defined]

    def is_taken() -> bool:
        try:
            place.work(1)  # type: ignore[attr-defined]
        except StorageError:
            return False
        return True

    wait_until(is_taken, "a new process comes in")
    wait_until(place.is_done, "and its task runs")  # type: ignore[attr-defined]
    assert consumer.stop() == 0


def test_other_files_in_the_folder_are_nobody_s_business(path: Path, tmp_path: Path) -> None:
    huey = SqliteHuey("q", filename=path)
    put = huey.task(name="t")(print)
    for n in range(20):
        (tmp_path / f"other-{n}").touch()
        put()
        with suppress(HueyException, FileNotFoundError):
            (tmp_path / f"other-{n - 1}").unlink()

    assert len(huey) == 20
    huey.close()

"""A disk without room: what ran is written down, nothing new is begun, and all goes on by itself when there is room (C15, T13).

A consumer keeps 4 MiB of the disk in a file beside the queue's and gives them back, bit by bit, for the ends of tasks.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from huey.exceptions import StorageFull
from huey.runtime.clock import SECOND
from huey.storage.sqlite.ballast import PLENTY, SIZE, STEP, Ballast
from huey.storage.sqlite.storage import SqliteStorage
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import task
from tests.crash.tools import Place, fill, most_common_problems
from tests.support.helpers import never, wait_until

MIB = 1024 * 1024


def size_of(path: Any) -> Any:
    return path.stat().st_size if path.exists() else None


def finished(place: Any) -> Any:
    verdict = place.verdict()
    assert not verdict.problems, most_common_problems(verdict.problems) + "\n" + place.log()
    return verdict


# -- a consumer ---------------------------------------------------------------------------------------------------------------------------


def test_a_full_disk_stops_what_begins_not_what_ends(make_place: Any, small_disk: Any) -> None:
    disk = small_disk(40)
    place = make_place(filename=str(disk / "queue.db"))
    # More than its log has room for already.
    held = [place.held(n, 2_600_000) for n in range(4)]
    place.bulk(range(60), seconds=0.2)
    consumer = place.start(workers=4, periodic=False)
    wait_until(lambda: len(place.runs()) == 4, "four run")
    wait_until(lambda: size_of(disk / "queue.db-ballast") == SIZE, "the ballast is there")
    hog = fill(disk)

    place.open_gate()
    wait_until(lambda: all(place.storage.peek("result", id) for id in held), "what ran is written, on a disk that is full")
    wait_until(lambda: "storage unavailable" in place.log(), "it is told")

    assert 0 <= size_of(disk / "queue.db-ballast") < SIZE
    begun = time.monotonic()
    with pytest.raises(StorageFull, match=r"queue\.db: the disk is full.*Free some space"):
        place.app.work(1, 0)
    assert time.monotonic() - begun < 5
    wait_until(lambda: place.storage.counts().running == 0, "what ran has ended")
    runs = len(place.runs())
    assert place.storage.counts().ready > 0
    assert never(lambda: len(place.runs()) > runs, within=1.5), "nothing new is begun"

    begun = time.monotonic()
    hog.unlink()
    wait_until(place.is_done, "it goes on by itself")
    assert time.monotonic() - begun < 20
    wait_until(lambda: size_of(disk / "queue.db-ballast") == SIZE, "the ballast is made again")
    assert (place.log().count("storage unavailable"), place.log().count("storage is back")) == (1, 1)
    assert place.app.work(1, 0)
    wait_until(place.is_done, "and takes new tasks")
    assert consumer.stop() == 0
    assert finished(place).reruns == 0


def test_a_full_disk_is_waited_for_without_haste(make_place: Any, small_disk: Any) -> None:
    """No busy loop, whatever waits."""
    disk = small_disk(40)
    place = make_place(filename=str(disk / "queue.db"))
    for n in range(2):
        place.held(n, 8_000_000)
    place.bulk(range(20))
    consumer = place.start(workers=2, periodic=True)
    wait_until(lambda: len(place.runs()) >= 2, "two run")
    hog = fill(disk)
    place.open_gate()
    wait_until(lambda: "storage unavailable" in place.log(), "it is told")

    share = consumer.cpu_share(3.0)

    assert share < 0.1, f"{share:.1%} of a core"
    hog.unlink()
    wait_until(place.is_done, "it goes on by itself")
    assert consumer.stop() == 0
    assert finished(place).reruns == 0


def test_the_last_consumer_removes_the_ballast(place: Place) -> None:
    ballast = place.folder / "queue.db-ballast"
    first, second = place.start(periodic=False), place.start(periodic=False)
    wait_until(lambda: first.is_known and second.is_known, "both live")
    wait_until(lambda: size_of(ballast) == SIZE, "the ballast is there")
    assert stat.S_IMODE(ballast.stat().st_mode) == 0o600

    assert first.stop() == 0
    assert size_of(ballast) == SIZE
    assert second.stop() == 0
    assert size_of(ballast) is None


def test_a_killed_consumer_leaves_the_ballast_to_the_next(place: Place) -> None:
    ballast = place.folder / "queue.db-ballast"
    killed = place.start(periodic=False)
    wait_until(lambda: size_of(ballast) == SIZE, "the ballast is there")
    killed.kill()
    assert size_of(ballast) == SIZE

    place.work(1)
    place.finish(periodic=False)

    assert size_of(ballast) is None


def test_a_producer_is_not_kept_waiting_for_a_consumer_that_died(make_place: Any, small_disk: Any) -> None:
    """It died on the full disk; now there is room again, and nobody to make the ballast whole."""
    disk = small_disk(40)
    place = make_place(filename=str(disk / "queue.db"))
    place.work(1)
    (disk / "queue.db-ballast").touch()
    hog = fill(disk, leave=2 * MIB)
    wait_until(lambda: takes_a_task(place, 2) is False, "it is refused")

    hog.unlink()

    wait_until(lambda: takes_a_task(place, 3), "it is taken", timeout=5)
    place.finish(periodic=False)
    finished(place)


def takes_a_task(place: Any, n: Any) -> Any:
    try:
        place.work(n)
    except StorageFull:
        return False
    return True


# -- the file itself ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ballast(small_disk: Any) -> Any:
    disk = small_disk(16)
    return Ballast(str(disk / "queue.db-ballast"), 0o600, FakeClock()), disk


def test_it_is_made_only_while_there_is_plenty(ballast: Any) -> None:
    it, disk = ballast
    hog = fill(disk, leave=PLENTY - MIB)
    it.keep()
    assert not os.path.exists(disk / "queue.db-ballast")

    hog.unlink()
    it.keep()

    found = os.stat(disk / "queue.db-ballast")
    assert (found.st_size, found.st_blocks * 512) == (SIZE, SIZE), "it takes the room, it does not only say so"


def test_it_gives_its_room_in_steps(ballast: Any) -> None:
    it, disk = ballast
    it.keep()
    fill(disk)
    rooms = []

    while it.release():
        rooms.append(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize)

    assert rooms == pytest.approx([STEP, 2 * STEP, 3 * STEP, 4 * STEP], abs=64 * 1024)
    assert it.is_short()


def test_it_is_short_only_while_the_disk_has_no_room(ballast: Any) -> None:
    it, disk = ballast
    assert not it.is_short(), "nobody made it"
    it.keep()
    hog = fill(disk)
    assert not it.is_short(), "nobody needed it yet"
    it.release()
    assert it.is_short()

    hog.unlink()

    assert not it.is_short()


def test_enqueues_check_the_disk_ten_times_a_second_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, checks = FakeClock(), list[int]()
    monkeypatch.setattr(Ballast, "is_short", lambda self: bool(checks.append(clock.now())))  # type: ignore[func-returns-value]
    storage = SqliteStorage("q", tmp_path / "q.db", clock=clock, fsync=False)

    for n in range(3):
        storage.enqueue([task(f"a{n}")])
    clock.forward(0.1)
    storage.enqueue([task("b")])
    storage.close()

    first, second = checks
    assert second - first == SECOND // 10


@pytest.mark.parametrize("what", ["a link", "a second name", "a folder"])
def test_what_is_not_ours_is_not_touched(tmp_path: Path, what: Any) -> None:
    it, other = Ballast(str(tmp_path / "b"), 0o600, FakeClock()), tmp_path / "precious"
    other.write_bytes(b"precious")
    {"a link": lambda: (tmp_path / "b").symlink_to(other), "a second name": lambda: os.link(other, tmp_path / "b")}.get(
        what, lambda: (tmp_path / "b").mkdir()
    )()

    it.keep()
    it.release()

    assert other.read_bytes() == b"precious"


def test_where_files_may_have_holes_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    it = Ballast(str(tmp_path / "b"), 0o600, FakeClock())

    it.keep()

    assert os.stat(tmp_path / "b").st_blocks * 512 >= SIZE

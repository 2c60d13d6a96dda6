"""Processes that fork, threads and processes together on one file: nothing lost, nothing shared that must not be.

SQLite's locks belong to a process. A child that goes on with what it inherited believes to hold locks which only its parent holds.
Each test forks in a process of its own, never in the one that runs the tests.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.crash.tools import ROOT
from tests.support.helpers import wait_until


class Forks:
    """Runs the scripts below in a process of its own and looks at the file afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "queue.db"

    def run(self, scene: str, *arguments: object) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", "tests.crash.scenes", scene, str(self.folder), *map(str, arguments)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=25,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.split()

    def numbers(self) -> list[int]:
        """The arguments of all tasks in the file, by their ids ``n-<number>``."""
        with sqlite3.connect(self.file) as connection:
            ids = [row[0] for row in connection.execute("SELECT id FROM huey_task")]
        connection.close()
        return sorted(int(id.rpartition("-")[2]) for id in ids)

    def integrity(self) -> str:
        connection = sqlite3.connect(self.file)
        try:
            return connection.execute("PRAGMA integrity_check").fetchone()[0]
        finally:
            connection.close()


@pytest.fixture
def forks(tmp_path: Path) -> Any:
    return Forks(tmp_path)


def test_children_of_a_process_that_used_the_queue_enqueue(forks: Any) -> None:
    forks.run("children", 20, 10)

    assert forks.numbers() == list(range(20 * 10 + 2))
    assert forks.integrity() == "ok"


def test_children_forked_during_a_write_are_not_blocked(forks: Any) -> None:
    """Another thread of the parent writes all the time: its lock must not live on in the child, where nobody would ever free it."""
    slowest = float(forks.run("busy_parent", 20)[0])

    assert forks.integrity() == "ok"
    assert slowest < 5


def test_children_do_not_need_their_parents_descriptors(forks: Any) -> None:
    """Audit: the child closes every descriptor on the queue's files that it inherited, then works."""
    forks.run("audit")

    assert forks.numbers() == [0, 1, 2]
    assert forks.integrity() == "ok"


def test_what_an_orphan_enqueues_is_not_lost(forks: Any) -> None:
    """The parent is gone, somebody else opens and closes the file: the child's own locks must have kept its log."""
    forks.run("orphan")
    (forks.folder / "parent-is-gone").touch()
    # The last one who closes a file removes its log, unless somebody holds the file.
    forks.integrity()
    (forks.folder / "file-was-closed").touch()

    wait_until(lambda: (forks.folder / "orphan-is-done").exists(), "the orphan enqueued")
    report = json.loads((forks.folder / "orphan-is-done").read_text("utf-8"))

    assert report["errors"] == []
    assert forks.numbers() == [0, 1, *report["acknowledged"]]
    assert forks.integrity() == "ok"


def test_threads_and_processes_on_one_file_lose_nothing(forks: Any) -> None:
    forks.run("crowd", 4, 4, 40)

    assert forks.numbers() == list(range(4 * 4 * 40))
    assert forks.integrity() == "ok"


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_five_hundred_forks_lose_nothing(forks: Any) -> None:
    for _ in range(25):
        forks.run("children", 20, 10)
        assert forks.numbers() == list(range(20 * 10 + 2))
        assert forks.integrity() == "ok"
        forks.file.unlink()


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_eight_threads_in_eight_processes_lose_nothing(forks: Any) -> None:
    forks.run("crowd", 8, 8, 100)

    assert forks.numbers() == list(range(8 * 8 * 100))
    assert forks.integrity() == "ok"

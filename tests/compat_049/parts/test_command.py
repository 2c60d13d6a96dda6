"""The consumer command over parts: S166, S176, and kills (C1, C2)."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huey import Huey
from tests.compat_049.parts.conftest import in_redis, in_sqlite
from tests.compat_049.parts.own import FolderQueue, FolderStore
from tests.support.helpers import Command, bare_environment, wait_until

START = {
    "sqlite": """
from huey import Huey
from huey.backends.sqlite_backend import SqliteDataStore, SqliteQueue, SqliteSchedule

huey = Huey(SqliteQueue("app", "../parts.db"), SqliteDataStore("app", "../parts.db"), SqliteSchedule("app", "../parts.db"))
""",
    "redis": """
from huey import Huey
from huey.backends.redis_backend import RedisBlockingQueue, RedisDataStore, RedisSchedule

server = {{"host": "127.0.0.1", "port": {port}}}
huey = Huey(RedisBlockingQueue("app", **server), RedisDataStore("app", **server), RedisSchedule("app", **server))
""",
    "own": """
from huey import Huey
from tests.compat_049.parts.own import FolderQueue, FolderStore

huey = Huey(FolderQueue("app", "../queue"), FolderStore("app", "../store"))
""",
}

TASKS = """
import os, time

def note(text):
    fd = os.open("../notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, (text + "\\n").encode())
    os.close(fd)

@huey.task(retries=1)
def work(n, seconds=0.02):
    note(f"start {n}")
    time.sleep(seconds)
    note(f"end {n}")
    return n

@huey.periodic_task(lambda dt: True)
def tick():
    note("tick")
"""


class Application:
    """A folder with an application over parts, and consumers started on it."""

    def __init__(self, folder: Path, kind: str, parts: tuple[Any, ...], port: int = 0) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        (self.home / "main.py").write_text(START[kind].format(port=port) + TASKS)
        self.huey = Huey(*parts)
        self.work = self.huey.task(name="main.work", retries=1)(lambda n, seconds=0.02: None)
        self.consumers: list[Command] = []

    def start(self, *arguments: str) -> Command:
        environment = bare_environment(PYTHONPATH=str(Path(__file__).parents[3]))
        stderr = self.folder / f"console-{len(self.consumers)}.txt"
        self.consumers.append(Command(("main.huey", "-d", "0.02", "-m", "0.1", *arguments), self.home, stderr, environment))
        return self.consumers[-1]

    @property
    def notes(self) -> list[str]:
        path = self.folder / "notes"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def ended(self) -> set[int]:
        return {int(note.split()[1]) for note in self.notes if note.startswith("end ")}

    @property
    def logs(self) -> str:
        return "\n".join(consumer.log for consumer in self.consumers)


@pytest.fixture(params=["sqlite", "redis"])
def application(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    port = request.getfixturevalue("port") if request.param == "redis" else 0
    parts = in_redis(port) if request.param == "redis" else in_sqlite(tmp_path)
    application = Application(tmp_path, request.param, parts, port)
    yield application
    for consumer in application.consumers:
        consumer.bury()


def test_C1_C2_kills_lose_nothing_of_shipped_parts(application: Application) -> None:
    """What runs, what waits, what is scheduled and what is being moved when the whole consumer is killed."""
    handles = [application.work(n) for n in range(40)]
    handles += [application.work.schedule(args=(n,), delay=1 + n / 50) for n in range(40, 60)]

    for goal in (5, 20, 45):
        consumer = application.start("-w", "2", "-n")
        wait_until(lambda goal=goal: len(application.ended()) >= goal, told=lambda: application.logs)  # type: ignore[misc]
        consumer.send(signal.SIGKILL)
        consumer.ended()
    consumer = application.start("-w", "2", "-n")
    assert [handle.get(blocking=True, timeout=20) for handle in handles] == list(range(60)), application.logs
    assert consumer.stop() == 0

    starts = Counter(note for note in application.notes if note.startswith("start"))
    # What had been in hand at a kill, at most: run, or ended and not yet written.
    assert max(starts.values()) <= 4
    assert (len(application.huey), application.huey.storage.workers()) == (0, [])


def test_C11_a_worker_that_dies_alone_loses_nothing_either(application: Application) -> None:
    """The supervisor lives and deals with it."""
    consumer = application.start("-w", "2", "-n")
    handles = [application.work(0, 30), *(application.work(n) for n in range(1, 10))]
    wait_until(lambda: {"start 0", "end 9"} <= set(application.notes), told=lambda: application.logs)
    children = Path(f"/proc/{consumer.process.pid}/task/{consumer.process.pid}/children").read_text().split()

    for pid in children:
        signal.pidfd_send_signal(_pidfd(int(pid)), signal.SIGKILL)

    wait_until(lambda: application.notes.count("start 0") == 2, told=lambda: application.logs)
    assert [handle.get(blocking=True, timeout=10) for handle in handles[1:]] == list(range(1, 10))
    consumer.send(signal.SIGKILL)


def _pidfd(pid: int) -> int:
    import os

    return os.pidfd_open(pid)


def test_S176_several_processes_run_each_task_and_tick_once(application: Application) -> None:
    handles = [application.work(n) for n in range(20)]

    consumer = application.start("-k", "process", "-w", "2")

    assert [handle.get(blocking=True, timeout=20) for handle in handles] == list(range(20)), application.logs
    wait_until(lambda: "tick" in application.notes, told=lambda: application.logs)
    assert consumer.stop() == 0
    counts = Counter(application.notes)
    assert {counts[f"start {n}"] for n in range(20)} == {1}
    # The minute may have passed meanwhile.
    assert counts["tick"] <= 2


def test_S166_the_command_runs_the_tasks_of_a_users_parts(tmp_path: Path) -> None:
    parts = FolderQueue("app", str(tmp_path / "queue")), FolderStore("app", str(tmp_path / "store"))
    application = Application(tmp_path, "own", parts)
    handles = [application.work(n) for n in range(5)]

    consumer = application.start()
    try:
        assert [handle.get(blocking=True, timeout=20) for handle in handles] == list(range(5)), consumer.log
        # One that waits in memory, as there is no schedule, goes back.
        application.work.schedule(args=(9,), delay=3600)
        wait_until(lambda: len(parts[0]) == 0)
        assert consumer.stop() == 0
        assert len(parts[0]) == 1
    finally:
        consumer.bury()

    assert "FolderQueue can only read: a task that runs when its worker is killed is lost" in consumer.log
    assert "there is no schedule" in consumer.log


def test_S166_worker_processes_make_parts_of_their_own(tmp_path: Path) -> None:
    """A connection that a part made at import must not be shared."""
    parts = FolderQueue("app", str(tmp_path / "queue")), FolderStore("app", str(tmp_path / "store"))
    application = Application(tmp_path, "own", parts)
    main = application.home / "main.py"
    main.write_text(main.read_text() + "\nnote(f'imported by {os.getpid()}')\n")
    handles = [application.work(n) for n in range(6)]

    consumer = application.start("-k", "process", "-w", "2", "-n")
    try:
        assert [handle.get(blocking=True, timeout=20) for handle in handles] == list(range(6)), consumer.log
        wait_until(lambda: len({note for note in application.notes if note.startswith("imported")}) == 3, told=lambda: consumer.log)
        assert consumer.stop() == 0
    finally:
        consumer.bury()


def test_periodic_tasks_are_refused_where_ticks_are_not_noted(tmp_path: Path) -> None:
    application = Application(tmp_path, "own", (FolderQueue("app", str(tmp_path / "queue")),))

    consumer = application.start("-k", "process", "-w", "2")

    assert consumer.ended() == 1
    assert "--no-periodic" in consumer.log

"""Short words for tests: wait for a fact, run a consumer here or as a command, read events."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huey as huey_package
from huey import Huey, SqliteHuey
from huey.consumer import Consumer
from tests.support.mortals import mortal

PATIENCE = 20.0
"""Seconds after which a test stops waiting for a fact."""
MOMENT = 0.2
"""Seconds that a test watches for something that must not happen."""

# -- facts ------------------------------------------------------------------------------------------------------------------------------


def wait_until(
    is_so: Callable[[], Any], why: str = "", timeout: float = PATIENCE, *, every: float = 0.025, told: Callable[[], object] = lambda: ""
) -> Any:
    """Wait for a fact and return it; *why* and *told* say what is awaited and what is known when it does not come. It is looked for at
    once, then less and less often, at least *every* so many seconds: to look may cost more than what is awaited."""
    deadline, pause, wait = time.monotonic() + timeout, threading.Event(), 0.001
    while not (found := is_so()):
        assert time.monotonic() < deadline, f"not so after {timeout} s: {why} {told()}"
        pause.wait(wait := min(every, 1.5 * wait))
    return found


@contextmanager
def leaving_no_thread() -> Iterator[None]:
    """All threads that begin inside the block end soon after it."""
    before = set(threading.enumerate())
    yield
    wait_until(lambda: set(threading.enumerate()) <= before, told=lambda: f"these threads run on: {set(threading.enumerate()) - before}")


def never(is_so: Callable[[], Any], within: float = MOMENT) -> bool:
    """Watch for *within* seconds; True when it was not so all the time."""
    deadline, pause = time.monotonic() + within, threading.Event()
    while time.monotonic() < deadline:
        if is_so():
            return False
        pause.wait(0.005)
    return not is_so()


# -- a consumer in this process -----------------------------------------------------------------------------------------------------------


@contextmanager
def running(huey: Huey, workers: int = 1, periodic: bool = False, **options: Any) -> Iterator[Consumer]:
    """A consumer of *huey* in this process; it stops at the end of the block, and nothing may run on."""
    consumer = huey.create_consumer(workers=workers, periodic=periodic, **options)
    consumer.start()
    try:
        yield consumer
    finally:
        has_stopped = consumer.stop()
    assert has_stopped, "a task ran on after stop()"


def noting(huey: Huey, ran: list[Any], **options: Any) -> Any:
    """A task ``note(word)`` that writes the word into *ran* and returns it."""

    @huey.task(**options)
    def note(word: Any) -> Any:
        ran.append(word)
        return word

    return note


def drain(huey: Huey) -> None:
    """Run all tasks that are ready here and now, one after the other, as a consumer would."""
    while (task := huey.dequeue()) is not None:
        huey.execute(task)


def for_queue(huey: Huey, **options: Any) -> Huey:
    """Another instance on the same queue."""
    return Huey(huey.name, storage=huey.storage, clock=huey.clock, **options)


# -- events -----------------------------------------------------------------------------------------------------------------------------


def read_until(events: Iterator[str], status: str, id: str | None = None) -> list[dict[str, Any]]:
    """The events that are told from here up to the first of that status (and task)."""
    told = []
    for text in events:
        told.append(json.loads(text))
        if told[-1]["status"] == status and id in (None, told[-1]["id"]):
            return told
    raise AssertionError(f"no event {status!r} came; told: {[(event['status'], event['task']) for event in told]}")


def statuses(told: list[dict[str, Any]], id: str) -> list[str]:
    """The statuses told about one task, in order."""
    return [event["status"] for event in told if event["id"] == id]


# -- a consumer as a command --------------------------------------------------------------------------------------------------------------

SOURCE = Path(huey_package.__file__).resolve().parent.parent


def consumer_command() -> list[str]:
    """The installed script beside this interpreter, else the module."""
    script = Path(sys.executable).parent / "huey_consumer.py"
    return [sys.executable, str(script)] if script.exists() else [sys.executable, "-m", "huey.cli.consumer"]


def bare_environment(**more: str) -> dict[str, str]:
    """This environment without what leads Python or huey elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HUEY_"))}
    if len(consumer_command()) > 2:
        more["PYTHONPATH"] = os.pathsep.join(filter(None, [more.get("PYTHONPATH"), str(SOURCE)]))
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", **more}


class Command:
    """A consumer command that runs; *program*: its beginning, if not ``huey_consumer``."""

    def __init__(
        self, arguments: tuple[str, ...], cwd: Path, stderr: Path, environment: dict[str, str], program: list[str] | None = None
    ) -> None:
        self._stderr = stderr
        with stderr.open("wb") as file:
            self.process = subprocess.Popen(
                [*(program or consumer_command()), *arguments], cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        mortal(self.process)

    @property
    def log(self) -> str:
        """What it has written to its console so far."""
        return self._stderr.read_text("utf-8", "replace")

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def send(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def ended(self, timeout: float = PATIENCE) -> int:
        """Wait for its end: the exit code."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the consumer still runs after {timeout} s; it said:\n{self.log}") from None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop, wait for its end: the exit code."""
        self.send(number)
        return self.ended()

    def bury(self) -> None:
        """Leave no process behind."""
        if self.is_running:
            self.process.kill()
        self.process.wait()


class Project:
    """A folder with an application: ``main.py`` with its ``huey``, a queue in a SQLite file, and consumers started on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.huey = SqliteHuey("app", filename=folder / "queue.db")
        self._commands: list[Command] = []

    def write(self, text: str = "", path: str = "main.py", folder: Path | None = None) -> None:
        """A module that has ``huey``, and then *text*."""
        file = (folder or self.home) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        start = f"from huey import SqliteHuey, crontab\n\nhuey = SqliteHuey('app', filename={str(self.folder / 'queue.db')!r})\n\n\n"
        file.write_text(start + text, "utf-8")

    def task(self, name: str, **options: Any) -> Any:
        """The function of that name in the application, to be called from here; its body is there only."""

        def body(*args: Any, **kwargs: Any) -> None:
            raise AssertionError(f"{name} ran in the test")

        return self.huey.task(name=name, **options)(body)

    def start(self, *arguments: str, cwd: Path | None = None, **environment: str) -> Command:
        """The consumer command with these arguments, started."""
        stderr = self.folder / f"console-{len(self._commands)}.txt"
        command = Command(arguments, cwd or self.home, stderr, bare_environment(**environment))
        self._commands.append(command)
        return command

    def close(self) -> None:
        for command in self._commands:
            command.bury()
        self.huey.close()

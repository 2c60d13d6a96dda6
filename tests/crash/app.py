"""The application that these tests kill: a queue in a folder, a task of each kind, and the roles that a child process can play.

    python -m tests.crash.app consumer FOLDER '{"workers": 4}'

Every body notes its start and its end in the journal, every call of the storage too: see ``tests.support.history``.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from huey import Huey, RedisHuey, SqliteHuey
from huey.exceptions import StorageUnavailable
from huey.runtime.clock import SECOND, SystemClock
from huey.task.task import Task
from tests.crash import lines
from tests.crash.members import make_members, produce_graphs
from tests.crash.poison import make_poison
from tests.crash.shared import make_shared, put_shared
from tests.support.history import Journal, recording

CONNECTIONS: list[sqlite3.Connection] = []
"""All that this process has made, if it is a child."""
PERIODIC = ("tick-1", "tick-2", "tick-3")


class FastClock(SystemClock):
    """The wall clock runs *speed* times as fast as the machine's, the same in every process: minutes pass in seconds."""

    def __init__(self, speed: int, wall: int, monotonic: int) -> None:
        self.speed, self._wall, self._monotonic = speed, wall, monotonic

    def now(self) -> int:
        return self._wall + (self.monotonic() - self._monotonic) * self.speed


class SteppedClock(SystemClock):
    """A wall clock that is off by as many seconds as the file says, in every process that looks into it: a test sets it for all of them.

    *fast*: what the ``FastClock`` is made of that is off; by default the machine's own clock is.
    """

    def __init__(self, file: Path, fast: list[int] | None = None) -> None:
        self._file = file
        self._true = FastClock(*fast) if fast else SystemClock()

    def now(self) -> int:
        try:
            off = float(self._file.read_text("ascii"))
        except FileNotFoundError:
            off = 0.0
        return self._true.now() + round(off * SECOND)

    def step(self, seconds: float) -> None:
        """Set it so far ahead of the machine's (negative: behind it)."""
        new = self._file.with_suffix(".new")
        new.write_text(str(seconds), "ascii")
        new.replace(self._file)


def make(
    folder: Path,
    *,
    filename: str | None = None,
    url: str | None = None,
    fast: list[int] | None = None,
    stepped: bool = False,
    has_graphs: bool = False,
    **storage: Any,
) -> SimpleNamespace:
    """The queue of *folder* and its tasks. *filename*: of a queue elsewhere. *url*: of a Redis server that has it instead. *fast*: what
    ``FastClock`` is made of. *stepped*: run by the folder's ``SteppedClock``. *has_graphs*: with the members of ``tests.crash.members``."""
    if stepped:
        storage["clock"] = SteppedClock(folder / "clock", fast)
    elif fast:
        storage["clock"] = FastClock(*fast)
    huey: Huey = RedisHuey("app", url=url, **storage) if url else SqliteHuey("app", filename=filename or folder / "queue.db", **storage)
    huey.storage = recording(huey.storage, folder / "history.jsonl")
    journal = Journal(folder / "history.jsonl")

    @contextmanager
    def told(task: Task) -> Iterator[None]:
        fields = {"id": task.id, "token": task.token, "attempt": task.attempt, "name": task.name}
        journal.note("start", **fields)
        yield
        journal.note("end", **fields)

    for name in PERIODIC:
        make_periodic(huey, told, name)
    tasks = {**make_plain(huey, told), **make_failing(huey, told), **make_holding(huey, told, folder, journal), **make_poison(huey, told)}  # type: ignore[arg-type]
    tasks |= make_shared(huey, told, journal)
    if has_graphs:
        tasks |= make_members(huey, folder, journal)
    return SimpleNamespace(huey=huey, **tasks)


Told = Callable[[Task], AbstractContextManager[None]]
Tasks = dict[str, Callable[..., Any]]


def make_plain(huey: Huey, told: Told) -> Tasks:
    @huey.task(name="work", include_task=True)
    def work(n: int, seconds: float, task: Task) -> int:
        with told(task):
            time.sleep(seconds)
        return n * n

    @huey.task(name="large", include_task=True)
    def large(n: int, size: int, task: Task) -> bytes:
        with told(task):
            return bytes([n % 256]) * size

    return {"work": work, "large": large}


def make_failing(huey: Huey, told: Told) -> Tasks:
    @huey.task(name="flaky", retries=3, retry_delay=0.2, include_task=True)
    def flaky(n: int, failures: int, task: Task) -> int:
        with told(task):
            time.sleep(0.002)
        if task.attempt < failures:
            raise ValueError(f"try {task.attempt}")
        return n * n

    @huey.task(name="doomed", retries=1, include_task=True)
    def doomed(n: int, task: Task) -> None:
        with told(task):
            time.sleep(0.002)
        raise ValueError(f"doomed {n}")

    return {"flaky": flaky, "doomed": doomed}


def make_holding(huey: Huey, told: Told, folder: Path, journal: Journal) -> Tasks:
    @huey.task(name="gated", include_task=True)
    def gated(n: int, task: Task) -> int:
        """Runs until the gate is open."""
        with told(task):
            while not (folder / "gate").exists():
                time.sleep(0.002)
        return n * n

    @huey.task(name="held", include_task=True)
    def held(n: int, size: int, task: Task) -> bytes:
        """Runs until the gate is open, then brings that many bytes."""
        with told(task):
            while not (folder / "gate").exists():
                time.sleep(0.002)
        return bytes([n % 256]) * size

    @huey.task(name="grip", include_task=True)
    def grip(n: int, seconds: int, task: Task) -> int:
        """Keeps the GIL in one C call, from the worst instant on: as soon as a transaction of this process is open, if there is one."""
        with told(task):
            deadline = time.monotonic() + 1
            while time.monotonic() < deadline and not (is_open := any(map(is_in_transaction, CONNECTIONS))):
                pass
            journal.note("grip", in_transaction=is_open)
            ctypes.PyDLL(None).sleep(seconds)
        return n * n

    return {"gated": gated, "held": held, "grip": grip}


def is_in_transaction(connection: sqlite3.Connection) -> bool:
    try:
        return connection.in_transaction
    except sqlite3.ProgrammingError:
        return False  # Closed, such as before a fork.


def make_periodic(huey: Huey, told: Told, name: str) -> None:
    @huey.periodic_task(always, name=name, include_task=True)
    def tick(task: Task) -> None:
        with told(task):
            time.sleep(0.002)


def always(minute: datetime) -> bool:
    """Every minute."""
    return True


# -- roles --------------------------------------------------------------------------------------------------------------------------------


def consumer(app: SimpleNamespace, *, workers: int = 4, periodic: bool = True, **options: Any) -> int:
    """Run tasks until told to stop."""
    return app.huey.create_consumer(workers=workers, periodic=periodic, periodic_task_interval=0.2, **options).run()


def consumers(app: SimpleNamespace, *, times: int) -> int:
    """Start and stop one after the other, in this process."""
    for _ in range(times):
        one = app.huey.create_consumer(workers=2, periodic=True, periodic_task_interval=0.2)
        one.start()
        if not one.stop():
            return 1
    return 0


def producer(app: SimpleNamespace, *, tasks: int, chunk: int = 1) -> int:
    """Put numbered tasks in, one by one or in one bulk call each."""
    for n in range(tasks):
        if chunk == 1:
            app.work.schedule(args=(n, 0), id=f"p{n}")
        else:
            app.huey.enqueue_many(app.work.task_class((m, 0), id=f"p{n}-{m}") for m in range(chunk))
    return 0


def stream(app: SimpleNamespace, *, seed: int, first: int, crowd: int = 150, is_shared: bool = False) -> int:
    """Put tasks of every kind in for ever, as long as there are not too many; with *is_shared* of those that share something. What an id
    must bring: see ``tools.promised``."""
    rng, n = random.Random(seed), first
    while True:
        try:
            counts = app.huey.storage.counts()
            room = crowd - counts.ready - counts.scheduled - counts.running - counts.blocked
            for _ in range(min(5, room)):
                if is_shared:
                    put_shared(app, rng, n)
                n += 1 if is_shared else put_one(app, rng, n)
        except StorageUnavailable:
            # Whether it was put in is not known: no number of it is used again.
            n += 20
        time.sleep(0.03)


def put_one(app: SimpleNamespace, rng: random.Random, n: int) -> int:
    """How many numbers it took."""
    kind = rng.random()
    if kind < 0.45:
        app.work.schedule(args=(n, rng.choice((0, 0.005, 0.02, 0.04, 0.08))), id=f"w{n}")
    elif kind < 0.55:
        count = rng.randrange(2, 20)
        app.huey.enqueue_many([app.work.task_class((n + i, 0), id=f"w{n + i}") for i in range(count)])
        return count
    elif kind < 0.75:
        app.work.schedule(args=(n, rng.choice((0, 0.02))), delay=rng.uniform(0.5, 20), id=f"w{n}")
    elif kind < 0.95:
        app.flaky.schedule(args=(n, rng.randrange(3)), id=f"w{n}")
    else:
        app.doomed.schedule(args=(n,), id=f"d{n}")
    return 1


ROLES = {role.__name__: role for role in (consumer, consumers, producer, stream, produce_graphs)}


def keep_connections() -> None:
    connect = sqlite3.connect

    def connect_and_keep(*args: Any, **options: Any) -> sqlite3.Connection:
        CONNECTIONS.append(connect(*args, **options))
        return CONNECTIONS[-1]

    sqlite3.connect = connect_and_keep  # type: ignore[assignment]


def main(role: str, folder: str, options: str) -> int:
    given = json.loads(options)
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {os.getpid()} %(threadName)s %(message)s")
    keep_connections()
    app = make(Path(folder), **given.pop("app", {}))
    lines.watch(Path(folder), "producer")
    return ROLES[role](app, **given)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""A small life of a queue, killed at each n-th of its statements: ``python -m tests.crash.small_life FOLDER N`` prints the outcome as JSON.

The process itself never opens a queue: every life and every recovery is a child of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from itertools import count
from pathlib import Path
from typing import Any

from huey.runtime.clock import SECOND, system_clock
from huey.runtime.host import pid_namespace, process_start_time
from huey.storage.base import Storage
from huey.storage.rows import TaskIds, Worker
from huey.storage.sqlite.storage import SqliteStorage
from huey.task.lifecycle import Raised, Returned, WorkerDied, decide
from huey.task.record import Record
from tests.support import history

MINUTE = 60 * SECOND
connect = sqlite3.connect


class Trap:
    """Kills this process at its n-th statement."""

    def __init__(self, n: int) -> None:
        self._left = n

    def __call__(self, statement: str) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def set(self) -> None:
        def connect_watched(*args: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*args, **options)
            connection.set_trace_callback(self)
            return connection

        sqlite3.connect = connect_watched  # type: ignore[assignment]


def open_queue(folder: Path) -> Storage:
    return history.recording(SqliteStorage("app", folder / "queue.db", fsync=False), folder / "history.jsonl")


def me(id: str) -> Worker:
    return Worker(id, "host", os.getpid(), pid_namespace(), process_start_time(os.getpid()) or 0)


def record(id: str, **fields: Any) -> Record:
    return Record(id, "name", b"payload", **fields)


def live(folder: Path) -> None:
    """What is killed. Leaves a task that another one took over from a worker of this process, and one that waits."""
    storage, now = open_queue(folder), system_clock.now()
    ann, ben = me("ann"), me("ben")
    storage.enqueue([record("a"), record("b", retries=1)])
    storage.enqueue([record("late", eta=now + 1000)])
    leases = {lease.id: lease for lease in storage.turn(ann, [], 2).leases}
    storage.enqueue([record("c")])
    failed = Raised({"error": "ValueError()", "traceback": ""})
    storage.turn(ann, [decide(leases["a"], Returned(b"a"), now), decide(leases["b"], failed, now)], 1)
    storage.tick("minutely", now - now % MINUTE, record("t"))
    storage.revoke(TaskIds(["nobody"]))
    dead = next(row for row in storage.workers() if row.worker.id == "ann")
    taken = storage.reclaim(dead, ben)
    storage.turn(ben, [decide(lease, WorkerDied(), now) for lease in taken], 1)
    storage.put("data", "key", b"value")
    storage.pop("data", "key")
    storage.deregister(ben)
    storage.close()


def recover(folder: Path) -> None:
    """What comes after: takes over, ends everything, and enqueues what a caller would enqueue again."""
    storage = open_queue(folder)
    eve = me("eve")
    storage.heartbeat([eve])
    for row in storage.workers():
        if row.worker.id != "eve":
            now = system_clock.now()
            storage.turn(eve, [decide(lease, WorkerDied(), now) for lease in storage.reclaim(row, eve)], 0)
    # The same id again is harmless.
    if not {*storage.items("result")} & {"a"}:
        storage.enqueue([record("a")])
    finishes: list[Any] = []
    while True:
        leases = storage.turn(eve, finishes, 8).leases
        finishes = [decide(lease, Returned(lease.id.encode()), system_clock.now()) for lease in leases]
        counts = storage.counts()
        if not finishes and counts.scheduled == counts.ready == counts.running == 0:
            break
    storage.deregister(eve)
    storage.close()


def judge(folder: Path, killed: str, at: int) -> list[str]:
    storage = SqliteStorage("app", folder / "queue.db")
    results = storage.items("result")
    events = history.read(folder / "history.jsonl")
    # The life itself plays a worker that another one of its process takes over from: its leases may overlap.
    problems = [str(problem) for problem in history.check(events, deaths={killed: at}, ended=results, paused={killed})]
    problems += [f"its own result: {id}: {value!r}" for id, value in results.items() if value != id.encode()]
    problems += [f"nothing is left over: {row}" for row in storage.workers()]
    check = connect(folder / "queue.db").execute("PRAGMA integrity_check").fetchone()[0]
    return problems if check == "ok" else [*problems, check]


def in_child(act: Any, *given: Any) -> tuple[int, int]:
    """Do *act* in a child; its pid and exit status."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            act(*given)
        except BaseException as error:
            print(f"{act.__name__}: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return pid, os.waitpid(pid, 0)[1]


def trapped(folder: Path, n: int) -> None:
    Trap(n).set()
    live(folder)


def judged(folder: Path, killed: str, at: int) -> None:
    (folder / "verdict").write_text(json.dumps(judge(folder, killed, at)), "utf-8")


def main(place: Path, stride: int) -> dict[str, Any]:
    """Kill at the n-th statement, for n up to where a life is survived."""
    problems: list[str] = []
    kills = 0
    for n in count(1, stride):
        folder = place / str(n)
        folder.mkdir()
        pid, status = in_child(trapped, folder, n)
        at = system_clock.monotonic()
        was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if status != 0 and not was_killed:
            return {"kills": kills, "problems": [*problems, f"statement {n}: the life ended by itself with status {status}"]}
        for act, given in ((recover, ()), (judged, (str(pid), at))):
            if in_child(act, folder, *given)[1] != 0:
                problems.append(f"statement {n}: {act.__name__} failed")
        if (folder / "verdict").exists():
            problems += [f"statement {n}: {problem}" for problem in json.loads((folder / "verdict").read_text("utf-8"))]
        if not was_killed:
            break
        kills += 1
    return {"kills": kills, "problems": problems[:50]}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))

"""The application of the load tests: tasks that write their number into a file, in the order in which they start."""

from __future__ import annotations

import os
from pathlib import Path

from huey import SqliteHuey

FOLDER = Path(os.environ["CHAOS_PLACE"])
huey = SqliteHuey("load", filename=FOLDER / "queue.db")
_files: dict[str, int] = {}


def _write(name: str, n: int) -> None:
    """One write each: lines of several processes do not mix. Opened once per process."""
    key = f"{os.getpid()} {name}"
    if key not in _files:
        _files[key] = os.open(FOLDER / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_files[key], f"{n}\n".encode())


@huey.task()
def waiting(n: int) -> None:
    _write("waiting", n)


@huey.task(priority=1)
def due(n: int) -> None:
    _write("due", n)

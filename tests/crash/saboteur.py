"""Makes a thread of a consumer stand still, end, or raise, once: whichever process finds the order first.

An application calls ``sabotage(folder)`` when it is imported. The order is a file in that folder, ``engine freeze`` say, which is renamed
by who obeys it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huey.consumer.service import Service
from huey.consumer.supervisor import Supervisor
from huey.consumer.worker import WorkerProcess
from huey.engine.engine import Engine
from huey.engine.runners.threads import ThreadRunners

ORDER, OBEYED = "order", "obeyed"
SERVICES = {"Timekeeper": "limits", "Scheduler": "scheduler", "Pulse": "pulse"}


class Sabotage(BaseException):
    """Nobody expects it."""


def order(folder: Path, thread: str, way: str) -> None:
    """Tell the consumer of *folder* what to do: *way* is ``freeze``, ``end`` or ``raise``."""
    new = folder / "new"
    new.write_text(f"{thread} {way}", "ascii")
    new.rename(folder / ORDER)


_dying = threading.local()


def sabotage(folder: Path) -> None:
    """From now on obey orders, in this process and those that it forks."""

    def obey(thread: str) -> None:
        try:
            whom, way = (folder / ORDER).read_text("ascii").split()
            if whom != thread:
                return
            (folder / ORDER).rename(folder / OBEYED)
        except FileNotFoundError:
            return
        if way == "freeze":
            threading.Event().wait()
        _dying.now = way == "end"
        raise Sabotage(thread)

    _before(Engine, "turn", obey, "engine")
    _before(WorkerProcess, "_check_process", obey, "main")
    for part in ("_handle_signals", "_reap", "_kill_overdue", "_send_heartbeats", "_start_missing_workers", "_maintain", "_wait"):
        _before(Supervisor, part, obey, f"supervisor{part}")
    _before(ThreadRunners, "_sleep", obey, "runner")
    _in_services(obey)
    for cls, method in ((Service, "_call_once"), (ThreadRunners, "_abandon")):
        _end_after(cls, method)


def _before(cls: type, method: str, obey: Callable[[str], None], thread: str) -> None:
    original = getattr(cls, method)

    def wrapped(self: Any, *args: Any) -> Any:
        obey(thread)
        return original(self, *args)

    setattr(cls, method, wrapped)


def _end_after(cls: type, method: str) -> None:
    """A thread that is to end does so there, where its own guard has done its work."""
    original = getattr(cls, method)

    def wrapped(self: Any, *args: Any) -> Any:
        found = original(self, *args)
        if getattr(_dying, "now", False):
            _dying.now = False
            raise SystemExit
        return found

    setattr(cls, method, wrapped)


def _in_services(obey: Callable[[str], None]) -> None:
    original = Service.__init__

    def init(self: Service, name: str, run_once: Callable[[], Any], *args: Any, **options: Any) -> None:
        def acting() -> Any:
            if name in SERVICES:
                obey(SERVICES[name])
            return run_once()

        original(self, name, acting, *args, **options)

    Service.__init__ = init  # type: ignore[method-assign]

"""A storage that loses calls and replies, and looks of a janitor at it."""

from __future__ import annotations

import subprocess
from typing import Any

from huey.consumer.janitor import Janitor
from huey.exceptions import StorageUnavailable
from huey.runtime import host
from huey.runtime.clock import SECOND, Micros
from huey.storage.base import LEASE
from huey.storage.memory import MemoryStorage
from huey.storage.rows import Turn, Worker, WorkerRow
from huey.task.lifecycle import Finish, State
from huey.task.record import Lease
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME
from tests.support.helpers import wait_until

FAR = Worker("far", "elsewhere", 1, "another machine", 0)
"""A worker whose process nobody here sees."""


class Losing(MemoryStorage):
    """Loses calls and replies, and counts prunes."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__("test", clock=clock)
        self.loses_reply: str | None = None
        self.loses_call: str | None = None
        self.prunes: list[int] = []
        self.backlog = 0
        self.lease_clock_is_off_by: Micros = 0
        self.machine_was_started_anew = False

    def workers(self) -> list[WorkerRow]:
        now = self._clock.monotonic() + self.lease_clock_is_off_by
        gone = self.machine_was_started_anew
        return [row._replace(is_expired=gone or row.until <= now, is_gone=gone) for row in super().workers()]

    def reclaim(self, dead: WorkerRow, worker: Worker) -> list[Lease]:
        if self.loses_call == "reclaim":
            self.loses_call = None
            raise StorageUnavailable("the call was lost")
        leases = super().reclaim(dead, worker)
        if self.loses_reply == "reclaim":
            self.loses_reply = None
            raise StorageUnavailable("the reply was lost")
        return leases

    def turn(self, *given: Any, **more: Any) -> Turn:
        if self.loses_call == "turn":
            self.loses_call = None
            raise StorageUnavailable("the call was lost")
        turn = super().turn(*given, **more)
        if self.loses_reply == "turn":
            self.loses_reply = None
            raise StorageUnavailable("the reply was lost")
        return turn

    def prune(self, now: Micros | None = None) -> int:
        went = min(self.backlog, 500)
        self.backlog -= went
        self.prunes.append(went)
        return went


def settle(finish: Finish) -> Finish:
    return finish._replace(value=b"error") if finish.state == State.FAILED else finish


def here(process: subprocess.Popen[bytes]) -> Worker:
    """That process as a worker on this host."""
    born = wait_until(lambda: host.process_start_time(process.pid))
    return Worker("neighbour", ME.host, process.pid, ME.host_scope, born)


def look_for_a_lease(janitor: Janitor, clock: FakeClock) -> None:
    """Look each second, as a consumer does, for the time of a lease: who gives no sign of life meanwhile is dead at the end."""
    for _ in range(int(LEASE / SECOND)):
        look_through(janitor)
        clock.forward(1)
    look_through(janitor)


def look_through(janitor: Janitor) -> None:
    """A look that may fail, as a service bears it."""
    try:
        janitor.run_once()
    except StorageUnavailable:
        return

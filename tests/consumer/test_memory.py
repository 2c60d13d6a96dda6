"""``--max-memory``: no worker is replaced again and again for what each one needs by itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from huey.consumer import memory
from huey.consumer.memory import MIB, MemoryLimit
from huey.runtime.clock import SECOND
from huey.testing.clock import FakeClock


class Worker:
    """A worker process, as far as the limit looks at it."""

    def __init__(self, number: int, holds: int, clock: FakeClock) -> None:
        self.worker = SimpleNamespace(id=f"w{number}")
        self.scoreboard = SimpleNamespace(is_ready=True, running=lambda: self.ran, ended=list)
        self.ran: list[str] = []
        self.pid, self.holds, self.is_stopping, self.started = number, holds, False, clock.monotonic()

    def request_stop(self) -> None:
        self.is_stopping = True


class Workers:
    """One place: a worker that is replaced whenever it is told to leave."""

    def __init__(self, clock: FakeClock, limit: MemoryLimit, idle_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.limit, self.idle_size, self.started = clock, limit, idle_size, 0
        self.now: Any = None
        self._start()
        monkeypatch.setattr(memory, "resident_bytes", lambda pid: self.now.holds * MIB)  # type: ignore[attr-defined]

    def _start(self) -> None:
        self.started += 1
        self.now = Worker(self.started, self.idle_size, self.clock)

    def live(self, seconds: int, grown: int = 0) -> int:
        """So many seconds, a look in each; workers hold *grown* MiB more once they have run something. How many were started."""
        before = self.started
        for _ in range(seconds):
            self.limit.check([self.now])
            if self.now.is_stopping:
                self._start()
                self.limit.check([self.now])
            self.now.holds = self.idle_size + grown
            self.clock.forward(1)
        return self.started - before


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_limit_below_a_new_workers_need_replaces_nobody(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workers = Workers(clock, MemoryLimit(10 * MIB, clock), 23, monkeypatch)

    assert workers.live(600) == 0

    (line,) = caplog.messages
    assert line.startswith("--max-memory 10 is too low: a new worker already uses 23 MiB")


def test_a_worker_that_grows_far_is_replaced(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(clock, MemoryLimit(10 * MIB, clock), 23, monkeypatch)
    workers.live(100)

    assert workers.live(2, grown=20) == 1


def test_workers_past_the_limit_at_once_stay_longer_and_longer(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(clock, MemoryLimit(24 * MIB, clock), 23, monkeypatch)

    assert workers.live(1200, grown=2) <= 12


def test_a_slow_leak_replaces_a_worker_each_time(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workers = Workers(clock, MemoryLimit(100 * MIB, clock), 23, monkeypatch)

    replaced = 0
    for _ in range(5):
        workers.live(100)
        workers.live(1, grown=90)
        replaced += workers.live(1)

    assert replaced == 5
    assert not [line for line in caplog.messages if "is kept for at least" in line]


def test_a_worker_busy_from_its_start_has_no_false_first_size(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(clock, MemoryLimit(100 * MIB, clock), 23, monkeypatch)
    workers.now.holds, workers.now.ran = 150, ["a"]

    assert workers.live(1) == 1


def test_without_a_limit_nobody_is_asked(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(clock, MemoryLimit(0, clock), 23, monkeypatch)

    assert workers.live(10, grown=10**6) == 0


def test_a_worker_that_is_not_ready_is_not_judged(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(clock, MemoryLimit(10 * MIB, clock), 23, monkeypatch)
    workers.now.scoreboard.is_ready = False
    workers.now.holds = 500

    assert workers.live(1) == 0
    assert clock.monotonic() - workers.now.started == SECOND

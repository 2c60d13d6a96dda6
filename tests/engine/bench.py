"""An engine in a test's hand, with runners, waker and storage that do what the test says."""

from __future__ import annotations

import pytest

from huey.engine.engine import Engine
from huey.task.lifecycle import WorkerDied, decide
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, OTHER, task
from tests.support.scripted import OnceRound, ScriptedRunners, ScriptedStorage, ScriptedWaker

SHORT = 20e-6
"""Seconds that a short body takes."""


class Bench:
    """An engine and all it stands on."""

    def __init__(self, clock: FakeClock, count: int = 1) -> None:
        self.clock = clock
        self.storage = ScriptedStorage(clock)
        self.runners = ScriptedRunners(count, clock)
        self.waker = ScriptedWaker(clock)
        self.engine = Engine(self.storage, ME, self.runners, clock, self.waker)

    def enqueue(self, *names: str) -> None:
        self.storage.enqueue([task(name) for name in names])

    def enqueue_many(self, count: int) -> None:
        for first in range(0, count, 1000):
            self.storage.enqueue([task(f"{n:05}") for n in range(first, min(first + 1000, count))])

    def turn(self) -> bool:
        return self.engine.turn()

    def go_round(self, rounds: int) -> None:
        """So many rounds of the engine's loop. The first always turns."""
        self.waker.rounds = rounds
        with pytest.raises(OnceRound):
            self.engine.run()
        self.waker.rounds = float("inf")

    def prove_short_with_more(self) -> None:
        """Tasks have been short so far, and more are waiting than a turn brings: another turn is about to follow at once, and the runner
        sleeps until then."""
        while self.runners.runs or not self.runners.waiting():
            self.runners.end_all(SHORT)
            self.turn()

    def prove_short(self) -> None:
        """Tasks have been short so far: much may be claimed ahead."""
        self.enqueue_many(64)
        for _ in range(8):
            self.turn()
            self.runners.end_all(SHORT)
        self.turn()
        assert (self.storage.find(), self.runners.runs) == ([], [])


def died_with(bench: Bench, *names: str, times: int = 1) -> None:
    """The worker that held these tasks died, so many times."""
    bench.enqueue(*names)
    for _ in range(times):
        leases = bench.storage.turn(OTHER, [], len(names)).leases
        bench.storage.turn(OTHER, [decide(lease, WorkerDied(), bench.clock.now()) for lease in leases], 0)
    bench.storage.wants.clear()
    bench.storage.sent.clear()

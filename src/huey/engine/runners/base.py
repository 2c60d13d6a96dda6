"""What an engine needs of its runners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from huey.task.lifecycle import Finish
from huey.task.record import Lease

Complete = Callable[[Lease, int], Finish]
"""Runs a task in the runner of that number, and decides what its end means."""


class Runners(Protocol):
    """Something that calls functions: threads, coroutines, greenlets; in the simulator, nothing but a clock."""

    count: int
    """Tasks that can run at the same time."""
    low_water: int
    """Number of waiting tasks at which the engine wants to be rung, to bring more in time."""

    def start(self, leases: Sequence[Lease], at_once: int) -> None:
        """Take tasks to run, in this order; have at least *at_once* runners awake for what is there, if there are so many."""

    def collect(self) -> list[Finish]:
        """The ends of runs since the last call."""

    def ended(self) -> int:
        """How many ``collect`` would give."""

    def take_back(self) -> list[Lease]:
        """Those that have not started, which are not run any more."""

    def waiting(self) -> int:
        """Tasks taken that have not started."""

    def idle(self) -> int:
        """Runners with nothing to do."""

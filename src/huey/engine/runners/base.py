"""What an engine needs of its runners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from huey.task.lifecycle import Finish
from huey.task.record import Lease

Execute = Callable[[Lease, int], Finish]
"""Runs a task in the runner of the given number, and decides what its outcome means."""


class Runners(Protocol):
    """Whatever calls the functions: threads, coroutines, greenlets; in the simulator, nothing but a clock."""

    count: int
    """Tasks that can run at the same time."""
    low_water: int
    """Number of waiting tasks at which the engine is to be woken, so that it claims more in time."""

    def submit(self, leases: Sequence[Lease]) -> None:
        """Accept tasks to run, in this order. Wakes no runner."""

    def wake(self, count: int) -> None:
        """Have at least *count* runners awake, or all if there are fewer."""

    def collect(self) -> list[Finish]:
        """Return the finishes since the last call."""

    def ended(self) -> int:
        """Return how many finishes `collect` would return."""

    def take_back(self) -> list[Lease]:
        """Return the tasks that have not started; they are not run any more."""

    def waiting(self) -> int:
        """Return the number of submitted tasks that have not started."""

    def idle(self) -> int:
        """Return the number of runners with nothing to do."""

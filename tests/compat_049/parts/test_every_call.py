"""A worker dies at every single call that it makes of a shipped part, before and after its effect: nothing is lost, wherever that is."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from huey.runtime.clock import SECOND
from huey.storage.legacy import LegacyStorage
from huey.storage.legacy.components import Components
from huey.task.lifecycle import Raised, Returned, WorkerDied, decide
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, OTHER, task
from tests.compat_049.parts.conftest import MakeParts

WRITES = ("write", "write_many", "claim", "ack", "add", "put", "register", "deregister")
ALL = ["again", "done", "late", "released", "soon"]


class Killed(BaseException):
    """The process is gone."""


class Mortal:
    """The death of one process: at its n-th writing call of a part, before it or after it."""

    def __init__(self, at: int, after: bool) -> None:
        self.left = at
        self._after = after

    def inhabit(self, part: Any) -> Any:
        for method in WRITES:
            if hasattr(part, method):
                setattr(part, method, self._guarded(getattr(part, method)))
        return part

    def _guarded(self, call: Any) -> Any:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left <= 0 and not (self._after and self.left == 0):
                raise Killed
            answer = call(*args, **kwargs)
            if self.left <= 0:
                raise Killed
            return answer

        return guarded


def life(storage: LegacyStorage, clock: FakeClock) -> None:
    """A worker's turns: it claims, ends, retries, lets wait, releases, and takes its leave."""
    storage.heartbeat([ME])
    leases = {lease.id: lease for lease in storage.turn(ME, [], 9).leases}
    clock.forward(1)
    ends = [decide(leases["done"], Returned(b"value"), clock.now()), decide(leases["again"], Raised({"error": "E()"}), clock.now())]
    storage.turn(ME, ends, 0)
    storage.release(ME, [leases["released"]])
    clock.forward(60)
    leases = {lease.id: lease for lease in storage.turn(ME, [], 9).leases}
    storage.turn(ME, [decide(leases["soon"], Raised({"error": "E()"}), clock.now())], 0)
    storage.release(ME, [leases["again"], leases["released"]])
    storage.deregister(ME)


def what_is_left(storage: LegacyStorage, clock: FakeClock) -> Counter[str]:
    """How often another worker is given each task, once the dead one is dealt with; each ends then."""
    for dead in storage.workers():
        storage.reclaim(dead, OTHER)
    died = [decide(lease, WorkerDied(), clock.now()) for lease in storage.leases(OTHER)]
    storage.turn(OTHER, died, 0)
    given: Counter[str] = Counter()
    clock.forward(3 * 3600)
    while leases := storage.turn(OTHER, [], 9).leases:
        given.update(lease.id for lease in leases)
        storage.turn(OTHER, [decide(lease, Returned(b"late value"), clock.now()) for lease in leases], 0)
        clock.forward(2)
    return given


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_death_at_any_call_of_a_part_loses_nothing(make_shipped: MakeParts, after: bool) -> None:
    deaths, doubled = 0, 0
    for at in range(1, 100):
        clock = FakeClock()
        for part in make_shipped():
            part.flush()
        producer = LegacyStorage(Components(*make_shipped()), clock=clock)
        producer.enqueue([task("done"), task("again", retries=3), task("released")])
        producer.enqueue([task("soon", eta=clock.now() + 30 * SECOND, retries=3, retry_delay=60.0)])
        producer.enqueue([task("late", eta=clock.now() + 7200 * SECOND)])
        mortal = Mortal(at, after)
        try:
            life(LegacyStorage(Components(*map(mortal.inhabit, make_shipped())), clock=clock), clock)
        except Killed:
            deaths += 1
        successor = LegacyStorage(Components(*make_shipped()), clock=clock)

        given = what_is_left(successor, clock)

        has_result = {id for id in ALL if successor.peek("result", id) is not None}
        assert has_result == set(ALL), (at, given)
        # What moves from the queue to the schedule is in both for a moment: such a task runs once more, never once less.
        doubled += sum(times - 1 for times in given.values())
        assert max(given.values(), default=0) <= 2, (at, given)
        assert (successor.counts().ready, successor.counts().scheduled, successor.counts().running) == (0, 0, 0), at
        if mortal.left > 0:
            break
    assert deaths > 15, "it did not die often enough"
    assert doubled <= 3, doubled

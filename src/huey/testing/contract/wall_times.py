"""Revocations that end when the consumer's clock shows something, in whatever zone that clock is."""

from __future__ import annotations

import pytest

from huey.runtime.clock import SECOND
from huey.storage.base import Storage
from huey.storage.rows import Revocation, TaskIds, TaskName
from huey.task.lifecycle import Finish, State
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, claim_ids, claimed, get_row, task, write


def shows(storage: Storage, hours: int) -> None:
    """The consumer's clock is so far ahead of UTC."""
    storage.offset = hours * 3600 * SECOND
    storage.put("setting", "offset", str(storage.offset).encode())


class WallRevocationRules:
    @pytest.mark.parametrize("hours", [9, 0, -5])
    @pytest.mark.parametrize("what", ["task", "unheld id", "name"])
    def test_a_revocation_until_a_wall_time_ends_when_the_consumers_clock_shows_it(
        self, what: str, hours: int, storage: Storage, clock: FakeClock
    ) -> None:
        shows(storage, hours)
        wall = clock.now() + hours * 3600 * SECOND
        if what == "name":
            storage.revoke(TaskName("app.add"), -(wall + 10 * SECOND))
        elif what == "unheld id":
            storage.revoke(TaskIds(["a"]), -(wall + 10 * SECOND))
        storage.enqueue([task("a"), task("b", eta=clock.now() + 20 * SECOND)])
        if what == "task":
            storage.revoke(TaskIds(["a", "b"]), -(wall + 10 * SECOND))

        clock.forward(9)
        turn = storage.turn(ME, [], 1)
        assert ([each.id for each in turn.cancelled], turn.leases) == (["a"], [])
        clock.forward(11)
        assert claim_ids(storage) == ["b"]

    def test_a_revocation_until_a_wall_time_that_has_passed_holds_no_more(self, storage: Storage, clock: FakeClock) -> None:
        shows(storage, 9)
        storage.enqueue([task("a", retries=1), task("b")])
        storage.revoke(TaskIds(["a", "b"]), -(clock.now() + 8 * 3600 * SECOND))

        turn = storage.turn(ME, [], 2)
        assert ([lease.id for lease in turn.leases], turn.revoked_running) == (["a", "b"], [])
        write(storage, Finish(turn.leases[0], State.QUEUED))
        assert claim_ids(storage) == ["a"]

    def test_a_running_task_that_is_revoked_until_a_wall_time_is_stopped(self, storage: Storage, clock: FakeClock) -> None:
        shows(storage, -5)
        lease = claimed(storage)
        storage.revoke(TaskIds(["a"]), -(clock.now() - 4 * 3600 * SECOND))

        assert storage.turn(ME, [], 0).revoked_running == ["a"]
        write(storage, Finish(lease, State.QUEUED))
        assert get_row(storage).state == State.CANCELLED

    def test_a_mark_until_a_wall_time_is_kept_until_that_has_passed_on_every_clock(self, storage: Storage, clock: FakeClock) -> None:
        shows(storage, -11)
        storage.revoke(TaskName("app.add"), -clock.now())
        storage.revoke(TaskName("app.old"), -(clock.now() - 3 * 86400 * SECOND))

        storage.prune()

        assert storage.get_revocation(TaskName("app.add")) == Revocation(-clock.now(), False)
        assert storage.get_revocation(TaskName("app.old")) is None

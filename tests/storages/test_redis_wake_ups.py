"""What a wake-up from Redis brings along."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from huey.exceptions import StorageUnavailable
from huey.runtime.waker import Waker
from huey.storage.redis import RedisStorage
from huey.storage.redis.prefetching import ListenerState
from huey.task.lifecycle import Finish, State
from huey.testing.contract.tools import ME, OTHER, Call, task
from tests.storages.redis_storages import Make
from tests.support.helpers import wait_until


@pytest.fixture
def waker() -> Iterator[Waker]:
    waker = Waker()
    yield waker
    waker.close()


def expecting(storage: RedisStorage, waker: Waker, act: Callable[[], object]) -> tuple[bool, Any]:
    """What ``listen`` answers and the next turn of its thread brings; *act* is done meanwhile."""
    call = Call(lambda: (storage.listen(ME, 20, waker, prefetch=True), storage.turn(ME, [], 1)))
    until_it_waits(storage)
    act()
    return call.answer()


def until_it_waits(storage: RedisStorage) -> None:
    wait_until(lambda: getattr(storage._prefetching.get(ME.id), "state", None) is ListenerState.BLOCKED)


def test_a_wake_up_brings_its_task_along(make: Make, waker: Waker, server: Any) -> None:
    storage, other = make(), make()
    storage.turn(ME, [], 1)

    def calls() -> int:
        other.enqueue([task("a"), task("b")])
        count: int = server.info("commandstats")["cmdstat_evalsha"]["calls"]
        return count

    before: list[int] = []
    is_heard, turn = expecting(storage, waker, lambda: before.append(calls()))

    assert (is_heard, [lease.id for lease in turn.leases], turn.may_have_more) == (True, ["a"], True)
    assert [lease.id for lease in storage.leases(ME)] == ["a"]
    assert [lease.id for lease in storage.turn(ME, [], 5).leases] == ["b"]


def test_an_expectation_that_is_called_off_claims_nothing(make: Make, waker: Waker) -> None:
    storage, other = make(), make()
    storage.enqueue([task("a"), task("b")])
    first = storage.turn(ME, [], 2).leases
    ends = [Finish(lease, State.SUCCEEDED) for lease in first]

    def work() -> Any:
        heard = storage.listen(ME, 20, waker, prefetch=True)
        waker.clear()
        return heard, storage.turn(ME, ends, 0), storage.turn(ME, [], 0)

    call = Call(work)
    until_it_waits(storage)
    waker.wake()
    heard, wrote, idle = call.answer()
    other.enqueue([task("c")])

    assert (heard, wrote.stale, wrote.leases, idle.leases) == (False, [], [], [])
    assert storage.leases(ME) == []
    assert [lease.id for lease in other.turn(OTHER, [], 1).leases] == ["c"]


def test_what_was_claimed_early_and_is_not_wanted_goes_back(make: Make, waker: Waker) -> None:
    storage, other = make(), make()
    storage.turn(ME, [], 1)

    def work() -> Any:
        return storage.listen(ME, 20, waker, prefetch=True), storage.turn(ME, [], 0)

    call = Call(work)
    until_it_waits(storage)
    other.enqueue([task("a")])

    heard, turn = call.answer()
    assert (heard, turn.leases, storage.leases(ME)) == (True, [], [])
    assert [lease.id for lease in other.turn(OTHER, [], 1).leases] == ["a"]


def test_goodbye_gives_back_what_was_claimed_early(make: Make, waker: Waker) -> None:
    storage, other = make(), make()
    storage.turn(ME, [], 1)
    call = Call(lambda: storage.listen(ME, 20, waker, prefetch=True))
    until_it_waits(storage)
    other.enqueue([task("a")])
    assert call.answer()
    held = [lease.id for lease in other.leases(ME)]

    storage.deregister(ME)

    assert held == ["a"]
    assert ([row.worker for row in other.workers()], other.counts().ready) == ([], 1)


def test_a_wake_up_works_on_a_server_that_forgot_the_scripts(make: Make, waker: Waker, server: Any) -> None:
    storage, other = make(), make()
    storage.turn(ME, [], 1)
    other.enqueue([task("first")])
    assert [lease.id for lease in storage.turn(ME, [], 1).leases] == ["first"]
    server.script_flush()
    other.turn(OTHER, [], 1)

    is_heard, turn = expecting(storage, waker, lambda: other.enqueue([task("a")]))

    assert (is_heard, [lease.id for lease in turn.leases]) == (True, ["a"])


def test_a_worker_whose_waiting_connection_is_lost_hears_of_it(make: Make, waker: Waker, server: Any) -> None:
    storage = make()
    storage.enqueue([task("a")])
    (lease,) = storage.turn(ME, [], 1).leases

    def work() -> Any:
        storage.listen(ME, 20, waker, prefetch=True)
        waker.clear()
        listener = storage._prefetching.get(ME.id)
        assert listener is not None
        server.client_kill_filter(_id=listener.connection.client)
        wrote = storage.turn(ME, [Finish(lease, State.SUCCEEDED)], 0)
        with pytest.raises(StorageUnavailable, match="waited was lost"):
            storage.turn(ME, [], 0)
        return wrote.stale, storage.turn(ME, [], 0).leases

    call = Call(work)
    until_it_waits(storage)
    waker.wake()
    assert call.answer() == ([], [])

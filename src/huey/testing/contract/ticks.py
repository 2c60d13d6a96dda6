"""Periodic tasks: one tick, one task."""

from __future__ import annotations

from huey.runtime.clock import SECOND
from huey.storage.base import Storage
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import Another, at_once, claim, claim_ids, get_row, task

TICK = 1_750_000_000 * SECOND
MINUTE = 60 * SECOND


class TickRules:
    def test_a_tick_fires_its_task(self, storage: Storage, another: Another) -> None:
        assert storage.tick("every_minute", TICK, task())

        assert another().ticks() == {"every_minute": TICK}
        assert claim_ids(storage) == ["a"]

    def test_a_tick_fires_once(self, storage: Storage, another: Another) -> None:
        storage.tick("every_minute", TICK, task("a"))

        assert not storage.tick("every_minute", TICK, task("b"))
        assert not another().tick("every_minute", TICK, task("c"))
        assert claim_ids(storage, 9) == ["a"]

    def test_a_tick_fires_once_also_when_its_task_is_done(self, storage: Storage) -> None:
        storage.tick("every_minute", TICK, task("a"))
        claim(storage)

        assert not storage.tick("every_minute", TICK, task("a"))

    def test_a_tick_fires_once_also_when_all_want_to_fire_it(self, storage: Storage, another: Another) -> None:
        other = another()

        fired = at_once(*(lambda n=n: (storage, other)[n % 2].tick("every_minute", TICK, task(str(n))) for n in range(4)))

        assert sorted(fired) == [False, False, False, True]
        assert storage.counts().ready == 1

    def test_the_next_tick_fires_again(self, storage: Storage) -> None:
        storage.tick("every_minute", TICK, task("a"))

        assert storage.tick("every_minute", TICK + MINUTE, task("b"))
        assert storage.ticks() == {"every_minute": TICK + MINUTE}
        assert claim_ids(storage, 9) == ["a", "b"]

    def test_an_older_tick_never_fires(self, storage: Storage) -> None:
        storage.tick("every_minute", TICK, task("a"))

        assert not storage.tick("every_minute", TICK - MINUTE, task("b"))
        assert storage.ticks() == {"every_minute": TICK}
        assert claim_ids(storage, 9) == ["a"]

    def test_a_tick_fires_once_also_when_the_clock_is_set_back(self, storage: Storage, clock: FakeClock) -> None:
        storage.tick("every_minute", TICK, task("a"))

        clock.set(clock.now() - 86400 * SECOND)

        assert not storage.tick("every_minute", TICK, task("b"))
        assert not storage.tick("every_minute", TICK - MINUTE, task("c"))
        assert storage.counts().ready == 1

    def test_a_tick_without_a_task_is_only_noted(self, storage: Storage) -> None:
        assert storage.tick("every_minute", TICK, None)

        assert storage.ticks() == {"every_minute": TICK}
        assert storage.find() == []
        assert not storage.tick("every_minute", TICK, task())

    def test_ticks_of_different_names_are_apart(self, storage: Storage) -> None:
        storage.tick("one", TICK, task("a"))

        assert storage.tick("One", TICK, task("b"))
        assert storage.tick("other", TICK - MINUTE, task("c"))
        assert storage.ticks() == {"one": TICK, "One": TICK, "other": TICK - MINUTE}

    def test_a_tick_leaves_a_task_that_is_held_as_it_is(self, storage: Storage) -> None:
        storage.enqueue([task(payload=b"first")])

        assert storage.tick("every_minute", TICK, task(payload=b"second"))
        assert get_row(storage).payload == b"first"

    def test_the_task_of_a_tick_is_like_any_other(self, storage: Storage, clock: FakeClock) -> None:
        record = task(priority=3, eta=clock.now() + SECOND, expires=clock.now() + MINUTE, retries=2, retry_delay=0.5, options="{}")

        storage.tick("every_minute", TICK, record)
        by_tick = get_row(storage)
        storage.flush()
        storage.enqueue([record])

        assert by_tick == get_row(storage)

    def test_nothing_ticked_yet(self, storage: Storage) -> None:
        assert storage.ticks() == {}

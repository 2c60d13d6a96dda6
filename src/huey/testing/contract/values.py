"""Small values by kind and key."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from huey.runtime.clock import SECOND
from huey.storage.base import Storage
from huey.storage.helpers import CHUNK
from huey.testing.clock import FakeClock
from huey.testing.contract.enqueueing import ODD
from huey.testing.contract.tools import Another, at_once

KINDS = ("result", "data")


class ValueRules:
    def test_a_value_is_read_by_all(self, storage: Storage, another: Another) -> None:
        for kind in KINDS:
            storage.put(kind, "k", bytes(range(256)))

            assert another().peek(kind, "k") == bytes(range(256))
            assert storage.peek(kind, "k") == bytes(range(256))

    def test_an_empty_value_is_there(self, storage: Storage) -> None:
        for kind in KINDS:
            storage.put(kind, "k", b"")

            assert storage.peek(kind, "k") == b""
            assert not storage.put(kind, "k", b"v", if_absent=True)
            assert storage.pop(kind, "k") == b""

    def test_put_replaces_what_was_there(self, storage: Storage) -> None:
        for kind in KINDS:
            storage.put(kind, "k", b"first")
            storage.put(kind, "k", b"second")

            assert storage.peek(kind, "k") == b"second"

    def test_what_is_not_there_is_none(self, storage: Storage) -> None:
        for kind in KINDS:
            assert (storage.peek(kind, "k"), storage.pop(kind, "k"), storage.delete(kind, "k"), storage.items(kind)) == (
                None,
                None,
                False,
                {},
            )

    def test_put_if_empty_leaves_what_was_there(self, storage: Storage) -> None:
        for kind in KINDS:
            assert storage.put(kind, "k", b"first", if_absent=True)
            assert not storage.put(kind, "k", b"second", if_absent=True)
            assert storage.peek(kind, "k") == b"first"

    def test_of_many_who_put_if_empty_one_succeeds(self, storage: Storage, another: Another) -> None:
        other = another()
        for kind in KINDS:
            calls = [partial((storage, other)[n % 2].put, kind, "k", str(n).encode(), if_absent=True) for n in range(4)]

            done = at_once(*calls)

            assert sorted(done) == [False, False, False, True]
            assert storage.peek(kind, "k") == str(done.index(True)).encode()

    def test_pop_reads_and_removes(self, storage: Storage) -> None:
        for kind in KINDS:
            storage.put(kind, "k", b"v")

            assert storage.pop(kind, "k") == b"v"
            assert storage.pop(kind, "k") is None
            assert storage.peek(kind, "k") is None

    def test_of_many_who_pop_one_gets_it(self, storage: Storage, another: Another) -> None:
        other = another()
        for kind in KINDS:
            storage.put(kind, "k", b"v")
            calls: list[Callable[[], bytes | None]] = [partial((storage, other)[n % 2].pop, kind, "k") for n in range(4)]

            assert sorted(at_once(*calls), key=str) == [None, None, None, b"v"]

    def test_many_are_popped_in_one_step(self, storage: Storage) -> None:
        for kind in KINDS:
            for key in ("a", "b", "c"):
                storage.put(kind, key, key.encode())

            assert storage.take(kind, ["a", "c", "unknown"], remove=True) == {"a": b"a", "c": b"c"}
            assert storage.take(kind, ["a", "c"], remove=True) == {}
            assert storage.items(kind) == {"b": b"b"}

    def test_a_chunk_of_keys_is_popped_in_one_step(self, storage: Storage) -> None:
        storage.put("result", "0007", b"7")

        assert storage.take("result", [f"{n:04}" for n in range(CHUNK)], remove=True) == {"0007": b"7"}
        assert storage.take("result", [], remove=True) == {}

    def test_delete_tells_whether_there_was_one(self, storage: Storage) -> None:
        for kind in KINDS:
            storage.put(kind, "k", b"v")

            assert storage.delete(kind, "k")
            assert not storage.delete(kind, "k")
            assert storage.peek(kind, "k") is None

    def test_a_key_may_look_like_a_kind(self, storage: Storage) -> None:
        for kind in KINDS:
            storage.put(kind, "result:k", b"v")

            assert storage.items(kind) == {"result:k": b"v"}

    def test_items_are_all_of_one_kind(self, storage: Storage) -> None:
        for kind in (*KINDS, "other"):
            storage.put(kind, "k", kind.encode())
            storage.put(kind, "l", b"l")

        assert [storage.items(kind) for kind in (*KINDS, "other")] == [
            {"k": b"result", "l": b"l"},
            {"k": b"data", "l": b"l"},
            {"k": b"other", "l": b"l"},
        ]

    def test_keys_may_hold_anything_and_never_meet(self, storage: Storage) -> None:
        for kind in KINDS:
            for key in ODD:
                storage.put(kind, key, key.encode())

            assert storage.items(kind) == {key: key.encode() for key in ODD}
            assert all(storage.peek(kind, key) == key.encode() for key in ODD)
            assert storage.take(kind, ODD[1:], remove=True) == {key: key.encode() for key in ODD[1:]}
            assert storage.items(kind) == {ODD[0]: ODD[0].encode()}

    def test_a_value_goes_after_its_time(self, storage: Storage, clock: FakeClock) -> None:
        for kind in KINDS:
            storage.put(kind, "short", b"v", ttl=1.5)
            storage.put(kind, "long", b"v", ttl=60)
            storage.put(kind, "ever", b"v")
            clock.forward(1)
            before = storage.peek(kind, "short")
            clock.forward(1)

            assert before == b"v"
            assert storage.items(kind) == {"long": b"v", "ever": b"v"}
            assert (storage.peek(kind, "short"), storage.pop(kind, "short"), storage.delete(kind, "short")) == (None, None, False)
            assert storage.take(kind, ["short"], remove=True) == {}

    def test_a_value_past_its_time_is_not_taken_away(self, storage: Storage, clock: FakeClock) -> None:
        for kind in KINDS:
            storage.put(kind, "k", b"v", ttl=1)
            clock.forward(2)
            taken = storage.take(kind, ["k"], remove=True), storage.pop(kind, "k"), storage.delete(kind, "k")
            clock.set(clock.now() - 2 * SECOND)

            assert taken == ({}, None, False)
            assert storage.peek(kind, "k") == b"v"

    def test_a_value_past_its_time_makes_room(self, storage: Storage, clock: FakeClock) -> None:
        for kind in KINDS:
            storage.put(kind, "k", b"first", ttl=1)
            clock.forward(2)

            assert storage.put(kind, "k", b"second", if_absent=True)
            clock.forward(100)
            assert storage.peek(kind, "k") == b"second"

    def test_what_is_put_if_empty_goes_after_its_time(self, storage: Storage, clock: FakeClock) -> None:
        for kind in KINDS:
            assert storage.put(kind, "k", b"first", 1.5, if_absent=True)
            assert not storage.put(kind, "k", b"second", 60, if_absent=True)
            clock.forward(1)
            before = storage.peek(kind, "k")
            clock.forward(1)

            assert (before, storage.peek(kind, "k")) == (b"first", None)
            assert storage.put(kind, "k", b"third", 60, if_absent=True)
            clock.forward(59)
            assert storage.pop(kind, "k") == b"third"
            assert storage.put(kind, "k", b"fourth", if_absent=True)
            clock.forward(10000)
            assert storage.pop(kind, "k") == b"fourth"

    def test_put_forgets_the_time_of_the_former_value(self, storage: Storage, clock: FakeClock) -> None:
        for kind in KINDS:
            storage.put(kind, "k", b"first", ttl=1)
            storage.put(kind, "k", b"second")
            clock.forward(2)

            assert storage.peek(kind, "k") == b"second"

    def test_values_past_their_time_are_pruned(self, storage: Storage, clock: FakeClock) -> None:
        for kind in KINDS:
            storage.put(kind, "short", b"v", ttl=1)
            storage.put(kind, "ever", b"v")
        clock.forward(2)

        assert storage.prune() == len(KINDS)
        assert storage.prune() == 0
        assert [storage.items(kind) for kind in KINDS] == [{"ever": b"v"}] * 2

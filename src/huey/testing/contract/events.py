"""Events are told only while somebody follows."""

from __future__ import annotations

from huey.runtime.clock import SECOND
from huey.storage.base import EVENTS_KEPT, FOLLOWER, Storage
from huey.task.lifecycle import Promotion
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import LONG, ME, MOMENT, OTHER, Another, Call, is_followed, publish, task, woken

LAPSE = FOLLOWER / SECOND + 1


def following(storage: Storage) -> int:
    """The position from which a new follower reads."""
    position, events = storage.follow(None)
    assert events == []
    return position


class EventRules:
    def test_a_follower_reads_what_is_told_after_it_came(self, storage: Storage, another: Another) -> None:
        position = following(storage)

        publish(another(), ['{"event": "one"}', '{"event": "two"}'])
        publish(another(), ['{"event": "three"}'])

        assert storage.follow(position)[1] == ['{"event": "one"}', '{"event": "two"}', '{"event": "three"}']

    def test_a_follower_reads_each_event_once(self, storage: Storage) -> None:
        position = following(storage)

        publish(storage, ["1"])
        position, first = storage.follow(position)
        publish(storage, ["2"])
        position, second = storage.follow(position)

        assert (first, second, storage.follow(position)) == (["1"], ["2"], (position, []))

    def test_each_follower_reads_every_event(self, storage: Storage, another: Another) -> None:
        other = another()
        mine, theirs = following(storage), following(other)

        publish(storage, ["1"])

        assert storage.follow(mine)[1] == other.follow(theirs)[1] == ["1"]

    def test_a_turn_tells_its_events(self, storage: Storage, another: Another) -> None:
        position = following(storage)

        another().turn(ME, [], 0, ['{"event": "one"}', '{"event": "two"}'])

        assert storage.follow(position)[1] == ['{"event": "one"}', '{"event": "two"}']

    def test_nothing_is_kept_while_nobody_follows(self, storage: Storage) -> None:
        publish(storage, ["1"])
        storage.turn(ME, [], 0, ["2"])

        assert storage.follow(following(storage)) == storage.follow(None)
        assert storage.follow(0)[1] == []

    def test_a_follower_counts_for_a_while_after_each_look(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        position = following(storage)
        clock.forward(LAPSE - 2)
        storage.follow(position)
        clock.forward(LAPSE - 2)
        publish(another(), ["1"])
        followed = is_followed(another())

        clock.forward(2)
        publish(another(), ["2"])

        assert (followed, is_followed(another())) == (True, False)
        assert storage.follow(position)[1] == ["1"]

    def test_a_turn_tells_whether_somebody_follows(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        before = storage.turn(ME, [], 0).is_followed
        following(another())
        during = storage.turn(ME, [], 0).is_followed
        clock.forward(LAPSE)

        assert (before, during, storage.turn(ME, [], 0).is_followed) == (False, True, False)

    def test_a_turn_names_what_it_promoted_only_while_somebody_follows(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("a", eta=clock.now() + SECOND), task("b", eta=clock.now() + 3 * SECOND, retries=2, retry_delay=0.5)])
        clock.forward(2)
        unseen = storage.turn(ME, [], 0).promoted

        following(storage)
        clock.forward(2)

        assert unseen == []
        assert storage.turn(ME, [], 0).promoted == [Promotion("b", "app.add", 2, 0.5)]
        assert storage.turn(ME, [], 2).promoted == []

    def test_a_turn_names_what_it_promoted_to_who_wants_to_know(self, storage: Storage, another: Another, clock: FakeClock) -> None:
        other = another()
        storage.enqueue([task(name, eta=clock.now() + SECOND) for name in "ab"])
        clock.forward(2)

        reported = storage.turn(ME, [], 1, report_promoted=True)

        assert [it.id for it in reported.promoted] == ["a", "b"]
        assert [it.id for it in reported.leases] == ["a"]
        storage.enqueue([task("c", eta=clock.now() + SECOND)])
        clock.forward(2)
        # Asked for by this turn, of no consequence for another one.
        assert other.turn(OTHER, [], 0).promoted == []

    def test_follow_waits_for_an_event(self, storage: Storage, another: Another) -> None:
        position = following(storage)
        call = Call(lambda: storage.follow(position, LONG))

        publish(another(), ["1"])

        assert call.answer()[1] == ["1"]

    def test_who_follows_is_woken_and_need_not_look(self, storage: Storage, another: Another) -> None:
        other = another()
        following(storage)

        def wake(n: int) -> None:
            position = following(storage)
            call = Call(lambda: storage.follow(position, LONG)).settled()
            (publish(other, [str(n)]) if n % 2 else other.turn(ME, [], 0, [str(n)]))
            assert call.answer()[1] == [str(n)]

        assert woken(wake)

    def test_follow_waits_for_the_event_of_a_turn(self, storage: Storage, another: Another) -> None:
        position = following(storage)
        call = Call(lambda: storage.follow(position, LONG))

        another().turn(ME, [], 0, ["1"])

        assert call.answer()[1] == ["1"]

    def test_follow_gives_up_after_its_time(self, storage: Storage, clock: FakeClock) -> None:
        position = following(storage)

        assert storage.follow(position) == (position, [])
        assert Call(lambda: storage.follow(position, MOMENT)).answer(lambda: clock.forward(1)) == (position, [])

    def test_events_that_nobody_will_read_any_more_are_pruned(self, storage: Storage, clock: FakeClock) -> None:
        position = following(storage)
        publish(storage, ["1"])
        storage.prune()
        kept = storage.follow(position)[1]

        clock.forward(EVENTS_KEPT / SECOND + 1)
        storage.prune()

        assert kept == ["1"]
        assert storage.follow(position)[1] == []

    def test_old_events_are_pruned_and_no_others_when_the_clock_was_set_back(self, storage: Storage, clock: FakeClock) -> None:
        position = following(storage)
        publish(storage, ["young"])
        clock.set(clock.now() - EVENTS_KEPT - SECOND)
        following(storage)
        publish(storage, ["old"])
        clock.set(clock.now() + EVENTS_KEPT + SECOND)

        storage.prune()

        assert storage.follow(position)[1] == ["young"]

    def test_positions_go_on_after_events_were_pruned(self, storage: Storage, clock: FakeClock) -> None:
        following(storage)
        publish(storage, ["1"])
        position = storage.follow(0)[0]
        clock.forward(EVENTS_KEPT / SECOND + 1)
        storage.prune()

        assert following(storage) >= position
        publish(storage, ["2"])
        assert storage.follow(position)[1] == ["2"]

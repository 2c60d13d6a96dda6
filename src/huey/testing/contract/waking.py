"""Waiting: for tasks, and for results. The clock of these tests stands still, so what returns was woken by a fact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huey.runtime.clock import SECOND
from huey.runtime.waker import Waker
from huey.storage.base import Storage
from huey.task.lifecycle import Finish, Returned, State
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import LONG, ME, MOMENT, OTHER, Another, Call, at_once, claim, claimed, end, task, woken, write


@contextmanager
def a_waker() -> Iterator[Waker]:
    waker = Waker()
    try:
        yield waker
    finally:
        waker.close()


def listening(storage: Storage, waker: Waker, timeout: float = LONG) -> Call[bool]:
    return Call(lambda: storage.listen(ME, timeout, waker))


class WakingRules:
    def test_listen_returns_at_once_while_a_task_is_ready(self, storage: Storage) -> None:
        storage.enqueue([task()])

        with a_waker() as waker:
            assert storage.listen(ME, LONG, waker)
            assert storage.listen(ME, 0, waker)

    def test_listen_returns_at_once_while_a_scheduled_task_is_due(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task(eta=clock.now() + SECOND)])
        clock.forward(2)

        with a_waker() as waker:
            assert storage.listen(ME, LONG, waker)

    def test_listen_gives_up_after_its_time(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task(eta=clock.now() + 10**6 * SECOND)])
        claimed(storage, task("running"))

        with a_waker() as waker:
            assert not listening(storage, waker, MOMENT).answer(lambda: clock.forward(1))
            assert not storage.listen(ME, 0, waker)

    def test_listen_wakes_when_a_task_is_enqueued(self, storage: Storage, another: Another) -> None:
        with a_waker() as waker:
            call = listening(storage, waker)

            another().enqueue([task()])

            assert call.answer()

    def test_all_who_listen_wake(self, storage: Storage, another: Another) -> None:
        with a_waker() as one, a_waker() as two:
            calls = [listening(storage, one), listening(storage, two), listening(another(), two)]

            storage.enqueue([task()])

            assert [call.answer() for call in calls] == [True, True, True]

    def test_who_listens_is_woken_and_need_not_look(self, storage: Storage, another: Another) -> None:
        other = another()

        def wake(n: int) -> None:
            call = listening(storage, waker).settled()
            other.enqueue([task(str(n))])
            assert call.answer()
            claim(storage)

        with a_waker() as waker:
            assert woken(wake)

    def test_listen_wakes_when_a_scheduled_task_gets_due(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task(eta=clock.now() + SECOND // 10)])

        with a_waker() as waker:
            call = listening(storage, waker).settled()
            clock.forward(1)

            assert call.answer()

    def test_listen_wakes_for_an_earlier_task_than_it_knew_of(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        storage.enqueue([task("later", eta=clock.now() + 1000 * SECOND)])

        with a_waker() as waker:
            call = listening(storage, waker).settled()
            another().enqueue([task("sooner", eta=clock.now() + SECOND // 10)])
            clock.forward(1)

            assert call.answer()

    def test_listen_wakes_when_a_task_is_put_back(self, storage: Storage, another: Another) -> None:
        lease = claimed(storage)

        with a_waker() as waker:
            call = listening(storage, waker).settled()
            write(another(), Finish(lease, State.QUEUED))

            assert call.answer()

    def test_listen_wakes_when_a_task_is_released(self, storage: Storage, another: Another) -> None:
        lease = claimed(storage)

        with a_waker() as waker:
            call = listening(storage, waker)
            another().release(ME, [lease])

            assert call.answer()

    def test_listen_wakes_when_a_tick_fires(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        with a_waker() as waker:
            call = listening(storage, waker)
            another().tick("every_minute", clock.now(), task())

            assert call.answer()

    def test_listen_wakes_when_a_task_is_put_back_by_hand(self, storage: Storage, another: Another) -> None:
        write(storage, Finish(claimed(storage), State.FAILED, reason="error"))

        with a_waker() as waker:
            call = listening(storage, waker)
            another().retry(["a"])

            assert call.answer()

    def test_listen_finds_nothing_while_paused_and_wakes_when_resumed(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        storage.pause(True)
        storage.enqueue([task("a"), task("b", eta=clock.now() + SECOND)])
        clock.forward(2)

        with a_waker() as waker:
            assert not listening(storage, waker, MOMENT).answer(lambda: clock.forward(1))
            call = listening(storage, waker)
            another().pause(False)

            assert call.answer()

    def test_listen_returns_when_the_bell_rings(self, storage: Storage) -> None:
        with a_waker() as waker:
            call = listening(storage, waker).settled()

            waker.wake()

            assert not call.answer()

    def test_listen_returns_at_once_when_the_bell_rang_before(self, storage: Storage) -> None:
        with a_waker() as waker:
            waker.wake()

            assert not listening(storage, waker).answer()

    def test_listen_waits_again_after_the_bell_was_cleared(self, storage: Storage) -> None:
        with a_waker() as waker:
            waker.wake()
            waker.clear()
            call = listening(storage, waker)

            storage.enqueue([task()])

            assert call.answer()

    def test_no_enqueue_is_missed_by_who_works_and_listens_in_turn(self, storage: Storage, another: Another) -> None:
        other, count = another(), 40

        def produce() -> int:
            for n in range(count):
                other.enqueue([task(f"{n:02}")])
            return count

        def consume() -> int:
            got = 0
            with a_waker() as waker:
                while got < count and storage.listen(ME, LONG, waker):
                    got += len(claim(storage, 3))
            return got

        assert at_once(produce, consume) == [count, count]

    # -- results ------------------------------------------------------------------------------------------------------------------------

    def test_wait_returns_at_once_when_there_is_a_result(self, storage: Storage) -> None:
        storage.put("result", "b", b"5")

        assert storage.wait(["a", "b"], None)
        assert storage.wait(["b"], 0)

    def test_wait_gives_up_after_its_time(self, storage: Storage, clock: FakeClock) -> None:
        storage.put("result", "other", b"5")
        storage.put("data", "a", b"5")

        assert not Call(lambda: storage.wait(["a"], MOMENT)).answer(lambda: clock.forward(1))
        assert not storage.wait(["a"], 0)

    def test_wait_ends_when_a_finish_stores_the_result(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        lease = claimed(storage)
        call = Call(lambda: storage.wait(["a"], None))

        end(another(), clock, lease, Returned(b"5"))

        assert call.answer()
        assert storage.pop("result", "a") == b"5"

    def test_wait_ends_when_one_of_many_has_a_result(self, storage: Storage, another: Another) -> None:
        storage.enqueue([task("a"), task("b")])
        leases = claim(storage, 2, by=OTHER)
        calls = [Call(lambda: storage.wait(["a", "b", "c"], LONG)) for _ in range(3)]

        write(another(), Finish(leases[1], State.SUCCEEDED, value=b"5"), by=OTHER)

        assert [call.answer() for call in calls] == [True, True, True]

    def test_who_waits_is_woken_and_need_not_look(self, storage: Storage, another: Another) -> None:
        other = another()

        def wake(n: int) -> None:
            lease = claimed(other, task(str(n)))
            call = Call(lambda: storage.wait([str(n)], LONG)).settled()
            write(other, Finish(lease, State.SUCCEEDED, value=b"5"))
            assert call.answer()

        assert woken(wake)

    def test_wait_ends_when_a_result_is_put(self, storage: Storage, another: Another) -> None:
        call = Call(lambda: storage.wait(["a"], LONG))

        another().put("result", "a", b"5")

        assert call.answer()

    def test_a_result_past_its_time_is_not_waited_for(self, storage: Storage, clock: FakeClock) -> None:
        storage.put("result", "a", b"5", ttl=1)
        clock.forward(2)

        assert not storage.wait(["a"], 0)

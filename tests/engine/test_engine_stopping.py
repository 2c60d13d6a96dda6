"""What a stop of the engine writes, gives back and waits for."""

from __future__ import annotations

from huey.runtime.clock import SECOND
from huey.task.lifecycle import State
from huey.testing.contract.tools import OTHER, claim_ids, get_row, task
from tests.engine.bench import Bench, died_with


def test_after_a_stop_nothing_is_claimed(bench: Bench) -> None:
    bench.enqueue("a")
    bench.engine.stop()

    bench.engine.run()
    bench.engine.drain(1.0)

    assert set(bench.storage.wants) <= {0}
    assert bench.runners.runs == []


def test_a_stop_gives_back_what_has_not_started_at_its_place(bench: Bench) -> None:
    bench.prove_short()
    bench.enqueue("a", "b", "c")
    bench.turn()
    bench.clock.forward(1)
    bench.enqueue("d")
    bench.engine.stop()

    bench.engine.drain(0.0)

    assert claim_ids(bench.storage, 9, by=OTHER) == ["b", "c", "d"]
    assert get_row(bench.storage, "b").attempt == 0


def test_a_stop_gives_back_suspects_that_wait(four: Bench) -> None:
    died_with(four, "suspect")
    four.enqueue("a")
    four.turn()
    four.engine.stop()

    four.engine.drain(0.0)

    assert get_row(four.storage, "suspect").state == State.QUEUED
    assert get_row(four.storage, "suspect").deaths == 1


def test_drain_writes_what_ends_and_returns_what_runs(four: Bench) -> None:
    four.enqueue("a", "b", "c")
    four.turn()
    four.engine.stop()
    began = four.clock.monotonic()

    def one_ends() -> None:
        if four.clock.monotonic() - began >= SECOND and "b" in four.runners.running:
            four.runners.end("b")
            four.waker.wake()

    four.waker.meanwhile = one_ends
    still = four.engine.drain(2.0)

    assert [lease.id for lease in still] == ["a", "c"]
    assert four.storage.peek("result", "b") == b"done"
    assert four.clock.monotonic() - began == 2 * SECOND


def test_drain_ends_as_soon_as_nothing_runs(bench: Bench) -> None:
    bench.enqueue("a")
    bench.turn()
    bench.engine.stop()
    bench.waker.meanwhile = lambda: (bench.runners.end("a"), bench.waker.wake())[1]
    began = bench.clock.monotonic()

    assert bench.engine.drain(30.0) == []

    assert bench.clock.monotonic() == began
    assert bench.storage.peek("result", "a") == b"done"


def test_drain_without_a_limit_waits_for_all(bench: Bench) -> None:
    bench.enqueue("a")
    bench.turn()
    bench.engine.stop()
    until = bench.clock.monotonic() + 3600 * SECOND
    bench.waker.meanwhile = lambda: bench.runners.end_all() if bench.clock.monotonic() >= until else None

    assert bench.engine.drain(None) == []
    assert bench.clock.monotonic() >= until


def test_drain_keeps_to_its_time_also_when_the_storage_is_away(bench: Bench) -> None:
    bench.enqueue("a")
    bench.turn()
    bench.runners.end("a")
    bench.engine.stop()
    bench.storage.is_away = True
    began = bench.clock.monotonic()

    assert bench.engine.drain(5.0) == []

    assert bench.clock.monotonic() - began == 5 * SECOND


def test_what_is_cut_short_is_put_back_without_a_try(bench: Bench) -> None:
    bench.storage.enqueue([task("a", retries=1)])
    bench.turn()
    bench.engine.stop()
    bench.engine.drain(0.0)

    bench.engine.requeue_running()

    row = get_row(bench.storage)
    assert (row.state, row.attempt, row.solo_crashes, row.deaths, row.reason) == (State.QUEUED, 0, 0, 0, "shutdown")
    assert claim_ids(bench.storage, 1, by=OTHER) == ["a"]


def test_what_ends_while_it_is_cut_short_has_ended(bench: Bench) -> None:
    bench.enqueue("a")
    bench.turn()
    bench.engine.stop()
    bench.engine.drain(0.0)

    bench.runners.end("a")
    bench.engine.requeue_running()

    assert bench.storage.peek("result", "a") == b"done"

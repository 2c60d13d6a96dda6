"""The engine while its storage is away, full, or loses replies."""

from __future__ import annotations

import logging

import pytest

from huey.consumer.janitor import Janitor
from huey.runtime.clock import SECOND
from huey.storage.base import LEASE
from huey.task.lifecycle import Raised, State
from huey.testing.contract.tools import ME, OTHER, Call, claim_ids, get_row, seen, task
from tests.engine.bench import Bench
from tests.support.helpers import wait_until


def test_while_the_storage_is_away_finishes_are_kept(four: Bench, caplog: pytest.LogCaptureFixture) -> None:
    four.enqueue("a", "b", "c", "d", "e", "f")
    four.turn()
    four.storage.is_away = True
    four.storage.wants.clear()

    with caplog.at_level(logging.INFO):
        for name in ("a", "b", "c"):
            four.runners.end(name)
            assert not four.turn()
        four.storage.is_away = False
        assert four.turn()

    assert four.storage.wants == [1, 0, 0, 0], "the first could not know, the last only looks whether it is back"
    assert four.storage.items("result") == {"a": b"done", "b": b"done", "c": b"done"}
    assert [line for line in caplog.messages if "succeeded" not in line] == [
        "storage unavailable; claiming stops until it is back, running tasks continue: away",
        "storage is back after 0.0 s: 3 finished tasks written",
    ]
    four.turn()
    assert four.runners.running == ["d", "e", "f"]


def test_while_the_storage_is_full_ends_are_written(four: Bench, caplog: pytest.LogCaptureFixture) -> None:
    four.enqueue("a", "b", "c", "d", "e", "f")
    four.turn()
    four.storage.is_full = True
    with caplog.at_level(logging.INFO):
        four.runners.end("a")
        assert not four.turn(), "the loop rests before it asks again"
        four.runners.end("b")
        assert not four.turn()
        assert four.storage.items("result") == {"a": b"done", "b": b"done"}
        assert four.runners.running == ["c", "d"]

        four.storage.is_full = False
        assert four.turn()

    assert [line for line in caplog.messages if "succeeded" not in line] == [
        "storage unavailable; claiming stops until it is back, running tasks continue: the disk is full; finished tasks are still written",
        "storage is back after 0.0 s",
    ]
    four.turn()
    assert four.runners.running == ["c", "d", "e", "f"]


def test_each_outage_is_told_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        bench.storage.is_away = True
        bench.turn()
        bench.turn()
        bench.storage.is_away = False
        bench.turn()

    assert [record.levelname for record in caplog.records].count("ERROR") == 2


def test_an_outage_is_waited_out_in_steps(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is longer than a second, so that everything goes on soon after the end of an outage."""
    waits: list[float] = []
    monkeypatch.setattr(bench.engine._stop_requested, "wait", waits.append)
    bench.storage.is_away = True
    bench.go_round(20)

    assert len(waits) == len(bench.storage.wants) == 20
    assert 0 < min(waits) <= max(waits) <= 1.0

    bench.storage.is_away = False
    bench.enqueue("a")
    bench.go_round(3)
    assert bench.runners.running == ["a"]


def test_a_stop_ends_the_wait_for_a_storage_that_is_away(bench: Bench) -> None:
    bench.storage.is_away = True
    loop = Call(bench.engine.run)
    wait_until(lambda: bench.storage.wants)

    bench.engine.stop()

    loop.answer()


def test_a_storage_lost_while_listening_does_not_end_the_engine(bench: Bench) -> None:
    bench.storage.is_deaf = True

    bench.go_round(4)

    assert len(bench.storage.wants) > 1


def test_a_finish_whose_reply_was_lost_is_sent_again(bench: Bench) -> None:
    bench.storage.enqueue([task("a", retries=1)])
    bench.turn()
    bench.runners.end("a", Raised({"error": "E()", "traceback": ""}))
    bench.storage.pause(True)
    bench.storage.loses = "turn"
    bench.storage.sent.clear()

    assert not bench.turn()
    assert bench.turn()
    assert bench.turn()

    assert bench.storage.sent == [["a"], ["a"], []]
    assert (get_row(bench.storage).state, get_row(bench.storage).attempt) == (State.QUEUED, 1)


def test_a_claim_whose_reply_was_lost_is_run(bench: Bench) -> None:
    janitor = Janitor(bench.storage, ME, bench.clock, lambda finish: finish)
    bench.enqueue("a")
    bench.storage.loses = "turn"

    for _ in range(5):
        bench.go_round(5)
        janitor.run_once()
        bench.clock.forward(LEASE / SECOND)

    assert bench.runners.running == ["a"]


@pytest.mark.parametrize("lost", ["turn", "leases", "release"])
def test_a_reply_lost_right_after_an_outage_is_an_outage_too(bench: Bench, lost: str) -> None:
    """What follows an outage asks the storage which tasks this worker holds without knowing, and that may fail."""
    bench.enqueue("claimed by a turn whose reply was lost")
    bench.storage.turn(ME, [], 1)
    bench.engine.assume_outage()
    bench.storage.loses = lost
    bench.waker.meanwhile = bench.runners.end_all

    bench.go_round(20)

    assert {*bench.storage.items("result")} == {"claimed by a turn whose reply was lost"}


def test_a_refused_finish_is_told_and_not_sent_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.enqueue("a")
    bench.turn()
    bench.clock.forward(60)
    taken = bench.storage.reclaim(seen(bench.storage), OTHER)
    bench.runners.end("a")
    bench.storage.sent.clear()

    bench.turn()
    bench.turn()

    assert bench.storage.sent == [["a"], []]
    assert bench.storage.peek("result", "a") is None
    assert get_row(bench.storage).worker == OTHER.id
    assert [lease.id for lease in taken] == ["a"]
    assert "1 finishes were stale" in caplog.text


def test_what_could_not_be_given_back_is_given_back_later(bench: Bench) -> None:
    bench.prove_short()
    bench.enqueue("a", "b", "c")
    bench.turn()
    bench.engine.stop()
    bench.storage.is_away = True
    bench.waker.meanwhile = lambda: setattr(bench.storage, "is_away", False)

    still = bench.engine.drain(5.0)

    assert [lease.id for lease in still] == ["a"]
    assert claim_ids(bench.storage, 9, by=OTHER) == ["b", "c"]


def test_giving_back_twice_takes_nothing_from_the_next_worker(bench: Bench) -> None:
    bench.prove_short()
    bench.enqueue("a", "b")
    bench.turn()
    bench.engine.stop()
    bench.storage.loses = "release"
    taken: list[str] = []
    bench.waker.meanwhile = lambda: taken.extend(claim_ids(bench.storage, 9, by=OTHER))

    bench.engine.drain(2.0)

    assert taken == ["b"]
    assert get_row(bench.storage, "b").worker == OTHER.id

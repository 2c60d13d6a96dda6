"""One end that the storage cannot take fails alone; the others are written."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from huey import Huey, TaskException
from huey.exceptions import StorageUnavailable
from huey.task.lifecycle import State
from huey.task.reasons import NOT_STORABLE
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME
from tests.engine.test_engine import Bench
from tests.support.helpers import running, wait_until


@pytest.fixture
def bench(clock: FakeClock) -> Bench:
    return Bench(clock, 8)


def started(bench: Bench, *names: str) -> None:
    bench.enqueue(*names)
    bench.turn()
    bench.runners.end_all()


def states(bench: Bench, *ids: str) -> list[str]:
    rows = [bench.storage.get(id) for id in ids]
    return ["gone" if row is None else f"{row.state} {row.reason}" for row in rows]


def test_one_end_that_cannot_be_written_fails_alone(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.storage.chokes_on = lambda finish: finish.lease.id == "c" and finish.state == State.SUCCEEDED
    started(bench, *"abcdef")

    assert bench.turn() is True

    assert states(bench, *"abcdef") == ["gone", "gone", f"failed {NOT_STORABLE}", "gone", "gone", "gone"]
    assert caplog.text.count("failed because its outcome cannot be stored") == 1
    assert "too large" in caplog.text


def test_the_engine_goes_on_after_it(bench: Bench) -> None:
    bench.storage.chokes_on = lambda finish: finish.lease.id == "a" and finish.state == State.SUCCEEDED
    started(bench, "a")
    bench.turn()

    started(bench, "b")
    bench.turn()

    assert states(bench, "b") == ["gone"]
    assert bench.storage.sent[-1] == ["b"]


def test_two_of_many_fail_and_the_others_do_not(bench: Bench) -> None:
    bad = {"a", "h"}
    bench.storage.chokes_on = lambda finish: finish.lease.id in bad and finish.state == State.SUCCEEDED
    started(bench, *"abcdefgh")

    bench.turn()

    assert [state != "gone" for state in states(bench, *"abcdefgh")] == [name in bad for name in "abcdefgh"]


def test_an_end_that_cannot_be_written_holds_up_no_other(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.storage.chokes_on = lambda finish: finish.lease.id == "b"
    started(bench, *"abc")

    bench.turn()
    bench.turn()

    assert states(bench, *"abc") == ["gone", "running None", "gone"]
    assert caplog.text.count("no outcome can be stored") == 1
    assert bench.storage.sent[-1] == []


def test_an_event_that_cannot_be_written_is_left_out(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.storage.follow(None)
    started(bench, "a")
    bench.storage.chokes_on_events = True

    bench.turn()

    assert states(bench, "a") == ["gone"]
    assert "events that cannot be written" in caplog.text


def test_nothing_fails_while_the_storage_refuses_everything(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    started(bench, "a", "b")
    turn = bench.storage.turn

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise TypeError("a fault of ours")

    monkeypatch.setattr(bench.storage, "turn", broken)
    with pytest.raises(TypeError):
        bench.turn()
    monkeypatch.setattr(bench.storage, "turn", turn)

    bench.turn()

    assert states(bench, "a", "b") == ["gone", "gone"]


def test_an_outage_in_between_loses_no_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.storage.chokes_on = lambda finish: finish.lease.id == "d" and finish.state == State.SUCCEEDED
    started(bench, *"abcd")
    turn, calls = bench.storage.turn, []

    def goes_away(worker: Any, finishes: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(len(finishes))
        if len(calls) == 4:
            raise StorageUnavailable("away")
        return turn(worker, finishes, *args, **kwargs)

    monkeypatch.setattr(bench.storage, "turn", goes_away)
    bench.turn()
    monkeypatch.setattr(bench.storage, "turn", turn)
    bench.turn()

    assert states(bench, *"abcd") == ["gone", "gone", "gone", f"failed {NOT_STORABLE}"]


def test_a_task_that_cannot_be_given_back_holds_up_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.enqueue("a", "b")
    bench.runners.count = 0
    release = bench.storage.release

    def chokes(worker: Any, leases: Any) -> None:
        if any(lease.id == "a" for lease in leases):
            raise OverflowError("too large")
        release(worker, leases)

    monkeypatch.setattr(bench.storage, "release", chokes)
    leases = bench.storage.turn(ME, [], 2).leases

    bench.engine._release(leases)

    assert states(bench, "b") == ["queued None"]


def test_a_task_that_went_back_is_told_as_started_once(bench: Bench, clock: FakeClock) -> None:
    position, _ = bench.storage.follow(None)
    bench.runners.count = 1
    bench.engine._prefetch.limit = 2
    bench.enqueue("a", "b")
    bench.turn()
    bench.turn()
    assert bench.runners.running == ["a"]

    bench.engine._release(bench.runners.take_back())
    bench.turn()
    told = [json.loads(text) for text in bench.storage.follow(position)[1]]
    assert [(event["status"], event["id"]) for event in told if event["status"] == "started"] == [("started", "a")]


class Odd(Exception):
    """An error whose traceback no storage likes."""


BAD: dict[str, Callable[[], Any]] = {
    "a surrogate in an error": lambda: (_ for _ in ()).throw(Odd("\ud800")),
    "a NUL in an error": lambda: (_ for _ in ()).throw(Odd("\0")),
    "a surrogate in a result": lambda: "\ud800",
    "a large integer": lambda: 10**400,
    "an endless error": lambda: (_ for _ in ()).throw(Odd("x" * 10**6)),
}


@pytest.mark.parametrize("what", list(BAD))
def test_a_bad_end_stops_no_other_on_any_storage(make_huey: Callable[..., Huey], what: str) -> None:
    logging.getLogger("huey").setLevel(logging.CRITICAL)
    try:
        huey = make_huey()
        bad = huey.task(name="bad")(BAD[what])
        good = huey.task(name="good")(lambda n: n)
        with running(huey, workers=2):
            result = bad()
            assert [good(n).get(blocking=True, timeout=10) for n in range(3)] == [0, 1, 2]
            with suppress(TaskException):
                result.get(blocking=True, timeout=10)
    finally:
        logging.getLogger("huey").setLevel(logging.NOTSET)


def test_a_waiter_is_told_of_an_end_that_cannot_be_written(make_huey: Callable[..., Huey], monkeypatch: pytest.MonkeyPatch) -> None:
    huey = make_huey()
    task = huey.task(name="bad")(lambda: 1)
    turn = huey.storage.turn

    def chokes(worker: Any, finishes: Any, *args: Any, **kwargs: Any) -> Any:
        if any(finish.state == State.SUCCEEDED for finish in finishes):
            raise OverflowError("too large")
        return turn(worker, finishes, *args, **kwargs)

    monkeypatch.setattr(huey.storage, "turn", chokes)
    told: list[str] = []
    huey.signal("complete", "error")(lambda signal, task, *extra: told.append(signal))

    with running(huey, workers=1), pytest.raises(TaskException, match="cannot be stored"):
        task().get(blocking=True, timeout=10)

    wait_until(lambda: huey.storage.counts().failed == 1)
    assert "complete" not in told

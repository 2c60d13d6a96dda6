"""Threads of a consumer that end are started again; one inside a program that stands still stops itself, and never the program."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from huey import Huey, MemoryHuey, SqliteHuey, crontab
from huey.consumer import Consumer
from huey.consumer.service import Service, StallCounter, ThreadRestarter, ThreadsUnrecoverable
from huey.engine.engine import Engine
from huey.engine.stamps import Standstill
from huey.exceptions import StorageUnavailable
from huey.testing.clock import FakeClock
from tests.support.helpers import running, wait_until


@pytest.fixture(params=["memory", "sqlite"])
def huey(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Huey]:
    huey = MemoryHuey() if request.param == "memory" else SqliteHuey(filename=tmp_path / "queue.db")
    yield huey
    huey.close()


def mortal(monkeypatch: pytest.MonkeyPatch, name: str) -> Callable[[], bool]:
    """The thread of the service of that name ends once; whether it has."""
    real, ended = Service._call_once, threading.Event()

    def once(service: Service) -> Any:
        if service.name == name and not ended.is_set():
            ended.set()
            raise SystemExit
        return real(service)

    monkeypatch.setattr(Service, "_call_once", once)
    return ended.is_set


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("name", ["Engine", "Timekeeper", "Heartbeat", "Janitor", "Scheduler"])
def test_a_thread_that_ended_is_started_again(
    huey: Huey, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    has_ended = mortal(monkeypatch, name)
    add = huey.task(name="add")(lambda a, b: a + b)
    huey.periodic_task(crontab(minute="59", hour="23"), name="tick")(lambda: None)

    with running(huey, periodic=True):
        wait_until(has_ended)
        wait_until(lambda: "threads of this worker ended unexpectedly" in caplog.text)

        assert add(1, 2).get(blocking=True, timeout=20) == 3
        assert name in {thread.name for thread in threading.enumerate()}
    (line,) = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert name in line.getMessage()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_watchdog_itself_is_started_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("huey.consumer.consumer.HEARTBEAT_S", 0.05)
    huey = MemoryHuey()
    has_ended = mortal(monkeypatch, "Watchdog")

    with running(huey):
        wait_until(has_ended)
        wait_until(lambda: "thread 'Watchdog' ended unexpectedly" in caplog.text)
        wait_until(lambda: "Watchdog" in {thread.name for thread in threading.enumerate()})


def test_threads_that_end_again_and_again_are_not_mended(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    restarter = ThreadRestarter(clock, [lambda: ["Engine"]])
    for _ in range(5):
        restarter.check()
        clock.forward(1)

    with pytest.raises(ThreadsUnrecoverable, match="Engine"):
        restarter.check()
    clock.forward(120)
    restarter.check()


def test_a_thread_that_cannot_be_started_is_not_mended() -> None:
    def no_room() -> list[str]:
        raise RuntimeError("can't start new thread")

    with pytest.raises(ThreadsUnrecoverable, match="can't start new thread"):
        ThreadRestarter(FakeClock(), [no_room]).check()


def test_a_number_that_stands_still_is_told_once() -> None:
    standing = StallCounter(3)

    assert [standing.check(7) for _ in range(6)] == [False, False, False, True, False, False]
    assert [standing.check(8) for _ in range(4)] == [False, False, False, True]
    assert not any(StallCounter(0).check(7) for _ in range(10))


# -- inside a program ----------------------------------------------------------------------------------------------------------------------


class Freeze(threading.Event):
    """Engines of a service stand still from the next turn on, while this is set, until `thaw`."""

    def __init__(self) -> None:
        super().__init__()
        self._thawed = threading.Event()
        self.thaw = self._thawed.set
        self.hold = self._thawed.wait


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Freeze]:
    real, freeze = Engine.turn, Freeze()

    def turn(engine: Engine) -> bool:
        if freeze.is_set() and not engine._is_stopping:
            freeze.hold()
        return real(engine)

    monkeypatch.setattr(Engine, "turn", turn)
    yield freeze
    freeze.thaw()


def test_a_consumer_in_a_program_that_stands_still_stops(huey: Huey, frozen: Freeze, caplog: pytest.LogCaptureFixture) -> None:
    """What ran ends and is written, what waits is for the next consumer, and the program goes on."""
    gate = threading.Event()
    slow = huey.task(name="slow")(lambda: gate.wait(20))
    add = huey.task(name="add")(lambda a, b: a + b)
    first = Consumer(huey, workers=1, watchdog=2, periodic=False)
    first.start()
    handle = slow()
    wait_until(lambda: huey.storage.counts().running == 1)
    frozen.set()
    waits = add(1, 2)
    first._waker.wake()
    wait_until(lambda: "is stopping itself" in caplog.text, timeout=20)
    frozen.clear()

    gate.set()

    assert handle.get(blocking=True, timeout=20) is True
    wait_until(lambda: first.stop(timeout=0))
    with running(huey):
        assert waits.get(blocking=True, timeout=20) == 3
    (line,) = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert "no response from its engine" in line.getMessage()


@pytest.mark.parametrize("stops_itself", [True, False])
def test_an_engine_that_goes_on_after_all_finds_its_waker_open(
    frozen: Freeze, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stops_itself: bool
) -> None:
    engines: list[threading.Thread] = []
    real = Engine.run
    monkeypatch.setattr(Engine, "run", lambda engine: (engines.append(threading.current_thread()), real(engine))[1])
    consumer = Consumer(MemoryHuey(), watchdog=1, periodic=False)
    frozen.set()
    consumer.start()
    wait_until(lambda: engines)
    if not stops_itself:
        assert consumer.stop()
        assert "has stalled" in caplog.text
    else:
        wait_until(lambda: "is stopping itself" in caplog.text)
        wait_until(lambda: consumer.stop(timeout=0))

    frozen.thaw()
    wait_until(lambda: not engines[0].is_alive())

    assert len(engines) == 1
    assert "Engine failed" not in caplog.text


def test_run_returns_one_after_it_stopped_itself(frozen: Freeze) -> None:
    huey = MemoryHuey()
    consumer = Consumer(huey, watchdog=1, periodic=False)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(consumer.run()))
    frozen.set()
    thread.start()

    thread.join(20)

    assert codes == [1]


def test_an_outage_for_all_its_threads_is_no_standstill(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    huey = MemoryHuey()
    consumer = Consumer(huey, watchdog=0, periodic=False)
    monkeypatch.setattr("huey.consumer.consumer.HEARTBEAT_S", 0.05)
    consumer.start()

    def away(*args: object, **options: object) -> Any:
        raise StorageUnavailable("away")

    for verb in ("turn", "heartbeat", "workers", "listen"):
        monkeypatch.setattr(huey.storage, verb, away)
    wait_until(lambda: consumer._watchdog._outage.is_on_besides("engine"))
    consumer._watchdog._standstill = Standstill(1)
    looks = []
    real = consumer._watchdog.check
    monkeypatch.setattr(consumer._watchdog, "check", lambda reviver: (looks.append(1), real(reviver)))
    wait_until(lambda: len(looks) > 4, timeout=20)
    monkeypatch.undo()

    assert "is stopping itself" not in caplog.text
    assert consumer.stop()


def test_watchdog_zero_never_stops_it(frozen: Freeze, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    consumer = Consumer(MemoryHuey(), watchdog=0, periodic=False)
    looks = []
    real = consumer._watchdog.check
    monkeypatch.setattr(consumer._watchdog, "check", lambda reviver: (looks.append(1), real(reviver)))
    frozen.set()
    consumer.start()

    wait_until(lambda: len(looks) > 4, timeout=20)

    assert "is stopping itself" not in caplog.text
    frozen.clear()

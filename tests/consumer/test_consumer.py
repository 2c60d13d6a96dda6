"""The life of a consumer inside a program: start, stop, and what outlives a stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from huey import Huey, SqliteHuey
from huey.consumer import Consumer
from huey.exceptions import ConfigurationError
from huey.testing.contract.tools import Call
from tests.support.helpers import wait_until

MakeHuey = Callable[..., Huey]


@pytest.fixture
def huey(make_huey: MakeHuey) -> Huey:
    return make_huey()


@pytest.fixture
def make(huey: Huey) -> Iterator[Callable[..., Consumer]]:
    made: list[Consumer] = []

    def make(**options: Any) -> Consumer:
        made.append(huey.create_consumer(periodic=False, **options))
        return made[-1]

    yield make
    for consumer in made:
        consumer.stop(timeout=10)


def test_a_stop_before_the_start_is_harmless(make: Callable[..., Consumer]) -> None:
    assert make().stop()


def test_a_second_stop_is_harmless(make: Callable[..., Consumer]) -> None:
    consumer = make()
    consumer.start()

    assert consumer.stop()
    assert consumer.stop()


def test_a_consumer_starts_once(make: Callable[..., Consumer]) -> None:
    consumer = make()
    consumer.start()
    consumer.stop()

    with pytest.raises(ConfigurationError, match="create_consumer"):
        consumer.start()


def test_a_task_that_outlives_a_stop_is_written_when_it_ends(huey: Huey, make: Callable[..., Consumer]) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    @huey.task()
    def slow() -> str:
        has_begun.set()
        may_end.wait(20)
        return "done"

    consumer = make()
    consumer.start()
    handle = slow()
    assert has_begun.wait(10)

    assert not consumer.stop(timeout=0.05)
    may_end.set()

    assert handle.get(blocking=True, timeout=10) == "done"
    assert consumer.stop(timeout=10)
    assert huey.storage.workers() == []


def test_a_stop_waits_for_what_runs_unless_it_is_told_not_to(huey: Huey, make: Callable[..., Consumer]) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    @huey.task(name="slow")
    def slow() -> int:
        has_begun.set()
        may_end.wait(10)
        return 5

    consumer = make()
    consumer.start()
    result = slow()
    has_begun.wait(10)

    assert not consumer.stop(graceful=False)
    stopping = Call(consumer.stop)
    may_end.set()

    assert stopping.answer() is True
    assert result.get(blocking=True, timeout=10) == 5


def test_run_in_a_thread_ends_with_a_stop_from_another(huey: Huey, make: Callable[..., Consumer]) -> None:
    consumer = make()
    thread = threading.Thread(target=consumer.run)
    thread.start()
    wait_until(lambda: huey.storage.workers())

    assert consumer.stop(timeout=10)
    thread.join(10)

    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", 0),
        ("workers", "many"),
        ("shutdown_timeout", -1),
        ("shutdown_timeout", "abc"),
        ("periodic_task_interval", 0),
        ("delay", "x"),
        ("backoff", 0.5),
        ("wrokers", 4),
    ],
)
def test_an_option_that_cannot_work_is_refused_at_once(huey: Huey, name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Consumer(huey, **{name: value})


@pytest.mark.parametrize("options", [{"worker_type": "process"}, {"max_tasks": 5}, {"max_memory": 500}])
def test_what_needs_processes_is_not_started_in_threads(huey: Huey, options: dict[str, Any]) -> None:
    (name,) = options
    consumer = Consumer(huey, **options)

    with pytest.raises(ConfigurationError, match=rf"{name}=.*: start\(\) runs tasks in threads of this process.*call run\(\)"):
        consumer.start()
    with pytest.raises(ConfigurationError, match="main thread"):
        Call(consumer.run).answer()
    assert consumer.stop()


def test_options_by_position_come_in_the_order_of_3_x(huey: Huey) -> None:
    consumer = Consumer(huey, 3, False, 0.2, 1.5, 5.0, 1, "thread", True, 10, False, None, None, 7, "INT")

    assert (consumer.workers, consumer.periodic, consumer.default_delay, consumer.backoff) == (3, False, 0.2, 1.5)
    assert (consumer.max_delay, consumer.worker_type, consumer.shutdown_timeout) == (5.0, "thread", 7.0)
    with pytest.raises(TypeError, match="14 positional options, but got 15"):
        Consumer(huey, *range(15))


def test_an_error_that_nobody_foresaw_does_not_end_the_engine(
    huey: Huey, make: Callable[..., Consumer], monkeypatch: pytest.MonkeyPatch
) -> None:
    turn, failures = huey.storage.turn, iter([True])

    def broken(*args: Any, **options: Any) -> Any:
        if next(failures, False):
            raise RuntimeError("unforeseen")
        return turn(*args, **options)

    monkeypatch.setattr(huey.storage, "turn", broken)
    handle = huey.task(name="power")(lambda: 8)()
    make().start()

    assert handle.get(blocking=True, timeout=10) == 8


@pytest.mark.parametrize(
    "options",
    [
        {"retries": "x"},
        {"retries": -3},
        {"retries": 2**70},
        {"retry_delay": "x"},
        {"retry_delay": float("inf")},
        {"priority": 2**63},
        {"id": "\ud800"},
    ],
)
def test_what_no_storage_can_hold_is_refused_at_the_call(huey: Huey, options: dict[str, Any]) -> None:
    @huey.task()
    def nothing() -> None: ...

    with pytest.raises(ValueError, match=next(iter(options))):
        nothing.schedule(delay=1, **options)
    assert len(huey) == 0


def test_a_result_that_cannot_be_read_here_stays_for_who_can(tmp_path: Any) -> None:
    writer = SqliteHuey("app", filename=tmp_path / "huey.db", secret="one")
    reader = SqliteHuey("app", filename=tmp_path / "huey.db", secret="other")
    try:
        writer.storage.put("result", "a", writer.codec.encode("result", "a", 5))

        with pytest.raises(ValueError, match="signature"):
            reader.result("a")

        assert writer.result("a") == 5
    finally:
        writer.close()
        reader.close()

"""A consumer whose storage is not there yet."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from huey import MemoryHuey
from huey.consumer import Consumer
from huey.consumer.startup import wait_for_storage
from huey.exceptions import StorageError, StorageFull, StorageRefused, StorageUnavailable
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import Call


def failing(times: int, error: StorageError) -> tuple[list[int], Callable[..., None]]:
    tries: list[int] = []

    def storage(*_: object) -> None:
        tries.append(1)
        if len(tries) <= times:
            raise error

    return tries, storage


@pytest.mark.parametrize("error", [StorageUnavailable("no server"), StorageFull("no room")])
def test_waiting_for_the_storage_is_one_line_and_its_end_another(error: StorageError, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    tries, storage = failing(9, error)
    gaps: list[float] = []

    with caplog.at_level("INFO", "huey.consumer"):
        assert wait_for_storage(storage, lambda seconds: bool(gaps.append(seconds) or clock.forward(seconds)), clock)

    assert (len(tries), gaps[:5], max(gaps)) == (10, [0.5, 1.0, 2.0, 4.0, 5.0], 5.0)
    begun, over = caplog.messages
    assert "retrying until it is available" in begun
    assert str(error) in begun
    assert "available after" in over


def test_nothing_is_said_when_it_is_there(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "huey.consumer"):
        assert wait_for_storage(lambda: None, lambda seconds: False, FakeClock())
    assert caplog.messages == []


def test_a_storage_that_will_not_mend_itself_is_not_waited_for() -> None:
    _, storage = failing(9, StorageRefused("wrong password"))
    with pytest.raises(StorageRefused):
        wait_for_storage(storage, lambda seconds: False, FakeClock())


def test_a_consumer_that_waits_may_be_stopped() -> None:
    _, storage = failing(9, StorageUnavailable("no server"))
    assert not wait_for_storage(storage, lambda seconds: True, FakeClock())


def runs_a_task(huey: MemoryHuey) -> bool:
    """A consumer inside this program runs a task, and stops in peace."""
    handle = huey.task()(lambda: 5)()
    consumer = Consumer(huey)
    running = Call(consumer.run)
    value = handle.get(blocking=True, timeout=10)
    consumer.stop()
    return (value, running.answer()) == (5, 0)


def test_a_consumer_inside_a_program_waits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    huey = MemoryHuey("waits")
    tries, storage = failing(1, StorageUnavailable("no server"))
    monkeypatch.setattr(huey.storage, "open", storage)

    assert runs_a_task(huey)
    assert len(tries) >= 2


def test_an_answer_lost_at_the_start_ends_no_consumer(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    huey = MemoryHuey("waits")

    def lost(*_: object) -> list[str]:
        raise StorageUnavailable("the answer was lost")

    monkeypatch.setattr(huey.storage, "startup_warnings", lost)

    assert runs_a_task(huey)
    assert "the answer was lost" in caplog.text

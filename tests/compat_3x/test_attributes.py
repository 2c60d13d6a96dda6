"""Attributes of a Huey that a program reads and sets: each set takes effect at once, for all queues of that Huey."""

from __future__ import annotations

from typing import Any

import pytest

from huey import Huey, MemoryHuey
from huey.storage.memory import MemoryStorage
from huey.testing.clock import FakeClock


@pytest.fixture
def huey() -> Huey:
    return MemoryHuey("app")


def add(huey: Huey, **options: Any) -> Any:
    @huey.task(name="add", **options)
    def add(a: int, b: int) -> int:
        return a + b

    return add


def test_calls_return_handles_only_while_results_are_on(huey: Huey) -> None:
    task = add(huey)

    huey.results = False
    assert task(1, 2) is None

    huey.results = True
    assert task(1, 2) is not None


def test_always_eager_can_be_set_later(huey: Huey) -> None:
    task = add(huey)

    huey.always_eager = True

    assert task(1, 2) == 3
    assert huey.pending() == []


def test_a_storage_that_is_set_gets_the_next_calls(huey: Huey) -> None:
    task, other = add(huey), MemoryStorage("app")

    huey.storage = other
    task(1, 2)

    assert huey.storage is other
    assert other.counts().ready == 1


def test_a_storage_that_was_set_is_back_after_immediate_mode(huey: Huey) -> None:
    huey.storage = other = MemoryStorage("app")

    huey.immediate = True
    assert huey.storage is not other
    huey.immediate = False

    assert huey.storage is other


def test_a_clock_that_is_set_says_what_is_due(huey: Huey) -> None:
    task = add(huey).s(1, 2)
    task.due = huey.clock.now()
    assert huey.ready_to_run(task)

    huey.clock = FakeClock()

    assert not huey.ready_to_run(task)


def test_an_outbox_that_is_set_gets_every_write_of_every_queue(huey: Huey) -> None:
    writes: list[Any] = []
    here, there = add(huey), huey.task(name="there", queue="mail")(lambda: None)

    huey.outbox = writes.append
    here(1, 2)
    there()

    assert len(writes) == 2
    assert (huey.pending_count(), huey.on("mail").pending_count()) == (0, 0)


@pytest.mark.parametrize("name", ["results", "store_none", "store_intermediate_errors", "utc"])
def test_what_is_set_holds_for_the_other_queues_too(huey: Huey, name: str) -> None:
    mail = huey.on("mail")

    setattr(huey, name, not getattr(huey, name))

    assert getattr(mail, name) == getattr(huey, name)


def test_another_queue_has_its_own_name_storage_and_codec(huey: Huey) -> None:
    mail = huey.on("mail")

    assert (mail.name, mail.storage.name) == ("mail", "mail")
    assert mail.codec is not huey.codec
    assert (mail.registry, mail.signals, mail.hooks) == (huey.registry, huey.signals, huey.hooks)
    assert (huey.on("mail"), mail.on("app"), huey.on(None)) == (mail, huey, huey)


def test_attributes_of_a_subclass_are_there_on_another_queue() -> None:
    class Mine(MemoryHuey):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.team = "billing"

    assert Mine("app").on("mail").team == "billing"


def test_a_task_of_another_queue_passes_enqueue_once() -> None:
    passed: list[str] = []

    class Mine(MemoryHuey):
        def enqueue(self, task: Any) -> Any:
            passed.append(task.name)
            return super().enqueue(task)

    huey = Mine("app")
    huey.task(name="there", queue="mail")(lambda: None)()

    assert passed == ["there"]
    assert huey.on("mail").pending_count() == 1


def test_a_storage_is_made_with_the_name_and_the_clock_at_hand() -> None:
    class Mine(Huey):
        def get_storage(self, **options: Any) -> Any:
            return MemoryStorage(self.name, clock=self.clock)

    assert Mine("mine").storage.name == "mine"

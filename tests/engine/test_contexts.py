"""Each run has a context of its own: what a body sets, the next one does not see."""

from __future__ import annotations

import decimal
from contextvars import ContextVar
from typing import Any

import pytest

from huey import MemoryHuey
from tests.support.helpers import running, wait_until

tenant: ContextVar[str] = ContextVar("tenant", default="none")


def setting(word: str) -> str:
    tenant.set(word)
    decimal.getcontext().prec = 4
    return word


def seen() -> tuple[str, str]:
    return tenant.get(), str(decimal.Decimal(1) / 3)


CLEAN = ("none", "0.3333333333333333333333333333")


@pytest.fixture
def huey() -> MemoryHuey:
    return MemoryHuey()


def test_what_a_body_sets_is_not_there_in_the_next_one(huey: MemoryHuey) -> None:
    first, second = huey.task(name="first")(setting), huey.task(name="second")(seen)

    with running(huey):
        first("ann").get(blocking=True, timeout=10)
        assert second().get(blocking=True, timeout=10) == CLEAN


def test_what_a_body_raises_leaves_nothing_either(huey: MemoryHuey) -> None:
    @huey.task(name="failing")
    def failing() -> None:
        setting("ann")
        raise ValueError("boom")

    second = huey.task(name="second")(seen)

    with running(huey):
        failing()
        assert second().get(blocking=True, timeout=10) == CLEAN


def test_what_on_startup_sets_each_run_sees_as_it_was(huey: MemoryHuey) -> None:
    @huey.on_startup()
    def begin() -> None:
        tenant.set("of the thread")
        decimal.getcontext().prec = 6

    first, second = huey.task(name="first")(setting), huey.task(name="second")(seen)

    with running(huey):
        first("ann").get(blocking=True, timeout=10)
        assert second().get(blocking=True, timeout=10) == ("of the thread", "0.333333")


def test_hooks_see_the_context_of_the_body(huey: MemoryHuey) -> None:
    found: list[Any] = []

    @huey.pre_execute()
    def before(task: Any) -> None:
        found.append(("before", tenant.get()))
        tenant.set("by the hook")

    @huey.post_execute()
    def after(task: Any, value: Any, error: Any) -> None:
        found.append(("after", tenant.get()))

    @huey.signal("complete")
    def told(signal: str, task: Any) -> None:
        found.append(("complete", tenant.get()))

    @huey.task(name="body")
    def body() -> str:
        was = tenant.get()
        tenant.set("by the body")
        return was

    with running(huey):
        assert body().get(blocking=True, timeout=10) == "by the hook"
        wait_until(lambda: len(found) == 3)
        body().get(blocking=True, timeout=10)
        wait_until(lambda: len(found) == 6)

    assert found == [("before", "none"), ("after", "by the body"), ("complete", "by the body")] * 2


def test_a_task_in_immediate_mode_leaves_its_caller_alone() -> None:
    huey = MemoryHuey(immediate=True)
    first, second = huey.task(name="first")(setting), huey.task(name="second")(seen)
    before = tenant.set("of the caller")
    try:
        first("ann")
        assert second().get(True)[0] == "of the caller", "but it sees what is there"
        assert tenant.get() == "of the caller"
        assert decimal.getcontext().prec != 4
    finally:
        tenant.reset(before)

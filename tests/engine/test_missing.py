"""Two releases on one queue: what one worker cannot run waits for one that can, and is told once."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from huey import Huey
from huey.storage.rows import Missing
from huey.task.lifecycle import State
from tests.support.helpers import never, running, wait_until

MakeHuey = Callable[..., Huey]


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name that no other Huey of this process knows either."""
    return f"app.{request.node.name}"


@pytest.fixture
def old(huey: Huey) -> Huey:
    """A consumer's Huey that knows less than its producers."""
    huey.task(name="app.known")(lambda: "known")
    return huey


@contextmanager
def forgotten(huey: Huey, *names: str) -> Iterator[None]:
    """A block in which nobody in this process knows these functions."""
    tasks = huey.registry._tasks
    taken = {name: tasks.pop(name) for name in names}
    try:
        yield
    finally:
        tasks.update(taken)


def told(caplog: pytest.LogCaptureFixture, part: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if part in record.getMessage() and record.levelno >= logging.WARNING]


def test_an_unknown_task_waits_and_is_told_once_for_its_name(name: str, old: Huey, caplog: pytest.LogCaptureFixture) -> None:
    one, two = (old.task(name=each)(lambda n: n) for each in (f"{name}.one", f"{name}.two"))
    with forgotten(old, f"{name}.one", f"{name}.two"), running(old):
        handles = [one(n) for n in range(5)] + [two(n) for n in range(3)]
        wait_until(lambda: old.inspector.counts().blocked == 8)

        assert never(lambda: old.inspector.counts().running or old.inspector.counts().ready)

    assert (len(told(caplog, f"{name}.one")), len(told(caplog, f"{name}.two"))) == (1, 1)
    row = old.inspector.task(handles[0].id)
    assert row is not None
    assert (row.state, row.reason) == (State.BLOCKED, "unknown task")


def test_the_first_consumer_that_knows_it_runs_it_at_once(name: str, old: Huey) -> None:
    work = old.task(name=name)(lambda n: n)
    with forgotten(old, name), running(old):
        handles = [work(n) for n in range(100)]
        wait_until(lambda: old.inspector.counts().blocked == 100)

    with running(old, workers=2):
        assert [handle.get(blocking=True, timeout=4) for handle in handles] == list(range(100))

    assert old.storage.missing() == []


def test_a_consumer_learns_of_it_while_it_runs(name: str, old: Huey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huey.engine.prefetch.UNKNOWN_DELAY", 0.1)
    work = old.task(name=name)(lambda n: n)
    with running(old):
        with forgotten(old, name):
            handle = work(7)
            wait_until(lambda: old.inspector.counts().blocked)
        assert handle.get(blocking=True, timeout=5) == 7


def test_what_the_task_may_fail_with_is_as_usual_after_that(name: str, old: Huey) -> None:
    runs: list[int] = []

    @old.task(name=name, retries=1)
    def work() -> int:
        runs.append(1)
        return 1 // (len(runs) - 1)

    with forgotten(old, name), running(old):
        handle = work()
        wait_until(lambda: old.inspector.counts().blocked)
    with running(old):
        assert handle.get(blocking=True, timeout=5) == 1
    assert len(runs) == 2


@pytest.fixture
def money(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A class of a module that is there or not."""
    module = types.ModuleType("new_money")
    module.Money = type("Money", (), {"__module__": "new_money", "amount": 7})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "new_money", module)
    return module


def test_an_argument_of_a_missing_class_waits(
    name: str, old: Huey, money: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("huey.engine.prefetch.UNKNOWN_DELAY", 0.05)
    if not old.storage.is_trusted:
        pytest.skip("no classes travel here")
    work = old.task(name=name, retries=5)(lambda money: money.amount)
    handles = [work(money.Money()) for _ in range(3)]
    kept = sys.modules.pop("new_money")
    with running(old):
        wait_until(lambda: old.inspector.counts().blocked == 3)
        assert never(lambda: old.inspector.counts().blocked != 3)

    assert len(told(caplog, "new_money.Money")) == 1
    assert old.storage.missing() == [Missing(name, "unknown class new_money.Money")]

    sys.modules["new_money"] = kept
    with running(old):
        assert [handle.get(blocking=True, timeout=5) for handle in handles] == [7, 7, 7]


def test_a_record_of_a_newer_release_waits_too(name: str, old: Huey, caplog: pytest.LogCaptureFixture) -> None:
    from huey.serializer.signing import VERSION
    from huey.task.record import Record

    old.storage.enqueue([Record(id, "app.known", bytes([VERSION + 1, 0]) + b"?") for id in ("a", "b")])
    with running(old):
        wait_until(lambda: old.inspector.counts().blocked == 2)

    assert len(told(caplog, "a newer huey wrote it")) == 1
    assert old.storage.missing() == [Missing("app.known", "newer record")]


def test_damage_is_final(name: str, old: Huey) -> None:
    from huey.task.record import Record

    old.storage.enqueue([Record("a", "app.known", b"\x01\x00damaged")])
    with running(old):
        wait_until(lambda: old.inspector.counts().failed == 1)


def test_a_caller_who_waits_is_told_that_no_worker_knows_it(name: str, old: Huey) -> None:
    from huey.exceptions import ResultTimeout

    work = old.task(name=name)(lambda: 1)
    with forgotten(old, name), running(old):
        handle = work()
        wait_until(lambda: old.inspector.counts().blocked)
        with pytest.raises(ResultTimeout, match=r"waits for a worker that can run it \(unknown task\)"):
            handle.get(blocking=True, timeout=0.1)

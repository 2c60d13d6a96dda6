"""A chord whose members lose their workers (C45): they run again, or are errors that say why, and the callback runs once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from huey import chord
from huey.task.workflow import Workflow
from tests.crash.commands import KINDS
from tests.crash.graphs import ONCE, PLAIN
from tests.support import history
from tests.support.helpers import wait_until
from tests.support.redis_server import Server


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, make_commanded: Any) -> Iterator[Any]:
    if request.param == "sqlite":
        yield make_commanded(has_graphs=True)
        return
    with Server() as server:
        yield make_commanded(has_graphs=True, url=server.url)


def member(place: Any, how: str, function: str = PLAIN) -> Any:
    return place.app.members[function, 0].s(how, 0, 10, 0.0)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS)
def test_c45_a_chord_outlives_the_workers_of_its_members(place: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good, dies, poison, lost = member(place, "ok"), member(place, "crashes"), member(place, "poison"), member(place, "poison", ONCE)
    unreadable = member(place, "ok")
    damage(place, unreadable.id, monkeypatch)
    callback = place.app.texts.s()
    result = place.app.huey.enqueue(chord([good, dies, poison, lost, unreadable], callback))

    command = place.command(kind, "-n")
    wait_until(lambda: place.app.huey.result(callback.id, preserve=True) or not command.is_alive, "the callback has run", 60)

    assert command.stop() == 0, command.log[-6000:]
    first, second, *errors = result.get()
    assert [first, second] == [["ok", good.id, 10], ["ok", dies.id, 10]]
    assert [text.partition(":")[0] for text in errors[:2]] == ["poison", "lost"]
    assert "not a huey record" in errors[2], errors
    runs = [len(place.started(task.id)) for task in (good, dies, lost, unreadable)]
    if kind == "process":
        assert runs == [1, 2, 1, 0]
    # Threads die with a neighbour that kills their process, some before their task has begun.
    assert all(least <= count for least, count in zip([1, 1, 0, 0], runs, strict=True)), runs
    assert (runs[2] <= 1, runs[3]) == (True, 0), runs
    claims = [event for event in history.read(place.journal) if event.op == "claim" and event.id == callback.id]
    finishes = [
        event for event in history.read(place.journal) if event.op == "finish" and event.id == callback.id and event.end == history.OK
    ]
    assert (len({claim.token for claim in claims}), len(finishes)) == (1, 1)
    counts = place.storage.counts()
    assert (counts.ready, counts.running, counts.waiting, counts.failed) == (0, 0, 0, 3)


def damage(place: Any, id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the arguments of a task be damaged on their way to the storage."""
    storage = place.app.huey.storage
    enqueue = storage.enqueue_workflow

    def enqueue_damaged(workflow: Workflow, *args: Any) -> Any:
        tasks = [each._replace(record=each.record._replace(payload=b"?")) if each.record.id == id else each for each in workflow.tasks]
        return enqueue(workflow._replace(tasks=tasks), *args)

    monkeypatch.setattr(storage, "enqueue_workflow", enqueue_damaged)

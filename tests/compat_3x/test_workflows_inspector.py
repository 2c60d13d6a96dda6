"""Workflows as the inspector, the counts and the events show them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from huey import Huey, chord
from huey.inspector import Relative
from huey.storage.rows import Counts
from huey.task.record_options import Constraints, with_constraints
from huey.testing.contract.tools import task
from tests.compat_3x.conftest import Told
from tests.support.helpers import drain, running, wait_until

MakeHuey = Callable[..., Huey]


def test_the_family_of_a_task_that_waits(huey: Huey, give: Any) -> None:
    huey.enqueue(chord([give.s(id="a"), give.s(id="b")], give.s(id="c")).then(give, id="d"))
    parents = [Relative(huey.name, id, "give", "queued", "join", None) for id in "ab"]
    waits, follows = (Relative(huey.name, id, "give", "waiting", kind, None) for id, kind in (("c", "join"), ("d", "then")))

    inspector = huey.inspector
    assert (inspector.parents("c"), inspector.children("c")) == (parents, [follows])
    assert (inspector.parents("a"), inspector.children("a"), inspector.children("d")) == ([], [waits], [])
    assert inspector.parents("c", limit=1) == parents[:1]


def test_parents_that_have_ended(huey: Huey, give: Any, fail: Any) -> None:
    result = huey.enqueue(chord([give.s(id="a"), fail.s(id="b"), give.s(id="c")], give.s(id="d", delay=3600)))
    list(result.results)[2].revoke()
    drain(huey)

    assert [(it.id, it.name, it.state, it.outcome) for it in huey.inspector.parents("d")] == [
        ("a", None, None, "succeeded"),
        ("b", "fail", "failed", "failed"),
        ("c", "give", "cancelled", "skipped"),
    ]
    assert [(it.id, it.state, it.outcome) for it in huey.inspector.children("b")] == [("d", "queued", "failed")]


def test_relatives_may_be_in_another_queue(huey: Huey, give: Any) -> None:
    mail = huey.task(name="send", queue="mail")(lambda *args: None)
    huey.enqueue(give.s(id="a").then(mail, id="b"))

    assert huey.inspector.children("a") == [Relative("mail", "b", "send", "waiting", "then", None)]
    assert huey.on("mail").inspector.parents("b") == [Relative(huey.name, "a", "give", "queued", "then", None)]


def test_a_task_without_relatives_has_none(huey: Huey, give: Any) -> None:
    huey.enqueue(give.s(id="a"))

    for id in ("a", "never", "no\x00id", "x" * 10_000):
        assert (huey.inspector.parents(id), huey.inspector.children(id)) == ([], [])


def test_a_cancelled_stage_names_the_task_that_failed(huey: Huey, give: Any, fail: Any) -> None:
    huey.enqueue(give.s().then(fail.s(id="a")).then(give).then(give, id="c"))
    huey.enqueue(give.s(id="skipped").then(give, id="d"))
    huey.revoke_by_id("skipped")
    drain(huey)

    a, c, d = (huey.inspector.task(id) for id in "acd")
    assert a is not None and c is not None and d is not None  # noqa: PT018
    assert (c.state, c.reason, c.failed_ancestor, c.error) == ("cancelled", "parent failed", (huey.name, "a"), None)
    assert (d.state, d.reason, d.failed_ancestor) == ("cancelled", "parent skipped", None)
    assert a.failed_ancestor is None


def test_waiting_and_blocked_tasks_are_counted_and_found(huey: Huey, give: Any) -> None:
    huey.enqueue(give.s(id="a").then(give, id="b").then(give, id="c"))
    limit = with_constraints(None, Constraints(concurrency_key="k", max_running=1))
    huey.storage.enqueue([task(id, "give", options=limit) for id in ("one", "two")])

    inspector = huey.inspector
    assert inspector.counts() == Counts(ready=2, blocked=1, waiting=2)
    assert [(it.id, it.label) for state in ("waiting", "blocked") for it in inspector.tasks(state)] == [
        ("b", "waiting"), ("c", "waiting"), ("two", "blocked"),
    ]  # fmt: skip


def test_a_waiting_task_is_told_of_once_its_parents_have_ended(huey: Huey, give: Any, fail: Any, told: Told) -> None:
    position, _ = huey.storage.follow(None)
    huey.enqueue(give.s(id="a").then(give, id="b"))
    huey.enqueue(fail.s(id="x").then(give, id="y"))
    with running(huey):
        wait_until(lambda: told.of("b")[-1:] == ["complete"] and "error" in told.of("x"))

    events = [json.loads(text) for text in huey.storage.follow(position)[1]]
    assert [it["status"] for it in events if it["id"] == "b"][:2] == ["enqueued", "started"]
    assert [it["status"] for it in events if it["id"] == "y"] == []

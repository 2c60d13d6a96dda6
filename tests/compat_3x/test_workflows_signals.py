"""Sections 4, 6 and 10 of 3.x: the signals of pipelines, handlers and chords, and the hooks around their runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from huey import CancelExecution, Huey, chord, group
from tests.compat_3x.conftest import Told
from tests.support.helpers import drain, running, wait_until

MakeHuey = Callable[..., Huey]


@pytest.fixture
def words(huey: Huey) -> list[str]:
    """All signals, with the id of the task, in the order in which they came."""
    words: list[str] = []
    huey.signal()(lambda signal, task, *extra: words.append(f"{task.id} {signal}"))
    return words


def test_the_next_stage_is_enqueued_after_complete(huey: Huey, words: list[str], give: Any) -> None:
    huey.enqueue(give.s(1, id="a").then(give, id="b"))
    with running(huey, workers=2):
        wait_until(lambda: words[-1:] == ["b complete"])
    assert words == ["a enqueued", "a executing", "a complete", "b enqueued", "b executing", "b complete"]


def test_a_stage_that_is_reached_too_early(huey: Huey, words: list[str], give: Any) -> None:
    huey.enqueue(give.s(1, id="a").then(give, id="b", delay=3600))
    with running(huey):
        wait_until(lambda: words[-1:] == ["b scheduled"])
    assert words[-3:] == ["a complete", "b enqueued", "b scheduled"]


def test_the_result_is_stored_before_complete(huey: Huey, give: Any) -> None:
    order: list[Any] = []
    huey.post_execute()(lambda task, value, error: order.append(("post", task.id, huey.result(task.id, preserve=True))))
    huey.signal("complete", "enqueued")(lambda signal, task: order.append((signal, task.id)))
    huey.enqueue(give.s(1, id="a").then(give, id="b"))
    with running(huey):
        wait_until(lambda: ("complete", "b") in order)
    assert order == [
        ("enqueued", "a"), ("post", "a", 1), ("complete", "a"), ("enqueued", "b"), ("post", "b", 1), ("complete", "b"),
    ]  # fmt: skip


def test_the_handler_is_enqueued_after_the_error(huey: Huey, words: list[str], give: Any, fail: Any) -> None:
    huey.enqueue(fail.s(id="a", retries=1).error(give, id="h"))
    with running(huey, workers=2):
        wait_until(lambda: len([word for word in words if word.endswith("complete")]) == 2)
    of_task = [word for word in words if word.startswith("a ")]
    assert of_task == ["a enqueued", "a executing", "a error", "a retrying", "a enqueued", "a executing", "a error"]
    first = words.index("a error")
    assert words[first + 1].startswith("h.")
    assert words[first + 1].endswith(" enqueued")
    assert words[first + 2] == "a retrying"


def test_later_stages_of_a_failure_send_nothing(huey: Huey, words: list[str], give: Any, fail: Any) -> None:
    hooked: list[str] = []
    huey.pre_execute()(lambda task: hooked.append(task.id))
    huey.post_execute()(lambda task, value, error: hooked.append(task.id))
    huey.enqueue(fail.s(id="a").then(give.s(id="b").error(give)).then(give, id="c"))
    drain(huey)
    assert words == ["a enqueued", "a executing", "a error"]
    assert hooked == ["a", "a"]


def test_the_signals_of_a_skipped_stage(huey: Huey, words: list[str], give: Any) -> None:
    huey.enqueue(give.s(1, id="a").then(give, id="b", expires=datetime.now(UTC) - timedelta(seconds=1)).then(give, id="c"))
    with running(huey):
        wait_until(lambda: words[-1:] == ["b expired"])
    assert words[2:] == ["a complete", "b enqueued", "b expired"]


def test_a_stage_that_a_hook_cancels(huey: Huey, words: list[str], give: Any) -> None:
    @huey.pre_execute()
    def cancel(task: Any) -> None:
        if task.id == "b":
            raise CancelExecution

    huey.enqueue(give.s(1, id="a").then(give, id="b").then(give, id="c"))
    drain(huey)
    assert words == ["a enqueued", "a executing", "a complete", "b enqueued", "b canceled"]


def test_the_members_of_a_group_are_enqueued_in_order(huey: Huey, words: list[str], give: Any) -> None:
    huey.enqueue(group([give.s(id="a").then(give, id="x"), group([give.s(id="b")]), chord([give.s(id="c")], give.s(id="y"))]))
    assert words == ["a enqueued", "b enqueued", "c enqueued"]


@pytest.mark.parametrize("how", ["complete", "error", "revoked"])
def test_the_callback_is_enqueued_after_the_last_member(huey: Huey, words: list[str], give: Any, fail: Any, how: str) -> None:
    last = fail if how == "error" else give
    result = huey.enqueue(chord([give.s(id="a"), last.s(id="b")], give.s(id="c")))
    if how == "revoked":
        list(result.results)[1].revoke()
    with running(huey):
        wait_until(lambda: words[-1:] == ["c complete"])

    assert words[:2] == ["a enqueued", "b enqueued"]
    assert words.count("c enqueued") == 1
    assert words.index(f"b {how}") < words.index("c enqueued") < words.index("c executing")
    assert words.index("a complete") < words.index("c enqueued")


def test_a_members_handler_is_enqueued_before_the_callback(huey: Huey, words: list[str], give: Any, fail: Any) -> None:
    huey.enqueue(chord([fail.s(id="a").error(give, id="h")], give.s(id="c")))
    drain(huey)
    assert [word.partition(".")[0] for word in words[2:5]] == ["a error", "h", "c enqueued"]


def test_members_of_inner_chords_are_enqueued_in_order(huey: Huey, words: list[str], give: Any) -> None:
    inner = chord([give.s(id="b").then(give, id="x"), give.s(id="c")], give.s(id="y"))
    huey.enqueue(chord([give.s(id="a"), inner, give.s(id="d")], give.s(id="z")))
    assert words == [f"{id} enqueued" for id in "abcd"]


def test_a_hook_sees_the_value_that_was_passed(huey: Huey, give: Any) -> None:
    seen: list[Any] = []
    huey.pre_execute()(lambda task: seen.append(task.args))
    huey.enqueue(chord([give.s(1).then(give)], give))
    drain(huey)
    assert seen == [(1,), (1,), ([1],)]


def test_events_are_published_for_what_is_queued_later(huey: Huey, give: Any, told: Told) -> None:
    position, _ = huey.storage.follow(None)
    huey.enqueue(give.s(1, id="a").then(give, id="b"))
    with running(huey):
        wait_until(lambda: told.of("b")[-1:] == ["complete"])
        wait_until(lambda: any('"finished"' in text and '"b"' in text for text in huey.storage.follow(position)[1]))
    _, published = huey.storage.follow(position)
    enqueued = [text for text in published if '"enqueued"' in text]
    assert ['"a"' in enqueued[0], '"b"' in enqueued[1]] == [True, True]
    assert len(enqueued) == 2

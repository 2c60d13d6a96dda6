"""The judge is judged: good histories pass, made-up bad ones do not, and a recorded storage tells what it does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from huey import Huey
from huey.exceptions import StorageUnavailable
from huey.task.lifecycle import Raised, Returned, decide
from huey.testing.contract.tools import ME, claim, task
from tests.support.history import LAST_CALL, Event, Journal, check, lines, read, recording

# -- a small language: one word per event, "what:id:token:node", one time unit each ------------------------------------------------------


def history(text: str) -> list[Event]:
    """Events in order, each from t to t + 5, the next one 10 later. ``!`` at the end: refused; ``?``: it raised; ``~``: it overlaps the
    next one."""
    events, now = [], 0
    for word in text.split():
        end = {"!": "fail", "?": "info"}.get(word[-1], "ok")
        what, id, token, node = (word.rstrip("!?~") + ":::").split(":")[:4]
        op, _, state = what.partition("=")
        events.append(Event(op, id, int(token or 0), node or "n1", now, now + (15 if word[-1] == "~" else 5), end, state))
        now += 10
    return events


DONE, FAILED, AGAIN = "finish=succeeded", "finish=failed", "finish=queued"

GOOD = {
    "a task": f"enqueue:a claim:a:1 start:a:1 end:a:1 {DONE}:a:1",
    "a retry": f"enqueue:a claim:a:1 {AGAIN}:a:1 claim:a:2 {DONE}:a:2",
    "a failure": f"enqueue:a claim:a:1 {FAILED}:a:1",
    "a failure, retried by hand": f"enqueue:a claim:a:1 {FAILED}:a:1 retry:a claim:a:2 {DONE}:a:2",
    "a release": f"enqueue:a claim:a:1 release:a:1 claim:a:2:n2 {DONE}:a:2:n2",
    "a revoked one": "enqueue:a cancelled:a",
    "a refused finish": f"enqueue:a claim:a:1 {DONE}:a:1 {DONE}:a:1!",
    "an enqueue that raised": f"enqueue:a? claim:a:1 {DONE}:a:1",
    "an enqueue that raised and was not done": "enqueue:a?",
    "two ticks": f"tick=1:t enqueue:a tick=2:t enqueue:b claim:a:1 claim:b:1 {DONE}:a:1 {DONE}:b:1",
    "a tick that another one fired": f"tick=1:t tick=1:t! enqueue:a claim:a:1 {DONE}:a:1",
    "two tasks at once": f"enqueue:a enqueue:b claim:a:1 claim:b:1:n2 start:a:1 start:b:1:n2 {DONE}:a:1 {DONE}:b:1:n2",
    "a claim whose answer was lost": f"enqueue:a claim:a:1? held:a:1 {DONE}:a:1",
    "a finish that raised, then refused": f"enqueue:a claim:a:1 {DONE}:a:1? {DONE}:a:1!",
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_passes(name: Any) -> None:
    assert check(history(GOOD[name]), ended={"a"}) == []


def test_what_a_killed_process_held_may_run_again() -> None:
    story = history(f"enqueue:a claim:a:1 start:a:1 claim:a:2:n2 start:a:2:n2 end:a:2:n2 {DONE}:a:2:n2")

    assert check(story, deaths={"n1": 25}) == []
    assert {problem.law for problem in check(story)} == {"two live leases of one task", "two live runs of one task"}


def test_a_lease_may_end_in_the_call_that_kills_its_holder() -> None:
    """Seen with a server that was restarted: the call was done, its answer came never, and who had made it was killed while it waited."""
    story = history(f"enqueue:a claim:a:1 held:a:1 claim:a:2:n2 {DONE}:a:2:n2")

    assert check(story, deaths={"n1": 60}) == []
    assert {problem.law for problem in check(story, deaths={"n1": LAST_CALL + 60})} == {"two live leases of one task"}


def test_an_untold_end_may_be_seen_in_the_storage() -> None:
    story = history("enqueue:a claim:a:1 start:a:1 end:a:1")

    assert check(story, deaths={"n1": 50}, ended={"a"}) == []
    assert [problem.law for problem in check(story, deaths={"n1": 50}, ended=())] == ["nothing acknowledged is lost"]


def test_a_stopped_process_may_overlap_but_not_finish() -> None:
    story = f"enqueue:a claim:a:1 start:a:1 claim:a:2:n2 start:a:2:n2 end:a:2:n2 {DONE}:a:2:n2 end:a:1 {DONE}:a:1"

    assert check(history(story + "!"), paused={"n1"}) == []
    assert check(history(story), paused={"n1"}) != []


LOST, ONCE, GROW = "nothing acknowledged is lost", "a task ends once", "tokens grow"
FENCE, LEASES, RUNS = "a worker that lost its lease changes nothing", "two live leases of one task", "two live runs of one task"
TICK, ORIGIN = "a tick fires once", "tasks come from somewhere"

BAD = [
    (LOST, "enqueue:a"),
    (LOST, "enqueue:a claim:a:1"),
    (LOST, "enqueue:a claim:a:1 start:a:1 end:a:1"),
    (LOST, f"enqueue:a claim:a:1 {AGAIN}:a:1"),
    (LOST, f"enqueue:a claim:a:1 {DONE}:a:1!"),
    (LOST, "enqueue:a claim:a:1 release:a:1"),
    (LOST, f"enqueue:a enqueue:b claim:b:1 {DONE}:b:1"),
    (LOST, "tick=1:t enqueue:a"),
    (LOST, f"enqueue:a claim:a:1 {FAILED}:a:1!"),
    (ONCE, f"enqueue:a claim:a:1 {DONE}:a:1 claim:a:2 {DONE}:a:2"),
    (ONCE, f"enqueue:a claim:a:1 {FAILED}:a:1 claim:a:2 {DONE}:a:2"),
    (ONCE, f"enqueue:a claim:a:1 {DONE}:a:1 cancelled:a"),
    (ONCE, "enqueue:a cancelled:a cancelled:a"),
    (ONCE, f"enqueue:a claim:a:1 {FAILED}:a:1 retry:a claim:a:2 {DONE}:a:2 claim:a:3 {DONE}:a:3"),
    (ONCE, f"enqueue:a claim:a:1 {DONE}:a:1 {FAILED}:a:1"),
    (GROW, f"enqueue:a claim:a:1 release:a:1 claim:a:1:n2 {DONE}:a:1:n2"),
    (GROW, f"enqueue:a claim:a:2 release:a:2 claim:a:1:n2 {DONE}:a:1:n2"),
    (GROW, f"enqueue:a claim:a:1~ claim:a:1:n2 {DONE}:a:1"),
    (GROW, f"enqueue:a claim:a:3 {AGAIN}:a:3 claim:a:3 {DONE}:a:3"),
    (FENCE, f"enqueue:a {DONE}:a:1"),
    (FENCE, f"enqueue:a claim:a:1 {DONE}:a:1:n2"),
    (FENCE, f"enqueue:a claim:a:1 claim:a:2:n2 {DONE}:a:1"),
    (FENCE, f"enqueue:a claim:a:1 {AGAIN}:a:1 claim:a:2:n2 {AGAIN}:a:1"),
    (FENCE, f"enqueue:a claim:a:1 {AGAIN}:a:1 {AGAIN}:a:1 claim:a:2 {DONE}:a:2"),
    (FENCE, f"enqueue:a claim:a:1 {DONE}:a:2"),
    (FENCE, f"enqueue:a claim:a:1? held:a:1 {DONE}:a:1:n2"),
    (FENCE, f"enqueue:a {DONE}:a:1 held:a:1"),
    (GROW, f"enqueue:a claim:a:1? held:a:1 claim:a:1:n2 {DONE}:a:1"),
    (LEASES, f"enqueue:a claim:a:1 claim:a:2:n2 {DONE}:a:2:n2 {DONE}:a:1!"),
    (LEASES, f"enqueue:a claim:a:1 claim:a:2 {DONE}:a:2"),
    (LEASES, f"enqueue:a claim:a:1 claim:a:2:n2 release:a:1 {DONE}:a:2:n2"),
    (RUNS, f"enqueue:a claim:a:1 start:a:1 start:a:2:n2 end:a:1 end:a:2:n2 {DONE}:a:1"),
    (RUNS, f"enqueue:a claim:a:1 start:a:1 {AGAIN}:a:1 claim:a:2 start:a:2 end:a:2 {DONE}:a:2"),
    (TICK, f"tick=1:t enqueue:a tick=1:t claim:a:1 {DONE}:a:1"),
    (TICK, f"tick=1:t enqueue:a tick=2:t tick=1:t::n2 claim:a:1 {DONE}:a:1"),
    (TICK, f"tick=2:t enqueue:a tick=1:t enqueue:b claim:a:1 claim:b:1 {DONE}:a:1 {DONE}:b:1"),
    (ORIGIN, f"claim:a:1 {DONE}:a:1"),
    (ORIGIN, f"enqueue:a! claim:a:1 {DONE}:a:1"),
]


@pytest.mark.parametrize(("law", "story"), BAD)
def test_a_bad_history_is_rejected(law: Any, story: Any) -> None:
    assert law in {problem.law for problem in check(history(story))}


# -- recording --------------------------------------------------------------------------------------------------------------------------


def test_a_recorded_storage_tells_the_life_of_a_task(huey: Huey, tmp_path: Path) -> None:
    storage = recording(huey.storage, tmp_path / "history.jsonl")

    storage.enqueue([task("a")])
    (lease,) = claim(storage)
    storage.turn(ME, [decide(lease, Raised({"error": "x", "traceback": ""}), 0)], 0)
    storage.turn(ME, [decide(lease, Returned(None), 0)], 0)

    events = read(tmp_path / "history.jsonl")
    assert [(event.op, event.id, event.token, event.end, event.state) for event in events] == [
        ("enqueue", "a", 0, "ok", ""),
        ("claim", "a", 1, "ok", ""),
        ("finish", "a", 1, "ok", "failed"),
        ("finish", "a", 1, "fail", "succeeded"),
    ]
    assert {event.node for event in events} == {str(os.getpid())}
    assert all(event.t_call <= event.t_return for event in events)
    assert check(events) == []


def test_a_call_that_raises_is_told_as_unknown(huey: Huey, tmp_path: Path) -> None:
    def away(records: Any) -> None:
        raise StorageUnavailable("away")

    huey.storage.enqueue = away  # type: ignore[assignment, method-assign]
    storage = recording(huey.storage, tmp_path / "history.jsonl")

    with pytest.raises(StorageUnavailable):
        storage.enqueue([task("a")])

    assert [(event.op, event.id, event.end) for event in read(tmp_path / "history.jsonl")] == [("enqueue", "a", "info")]


def test_a_line_torn_by_a_kill_is_skipped(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "history.jsonl")
    journal.note("start", id="a", token=1)
    with open(tmp_path / "history.jsonl", "ab") as file:
        file.write(b'\n{"op":"start","id":"b')
    journal.note("start", id="c", token=1)

    assert [line["id"] for line in lines(tmp_path / "history.jsonl")] == ["a", "c"]

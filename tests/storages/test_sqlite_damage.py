"""What somebody else writes into a file stops nobody: a row that cannot be read becomes a dead letter, and the others go on."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huey import SqliteHuey
from huey.task.lifecycle import State
from huey.testing.contract.edges import pipeline, reasons, states
from huey.testing.contract.tools import ME, OTHER, worker


@pytest.fixture
def huey(tmp_path: Path) -> Iterator[Any]:
    huey = SqliteHuey("app", filename=tmp_path / "huey.db")
    huey.task(name="app.good", retries=1)(lambda *args: "good")
    yield huey
    huey.storage.close()


def change(huey: Any, sql: str, *values: object) -> None:
    connection = sqlite3.connect(huey.storage.filename)
    with connection:
        connection.execute(sql, values)
    connection.close()


def run_one(huey: Any) -> None:
    """Run what is there in a consumer of this program, until a task of our own has its result."""
    consumer = huey.create_consumer(workers=1)
    consumer.start()
    try:
        assert huey.registry.find("app.good")().get(blocking=True, timeout=10) == "good"
    finally:
        consumer.stop(timeout=5)


UNREADABLE = {
    "a priority that is a text": "priority = 'high'",
    "a place that is a text": "ready_at = 'first'",
    "a place that is bytes": "ready_at = x'ff'",
    "an expiry that is a text": "expires = 'never'",
    "retries that are bytes": "retries = x'00'",
    "a delay that is a text": "retry_delay = 'long'",
    "an attempt that is a text": "attempt = 'first'",
    "deaths that are a text": "deaths = 'many'",
    "crashes that are bytes": "solo_crashes = x'01'",
    "a time that is a text": "unknown_until = 'noon'",
    "created at a text": "created = 'today'",
    "due at a text": "due = 'soon'",
    "due at bytes": "due = x'ff'",
    "a name of bytes": "name = x'fffe'",
    "a name that is no UTF-8": "name = CAST(x'fffe' AS TEXT)",
    "options that are no JSON": "options = '{'",
    "options that are a list of nothing": 'options = \'{"constraints": {"limit": 5}}\'',
    "options that are bytes": "options = x'7b7d'",
    "a limit of words": 'options = \'{"timeout": "long"}\'',
    "arguments that are a text": "payload = 'text'",
    "a state that there is not": "state = 'lost'",
    "a state of bytes": "state = x'717565756564'",
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_an_unreadable_row_becomes_a_dead_letter(what: str, huey: Any) -> None:
    odd = huey.registry.find("app.good")()
    change(huey, f"UPDATE huey_task SET {UNREADABLE[what]} WHERE id = ?", odd.id)
    huey.inspector.tasks()

    run_one(huey)
    huey.storage.prune()

    (letter,) = huey.inspector.tasks("failed")
    assert (letter.id, letter.reason) == (odd.id, "undecodable")
    assert huey.inspector.discard(odd.id) == [odd.id]


@pytest.mark.parametrize("id", ["CAST(x'fffe' AS TEXT)", "x'fffe'", "CAST(x'61c3' AS TEXT)"])
def test_an_id_that_is_no_text_becomes_a_named_dead_letter(id: str, huey: Any) -> None:
    odd = huey.registry.find("app.good")()
    change(huey, f"UPDATE huey_task SET id = {id} WHERE id = ?", odd.id)

    run_one(huey)

    (letter,) = huey.inspector.tasks("failed")
    assert letter.reason == "undecodable"
    letter.id.encode()
    assert huey.inspector.discard(letter.id) == [letter.id]


HARMLESS = {
    "attempts that are no JSON": "attempts = '['",
    "attempts that are no list": "attempts = '{}'",
    "attempts of numbers": "attempts = '[1, 2]'",
    "a reason of bytes": "reason = x'ff'",
    "an error that is no JSON": "error = '{'",
    "who lost it": "crashed_worker = '{'",
    "a mark that is no time": "revoked_until = NULL, revoked_once = 'x'",
}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_is_only_told_of_a_task_keeps_none_from_running(what: str, huey: Any) -> None:
    odd = huey.registry.find("app.good")()
    change(huey, f"UPDATE huey_task SET {HARMLESS[what]} WHERE id = ?", odd.id)
    huey.inspector.tasks()

    run_one(huey)

    assert odd.get() == "good"


def test_foreign_attempts_do_not_keep_an_end_from_being_written(huey: Any) -> None:
    from huey.task.lifecycle import Raised, decide

    huey.registry.find("app.good")()
    (lease,) = huey.storage.turn(ME, [], 1).leases
    change(huey, "UPDATE huey_task SET attempts = '{', crashed_worker = '['")

    turn = huey.storage.turn(ME, [decide(lease, Raised({"error": "E()", "traceback": ""}), huey.clock.now())], 0)

    assert turn.stale == []
    row = huey.storage.get(lease.id)
    assert (row.state, len(json.loads(row.attempts))) == (State.QUEUED, 1)


WORKERS = ["until = 'never'", "pid = 'x'", "host_scope = x'ff'", "host = CAST(x'ff' AS TEXT)", "start_time = x'00'", "kind = 'newer'"]


@pytest.mark.parametrize("column", WORKERS)
def test_a_worker_that_cannot_be_read_is_seen_and_lost_nothing(column: str, huey: Any) -> None:
    huey.registry.find("app.good")()
    huey.storage.turn(OTHER, [], 1)
    change(huey, f"UPDATE huey_worker SET {column}")

    huey.storage.prune()
    (row,) = huey.storage.workers()
    huey.inspector.workers()

    assert row.worker.id == OTHER.id
    assert len(huey.storage.reclaim(row, ME)) == 1


def test_a_task_that_runs_nowhere_is_queued_again(huey: Any) -> None:
    odd = huey.registry.find("app.good")()
    huey.storage.turn(OTHER, [], 1)
    change(huey, "UPDATE huey_task SET worker = 'nobody'")

    huey.storage.prune()

    assert [lease.id for lease in huey.storage.turn(worker("heir"), [], 1).leases] == [odd.id]


@pytest.mark.parametrize("when", [2**62, -(2**62), 2**63 - 1])
def test_times_that_no_calendar_knows_can_be_looked_at(when: int, huey: Any) -> None:
    huey.registry.find("app.good")()
    change(huey, "UPDATE huey_task SET created = ?, expires = ?, due = ?", when, when, when)

    (info,) = huey.inspector.tasks()

    assert info.created is not None


@pytest.mark.parametrize("lost", ["huey_task WHERE id = 'a'", "huey_edge"])
def test_a_task_that_waits_for_a_lost_one_is_cancelled(lost: str, huey: Any, caplog: pytest.LogCaptureFixture) -> None:
    huey.storage.enqueue_workflow(pipeline(huey.storage, "a", "b", "c"))
    assert (huey.storage.prune(), states(huey.storage, "b", "c")) == (0, ["waiting"] * 2)
    change(huey, f"DELETE FROM {lost}")

    with caplog.at_level(logging.WARNING, "huey"):
        huey.storage.prune()
        huey.storage.prune()

    assert (reasons(huey.storage, "b"), huey.storage.counts().waiting) == (["orphaned"], 0)
    assert "these tasks waited for others that can no longer end, and were cancelled (orphaned): b" in caplog.text

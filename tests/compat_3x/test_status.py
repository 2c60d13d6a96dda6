"""What a task is doing, in a word, and how far it is: ``Result.status``, ``Huey.status``, ``Task.progress``, ``Result.exception``."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from huey import CancelExecution, Huey
from huey.engine.progress_notes import ProgressNotes
from huey.exceptions import StorageUnavailable, TaskException
from huey.task.lifecycle import Returned, decide
from huey.task.progress import LONGEST_MESSAGE, Progress, decode, encode
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, OTHER
from tests.support.helpers import drain, running, wait_until
from tests.support.scripted import ScriptedStorage


def test_the_status_of_a_task_follows_it(huey: Huey) -> None:
    started, go_on = threading.Event(), threading.Event()

    @huey.task()
    def wait() -> int:
        started.set()
        assert go_on.wait(20)
        return 1

    @huey.task()
    def after(value: int) -> int:
        return value

    first, second = huey.enqueue(wait.s().then(after))
    seen = [first.status, second.status]
    with running(huey):
        assert started.wait(20)
        seen.append(first.status)
        go_on.set()
        assert second.get(blocking=True, timeout=20) == 1

    assert seen == ["ready", "waiting", "running"]
    assert [first.status, second.status, huey.status(first.id)] == ["succeeded", "succeeded", "succeeded"]
    assert first.get() == 1
    assert [first.status, huey.status(first.id), huey.status(second.id)] == ["succeeded", "unknown", "unknown"]


def test_a_task_of_later_is_scheduled_then_cancelled(huey: Huey) -> None:
    later = huey.task(name="later")(lambda: None).schedule(delay=0.0)
    never = huey.task(name="never")(lambda: None).schedule(delay=3600)

    assert [later.status, never.status] == ["ready", "scheduled"]
    later.revoke()
    drain(huey)
    assert [later.status, huey.status(later.id)] == ["cancelled", "cancelled"]


def test_a_cancelled_task_stays_cancelled_once_it_is_read(huey: Huey) -> None:
    @huey.task()
    def give_up() -> None:
        raise CancelExecution

    handle = give_up()
    drain(huey)

    with pytest.raises(TaskException):
        handle.get()
    assert [handle.status, huey.status(handle.id)] == ["cancelled", "cancelled"]


def test_a_task_beyond_its_limit_is_blocked(huey: Huey) -> None:
    one = huey.task(name="one", concurrency=1, key=lambda n: "k")(lambda n: n)
    handles = [one(n) for n in range(2)]

    assert [handle.status for handle in handles] == ["ready", "blocked"]


def test_a_failed_try_is_retried_and_then_has_failed(huey: Huey) -> None:
    @huey.task(retries=1, retry_delay=3600)
    def again() -> None:
        raise ValueError("no")

    @huey.task()
    def once() -> None:
        raise ValueError("no")

    retried, failed = again(), once()
    drain(huey)

    assert [retried.status, failed.status, huey.status(failed.id)] == ["retrying", "failed", "failed"]
    for handle in (retried, failed):
        error = handle.exception()
        assert isinstance(error, TaskException)
        assert "no" in str(error)
    assert [failed.status, huey.status(failed.id)] == ["failed", "failed"], "the task is kept, though its result was taken"


def test_a_task_that_left_nothing_has_ended(huey: Huey) -> None:
    nothing = huey.task(name="nothing")(lambda: None)()
    drain(huey)

    assert [nothing.status, huey.status(nothing.id), nothing.exception()] == ["ended", "unknown", None]
    assert huey.status("never heard of") == "unknown"


def test_a_task_that_is_kept_has_succeeded(make_huey: Callable[..., Huey]) -> None:
    huey = make_huey(keep_finished=60)
    kept = huey.task(name="kept")(lambda: None)()
    drain(huey)

    assert [kept.status, huey.status(kept.id)] == ["succeeded", "succeeded"]


def test_a_value_of_an_unknown_class_has_succeeded(huey: Huey) -> None:
    huey.storage.put("result", "x", b"not of huey")

    assert huey.status("x") == "succeeded"


# -- progress -----------------------------------------------------------------------------------------------------------------------------


def test_progress_is_seen_while_the_task_runs(huey: Huey) -> None:
    go_on = threading.Event()

    @huey.task(context=True)
    def copy(task: Any) -> int:
        task.progress(0.2, "opened")
        task.progress(0.4, "half of it")
        assert go_on.wait(20)
        return 1

    handle = copy()
    assert handle.progress is None
    with running(huey):
        wait_until(lambda: handle.progress is not None)
        found = handle.progress
        go_on.set()
        assert handle.get(blocking=True, timeout=20) == 1

    assert found is not None
    assert found[:2] == (0.4, "half of it")
    assert found.at <= datetime.now(UTC)
    assert handle.progress is None, "it went with the task"
    assert huey.storage.take("progress") == {}


def test_progress_of_a_failed_run_is_kept_with_it(huey: Huey) -> None:
    @huey.task(context=True)
    def fail(task: Any) -> None:
        task.progress(0.9, "nearly")
        raise ValueError("no")

    handle = fail()
    drain(huey)

    assert handle.progress is not None
    assert handle.progress[:2] == (0.9, "nearly")


def test_progress_of_an_earlier_run_is_not_of_this_one(huey: Huey) -> None:
    @huey.task(context=True, retries=1)
    def flaky(task: Any) -> None:
        if task.attempt == 0:
            task.progress(0.9)
            raise ValueError("no")
        raise CancelExecution

    handle = flaky()
    drain(huey)

    assert [handle.status, handle.progress] == ["cancelled", None]


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ((1.5,), ValueError, "progress=1.5: give a number from 0 to 1; for percent, divide by 100"),
        ((-0.1,), ValueError, "progress=-0.1"),
        ((math.nan,), ValueError, "progress=nan"),
        (("half",), ValueError, "progress='half'"),
        ((0.5, 3), TypeError, "message=3"),
    ],
)
def test_wrong_progress_is_told_to_the_body(huey: Huey, arguments: Any, error: type[Exception], named: str) -> None:
    told = []

    @huey.task(context=True)
    def wrong(task: Any) -> None:
        with pytest.raises(error) as raised:
            task.progress(*arguments)
        told.append(str(raised.value))

    handle = wrong()
    drain(huey)

    assert handle.exception() is None
    assert named in told[0]


def test_progress_belongs_to_a_running_task(huey: Huey) -> None:
    handle = huey.task(name="nothing")(lambda: None)()

    with pytest.raises(RuntimeError, match=r"does not run here: call progress\(\) on the task that its function is given"):
        handle.task.progress(0.5)


def test_a_long_message_is_cut(huey: Huey) -> None:
    @huey.task(context=True)
    def talk(task: Any) -> None:
        task.progress(0, "x" * 10_000)
        raise ValueError("no")

    handle = talk()
    drain(huey)

    assert handle.progress == Progress(0.0, "x" * LONGEST_MESSAGE, handle.progress.at)  # type: ignore[union-attr]


def test_a_kept_task_that_succeeded_has_none_even_if_it_was_left(huey: Huey) -> None:
    """Its worker may be killed between the success and the removal of what it had reported."""
    kept = huey.task(keep=60)(lambda: 1)
    handle = kept()
    drain(huey)
    row = huey.storage.get(handle.id)
    assert row is not None

    huey.storage.put("progress", handle.id, encode(row.token, 0.5, None, huey.clock.now()))

    assert (handle.progress, huey.progress(handle.id)) == (None, None)


@pytest.mark.parametrize("damaged", [b"", b"[]", b"{", b'[1, "x", null, 0]', b"[1, 0.5, null, 1e300]", b"\xff"])
def test_what_others_write_there_is_no_progress(huey: Huey, damaged: bytes) -> None:
    handle = huey.task(name="nothing")(lambda: None)()
    huey.storage.turn(ME, [], 1)
    huey.storage.put("progress", handle.id, damaged)

    assert handle.progress is None


# -- on its way ---------------------------------------------------------------------------------------------------------------------------


def test_reports_outlast_an_outage() -> None:
    clock = FakeClock()
    storage = ScriptedStorage(clock)
    notes = ProgressNotes(storage, clock)
    notes.note(("a", 1), 0.5, None)
    storage.loses = "put"

    with pytest.raises(StorageUnavailable):
        notes.write()
    assert notes
    notes.write()

    found = decode(storage.take("progress", ["a"]).get("a"), 1)
    assert found is not None
    assert found.fraction == 0.5
    assert not notes


def test_a_late_report_of_a_lost_run_changes_nothing(huey: Huey) -> None:
    handle = huey.task(name="nothing")(lambda: None)()
    (lost,) = huey.storage.turn(ME, [], 1).leases
    huey.storage.release(ME, [lost])
    (lease,) = huey.storage.turn(OTHER, [], 1).leases
    notes = ProgressNotes(huey.storage, huey.clock)

    notes.note(lost[:2], 0.9, "late")
    notes.write()
    late = handle.progress
    notes.note(lease[:2], 0.1, "first")
    notes.write()
    now = handle.progress
    notes.write([decide(lease, Returned(None), huey.clock.now())])

    assert [late, now and now.message, huey.storage.take("progress")] == [None, "first", {}]

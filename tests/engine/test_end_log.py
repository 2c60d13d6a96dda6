"""The log tells what ran: a line for each task that ended, or one line a second that counts them."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from huey import MemoryHuey
from huey.engine import end_log
from huey.engine.end_log import MOST, EndLog, format_duration, log_failure
from huey.runtime.logs import SafeLogger
from huey.task.lifecycle import Cancelled, CancelledAtClaim, Finish, Raised, Returned, Snoozed, decide
from huey.task.record import Lease
from huey.testing.clock import NOON, FakeClock
from tests.support.helpers import Project, running, wait_until

LEASE = Lease("id-1", 1, "app.add", b"", 0, NOON, None, 2, 10.0, 0, 0, 0, None, None)
BOOM = {
    "error": "ValueError('boom')",
    "traceback": 'Traceback (most recent call last):\n  File "app.py", line 1, in f\n    g()\nValueError: boom\n',
}


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "huey.consumer")
    return caplog


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def good(number: int = 1, name: str = "app.add", took: float = 0.003) -> Finish:
    return decide(LEASE._replace(id=f"id-{number}", name=name), Returned(None), NOON, took)


def bad(**lease: Any) -> Finish:
    return decide(LEASE._replace(**lease), Raised(BOOM), NOON, 0.003)


def test_a_success_is_one_line_with_its_time_and_its_id(told: pytest.LogCaptureFixture, clock: FakeClock) -> None:
    EndLog(clock).on_turn([good()], [], [])

    assert told.messages == ["app.add succeeded in 3 ms [id-1]"]


def test_an_end_that_was_refused_is_not_told(told: pytest.LogCaptureFixture, clock: FakeClock) -> None:
    EndLog(clock).on_turn([good(1), good(2)], ["id-1"], [])

    assert told.messages == ["app.add succeeded in 3 ms [id-2]"]


def test_what_is_dropped_without_a_run_is_told(told: pytest.LogCaptureFixture, clock: FakeClock) -> None:
    EndLog(clock).on_turn([], [], [CancelledAtClaim("id-1", "app.add", "revoked"), CancelledAtClaim("id-2", "app.add", "expired")])

    assert told.messages == ["app.add revoked before it ran [id-1]", "app.add expired before it ran [id-2]"]


def test_more_than_twenty_ends_a_second_are_one_line(told: pytest.LogCaptureFixture, clock: FakeClock) -> None:
    log = EndLog(clock)
    ends = [good(number) for number in range(MOST)] + [good(100, "app.mail"), bad(name="app.mail"), bad(name="app.mail", retries=0)]

    log.on_turn(ends, [], [CancelledAtClaim("id-9", "app.mail", "expired")])
    clock.forward(1)
    log.flush_if_due()

    assert told.messages == ["24 tasks ended in 1 s: app.add 20 succeeded; app.mail 1 succeeded, 1 to be retried, 1 failed, 1 expired"]


def test_it_stays_one_line_a_second_as_long_as_they_are_many(told: pytest.LogCaptureFixture, clock: FakeClock) -> None:
    log = EndLog(clock)
    for second in range(3):
        for part in range(10):
            log.on_turn([good(second * 100 + part * 10 + number) for number in range(10)], [], [])
            clock.forward(0.1)
    log.flush_if_due()

    singles, sums = [line for line in told.messages if "[" in line], [line for line in told.messages if "ended in" in line]
    assert len(singles) <= MOST, "in the first second only"
    assert len(sums) == 3
    assert sums[1:] == ["100 tasks ended in 1 s: app.add 100 succeeded"] * 2


def test_when_they_are_few_again_each_has_its_line(told: pytest.LogCaptureFixture, clock: FakeClock) -> None:
    log = EndLog(clock)
    log.on_turn([good(number) for number in range(50)], [], [])
    for _ in range(2):
        clock.forward(1)
        log.flush_if_due()
        log.on_turn([good(99)], [], [])
    clock.forward(1)
    log.flush_if_due()
    log.on_turn([good(7)], [], [])

    assert told.messages[-1] == "app.add succeeded in 3 ms [id-7]"


def test_what_was_counted_is_told_at_a_stop(told: pytest.LogCaptureFixture, clock: FakeClock) -> None:
    log = EndLog(clock)
    log.on_turn([good(number) for number in range(50)], [], [])

    log.flush()

    assert told.messages == ["50 tasks ended in 0.0 ms: app.add 50 succeeded"]


def test_a_line_names_ten_names_at_most(told: pytest.LogCaptureFixture, clock: FakeClock) -> None:
    log = EndLog(clock)
    log.on_turn([good(number, f"app.t{number:02}") for number in range(30)], [], [])

    log.flush()

    assert told.messages[0].endswith("app.t09 1 succeeded; and 20 other names")


def test_tasks_put_back_without_a_run_are_not_counted(told: pytest.LogCaptureFixture, clock: FakeClock) -> None:
    log = EndLog(clock)
    log.on_turn([decide(LEASE, Snoozed(0, "shutdown"), NOON) for _ in range(30)], [], [])

    log.flush()

    assert told.messages == []


def test_below_info_nothing_is_counted(caplog: pytest.LogCaptureFixture, clock: FakeClock) -> None:
    caplog.set_level(logging.WARNING, "huey.consumer")
    log = EndLog(clock)

    log.on_turn([good(number) for number in range(50)], [], [])
    log.flush()

    assert caplog.messages == []


# -- failures ---------------------------------------------------------------------------------------------------------------------------


def failure(finish: Finish, caplog: pytest.LogCaptureFixture) -> tuple[str, str]:
    log_failure(finish, finish.error or {})
    record = caplog.records[-1]
    return record.levelname, record.getMessage()


def test_a_run_that_is_tried_again_is_one_warning(told: pytest.LogCaptureFixture) -> None:
    text = "app.add failed (ValueError: boom), will be retried in 10 s (1 retry left) [id-1]"
    assert failure(bad(), told) == ("WARNING", text)


def test_the_last_failure_is_an_error_with_its_traceback(told: pytest.LogCaptureFixture) -> None:
    level, text = failure(bad(attempt=2), told)

    assert level == "ERROR"
    assert text.startswith("app.add failed (ValueError: boom), no retries left [id-1]\n")
    assert 'File "app.py", line 1' in text
    assert text.endswith("ValueError: boom")


def test_a_failure_without_retries_says_nothing_of_them(told: pytest.LogCaptureFixture) -> None:
    assert failure(bad(retries=0), told)[1].startswith("app.add failed (ValueError: boom) [id-1]\n")


def test_what_somebody_wanted_is_news(told: pytest.LogCaptureFixture) -> None:
    said = {"error": "CancelExecution('no')", "traceback": ""}

    level, text = failure(decide(LEASE._replace(retries=0), Cancelled("canceled", said), NOON), told)

    assert (level, text) == ("INFO", "app.add canceled (CancelExecution('no')) [id-1]")


@pytest.mark.parametrize(
    ("trace", "text"),
    [
        ("Traceback:\n  File x\n    f()\nValueError: one\ntwo\n", "ValueError: one"),
        ("Traceback:\n  File x\nKeyError\n", "KeyError"),
        ("Traceback:\n  File x\na.b.Broken: 1\n", "a.b.Broken: 1"),
        ("", "repr"),
        ("  + Exception Group Traceback\n  | ExceptionGroup: x (2 sub-exceptions)\n", "repr"),
    ],
)
def test_an_error_in_one_line_is_its_class_and_its_text(trace: str, text: str) -> None:
    assert end_log.short_text({"error": "repr", "traceback": trace}) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00042, "0.4 ms"),
        (0.0123, "12 ms"),
        (0.9994, "999 ms"),
        (1.0, "1 s"),
        (1.5, "1.5 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (7320, "2 h 2 min"),
    ],
)
def test_a_duration_is_said_as_a_person_says_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


# -- whole ------------------------------------------------------------------------------------------------------------------------------


def test_a_consumer_in_a_program_tells_what_ran(told: pytest.LogCaptureFixture) -> None:
    huey = MemoryHuey()
    add = huey.task(name="app.add")(lambda a, b: a + b)

    with running(huey):
        assert add(1, 2).get(blocking=True, timeout=10) == 3
        wait_until(lambda: any(line.startswith("app.add succeeded in ") for line in told.messages))


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_the_command_tells_what_ran_once(project: Project, kind: str) -> None:
    project.write("@huey.task()\ndef add(a, b):\n    return a + b\n\n\n@huey.task()\ndef fail():\n    raise ValueError('boom')\n")
    command = project.start("main.huey", "-k", kind)
    add, fail = project.task("main.add"), project.task("main.fail")

    id = add(1, 2).id
    fail()
    wait_until(lambda: f"[{id}]" in command.log and "ValueError: boom\n" in command.log.replace("\n  ", "\n"), told=lambda: command.log)
    assert command.stop() == 0

    assert command.log.count("main.add succeeded in ") == 1
    assert command.log.count("main.fail failed (ValueError: boom)") == 1


def test_the_log_file_is_instead_of_the_console(project: Project) -> None:
    project.write("@huey.task()\ndef add(a, b):\n    return a + b\n")
    command = project.start("main.huey", "-l", "huey.log")
    file = project.home / "huey.log"

    project.task("main.add")(1, 2)
    wait_until(lambda: file.exists() and "main.add succeeded" in file.read_text(), told=lambda: command.log)
    assert command.stop() == 0

    assert command.log == ""


def test_quiet_tells_errors_only(project: Project) -> None:
    project.write("@huey.task()\ndef add(a, b):\n    return a + b\n\n\n@huey.task()\ndef fail():\n    raise ValueError('boom')\n")
    command = project.start("main.huey", "-q")

    assert project.task("main.add")(1, 2).get(blocking=True, timeout=20) == 3
    project.task("main.fail")()
    wait_until(lambda: "boom" in command.log)
    assert command.stop() == 0

    assert "succeeded" not in command.log
    assert "ERROR" in command.log


def test_our_loggers_are_on_again_where_the_command_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("huey.consumer")
    monkeypatch.setattr("huey.runtime.log_queue.is_on", lambda: True)
    monkeypatch.setattr(logger, "disabled", True)

    assert SafeLogger("huey.consumer").isEnabledFor(logging.ERROR)

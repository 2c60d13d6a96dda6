"""What a stop says: how many tasks it waits for, how long, and what ends the wait."""

from __future__ import annotations

import signal

import pytest

from huey.consumer.startup import log_stop
from tests.support.helpers import Project, wait_until


@pytest.mark.parametrize(
    ("running", "limit", "number", "text"),
    [
        (2, 30.0, signal.SIGINT, "stopping: waiting up to 30 s for 2 running tasks (Ctrl+C again to stop now)"),
        (1, 2.5, signal.SIGTERM, "stopping: waiting up to 2.5 s for 1 running task (SIGTERM again to stop now)"),
        (1, None, signal.SIGTERM, "stopping: waiting for 1 running task (SIGTERM again to stop now)"),
        (3, 30.0, 0, "stopping: waiting up to 30 s for 3 running tasks"),
        (0, 30.0, signal.SIGINT, "stopping: no task is running"),
        (2, 0.0, signal.SIGINT, "stopping: requeueing 2 running tasks"),
    ],
)
def test_a_stop_says_what_it_waits_for(caplog: pytest.LogCaptureFixture, running: int, limit: float | None, number: int, text: str) -> None:
    caplog.set_level("INFO", "huey.consumer")

    log_stop(running, limit, number)

    assert caplog.messages == [text]


def test_the_command_counts_what_runs(project: Project) -> None:
    project.write("import time\n\n@huey.task()\ndef rest():\n    open('begun', 'w').close()\n    time.sleep(1)\n")
    command = project.start("main.huey")
    project.task("main.rest")()
    wait_until((project.home / "begun").exists)

    assert command.stop(signal.SIGINT) == 0

    assert "stopping: waiting up to 30 s for 1 running task (Ctrl+C again to stop now)" in command.log

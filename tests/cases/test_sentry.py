"""Beside sentry-sdk, which finds huey by itself: one report per failing task, with its id, and nothing of it in a body.

`make sentry` runs this with the newest release, in an environment of its own.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from huey import Huey, MemoryHuey, RetryTask, crontab
from huey.api import PeriodicTask
from huey.task.task import HEADERS
from tests.support.helpers import Project, running, wait_until

sentry_sdk = pytest.importorskip("sentry_sdk", reason="sentry-sdk is not here; `make sentry` runs this beside it")


@pytest.fixture(scope="module")
def told() -> list[dict[str, Any]]:
    """Events that sentry would send."""
    events: list[dict[str, Any]] = []

    class Keeping(sentry_sdk.transport.Transport):  # type: ignore[misc,name-defined]
        def capture_envelope(self, envelope: Any) -> None:
            events.extend(item.payload.json for item in envelope.items if item.headers.get("type") == "event")

    sentry_sdk.init(
        dsn="https://key@sentry.invalid/1",
        transport=Keeping(),
        traces_sample_rate=1.0,
        data_collection={"queues": True},
    )
    return events


@pytest.fixture
def huey(told: list[dict[str, Any]]) -> Huey:
    told.clear()
    return MemoryHuey("sentry")


def test_it_enables_its_integration_by_itself(told: list[dict[str, Any]]) -> None:
    assert "huey" in sentry_sdk.get_client().integrations
    assert Huey.enqueue.__module__ == "sentry_sdk.integrations.huey" or hasattr(Huey.enqueue, "__wrapped__")


def test_a_failing_task_is_reported_once_with_its_id(huey: Huey, told: list[dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    @huey.task()
    def fails(a: int, b: int = 0) -> None:
        raise KeyError("no such customer")

    with running(huey), sentry_sdk.start_transaction(name="request"):
        result = fails(1, b=2)
        wait_until(result.is_ready)

    assert [event["exception"]["values"][-1]["type"] for event in told] == ["KeyError"]
    assert told[0]["tags"]["huey_task_id"] == result.id
    assert told[0]["extra"]["huey-job"]["args"] == [1]
    assert told[0]["extra"]["huey-job"]["kwargs"] == {"b": 2}
    assert ["KeyError" in str(record.exc_info) for record in caplog.records if record.levelno >= logging.ERROR] == [True]


def test_a_task_goes_on_in_the_trace_of_its_caller(huey: Huey) -> None:
    @huey.task()
    def traced() -> str:
        return sentry_sdk.get_current_scope().transaction.trace_id

    with running(huey), sentry_sdk.start_transaction(name="request") as transaction:
        assert traced().get(blocking=True, timeout=10) == transaction.trace_id


def test_no_body_and_no_key_sees_its_headers(huey: Huey) -> None:
    @huey.task(unique=True)
    def takes(*args: object, **kwargs: object) -> dict[str, object]:
        return kwargs

    with sentry_sdk.start_transaction(name="request"):
        first, second = takes(1, x=2), takes(1, x=2)
        several = takes.map([(5,), (6,)])
        many = huey.enqueue_many([takes.s(8), takes.s(9)])

    assert first.id == second.id
    assert all(HEADERS not in task.kwargs for task in huey.pending())
    with running(huey):
        assert first.get(blocking=True, timeout=10) == {"x": 2}
        assert [*several.get(blocking=True, timeout=10), *many.get(blocking=True, timeout=10)] == [{}, {}, {}, {}]


def test_a_body_sees_no_headers_in_a_worker_without_sentry(huey: Huey, monkeypatch: pytest.MonkeyPatch) -> None:
    @huey.task()
    def takes(**kwargs: object) -> dict[str, object]:
        return kwargs

    with sentry_sdk.start_transaction(name="request"):
        result = takes(x=1)
    monkeypatch.delattr(Huey, "_execute")

    with running(huey):
        assert result.get(blocking=True, timeout=10) == {"x": 1}


def test_each_run_is_reported_and_what_steers_a_task_is_not(huey: Huey, told: list[dict[str, Any]]) -> None:
    runs: list[int] = []

    @huey.task(retries=1)
    def twice() -> None:
        raise ValueError(len(runs))

    @huey.task()
    def again() -> int:
        runs.append(1)
        if len(runs) < 2:
            raise RetryTask(delay=0)
        return len(runs)

    with running(huey):
        assert again().get(blocking=True, timeout=10) == 2
        result = twice()
        wait_until(result.is_ready)

    assert [event["exception"]["values"][-1]["type"] for event in told] == ["ValueError", "ValueError"]


def test_immediate_mode_is_reported_too(huey: Huey, told: list[dict[str, Any]]) -> None:
    @huey.task()
    def fails() -> None:
        raise KeyError("here")

    huey.immediate = True
    fails()

    assert len(told) == 1


def test_a_periodic_task_is_one_and_its_schedule_can_be_read(huey: Huey) -> None:
    from sentry_sdk.integrations.huey import _get_monitor_config  # type: ignore[import-not-found]

    @huey.periodic_task(crontab(minute="*/5", hour="3"))
    def nightly() -> None: ...

    @huey.periodic_task(crontab(minute="*/5", tz="Asia/Tokyo"))
    def elsewhere() -> None: ...

    @huey.task()
    def plain() -> None: ...

    assert isinstance(nightly.s(), PeriodicTask)
    assert not isinstance(plain.s(), PeriodicTask)
    assert _get_monitor_config(huey, nightly.s())["schedule"] == {"type": "crontab", "value": "*/5 3 * * *"}
    assert _get_monitor_config(huey, elsewhere.s()) is None


APP = """
import json, pathlib

import sentry_sdk
from sentry_sdk.transport import Transport


class ToFile(Transport):
    def capture_envelope(self, envelope):
        for item in envelope.items:
            if item.headers.get('type') == 'event':
                with open('events', 'a') as file:
                    file.write(json.dumps(item.payload.json.get('tags')) + '\\n')


sentry_sdk.init(dsn='https://key@sentry.invalid/1', transport=ToFile())


@huey.task(name='fails')
def fails():
    raise KeyError('no such customer')
"""


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_the_command_reports_from_its_workers(tmp_path: Path, kind: str) -> None:
    project = Project(tmp_path)
    project.write(APP)
    command = project.start("main.huey", "-k", kind)
    try:
        result = project.task("fails")()
        wait_until(result.is_ready, told=lambda: command.log)
        assert command.stop() == 0
    finally:
        project.close()

    told = [json.loads(line) for line in (project.home / "events").read_text().splitlines()]
    assert [tags["huey_task_id"] for tags in told] == [result.id]

"""Section K: which functions a consumer knows, and what happens with those it does not."""

from __future__ import annotations

import logging

import pytest

from huey import Huey
from huey.exceptions import HueyException, QueueException, UnknownTask
from huey.task.task import Task
from tests.support.helpers import Project, for_queue, running, wait_until


def add(a: int, b: int) -> int:
    return a + b


def unknown(huey: Huey, name: str = "elsewhere.nobody_knows_me") -> str:
    """The id of a queued task whose function is known nowhere in this process."""
    wrapper = huey.task(name=name)(add)
    call: Task = wrapper.s(1, 2)
    huey.enqueue(call)
    assert wrapper.unregister() is True
    return call.id


def test_S136_a_consumer_runs_tasks_of_another_instance(huey: Huey) -> None:
    handle = huey.task()(add)(1, 2)

    with running(for_queue(huey)):
        assert handle.get(blocking=True, timeout=10) == 3


def test_S136_an_instance_prefers_its_own_function(huey: Huey) -> None:
    """C16."""
    other = for_queue(huey)
    huey.task(name="app.who")(lambda: "one")
    handle = other.task(name="app.who")(lambda: "other")()

    with running(other):
        assert handle.get(blocking=True, timeout=10) == "other"


def test_S136_two_functions_of_one_name_are_refused(huey: Huey) -> None:
    """C16."""
    huey.task(name="app.add")(add)

    with pytest.raises(ValueError, match="name="):
        huey.task(name="app.add")(unknown)


def test_S137_the_consumer_imports_what_the_module_imports(project: Project) -> None:
    project.write(path="config.py")
    (project.home / "tasks.py").write_text("from config import huey\n\n\n@huey.task()\ndef add(a, b):\n    return a + b\n")
    (project.home / "main.py").write_text("from config import huey\nfrom tasks import add\n")

    consumer = project.start("main.huey")

    assert project.task("tasks.add")(1, 2).get(blocking=True, timeout=10) == 3
    assert consumer.stop() == 0


def test_S138_an_unknown_task_is_told_in_the_log(huey: Huey, caplog: pytest.LogCaptureFixture) -> None:
    unknown(huey)

    with caplog.at_level(logging.INFO, logger="huey"), running(huey):
        wait_until(lambda: "not found in TaskRegistry" in caplog.text)

    (told,) = [record for record in caplog.records if "not found in TaskRegistry" in record.getMessage()]
    assert told.levelname == "ERROR"
    assert "QueueException" in told.getMessage()
    assert "elsewhere.nobody_knows_me" in told.getMessage()


def test_S138_the_command_tells_it_too(project: Project) -> None:
    project.write("@huey.task()\ndef add(a, b):\n    return a + b\n")
    project.task("tasks.forgotten")()

    consumer = project.start("main.huey")

    wait_until(lambda: "not found in TaskRegistry" in consumer.log)
    assert "QueueException" in consumer.log
    assert "tasks.forgotten" in consumer.log
    assert project.task("main.add")(1, 2).get(blocking=True, timeout=10) == 3
    assert consumer.stop() == 0
    assert project.huey.inspector.counts().blocked == 1


def test_S138_the_exception_is_a_queue_exception() -> None:
    """C29."""
    assert issubclass(UnknownTask, QueueException)
    assert issubclass(QueueException, HueyException)


def test_S138_an_unknown_task_is_kept(huey: Huey, caplog: pytest.LogCaptureFixture) -> None:
    """C16."""
    id = unknown(huey)

    with running(huey):
        wait_until(lambda: "not found in TaskRegistry" in caplog.text)

    row = huey.storage.get(id)
    assert row is not None
    assert (row.state, row.reason, row.attempt) == ("blocked", "unknown task", 0)
    assert huey.inspector.counts().blocked == 1


def test_S139_the_consumer_survives_an_unknown_task(huey: Huey, caplog: pytest.LogCaptureFixture) -> None:
    unknown(huey)
    handle = huey.task()(add)(1, 2)

    with running(huey):
        assert handle.get(blocking=True, timeout=10) == 3
        assert "not found in TaskRegistry" in caplog.text
        assert huey.task()(add)(3, 4).get(blocking=True, timeout=10) == 7

"""The log of ``run_huey``: each line once, in the project's format, however LOGGING is set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.djangos import BACKPORT, TASKS, DjangoProject
from tests.support.helpers import wait_until

SEPARATE = "{'huey_class': 'huey.SqliteHuey', 'name': 'beans', 'filename': FILE, 'immediate': False}"
OWN = {
    "version": 1,
    "formatters": {"own": {"format": "OWN %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "own"}},
}
AT_ROOT = {"root": {"handlers": ["console"], "level": "INFO"}}
AT_HUEY = {"loggers": {"huey": {"handlers": ["console"], "level": "INFO", "propagate": False}}}
DJANGOS = """
{0}
@task
def add(a, b):
    return a + b

@task
def fail():
    raise ValueError("boom")
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[DjangoProject]:
    project = DjangoProject(tmp_path)
    project.tasks("from huey.djhuey import task\n\n@task()\ndef add(a, b):\n    return a + b\n")
    yield project
    project.close()


@pytest.mark.parametrize("more", [AT_ROOT, AT_HUEY, {**AT_ROOT, "disable_existing_loggers": False}], ids=["root", "huey", "kept"])
def test_each_line_is_there_once_in_the_format_of_the_project(project: DjangoProject, more: dict[str, Any]) -> None:
    project.settings(SEPARATE, LOGGING={**OWN, **more})
    command = project.start()

    assert project.task("beans.tasks.add")(1, 2).get(blocking=True, timeout=25) == 3
    wait_until(lambda: "beans.tasks.add succeeded" in command.log, told=lambda: command.log)
    assert command.stop() == 0

    assert command.log.count("task beans.tasks.add\n") == command.log.count("beans.tasks.add succeeded") == 1
    assert all(line.startswith("OWN ") for line in command.log.splitlines())


def test_without_logging_settings_the_log_is_on_the_console(project: DjangoProject) -> None:
    project.settings(SEPARATE)
    command = project.start()

    assert project.task("beans.tasks.add")(1, 2).get(blocking=True, timeout=25) == 3
    wait_until(lambda: command.log.count("beans.tasks.add succeeded") == 1, told=lambda: command.log)
    assert command.stop() == 0


@pytest.mark.parametrize("more", [{}, {"LOGGING": {**OWN, **AT_ROOT}}], ids=["none", "root"])
def test_a_task_of_django_is_logged_once(project: DjangoProject, more: dict[str, Any]) -> None:
    project.tasks(DJANGOS.format("from django_tasks import task" if BACKPORT else "from django.tasks import task"))
    project.settings(SEPARATE, "huey.djhuey", *BACKPORT, TASKS=TASKS, DEBUG=True, **more)
    command = project.start()

    project.python("from beans.tasks import add, fail\nadd.enqueue(1, 2)\nfail.enqueue()\n")
    wait_until(lambda: "add succeeded" in command.log and "fail failed (ValueError: boom)" in command.log, told=lambda: command.log)
    assert command.stop() == 0

    assert "state=" not in command.log
    assert command.log.count("fail failed") == 1
    assert command.log.count("Traceback") == 1

"""``HueyTestMixin`` with Django's ``TestCase``: tasks see the rows of the test, and what waits for a commit is enqueued."""

from __future__ import annotations

import unittest
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import TestCase, override_settings

from huey import djhuey
from huey.djhuey import db_task, on_commit_task
from huey.djhuey.framework import TaskResultStatus
from huey.djhuey.tasks_backend import task
from huey.testing import HueyTestMixin, memory
from tests.django.functions import add

pytestmark = pytest.mark.usefixtures("database")


class Tests(HueyTestMixin, TestCase):  # type: ignore[misc]
    __test__ = False

    def setUp(self) -> None:
        super().setUp()
        self.count = db_task(name="count")(lambda: User.objects.count())
        self.greet = on_commit_task(name="greet")(lambda name: f"Hello {name}")

    def test_a_task_sees_the_rows_of_the_test(self) -> None:
        User.objects.create(username="ann")
        result = self.count()

        self.queue.drain()

        assert result.get() == 1
        assert connection.in_atomic_block

    def test_what_a_task_writes_is_rolled_back_with_the_test(self) -> None:
        db_task(name="join")(lambda: User.objects.create(username="bob") and None)()
        self.queue.drain()
        assert [user.username for user in User.objects.all()] == ["bob"]

    def test_on_commit_tasks_are_enqueued_when_captured(self) -> None:
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            self.greet("ann")
            self.queue.assert_no_tasks()

        self.queue.assert_enqueued("greet", args=("ann",))
        self.queue.assert_enqueued(self.greet, kwargs={"name": "ann"})
        assert [run.value for run in self.queue.drain()] == ["Hello ann"]

    def test_on_commit_tasks_are_not_enqueued_otherwise(self) -> None:
        self.greet("ann")
        self.queue.assert_no_tasks()


@pytest.mark.parametrize(
    "setting",
    [
        {"huey_class": "huey.MemoryHuey", "name": "django", "immediate": True},
        {"huey_class": "huey.SqliteHuey", "filename": settings.DATABASES["default"]["NAME"]},
        {"huey_class": "huey.MemoryHuey", "name": "late", "enqueue_on_commit": False},
    ],
)
def test_a_django_test_case_passes_and_leaves_no_task(setting: dict[str, Any]) -> None:
    with override_settings(HUEY=setting):
        case = type("Case", (Tests,), {"huey": djhuey.HUEY, "__test__": True})
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)

        assert (result.testsRun, result.failures, result.errors) == (4, [], [])
        assert (len(djhuey.HUEY), User.objects.count()) == (0, 0)


def test_tasks_of_django_are_drained_like_others(tmp_path: Path) -> None:
    with override_settings(HUEY={"huey_class": "huey.SqliteHuey", "name": "django", "filename": tmp_path / "queue.db"}):
        with memory(djhuey.HUEY) as queue:
            result = task(add).enqueue(1, b=2)
            later = task(add).using(run_after=queue.clock.time + timedelta(hours=1)).enqueue(3, b=4)

            queue.assert_enqueued("tests.django.functions.add", times=2)
            queue.drain(until=timedelta(minutes=59))
            result.refresh()
            later.refresh()
            assert (result.status, result.return_value, later.status) == (TaskResultStatus.SUCCESSFUL, 3, TaskResultStatus.READY)
            queue.drain(until=60)
            later.refresh()
            assert later.return_value == 7

        assert list(tmp_path.iterdir()) == []

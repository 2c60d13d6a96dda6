"""``HueyTestMixin``: each test of a class has its tasks in memory."""

from __future__ import annotations

import unittest
from typing import Any

from huey import MemoryHuey
from huey.testing import HueyTestMixin

app = MemoryHuey("app", immediate=True)


@app.task()
def add(a: int, b: int) -> int:
    return a + b


class Base(unittest.TestCase):
    def setUp(self) -> None:
        self.base_was_set_up = True


class Tests(HueyTestMixin, Base):
    __test__ = False
    huey = app

    def test_it_has_a_queue(self) -> None:
        add(1, 2)
        self.queue.assert_enqueued(add, args=(1, 2))
        assert [run.value for run in self.queue.drain()] == [3]
        assert self.base_was_set_up

    def test_it_is_empty(self) -> None:
        self.queue.assert_no_tasks()
        add(3, 4)

    def tearDown(self) -> None:
        assert not app.immediate


class Forgetful(HueyTestMixin, unittest.TestCase):
    __test__ = False

    def test_any(self) -> None: ...


def result_of(case: Any) -> unittest.TestResult:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    return result


def test_each_test_has_a_queue_of_its_own() -> None:
    result = result_of(Tests)

    assert (result.testsRun, result.failures, result.errors) == (2, [], [])
    assert app.immediate


def test_a_class_must_say_which_huey() -> None:
    [(_, told)] = result_of(Forgetful).errors

    assert "TypeError: Forgetful does not say which Huey it tests: write `huey = ...` in the class" in told

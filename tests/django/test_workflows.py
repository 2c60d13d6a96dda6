"""Database tasks take part in pipelines, groups and chords; a workflow that is enqueued in a transaction waits for its commit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from huey import Error, Huey, SqliteHuey, chord, group
from huey.djhuey.database import db_task, on_commit_task
from huey.djhuey.outbox import Outbox
from huey.djhuey.settings import current
from huey.djhuey.tasks_backend import task
from tests.django import functions
from tests.support.helpers import drain

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def huey() -> Iterator[Huey]:
    huey = current().huey
    yield huey
    huey.flush()


def ask() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return int(cursor.fetchone()[0])


def test_database_tasks_are_stages_members_and_callbacks(huey: Huey) -> None:
    asks = db_task(name="ask")(lambda *given: (ask(), *given))
    late = on_commit_task(name="late")(lambda *given: len(given))
    fail = db_task(name="fail")(lambda: 1 // 0)
    result = huey.enqueue(chord([asks.s().then(late), late.s(1), fail.s()], asks))

    drain(huey)

    one, [two, three, error] = result.get()
    assert (one, two, three, type(error)) == (1, 1, 1, Error)


def test_a_handler_may_be_a_database_task(huey: Huey) -> None:
    seen: list[Any] = []
    huey.enqueue(db_task(name="fail")(lambda: 1 // 0).s().error(db_task(name="handle")(lambda error: seen.append((ask(), repr(error))))))
    drain(huey)
    assert seen == [(1, "ZeroDivisionError('integer division or modulo by zero')")]


def test_a_task_of_django_is_no_stage_but_its_function_is(huey: Huey) -> None:
    add = task(functions.add)
    double = huey.task(name="double")(lambda value: value * 2)

    for compose in (lambda: double.s(1).then(add), lambda: group([add]), lambda: chord([add], double)):
        with pytest.raises((TypeError, ValueError), match=r"cannot be a (stage|member).*f\.s\(1\)"):
            huey.enqueue(compose())
    with pytest.raises(
        TypeError, match=r"tests\.django\.functions\.add is a task of django\.tasks, .*db_task\(name='add step'\)\(add\.func\)"
    ):
        add.s(1)
    assert huey.pending_count() == 0

    step = db_task(name="add step")(add.func)
    results = huey.enqueue(step.s(1, b=2).then(double))
    drain(huey)
    assert results.get() == [3, 6]


@pytest.mark.parametrize("is_own_file", [True, False])
def test_a_workflow_in_a_transaction_waits_for_its_commit(tmp_path: Any, is_own_file: bool) -> None:
    file = connection.settings_dict["NAME"] if is_own_file else tmp_path / "queue.db"
    huey = SqliteHuey("workflows", filename=file)
    huey.storage.open()
    huey.outbox = Outbox(huey, on_commit="default")
    double = huey.task(name="double")(lambda value: value * 2)
    with transaction.atomic():
        huey.enqueue(double.s(1).then(double))
        transaction.set_rollback(True)
    assert huey.pending_count() == 0

    with transaction.atomic():
        results = huey.enqueue(double.s(1).then(double))
        assert huey.pending_count() == 0
    drain(huey)

    assert results.get() == [2, 4]
    huey.flush()
    huey.close()

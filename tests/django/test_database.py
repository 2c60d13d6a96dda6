"""Tasks and the database: connections are closed, enqueues wait for the commit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections, transaction
from django.test import override_settings

from huey import Huey
from huey.djhuey.database import close_db, db_periodic_task, db_task, on_commit_task
from huey.djhuey.outbox import Outbox
from huey.djhuey.settings import TO_SQLITE, current
from huey.exceptions import StorageUnavailable
from tests.support.helpers import running, wait_until

pytestmark = pytest.mark.usefixtures("database")


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction that comes to nothing."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.fixture
def huey() -> Huey:
    return current().huey


def open_descriptors() -> int:
    """Descriptors of the database's file that this process has."""
    name = str(settings.DATABASES["default"]["NAME"])
    return sum(
        Path(f"/proc/self/fd/{fd.name}").resolve() == Path(name).resolve() for fd in list(Path("/proc/self/fd").iterdir()) if fd.exists()
    )


def ask() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM django_migrations")
        return int(cursor.fetchone()[0])


def test_200_db_tasks_by_4_threads_leave_no_connection(huey: Huey) -> None:
    threads: set[str] = set()
    barrier = threading.Barrier(4)

    @db_task(name="ask")
    def asks(number: int) -> int:
        if number < 4:
            barrier.wait(10)
        threads.add(threading.current_thread().name)
        found = ask()
        if number % 2:
            raise ValueError
        return found

    connections.close_all()
    results = [asks(number) for number in range(200)]
    with running(huey, workers=4):
        for result in results:
            wait_until(result.is_ready)
        wait_until(lambda: open_descriptors() == 0, told=open_descriptors)

    assert len(threads) == 4


def test_a_connection_that_broke_is_replaced_before_the_task(huey: Huey) -> None:
    @db_task(name="ask")
    def asks() -> int:
        return ask()

    ask()
    connection.errors_occurred = True
    connection.connection.close()

    assert asks.func() > 0


def test_a_transaction_of_the_caller_is_left_alone(huey: Huey) -> None:
    @db_periodic_task(lambda dt: False, name="tick")
    def tick() -> int:
        return ask()

    with transaction.atomic():
        assert tick() > 0
        assert connection.connection is not None
        assert connection.in_atomic_block


@override_settings(HUEY={"huey_class": "huey.MemoryHuey", "always_eager": True})
def test_an_eager_task_uses_the_connection_of_its_caller() -> None:
    @db_task(name="ask")
    def asks() -> int:
        return ask()

    ask()
    before = connection.connection

    assert asks() > 0
    assert connection.connection is before


def test_a_coroutine_function_runs_in_a_loop_of_its_own(huey: Huey) -> None:
    @db_task(name="later")
    async def later() -> int:
        from django.contrib.auth.models import User

        return await User.objects.acount()

    result = later()
    with running(huey):
        assert result.get(blocking=True, timeout=10) == 0


def test_close_db_keeps_name_and_text_of_the_function() -> None:
    @close_db
    def documented() -> None:
        """It says so."""

    assert (documented.__name__, documented.__doc__) == ("documented", "It says so.")


# Transactions


@pytest.fixture
def committed(huey: Huey) -> Any:
    @on_commit_task(name="committed", retries=2)
    def committed(word: str) -> str:
        return word

    return committed


def test_an_on_commit_task_waits_its_handle_does_not(huey: Huey, committed: Any) -> None:
    with transaction.atomic():
        with transaction.atomic():
            result = committed("yes")
        assert len(huey) == 0
        assert result.id

    assert len(huey) == 1
    with running(huey):
        assert result.get(blocking=True, timeout=10) == "yes"


def test_an_on_commit_task_of_a_rollback_never_runs(huey: Huey, committed: Any) -> None:
    with rolled_back():
        committed("no")
    with transaction.atomic():
        with rolled_back():
            committed("no")
        committed("yes")

    assert [task.arguments for task in huey.inspector.tasks()] == ["'yes'"]


def test_an_on_commit_task_without_a_transaction_runs_at_once(huey: Huey, committed: Any) -> None:
    committed("now")

    assert len(huey) == 1


def test_all_ways_to_enqueue_an_on_commit_task_wait(huey: Huey, committed: Any) -> None:
    with transaction.atomic():
        committed.schedule(("later",), delay=60)
        committed.map(["a", "b"])
        assert len(huey) == 0

    assert (len(huey), huey.scheduled_count()) == (2, 1)
    assert committed.call_local("here") == "here"
    assert committed.name == "committed"
    assert "committed" in repr(committed)


@pytest.mark.parametrize("setting", [True, "default"])
def test_the_setting_makes_every_enqueue_wait(setting: Any) -> None:
    with override_settings(HUEY={"huey_class": "huey.MemoryHuey", "enqueue_on_commit": setting}):
        huey = current().huey

        @huey.task(name="add")
        def add(a: int) -> int:
            return a

        with transaction.atomic():
            add(1)
            with huey.batch():
                add(2)
                add(3)
            assert len(huey) == 0
        with rolled_back():
            add(4)

        assert [task.arguments for task in huey.inspector.tasks()] == ["1", "2", "3"]


def test_without_it_an_enqueue_does_not_wait(huey: Huey) -> None:
    with rolled_back():
        huey.task(name="add")(lambda: None)()

    assert len(huey) == 1


def test_a_default_storage_that_is_away_names_the_other_way(huey: Huey) -> None:
    def away() -> None:
        raise StorageUnavailable("no server at localhost:6379")

    with pytest.raises(StorageUnavailable, match=r"6379\. .*HUEY = \{'huey_class': 'huey.SqliteHuey'\}"):
        Outbox(huey, way_out=TO_SQLITE)(away)
    with pytest.raises(StorageUnavailable, match=r"6379$"):
        Outbox(huey)(away)


@pytest.fixture
def same_file() -> Iterator[Huey]:
    """The queue lives in the database's file."""
    setting = {"huey_class": "huey.SqliteHuey", "name": "same", "filename": settings.DATABASES["default"]["NAME"], "immediate": False}
    with override_settings(HUEY=setting):
        huey = current().huey
        yield huey
        huey.flush()
        huey.close()


def test_in_the_databases_file_a_task_is_there_if_committed(same_file: Huey) -> None:
    from django.contrib.auth.models import User

    @same_file.task(name="greet")
    def greet(id: int) -> str:
        return User.objects.get(id=id).username

    with rolled_back():
        greet(User.objects.create(username="lost").id)
    with transaction.atomic():
        user = User.objects.create(username="kept")
        result = greet(user.id)

    assert len(same_file) == 1
    with running(same_file):
        assert result.get(blocking=True, timeout=10) == "kept"
    user.delete()


async def asked() -> int:
    return 1


def numbers() -> Iterator[int]:
    yield 1


def test_a_db_task_may_be_a_coroutine_but_no_generator(huey: Huey) -> None:
    assert db_task(name="coroutine")(asked).call_local is asked
    for decorate in (db_task(name="numbers"), db_periodic_task(lambda now: True, name="numbers"), on_commit_task(name="numbers")):
        with pytest.raises(ValueError, match="generator function"):
            decorate(numbers)


def test_two_db_tasks_of_one_name_are_refused(huey: Huey) -> None:
    def charge(order: int) -> int:
        return order

    def refund(order: int) -> int:
        return -order

    db_task(name="pay")(charge)
    db_task(name="pay")(charge)

    with pytest.raises(ValueError, match="is taken"):
        db_task(name="pay")(refund)
    with pytest.raises(ValueError, match="is taken"):
        on_commit_task(name="pay")(refund)
    with pytest.raises(ValueError, match="periodic task and as a task"):
        db_periodic_task(lambda now: True, name="tidy")(db_task(name="tidy")(ask))


@pytest.mark.parametrize("declare", [db_task, on_commit_task])
def test_the_arguments_of_a_db_task_are_checked_at_the_call(declare: Any, huey: Huey) -> None:
    task = declare(name="charge")(lambda order, amount=1: order)

    for wrong in (lambda: task(), lambda: task(1, 2, 3), lambda: task.schedule((), delay=5), lambda: task.map([(1, 2, 3)])):
        with pytest.raises(TypeError, match=r"lacks an argument: order|takes 2 arguments"):
            wrong()
    assert len(huey) == 0


@pytest.mark.parametrize("declare", [db_task, on_commit_task])
def test_a_method_as_a_db_task_is_refused(declare: Any, huey: Huey) -> None:
    with pytest.raises((ValueError, RuntimeError)) as caught:

        class Order:
            @declare()
            def charge(self) -> None: ...

    assert "Order.charge is a method" in str(caught.value.__cause__ or caught.value)


def test_a_function_below_db_task_is_not_enqueued_again(huey: Huey) -> None:
    first = huey.task(name="first")(lambda: "ran")

    assert db_task(name="second")(first).call_local() == "ran"


def test_queries_remembered_in_debug_are_forgotten_after_a_task(huey: Huey) -> None:
    kept: list[int] = []

    @huey.task(name="asks_in_debug")
    @close_db
    def asks() -> int:
        number = ask()
        kept.append(len(connection.queries_log))
        return number

    with override_settings(DEBUG=True, HUEY={"huey_class": "huey.MemoryHuey", "name": "django", "immediate": False}), running(huey):
        for _ in range(3):
            assert asks().get(blocking=True, timeout=20)

    assert kept[0] > 0
    assert kept == [kept[0]] * 3, "each task begins with none"

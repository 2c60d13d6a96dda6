"""``memory(huey)``: what is replaced inside the block, and that nothing of it stays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from huey import Huey, MemoryHuey, SqliteHuey, testing
from huey.exceptions import ConfigurationError, HopelessWait, ResultTimeout, TaskLockedException
from huey.storage.memory import MemoryStorage
from huey.testing import memory
from huey.testing.memory_queue import MemoryQueue
from tests.support.helpers import never


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Huey]:
    """An application whose queue is in a file."""
    huey = SqliteHuey("app", filename=tmp_path / "app.db", result_ttl=50)
    yield huey
    huey.close()


# -- the real store


def test_the_real_store_is_not_touched(app: Huey, tmp_path: Path) -> None:
    add = app.task()(lambda a, b: a + b)

    with memory(app) as queue:
        handle = add(1, 2)
        assert [run.value for run in queue.drain()] == [3]
        assert handle.get() == 3

    assert list(tmp_path.iterdir()) == []


def test_what_was_in_the_real_store_is_there_afterwards(app: Huey) -> None:
    add = app.task()(lambda a, b: a + b)
    before = add(1, 2)

    with memory(app) as queue:
        add(3, 4)
        assert [each.task.args for each in queue.enqueued()] == [(3, 4)]

    assert [task.id for task in app.pending()] == [before.id]


def test_each_block_begins_empty(app: Huey) -> None:
    add = app.task()(lambda a, b: a + b)
    with memory(app):
        add(1, 2)
        app.put("key", "value")

    with memory(app) as queue:
        queue.assert_no_tasks()
        assert app.get("key") is None


def test_everything_is_restored_after_an_exception(app: Huey) -> None:
    storage, clock = app.storage, app.clock

    def fails() -> None:
        with memory(app):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()

    assert (app.storage, app.clock) == (storage, clock)


def test_options_set_inside_are_reset(app: Huey) -> None:
    with memory(app):
        app.results = False
        app.outbox = lambda write: write()

    assert (app.results, app.outbox) == (True, None)


def test_hooks_handlers_and_tasks_made_inside_stay(app: Huey) -> None:
    with memory(app):
        app.pre_execute()(never)
        late = app.task(name="late")(lambda: 1)

    assert [name for name, _ in app.hooks.pre] == ["never"]
    assert app.registry.find("late") is late


def test_blocks_may_be_nested(app: Huey) -> None:
    add = app.task()(lambda a, b: a + b)

    with memory(app) as outer:
        add(1, 2)
        with memory(app) as inner:
            inner.assert_no_tasks()
            add(3, 4)
        outer.assert_enqueued(add, (1, 2), times=1)


def test_something_else_than_a_huey_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"'app' is not a Huey: give the instance"), memory("app"):  # type: ignore[arg-type]
        pytest.fail("it was entered")


def test_results_are_kept_as_long_as_in_the_real_store(app: Huey) -> None:
    one = app.task()(lambda: 1)

    with memory(app) as queue:
        handle = one()
        queue.drain()
        queue.clock.advance(49)
        assert app.result(handle.id, preserve=True) == 1
        queue.clock.advance(2)
        assert app.result(handle.id) is None


# -- calls that would run at once


@pytest.mark.parametrize("option", ["immediate", "always_eager"])
def test_calls_stay_until_they_are_drained(option: str) -> None:
    huey = MemoryHuey("app", **{option: True})  # type: ignore[arg-type]
    add = huey.task()(lambda a, b: a + b)

    with memory(huey) as queue:
        add(1, 2)
        queue.assert_enqueued(add, (1, 2))
        assert [run.value for run in queue.drain()] == [3]

    assert getattr(huey, option) is True
    found = add(3, 4)
    assert (found if option == "always_eager" else found.get()) == 7


def test_immediate_mode_inside_stays_in_memory(app: Huey, tmp_path: Path) -> None:
    add = app.task()(lambda a, b: a + b)

    with memory(app):
        app.immediate = True
        assert add(1, 2).get() == 3
        app.immediate = False
        add(3, 4)
        assert len(app) == 1

    assert app.immediate is False
    assert list(tmp_path.iterdir()) == []


# -- other queues


def test_tasks_of_other_queues_are_drained_too(app: Huey) -> None:
    send = app.task(queue="mail")(lambda to: f"sent to {to}")

    with memory(app) as queue:
        send("ann")
        queue.assert_enqueued(send, queue="mail")
        assert [run.value for run in queue.drain()] == ["sent to ann"]


def test_an_object_of_another_queue_is_replaced_as_well(app: Huey, tmp_path: Path) -> None:
    mail = app.on("mail")
    send = mail.task()(lambda to: to)
    real = mail.storage

    with memory(app) as queue:
        send("ann")
        assert isinstance(mail.storage, MemoryStorage)
        assert [run.args for run in queue.drain()] == [("ann",)]

    assert mail.storage is real
    assert list(tmp_path.iterdir()) == []


def test_an_object_of_another_queue_made_inside_lives_on(app: Huey) -> None:
    with memory(app):
        mail = app.on("mail")
        send = mail.task()(lambda to: to)
        send("lost with the test")

    send("ann")

    assert mail is app.on("mail")
    assert [task.args for task in SqliteHuey("mail", filename=app.storage.filename).pending()] == [("ann",)]  # type: ignore[attr-defined]


# -- time


def test_the_clock_begins_now_or_when_it_is_told(app: Huey) -> None:
    with memory(app) as queue:
        assert abs(queue.clock.time - datetime.now(UTC)) < timedelta(minutes=1)
    with memory(app, datetime(2030, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)) as queue:
        assert queue.clock.time == datetime(2030, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
    with memory(app, datetime(2030, 1, 2, 3)) as queue:
        assert queue.clock.time == datetime(2030, 1, 2, 3, tzinfo=UTC)


def test_ids_enqueued_later_are_not_held_back_afterwards(app: Huey) -> None:
    one = app.task()(lambda: 1)
    with memory(app, datetime(2040, 1, 1)) as queue:
        one.schedule(id="a")
        queue.drain()

    handle = one.schedule(id="a")

    assert (handle.task.enqueued_as or 0) < datetime(2035, 1, 1).timestamp() * 1_000_000


# -- waiting


def test_a_wait_with_a_timeout_moves_the_clock(app: Huey) -> None:
    with memory(app) as queue:
        handle = app.task()(lambda: 1)()
        before = queue.clock.time

        with pytest.raises(ResultTimeout):
            handle.get(blocking=True, timeout=30)

        assert queue.clock.time - before == timedelta(seconds=30)


def test_a_wait_without_a_timeout_says_what_to_do(app: Huey) -> None:
    with memory(app):
        handle = app.task()(lambda: 1)()

        with pytest.raises(HopelessWait, match=r"nothing runs tasks while this test waits for a result: call drain\(\) first"):
            handle.get(blocking=True)


def test_many_waits_with_a_timeout_are_not_hopeless(app: Huey) -> None:
    with memory(app) as queue:
        handle = app.task()(lambda: 1).schedule(delay=90_000)
        for _ in range(4):
            with pytest.raises(ResultTimeout):
                handle.get(blocking=True, timeout=3000)
            queue.drain()


def test_following_events_ends_as_well(app: Huey) -> None:
    with memory(app):
        assert list(app.events(timeout=5)) == []


def test_a_consumer_does_not_start(app: Huey) -> None:
    with memory(app):
        consumer = app.create_consumer()

        with pytest.raises(ConfigurationError, match=r"drain\(\) runs the tasks, and no consumer can start"):
            consumer.start()


# -- what the process holds


def test_a_lock_of_this_process_stays_held(app: Huey) -> None:
    with memory(app) as queue, app.lock_task("report"):
        assert app.client.lock_keepalive.renew()
        queue.clock.advance(86400)

        assert app.is_locked("report")
        with pytest.raises(TaskLockedException):
            app.lock_task("report").acquire()

    assert not app.is_locked("report")


def test_a_lock_of_a_task_that_sleeps_stays_held(app: Huey) -> None:
    held: list[bool] = []

    @app.task()
    def works() -> None:
        with app.lock_task("report"):
            app.clock.sleep(3600)
            held.append(app.is_locked("report"))

    with memory(app) as queue:
        works()
        queue.drain()
        assert (held, app.is_locked("report")) == ([True], False)


def test_a_lock_with_a_ttl_ends_by_the_clock(app: Huey) -> None:
    with memory(app) as queue, app.lock_task("report", ttl=60):
        queue.clock.advance(61)

        assert not app.is_locked("report")


def test_the_queue_says_what_it_is(app: Huey) -> None:
    with memory(app, datetime(2030, 1, 2, 3)) as queue:
        assert isinstance(queue, MemoryQueue)
        assert repr(queue) == "<MemoryQueue of <SqliteHuey 'app'> at 2030-01-02 03:00:00 UTC>"


def test_importing_it_loads_no_pytest_and_no_engine() -> None:
    code = "import sys, huey.testing; print([name for name in ('pytest', 'huey.api', 'huey.engine') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_unknown_name_of_the_package_is_missing() -> None:
    with pytest.raises(AttributeError):
        _ = testing.unknown  # type: ignore[attr-defined]

"""Every example of the 0.4.9 document runs, in its order, as it stands there but for Python 3: ``print`` and ``input`` are functions.

An example is the text that it is in the document; hosts and ports are those of the server of these tests (``on_server``). What is only
shown, such as the output of a screen, is what the test expects. Examples of shells that install or clone are left out.
"""

from __future__ import annotations

import datetime
import subprocess
import sys
from textwrap import dedent
from typing import Any

import pytest
import redis

from huey.api import AsyncData
from tests.compat_049.document import CONFIG, FAST, HUEY_SETTINGS, TASKS, Load, on_server
from tests.support.djangos import DjangoProject
from tests.support.helpers import Project, bare_environment, never, running, wait_until

# The front page


def test_the_example_of_the_front_page(load: Load) -> None:
    app = load("""
        from huey import RedisHuey, crontab

        huey = RedisHuey('my-app', host='redis.myapp.com')

        @huey.task()
        def add_numbers(a, b):
            return a + b

        @huey.periodic_task(crontab(minute='0', hour='3'))
        def nightly_backup():
            sync_all_data()
        """)

    handle = app.add_numbers(1, 2)

    with running(app.huey):
        assert handle.get(blocking=True, timeout=10) == 3
    assert app.nightly_backup.validate_datetime(datetime.datetime(2016, 1, 2, 3, 0))


# Upgrading


def test_upgrading_invoker_became_huey(load: Load) -> None:
    app = load("""
        from huey import Huey
        from huey.backends.redis_backend import RedisBlockingQueue, RedisDataStore

        queue = RedisBlockingQueue(name='foo')
        data_store = RedisDataStore(name='foo')
        # NEW
        huey = Huey(queue, data_store)
        """)

    assert (app.huey.queue, app.huey.result_store) == (app.queue, app.data_store)


def test_upgrading_decorators_are_methods(load: Load) -> None:
    app = load("""
        from huey import RedisHuey

        huey = RedisHuey()

        # NEW
        @huey.task()
        def do_something(a, b, c):
            return a + b + c
        """)

    assert app.do_something.call_local(1, 2, 3) == 6


def test_upgrading_the_consumer_is_pointed_at_the_instance(project: Project) -> None:
    project.write("@huey.task()\ndef add(a, b):\n    return a + b\n", "path/to.py")

    consumer = project.start("path.to.huey")

    assert project.task("path.to.add")(1, 2).get(blocking=True, timeout=20) == 3
    assert consumer.stop() == 0


def test_upgrading_django_settings_and_imports(django: DjangoProject) -> None:
    django.settings(on_server(HUEY_SETTINGS))
    django.tasks(
        dedent("""
            # NEW
            from huey.djhuey import task, periodic_task, crontab

            @task()
            def some_fn(a, b):
                return a + b
            """)
    )

    consumer = django.start()

    assert django.python("from beans.tasks import some_fn\nprint(some_fn(1, 2).get(blocking=True, timeout=20))") == "3\n"
    assert "4 worker" in consumer.log
    assert consumer.stop() == 0


# Getting started


def test_the_walk_through_with_its_three_modules(project: Project, server: redis.Redis) -> None:
    project.write()
    files = {
        "config.py": """
            # config.py
            from huey import Huey
            from huey.backends.redis_backend import RedisBlockingQueue

            queue = RedisBlockingQueue('test-queue', host='localhost', port=6379)
            huey = Huey(queue)
            """,
        "tasks.py": """
            # tasks.py
            from config import huey # import the huey we instantiated in config.py

            @huey.task()
            def count_beans(num):
                print('-- counted %s beans --' % num)
            """,
        "main.py": """
            # main.py
            from config import huey # import our "huey" object
            from tasks import count_beans # import our task

            if __name__ == '__main__':
                beans = input('How many beans? ')
                count_beans(int(beans))
                print('Enqueued job to count %s beans' % beans)
            """,
    }
    for name, text in files.items():
        (project.home / name).write_text(on_server(dedent(text)), "utf-8")

    consumer = project.start("main.huey", PYTHONUNBUFFERED="1")
    main = subprocess.run(
        [sys.executable, "main.py"], cwd=project.home, env=bare_environment(), input="50\n", capture_output=True, text=True, timeout=30
    )

    assert main.stdout == "How many beans? Enqueued job to count 50 beans\n", main.stderr
    wait_until(lambda: "-- counted 50 beans --" in consumer.log, told=lambda: consumer.log)
    assert consumer.stop() == 0


@pytest.mark.parametrize(
    "config",
    [
        """
        from huey import Huey
        from huey.backends.redis_backend import RedisBlockingQueue
        from huey.backends.redis_backend import RedisDataStore # ADD THIS LINE

        queue = RedisBlockingQueue('test-queue', host='localhost', port=6379)
        result_store = RedisDataStore('results', host='localhost', port=6379) # ADDED

        huey = Huey(queue, result_store=result_store) # ADDED result store
        """,
        CONFIG,
    ],
    ids=["parts", "RedisHuey"],
)
def test_getting_results_from_jobs(config: str, load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    load(config, "config")
    tasks = load(TASKS)

    res = tasks.count_beans(100)

    assert isinstance(res, AsyncData)
    with running(tasks.huey):
        wait_until(res.is_ready)
        assert res.get() == "Counted 100 beans"
    assert "-- counted 100 beans --" in capsys.readouterr().out


def test_executing_tasks_in_the_future_by_a_delay(beans: Any) -> None:
    res = beans.count_beans.schedule(args=(100,), delay=60)

    with running(beans.huey):
        assert never(lambda: res.get() is not None)
    res = beans.count_beans.schedule(args=(100,), delay=0.5)
    with running(beans.huey):
        assert res.get() is None
        assert res.get(blocking=True) == "Counted 100 beans"


def test_executing_tasks_in_the_future_by_an_eta(beans: Any) -> None:
    in_a_minute = datetime.datetime.now() + datetime.timedelta(seconds=60)

    res = beans.count_beans.schedule(args=(100,), eta=in_a_minute)

    assert abs(res.task.execute_time - in_a_minute.timestamp()) < 0.001
    assert [task.id for task in beans.huey.scheduled()] == [res.id]


def test_retrying_tasks_that_fail(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    load(CONFIG, "config")
    tasks = load("""
        # tasks.py
        from config import huey

        @huey.task()
        def count_beans(num):
            print('-- counted %s beans --' % num)
            return 'Counted %s beans' % num

        @huey.task(retries=3)
        def try_thrice():
            print('trying....')
            raise Exception('nope')
        """)

    tasks.try_thrice()

    printed: list[str] = []
    with running(tasks.huey):
        wait_until(lambda: printed.append(capsys.readouterr().out) or "".join(printed).count("trying....") == 4)
        assert never(lambda: "trying" in capsys.readouterr().out)


def test_waiting_between_retries(load: Load) -> None:
    load(CONFIG, "config")
    tasks = load("""
        # tasks.py
        from datetime import datetime

        from config import huey

        @huey.task(retries=3, retry_delay=10)
        def try_thrice():
            print('trying....%s' % datetime.now())
            raise Exception('nope')
        """)

    handle = tasks.try_thrice()

    with running(tasks.huey):
        row = wait_until(lambda: (row := tasks.huey.storage.get(handle.id)) and row.due and row)
    assert (row.attempt, row.retries) == (1, 3)
    assert 9 * 10**6 < row.due - row.created < 20 * 10**6


PRINT_TIME = """
    # tasks.py
    from datetime import datetime

    from huey import crontab

    from config import huey

    @huey.periodic_task(crontab(minute='*'))
    def print_time():
        print(datetime.now())
"""


def test_executing_tasks_at_regular_intervals(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    load(CONFIG, "config")
    tasks = load(PRINT_TIME)
    printed: list[str] = []

    with running(tasks.huey, periodic=True, **FAST):
        wait_until(lambda: printed.append(capsys.readouterr().out) or "".join(printed))

    assert datetime.datetime.fromisoformat("".join(printed).split("\n")[0])


# Preventing tasks from executing


def test_canceling_a_normal_task(beans: Any) -> None:
    # count some beans
    res = beans.count_beans(1000000)
    # provided the command has not started executing yet, you can
    # cancel it by calling revoke() on the AsyncData object
    res.revoke()

    with running(beans.huey):
        wait_until(lambda: len(beans.huey) == 0)
        assert never(lambda: res.get() is not None)


def test_canceling_a_scheduled_task_and_changing_ones_mind(beans: Any) -> None:
    in_the_future = datetime.datetime.now() + datetime.timedelta(seconds=0.5)

    res = beans.count_beans.schedule(args=(100000,), eta=in_the_future)
    res.revoke()
    assert res.is_revoked()

    # and you can actually change your mind and restore it, provided
    # it has not already been "skipped" by the consumer
    res.restore()
    assert not res.is_revoked()
    with running(beans.huey):
        assert res.get(blocking=True, timeout=10) == "Counted 100000 beans"


def test_canceling_tasks_that_execute_periodically(load: Load) -> None:
    load(CONFIG, "config")
    print_time = load(PRINT_TIME).print_time

    # only prevent it from running once
    print_time.revoke(revoke_once=True)
    assert print_time.is_revoked()

    # prevent printing time for 10 minutes
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)  # utcnow(), without its warning
    in_10 = now + datetime.timedelta(seconds=600)
    print_time.revoke(revoke_until=in_10)
    assert print_time.is_revoked()
    assert print_time.is_revoked(in_10 - datetime.timedelta(seconds=1))
    assert not print_time.is_revoked(in_10)

    # will not print time until we call revoke() again with
    # different parameters or restore the task
    print_time.revoke()
    assert print_time.is_revoked(in_10)

    print_time.restore()
    assert not print_time.is_revoked()

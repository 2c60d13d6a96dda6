"""Every example of the 0.4.9 document runs: the consumer, Django, the API. The others are in test_document.py."""

from __future__ import annotations

import datetime
import subprocess
import sys
from textwrap import dedent

import pytest
import redis

from huey.api import AsyncData
from huey.exceptions import DataStoreTimeout
from tests.compat_049.document import DO, Load, on_server
from tests.support.djangos import DjangoProject
from tests.support.helpers import Project, bare_environment, running, wait_until

# Consuming tasks


def test_the_import_path_is_what_you_would_import(project: Project) -> None:
    project.write("@huey.task()\ndef add(a, b):\n    return a + b\n", "blog/main.py")
    (project.folder / "logs").mkdir()
    program = "from blog.main import huey; print(type(huey).__name__)"

    imported = subprocess.run([sys.executable, "-c", program], cwd=project.home, env=bare_environment(), capture_output=True, text=True)
    consumer = project.start("blog.main.huey", "--logfile=../logs/huey.log")

    assert imported.stdout == "SqliteHuey\n", imported.stderr
    assert project.task("blog.main.add")(1, 2).get(blocking=True, timeout=20) == 3
    assert consumer.stop() == 0
    assert (project.folder / "logs" / "huey.log").read_text()


@pytest.mark.parametrize(
    "options",
    [
        ["-l", "app.huey.log", "-w", "8", "-b", "1.1", "-m", "1.0"],  # the document logs to /var/log/app.huey.log
        ["-v", "-n"],
    ],
    ids=["8 threads, a logfile and a very short polling interval", "single-threaded without a crontab"],
)
def test_the_examples_of_the_consumers_options(options: list[str], project: Project) -> None:
    project.write("@huey.task()\ndef add(a, b):\n    return a + b\n", "my/app.py")

    consumer = project.start("my.app.huey", *options)

    assert project.task("my.app.add")(1, 2).get(blocking=True, timeout=20) == 3
    assert consumer.stop() == 0


def test_you_can_attach_your_own_handler_to_huey_logger(project: Project) -> None:
    project.write(
        "import logging\n\nimport huey as package\n\npackage.logger.addHandler(logging.FileHandler('own.log'))\n\n"
        "@huey.task()\ndef fail():\n    raise ValueError('nope')\n"
    )

    consumer = project.start("main.huey")
    project.task("main.fail")()

    own = project.home / "own.log"
    wait_until(lambda: own.exists() and "nope" in own.read_text(), told=lambda: consumer.log)
    assert consumer.stop() == 0


def test_a_suggested_organization_of_code(project: Project, server: redis.Redis) -> None:
    files = {
        "config.py": """
            # config.py
            from huey import RedisHuey

            huey = RedisHuey('testing', host='localhost')
            """,
        "tasks.py": """
            # tasks.py
            from config import huey

            @huey.task()
            def count_beans(num):
                print('Counted %s beans' % num)
            """,
        "main.py": """
            # main.py
            from config import huey  # import the "huey" object.
            from tasks import count_beans  # import any tasks / decorated functions

            if __name__ == '__main__':
                beans = input('How many beans? ')
                count_beans(int(beans))
                print('Enqueued job to count %s beans' % beans)
            """,
    }
    for name, text in files.items():
        (project.home / name).write_text(on_server(dedent(text)), "utf-8")

    consumer = project.start("main.huey", PYTHONUNBUFFERED="1")
    subprocess.run([sys.executable, "main.py"], cwd=project.home, env=bare_environment(), input="7\n", text=True, timeout=30, check=True)

    wait_until(lambda: "Counted 7 beans" in consumer.log, told=lambda: consumer.log)
    assert consumer.stop() == 0


# Using huey with Django

COUNT = """
    from huey.djhuey import crontab, periodic_task, task

    @task()
    def count_beans(number):
        print('-- counted %s beans --' % number)
        return 'Counted %s beans' % number

    @periodic_task(crontab(minute='*/5'))
    def every_five_mins():
        print('Every five minutes this will be printed by the consumer')
"""
WITH_REDIS = """{
    'backend': 'huey.backends.redis_backend', # required.
    'name': 'unique name',
    'connection': {'host': 'localhost', 'port': 6379},
    'always_eager': False, # Defaults to False when running via manage.py run_huey

    # Options to pass into the consumer when running ``manage.py run_huey``
    'consumer_options': {'workers': 4},
}"""
WITH_SQLITE = """{
    'backend': 'huey.backends.sqlite_backend', # required.
    'name': 'unique name',
    'connection': {'location': 'sqlite filename'},
    'always_eager': False, # Defaults to False when running via manage.py run_huey

    # Options to pass into the consumer when running ``manage.py run_huey``
    'consumer_options': {'workers': 4},
}"""


@pytest.mark.parametrize("settings", [WITH_REDIS, WITH_SQLITE], ids=["redis", "sqlite"])
def test_django_settings_and_the_task_api(settings: str, django: DjangoProject) -> None:
    django.settings(on_server(settings))
    django.tasks(dedent(COUNT))

    consumer = django.start()

    assert django.python(DO) == "Counted 100 beans\n"
    assert "every_five_mins" in consumer.log
    assert consumer.stop() == 0
    assert "-- counted 100 beans --" in consumer.log
    assert (django.folder / "sqlite filename").exists() == (settings is WITH_SQLITE)


def test_django_tasks_that_execute_queries(django: DjangoProject) -> None:
    django.settings(on_server(WITH_REDIS))
    django.tasks(
        dedent("""
            from huey.djhuey import crontab, db_periodic_task, db_task

            @db_task()
            def do_some_queries():
                # This task executes queries. Once the task finishes, the connection
                # will be closed.
                from django.db import connection
                with connection.cursor() as cursor:
                    cursor.execute('SELECT 1')
                    return cursor.fetchone()[0]

            @db_periodic_task(crontab(minute='*/5'))
            def every_five_mins():
                # This is a periodic task that executes queries.
                pass
            """)
    )

    consumer = django.start()

    assert django.python("from beans.tasks import do_some_queries\nprint(do_some_queries().get(blocking=True, timeout=20))") == "1\n"
    assert consumer.stop() == 0


# The API


@pytest.mark.parametrize("is_made_of_parts", [False, True])
def test_the_example_of_the_huey_class(is_made_of_parts: bool, load: Load) -> None:
    """``huey = RedisHuey('my-app')``, and what is equivalent to that."""
    short = "huey = RedisHuey('my-app')"
    parts = """
queue = RedisBlockingQueue('my-app')
result_store = RedisDataStore('my-app')
schedule = RedisSchedule('my-app')
huey = Huey(queue, result_store, schedule)
"""
    app = load(
        dedent("""
            from huey import RedisHuey
            from huey.api import Huey, crontab
            from huey.backends.redis_backend import RedisBlockingQueue, RedisDataStore,\\
                RedisSchedule

            HUEY

            @huey.task()
            def slow_function(some_arg):
                # ... do something ...
                return some_arg

            @huey.periodic_task(crontab(minute='0', hour='3'))
            def backup():
                # do a backup every day at 3am
                return
            """).replace("HUEY\n", (parts if is_made_of_parts else short) + "\n")
    )

    handle = app.slow_function("argument")

    with running(app.huey):
        assert handle.get(blocking=True, timeout=10) == "argument"
    assert app.backup() is None


SOME_BEANS = """
    # assume that we've created a huey object
    from huey import RedisHuey

    huey = RedisHuey()

    @huey.task()
    def count_some_beans(num):
        # do some counting!
        return 'Counted %s beans' % num
"""


def test_the_task_decorator_with_a_result_store(load: Load) -> None:
    app = load(SOME_BEANS)

    res = app.count_some_beans(1000000)

    assert isinstance(res, AsyncData)
    with running(app.huey):
        wait_until(res.is_ready)
        assert res.get() == "Counted 1000000 beans"


def test_the_task_decorator_without_a_result_store(load: Load) -> None:
    app = load("""
        from huey import Huey
        from huey.backends.redis_backend import RedisBlockingQueue

        huey = Huey(RedisBlockingQueue('test-queue', host='localhost', port=6379))

        @huey.task()
        def count_some_beans(num):
            return 'Counted %s beans' % num
        """)

    res = app.count_some_beans(1000000)

    assert res is None


def test_the_schedule_of_a_decorated_function(load: Load) -> None:
    app = load(SOME_BEANS)

    # get a datetime object representing one hour in the future
    in_an_hour = datetime.datetime.now() + datetime.timedelta(seconds=3600)
    # schedule "count_some_beans" to run in an hour
    first = app.count_some_beans.schedule(args=(100000,), eta=in_an_hour)
    # another way of doing the same thing...
    other = app.count_some_beans.schedule(args=(100000,), delay=(60 * 60))

    assert abs(first.task.execute_time - other.task.execute_time) < 5
    assert {task.id for task in app.huey.scheduled()} == {first.id, other.id}


def test_call_local_and_task_class(load: Load) -> None:
    app = load(SOME_BEANS)

    assert app.count_some_beans.call_local(1337) == "Counted 1337 beans"
    assert f"{app.count_some_beans.task_class.__module__}.{app.count_some_beans.task_class.__name__}" == "tasks.queuecmd_count_some_beans"


def test_a_periodic_task_and_its_helpers(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    app = load("""
        from huey import crontab
        from huey import RedisHuey

        huey = RedisHuey()

        @huey.periodic_task(crontab(minute='*/5'))
        def every_five_minutes():
            # this function gets executed every 5 minutes by the consumer
            print("It's been five minutes")
        """)
    every_five_minutes = app.every_five_minutes

    assert every_five_minutes.validate_datetime(datetime.datetime(2016, 1, 2, 3, 5))
    assert not every_five_minutes.validate_datetime(datetime.datetime(2016, 1, 2, 3, 6))
    every_five_minutes()
    assert capsys.readouterr().out == "It's been five minutes\n"

    # skip the next execution
    every_five_minutes.revoke(revoke_once=True)
    # pause the command indefinitely
    every_five_minutes.revoke()
    # pause the command for 24 hours
    every_five_minutes.revoke(datetime.datetime.now() + datetime.timedelta(days=1))

    assert every_five_minutes.is_revoked()
    assert not every_five_minutes.is_revoked(dt=datetime.datetime.now() + datetime.timedelta(days=2))
    every_five_minutes.restore()
    assert not every_five_minutes.is_revoked()
    assert isinstance(every_five_minutes.task_class, type)


def test_working_with_async_data(load: Load) -> None:
    app = load(SOME_BEANS)

    res = app.count_some_beans(10000000)  # let's pretend this is slow
    assert res.get() is None  # data is not ready, so returns None
    with pytest.raises(DataStoreTimeout):
        res.get(blocking=True, timeout=0.1)  # the document blocks for 5 seconds

    with running(app.huey):
        assert res.get(blocking=True) == "Counted 10000000 beans"  # no timeout, will block until it gets data


def test_revoking_by_the_handle(load: Load) -> None:
    app = load(SOME_BEANS)
    in_an_hour = datetime.datetime.now() + datetime.timedelta(seconds=3600)

    # run this command in an hour
    res = app.count_some_beans.schedule(args=(100000,), eta=in_an_hour)
    # oh shoot, I changed my mind, do not run it after all
    res.revoke()

    assert res.is_revoked()

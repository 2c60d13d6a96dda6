"""Every example of the 0.4.9 document runs, in its order, as it stands there but for Python 3: ``print`` and ``input`` are functions.

An example is the text that it is in the document; hosts and ports are those of the server of these tests (``on_server``). What is only
shown, such as the output of a screen, is what the test expects. Examples of shells that install or clone are left out.
"""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest
import redis

from huey.api import AsyncData, Huey
from huey.exceptions import DataStoreTimeout
from tests.support.djangos import DjangoProject
from tests.support.helpers import Project, bare_environment, never, running, wait_until
from tests.support.redis_server import shared_server

Load = Callable[..., Any]

FAST = {"scheduler_interval": 1.0, "periodic_task_interval": 0.05}


@pytest.fixture
def server() -> Iterator[redis.Redis]:
    """An empty server; the queues that a test makes go with it."""
    with redis.Redis(port=shared_server().port) as client:
        client.flushall()
        yield client
        client.flushall()


def on_server(text: str) -> str:
    """The example, on the server of these tests."""
    place = f"host='127.0.0.1', port={shared_server().port}"
    for given in ("host='redis.myapp.com'", "host='localhost', port=6379", "host='localhost'"):
        text = text.replace(given, place)
    text = text.replace("{'host': 'localhost', 'port': 6379}", f"{{'host': '127.0.0.1', 'port': {shared_server().port}}}")
    # Where the document trusts in the default, localhost:6379.
    for name in ("RedisHuey", "RedisBlockingQueue", "RedisDataStore", "RedisSchedule"):
        text = text.replace(f"{name}()", f"{name}({place})").replace(f"{name}('my-app')", f"{name}('my-app', {place})")
        text = text.replace(f"{name}(name='foo')", f"{name}(name='foo', {place})")
    return text


@pytest.fixture
def load(server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Makes a module of an example: ``load(text, name="tasks", **what_it_has_already)``."""
    made: list[ModuleType] = []

    def make(text: str, name: str = "tasks", **has: Any) -> Any:
        module = ModuleType(name)
        vars(module).update(has)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(on_server(dedent(text)), f"<{name}>", "exec"), vars(module))
        made.append(module)
        return module

    yield make
    for module in made:
        for value in vars(module).values():
            if isinstance(value, Huey):
                value.close()


CONFIG = """
    # config.py
    from huey import RedisHuey

    huey = RedisHuey('test-queue', host='localhost', port=6379)
"""
TASKS = """
    from config import huey

    @huey.task()
    def count_beans(num):
        print('-- counted %s beans --' % num)
        return 'Counted %s beans' % num
"""


@pytest.fixture
def beans(load: Load) -> Any:
    """The module of the getting started guide."""
    load(CONFIG, "config")
    return load(TASKS)


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


HUEY_SETTINGS = """{
    'backend': 'huey.backends.redis_backend', # required.
    'name': 'unique name',
    'connection': {'host': 'localhost', 'port': 6379},
    # Options to pass into the consumer when running ``manage.py run_huey``
    'consumer_options': {'workers': 4},
}"""
DO = "from beans.tasks import count_beans\nprint(count_beans(100).get(blocking=True, timeout=20))\n"


@pytest.fixture
def django(tmp_path: Path, server: redis.Redis) -> Iterator[DjangoProject]:
    project = DjangoProject(tmp_path)
    yield project
    project.close()


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


def test_canceling_a_task_that_is_scheduled_and_changing_ones_mind(beans: Any) -> None:
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

"""Section L: Django. Projects on disk, their real ``manage.py run_huey``, the queue in a SQLite file."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.djangos import DjangoProject
from tests.support.helpers import Command, never, wait_until

OLD = "{'backend': 'huey.backends.sqlite_backend', 'name': 'beans', 'connection': {'location': FILE}, 'consumer_options': {'workers': 4}}"
"""As the documentation of 0.4.9 has it."""
NEW = (
    "{'huey_class': 'huey.SqliteHuey', 'name': 'beans', 'filename': FILE, 'immediate': False, "
    "'consumer': {'workers': 3, 'periodic': False}}"
)
"""As that of 3.x."""
TO_SQLITE = "HUEY = {'huey_class': 'huey.SqliteHuey'}"

TASKS = """
from huey.djhuey import crontab, db_periodic_task, db_task, periodic_task, task

@task()
def add(a, b):
    return a + b

@periodic_task(lambda dt: True)
def tick():
    with open('ticks', 'a') as file:
        file.write('tick')
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[DjangoProject]:
    project = DjangoProject(tmp_path)
    project.tasks(TASKS)
    yield project
    project.close()


def roundtrip(project: DjangoProject, consumer: Command) -> None:
    """Something is asked of the project's ``add`` and answered."""
    result = project.task("beans.tasks.add")(1, 2)
    wait_until(lambda: result.is_ready() or not consumer.is_running, timeout=20, told=lambda: consumer.log)
    assert result.is_ready(), consumer.log
    assert result.get() == 3


def test_S140_S141_the_app_is_huey_djhuey_and_has_the_names(project: DjangoProject) -> None:
    project.settings(NEW)

    said = project.python(
        "import sys\n"
        "from huey.djhuey import HUEY, close_db, crontab, db_periodic_task, db_task, on_commit_task, periodic_task, task\n"
        "import huey.contrib.djhuey as contrib\n"
        "assert contrib.HUEY is HUEY and contrib.db_task is db_task and contrib.crontab is crontab\n"
        "print(type(HUEY).__name__, HUEY.name, 'redis' in sys.modules)"
    )

    assert said == "SqliteHuey beans False\n"


@pytest.mark.parametrize("apps", [("huey.contrib.djhuey",), ("huey.djhuey", "huey.contrib.djhuey")], ids="+".join)
def test_C23_either_app_may_be_installed_or_both(project: DjangoProject, apps: tuple[str, ...]) -> None:
    project.settings(NEW, *apps)

    consumer = project.start()

    roundtrip(project, consumer)
    assert consumer.stop() == 0


def test_S142_without_a_setting_it_is_redis_of_the_database_name(project: DjangoProject) -> None:
    project.settings("")

    said = project.python("from huey.djhuey import HUEY\nprint(type(HUEY).__name__, HUEY.name.endswith('db.sqlite3'))")

    assert said == "RedisHuey True\n"


def test_S142_where_no_server_answers_the_error_names_sqlite(project: DjangoProject) -> None:
    project.settings("")
    settings = project.folder / "shop" / "settings.py"
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        # The default connection leads to a port where nobody listens.
        settings.write_text(
            settings.read_text("utf-8")
            + "import huey.djhuey.settings as project\n"
            + "made = project.make_instance\n"
            + f"project.make_instance = lambda cls, name, options: made(cls, name, {{**options, 'port': {unused.getsockname()[1]}}})\n",
            "utf-8",
        )

        consumer = project.start()
        wait_until(lambda: TO_SQLITE in consumer.log)

    assert consumer.is_running, "it waits for its server"
    assert "Traceback" not in consumer.log


@pytest.mark.parametrize(
    "setting",
    [
        "{'backend': 'huey.backends.redis_backend', 'name': 'beans', 'connection': {'host': '127.0.0.1', 'port': PORT}}",
        "{'name': 'beans', 'url': 'redis://127.0.0.1:PORT/0', 'immediate': False, 'consumer': {'workers': 2}}",
        "{'huey_class': 'huey.RedisHuey', 'name': 'beans', 'connection': {'port': PORT}, 'blocking': True, 'immediate': False}",
    ],
    ids=["0.4.9", "3.x with a url", "3.x with a connection"],
)
def test_S143_a_task_runs_over_redis(project: DjangoProject, setting: str) -> None:
    from tests.support.redis_server import Server

    with Server() as server:
        project.settings(setting.replace("PORT", str(server.port)))
        consumer = project.start()

        said = project.python(
            "from huey.djhuey import HUEY\n"
            "from beans.tasks import add\n"
            "print(type(HUEY).__name__, HUEY.name, add(1, 2).get(blocking=True, timeout=10))"
        )

        assert said == "RedisHuey beans 3\n"
        assert consumer.stop() == 0


def test_S144_S147_S149_the_settings_of_0_4_9_run(project: DjangoProject) -> None:
    project.settings(OLD)

    consumer = project.start()

    roundtrip(project, consumer)
    assert (project.folder / "queue.db").exists()
    assert "4 worker threads" in consumer.log
    assert consumer.stop() == 0


def test_C22_the_settings_of_3_x_run(project: DjangoProject) -> None:
    project.settings(NEW)

    consumer = project.start()

    roundtrip(project, consumer)
    assert "3 worker threads" in consumer.log
    assert "tick: not scheduled by this consumer" in consumer.log
    assert consumer.stop() == 0


def test_S145_the_old_form_needs_its_backend(project: DjangoProject) -> None:
    project.settings("{'name': 'beans', 'connection': {'location': FILE}, 'consumer_options': {'workers': 4}}")

    consumer = project.start()

    assert consumer.ended() == 1
    assert "'backend'" in consumer.log
    assert "Traceback" not in consumer.log


def test_S146_always_eager_runs_a_task_at_once(project: DjangoProject) -> None:
    project.settings("{'backend': 'huey.backends.sqlite_backend', 'connection': {'location': FILE}, 'always_eager': True}")

    assert project.python("from beans.tasks import add\nprint(add(1, 2), __import__('os').path.exists('queue.db'))") == "3 False\n"


def test_S148_the_setting_may_be_an_instance(project: DjangoProject) -> None:
    project.settings("SqliteHuey('beans', filename=FILE, secret=SECRET_KEY)")
    settings = project.folder / "shop" / "settings.py"
    settings.write_text("from huey import SqliteHuey\n" + settings.read_text("utf-8"), "utf-8")

    consumer = project.start()

    roundtrip(project, consumer)
    assert consumer.stop() == 0


def test_S150_a_task_only_in_tasks_py_runs_unless_A_is_given(project: DjangoProject) -> None:
    project.settings(NEW)

    consumer = project.start("-A")

    wait_until(lambda: "queue 'beans'" in consumer.log)
    assert never(lambda: "task beans.tasks.add" in consumer.log)
    assert consumer.stop() == 0
    consumer = project.start()
    roundtrip(project, consumer)
    assert consumer.stop() == 0


def test_S150_a_broken_tasks_py_is_an_error_that_says_so(project: DjangoProject) -> None:
    project.settings(NEW)
    project.tasks("import nothing_of_that_name\n")

    consumer = project.start()

    assert consumer.ended() == 1
    assert "Error importing beans.tasks: ModuleNotFoundError: No module named 'nothing_of_that_name'" in consumer.log
    assert 'beans/tasks.py", line 1' in consumer.log


def test_S151_the_command_line_wins_over_the_settings(project: DjangoProject) -> None:
    project.settings(NEW)

    consumer = project.start("-w", "2", "-p", "-S", "1.0", "--max_delay", "5")

    roundtrip(project, consumer)
    assert "2 worker threads" in consumer.log
    assert wait_until((project.folder / "ticks").exists)
    assert consumer.stop() == 0


def test_S151_n_leaves_periodic_tasks_out(project: DjangoProject) -> None:
    project.settings(OLD)

    consumer = project.start("-w", "2", "-n", "-k", "process", HUEY_WORKERS="7")

    roundtrip(project, consumer)
    assert "2 worker processes" in consumer.log
    assert not (project.folder / "ticks").exists()
    assert consumer.stop() == 0


@pytest.mark.parametrize("decorator", ["db_task()", "db_periodic_task(crontab())"])
@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
def test_S152_the_connection_is_closed_when_the_function_ends(project: DjangoProject, decorator: str, fails: bool) -> None:
    project.settings(NEW)
    project.tasks(
        "from django.db import connection\n"
        "from huey.djhuey import crontab, db_periodic_task, db_task\n"
        f"@{decorator}\n"
        "def look():\n"
        "    connection.ensure_connection()\n"
        f"    return 1 / {int(not fails)}\n"
    )

    said = project.python(
        "from django.db import connection\n"
        "from beans.tasks import look\n"
        "try:\n"
        "    look.func()\n"
        "except ZeroDivisionError:\n"
        "    print('raised')\n"
        "print(connection.connection)\n"
        "try:\n"
        "    look.call_local()\n"
        "except ZeroDivisionError:\n"
        "    pass\n"
        "print(connection.connection is None)\n"
        "connection.close()\n"
    )

    assert said == ("raised\n" if fails else "") + "None\nFalse\n"


def test_import_huey_does_not_import_django(project: DjangoProject) -> None:
    project.settings(NEW)

    code = "import sys, huey; huey.Huey, huey.SqliteHuey, huey.crontab; import huey.cli.consumer; print('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"

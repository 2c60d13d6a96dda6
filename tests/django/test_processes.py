"""Real consumers of a Django project: connections, transactions and kills, new code."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.djangos import BACKPORT, DjangoProject
from tests.support.djangos import TASKS as TASKS_SETTING
from tests.support.helpers import bare_environment, never, wait_until

SEPARATE = "{'huey_class': 'huey.SqliteHuey', 'name': 'beans', 'filename': FILE, 'immediate': False}"
SAME_FILE = "{'huey_class': 'huey.SqliteHuey', 'name': 'beans', 'filename': BASE_DIR / 'db.sqlite3', 'immediate': False}"

TASKS = """
from django.db import connection, transaction
from huey.djhuey import db_task, on_commit_task

@db_task()
def ask(number):
    with connection.cursor() as cursor:
        cursor.execute('SELECT count(*) FROM sqlite_master')
        cursor.fetchone()
    if number % 2:
        raise ValueError(number)
    return number

@on_commit_task()
def committed(word):
    return word

@db_task()
def joined(word):
    with open('ran', 'a') as file:
        file.write(word + '\\n')
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[DjangoProject]:
    project = DjangoProject(tmp_path)
    project.tasks(TASKS)
    project.settings(SEPARATE)
    yield project
    project.close()


def descendants(pid: int) -> list[int]:
    children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    return [*children, *(further for child in children for further in descendants(child))]


def holds(pid: int, file: Path) -> bool:
    """Whether the process has the file open."""
    return any(fd.resolve() == file for fd in list(Path(f"/proc/{pid}/fd").iterdir()))


def test_200_db_tasks_by_2_processes_leave_no_connection(project: DjangoProject) -> None:
    ask = project.task("beans.tasks.ask")
    consumer = project.start("-w", "2", "-k", "process", "-q")

    results = ask.map(range(200))
    for result in results:
        wait_until(result.is_ready, told=lambda: consumer.log)

    processes = [consumer.process.pid, *descendants(consumer.process.pid)]
    database = (project.folder / "db.sqlite3").resolve()
    assert len(processes) == 3
    assert database.exists()
    wait_until(lambda: not any(holds(pid, database) for pid in processes))
    assert consumer.stop() == 0


def test_a_task_of_a_transaction_that_rolls_back_never_runs(project: DjangoProject) -> None:
    said = project.python(
        "from beans.tasks import committed\n"
        "from django.db import transaction\n"
        "with transaction.atomic():\n"
        "    lost = committed('lost')\n"
        "    transaction.set_rollback(True)\n"
        "with transaction.atomic():\n"
        "    kept = committed('kept')\n"
        "print(lost.id, kept.id)"
    )
    lost, kept = said.split()

    consumer = project.start()

    assert project.huey.result(kept, blocking=True, timeout=10) == "kept"
    assert never(lambda: project.huey.result(lost, preserve=True))
    assert consumer.stop() == 0


PRODUCER = """
import os, signal, sys
os.environ['DJANGO_SETTINGS_MODULE'] = 'shop.settings'
import django
django.setup()
from beans.tasks import joined
from django.db import connection, transaction
with connection.cursor() as cursor:
    cursor.execute('CREATE TABLE IF NOT EXISTS word (word TEXT)')
{}
"""
INSERT = "with connection.cursor() as cursor: cursor.execute('INSERT INTO word VALUES (%s)', [word])"


@pytest.mark.parametrize("dies", ["after the commit", "before the commit", "by an error"])
def test_in_the_same_file_a_task_runs_if_committed(project: DjangoProject, dies: str) -> None:
    project.settings(SAME_FILE)
    assert project.manage("migrate", "-v0").returncode == 0
    kill = "os.kill(os.getpid(), signal.SIGKILL)"
    inside = {"before the commit": kill, "by an error": "transaction.set_rollback(True)"}.get(dies, "pass")
    body = f"word = {dies!r}\nwith transaction.atomic():\n    {INSERT}\n    joined(word)\n    {inside}\n{kill}"

    ended = subprocess.run([sys.executable, "-c", PRODUCER.format(body)], cwd=project.folder, env=bare_environment(), timeout=25)

    assert ended.returncode == -9
    connection = sqlite3.connect(project.folder / "db.sqlite3")
    words = [word for (word,) in connection.execute("SELECT word FROM word")]
    tasks = connection.execute("SELECT count(*) FROM huey_task").fetchone()[0]
    connection.close()
    assert len(words) == tasks == (dies == "after the commit")
    if words:
        consumer = project.start()
        assert wait_until(lambda: (project.folder / "ran").exists() and (project.folder / "ran").read_text()) == "after the commit\n"
        assert consumer.stop() == 0


@pytest.mark.parametrize("is_prepared", [True, False], ids=["after migrate", "before migrate"])
def test_in_the_same_file_a_transaction_does_not_wait_for_itself(project: DjangoProject, is_prepared: bool) -> None:
    project.settings(SAME_FILE)
    if is_prepared:
        assert project.manage("migrate", "-v0").returncode == 0
    body = f"word = 'x'\nwith transaction.atomic():\n    {INSERT}\n    joined(word)\nprint('done')"

    ended = subprocess.run(
        [sys.executable, "-c", PRODUCER.format(body)],
        cwd=project.folder,
        env=bare_environment(),
        capture_output=True,
        text=True,
        timeout=25,
    )

    assert ended.stdout == "done\n", ended.stderr
    consumer = project.start()
    wait_until((project.folder / "ran").exists, told=lambda: consumer.log)
    assert consumer.stop() == 0


@pytest.mark.timeout(60)
def test_reload_runs_new_code(project: DjangoProject) -> None:
    ask = project.task("beans.tasks.ask")
    consumer = project.start("--reload")
    result = ask(2)
    wait_until(result.is_ready, told=lambda: consumer.log)
    assert result.get() == 2

    project.tasks(TASKS.replace("return number", "return number + 100"))
    os.utime(project.folder / "beans" / "tasks.py", (1, 1))

    wait_until(lambda: "starting with the new code" in consumer.log, timeout=20, told=lambda: consumer.log)
    result = ask(4)
    wait_until(result.is_ready, told=lambda: consumer.log)
    # The worker of the old code may have been the faster one.
    wait_until(lambda: ask(4).get(blocking=True, timeout=10) == 104, told=lambda: consumer.log)
    assert consumer.stop() == 0


def test_a_task_of_django_tasks_is_found_in_every_process(project: DjangoProject) -> None:
    project.settings(SEPARATE, "huey.djhuey", *BACKPORT, TASKS=TASKS_SETTING)
    root = (*BACKPORT, "django.tasks")[0]
    project.tasks(
        f"from {root} import task\n@task(takes_context=True)\ndef ask(context, number):\n    return [10 // number, context.attempt]\n"
    )
    ids = project.python("from beans.tasks import ask\nprint(ask.enqueue(2).id, ask.using(priority=5).enqueue(0).id)").split()
    consumer = project.start("-w", "2", "-k", "process")
    wait_until(lambda: project.huey.inspector.counts().results == 2, timeout=20, told=lambda: consumer.log)
    assert consumer.stop() == 0

    said = project.python(
        f"from {root} import default_task_backend\n"
        f"good, bad = map(default_task_backend.get_result, {ids!r})\n"
        "print(good.status, good.return_value, good.attempts)\n"
        "print(bad.status, bad.errors[0].exception_class, bad.task.priority, bad.attempts)\n"
    )

    assert said.splitlines() == ["SUCCESSFUL [5, 1] 1", "FAILED <class 'ZeroDivisionError'> 5 1"]


def test_create_huey_tables_makes_them(project: DjangoProject) -> None:
    ended = project.manage("create_huey_tables")

    assert ended.returncode == 0, ended.stderr
    connection = sqlite3.connect(project.folder / "queue.db")
    assert connection.execute("SELECT count(*) FROM huey_task").fetchone() == (0,)
    connection.close()


def test_a_consumer_of_an_eager_project_says_how_to_have_one(project: DjangoProject) -> None:
    project.settings("{'huey_class': 'huey.SqliteHuey', 'filename': FILE, 'always_eager': True, 'immediate': False}")

    ended = project.manage("run_huey")

    assert ended.returncode == 1
    assert "'always_eager': False" in ended.stderr
    assert "Traceback" not in ended.stderr

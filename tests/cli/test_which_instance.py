"""The command and the instances of a process: a factory that is called twice, another queue, files that are run as scripts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from huey import Huey, MemoryHuey, SqliteHuey
from huey.cli.errors import UsageError
from huey.cli.instance import adopt_siblings, find_huey
from huey.exceptions import UnknownTask
from huey.registry import Registry
from tests.support.helpers import SOURCE, Project, bare_environment, wait_until

FACTORY = """from huey import SqliteHuey, crontab


def create(name="app"):
    return SqliteHuey(name, filename={db!r})
"""
TASKS = """from queue_of_ours import create

huey = create()


@huey.task()
def test():
    return "tested"


@huey.periodic_task(lambda now: True)
def always():
    huey.put("ran", True)
"""


def write(project: Project, main: str, tasks: str = TASKS) -> None:
    (project.home / "queue_of_ours.py").write_text(FACTORY.format(db=str(project.folder / "queue.db")), "utf-8")
    (project.home / "jobs.py").write_text(tasks, "utf-8")
    (project.home / "main.py").write_text(main, "utf-8")


def test_another_instance_of_the_queue_runs_periodic_tasks_too(project: Project) -> None:
    write(project, "import jobs\nfrom queue_of_ours import create\n\nhuey = create()\n")

    consumer = project.start("main.huey", "--scheduler-interval", "1")

    assert project.task("jobs.test")().get(blocking=True, timeout=10) == "tested"
    wait_until(lambda: project.huey.get("ran", peek=True), told=lambda: consumer.log)
    assert "jobs.huey is another one, with 2 tasks. They run here as well" in consumer.log
    assert consumer.stop() == 0


def test_tasks_of_an_instance_of_another_queue_are_named(project: Project) -> None:
    write(project, "import jobs\nfrom queue_of_ours import create\n\nhuey = create('other')\n")

    consumer = project.start("main.huey")

    assert consumer.ended() == 1
    assert "declared with another instance, of another queue: jobs.huey" in consumer.log
    assert "has 2" in consumer.log


def test_a_script_enqueues_for_the_consumer_that_imports_it(project: Project) -> None:
    project.write(
        "@huey.task()\ndef add(a, b):\n    return a + b\n\n\n"
        "if __name__ == '__main__':\n    print(add(1, 2).get(blocking=True, timeout=20))\n"
    )
    consumer = project.start("main.huey")

    environment = {**bare_environment(), "PYTHONPATH": str(SOURCE)}
    ended = subprocess.run([sys.executable, "main.py"], cwd=project.home, env=environment, capture_output=True, text=True, timeout=30)

    assert (ended.stdout.strip(), ended.stderr) == ("3", "")
    assert consumer.stop() == 0


def test_a_file_run_and_imported_declares_one_function(project: Project) -> None:
    (project.home / "config.py").write_text(
        f"from huey import SqliteHuey\nhuey = SqliteHuey('app', filename={str(project.folder / 'q.db')!r})\n"
    )
    (project.home / "views.py").write_text("import app\n")
    (project.home / "app.py").write_text(
        "from config import huey\n\n\n@huey.task()\ndef add(a, b):\n    return a + b\n\n\n"
        "if __name__ == '__main__':\n    import views\n    print(add.name, views.app.add.name, len(huey.registry))\n"
    )

    environment = {**bare_environment(), "PYTHONPATH": str(SOURCE)}
    ended = subprocess.run([sys.executable, "app.py"], cwd=project.home, env=environment, capture_output=True, text=True, timeout=30)

    assert (ended.stdout.strip(), ended.stderr) == ("app.add app.add 1", "")


def test_what_a_spawned_process_enqueues_is_known(project: Project) -> None:
    project.write(
        "import multiprocessing\n\n\n@huey.task()\ndef add(a, b):\n    return a + b\n\n\ndef child():\n    print(add.name)\n\n\n"
        "if __name__ == '__main__':\n    process = multiprocessing.get_context('spawn').Process(target=child)\n    process.start()\n"
        "    process.join()\n"
    )
    environment = {**bare_environment(), "PYTHONPATH": str(SOURCE)}

    ended = subprocess.run([sys.executable, "main.py"], cwd=project.home, env=environment, capture_output=True, text=True, timeout=30)

    assert (ended.stdout.strip(), ended.stderr) == ("main.add", "")


@pytest.mark.parametrize(
    ("name", "known", "words"),
    [
        ("__main__.add", "app.add", "run as a script, or from a notebook"),
        ("app.add", "scripts.app.add", "there is scripts.app.add here"),
        ("scripts.app.add", "app.add", "there is app.add here"),
        ("app.add", "other.add", "import the module that defines it"),
        ("app.add", "myapp.add", "import the module that defines it"),
    ],
)
def test_an_unknown_task_is_told_with_what_may_have_happened(name: str, known: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huey.registry._all", {})
    huey = MemoryHuey("unknown")
    huey.task(name=known)(lambda: None)

    with pytest.raises(UnknownTask, match="not found in TaskRegistry") as caught:
        huey.registry.find(name)

    assert words in str(caught.value)


def test_an_instance_of_memory_is_nobodys_sibling(caplog: pytest.LogCaptureFixture) -> None:
    one, other = MemoryHuey("app"), MemoryHuey("app")
    other.task(name="add")(lambda: None)

    adopt_siblings(one, "main.huey")

    assert not len(one.registry)
    assert not caplog.records


def test_its_own_functions_come_before_those_of_its_siblings(tmp_path: object) -> None:
    one, other = (SqliteHuey("app", filename=f"{tmp_path}/queue.db") for _ in range(2))
    own = one.task(name="add")(lambda: "own")
    other.task(name="add")(lambda: "other")
    sub = other.task(name="sub", aliases=["minus"])(lambda: "sub")

    adopt_siblings(one, "main.huey")

    assert [one.registry.find(name) for name in ("add", "sub", "minus")] == [own, sub, sub]
    assert len(other.registry) == 2


def test_an_instance_without_tasks_alone_is_told_to_import_them(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huey.registry._all", {})
    monkeypatch.syspath_prepend(str(tmp_path))
    with open(f"{tmp_path}/lonely_app.py", "w", encoding="utf-8") as file:
        file.write("from huey import MemoryHuey\nhuey = MemoryHuey('lonely')\n")

    with pytest.raises(UsageError, match="must import the modules that define them"):
        find_huey("lonely_app.huey")


def test_a_registry_that_adopts_nothing_stays_as_it_is() -> None:
    registry = Registry()

    registry.adopt(Registry())

    assert not len(registry)


def test_a_huey_knows_whether_others_may_run_its_tasks(tmp_path: object) -> None:
    shared: Huey = SqliteHuey("app", filename=f"{tmp_path}/queue.db")

    assert shared.is_shared
    shared.immediate = True
    assert not shared.is_shared
    assert not MemoryHuey("app").is_shared

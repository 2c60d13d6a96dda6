"""Every example runs, in a folder of its own, and prints what it says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.helpers import Project, bare_environment, wait_until
from tests.support.redis_server import shared_server

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# Tested elsewhere: test_demo.py.
DEMO = {"demo.py", "demo_tasks.py"}
PRINTED = {
    "bulk.py": ["map: 99990000", "enqueue_many: [42, 1024]", "batch: [1, 3, 9, 27, 81]"],
    "follow_events.py": [
        "enqueued queuecmd_divide retries left: 1",
        "started queuecmd_divide retries left: 1",
        "error queuecmd_divide retries left: 1",
        "  ZeroDivisionError: division by zero",
        "retrying queuecmd_divide retries left: 1",
        "enqueued queuecmd_divide retries left: 0",
        "started queuecmd_divide retries left: 0",
        "error queuecmd_divide retries left: 0",
        "  ZeroDivisionError: division by zero",
    ],
    "own_consumer.py": ["TEA! MILK! SUGAR!"],
}


def run(script: Path, cwd: Path, typed: str = "") -> list[str]:
    """What the script prints; it has to end well."""
    environment = bare_environment(TMPDIR=str(cwd))
    ended = subprocess.run([sys.executable, str(script)], cwd=cwd, env=environment, input=typed, capture_output=True, text=True, timeout=25)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_every_example_is_run_here() -> None:
    examples = {path.name for path in EXAMPLES.glob("*.py")}
    assert examples - DEMO == set(PRINTED)
    assert {path.parent.name for path in EXAMPLES.rglob("*.py")} == {"examples", "beans"}


@pytest.mark.parametrize("example", PRINTED)
def test_an_example_that_stands_alone(example: str, tmp_path: Path) -> None:
    assert run(EXAMPLES / example, tmp_path) == PRINTED[example]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def beans(tmp_path: Path) -> Iterator[Project]:
    """The bean counter of the guide: config.py, tasks.py, main.py."""
    project = Project(tmp_path)
    project.home.rmdir()
    shutil.copytree(EXAMPLES / "beans", project.home, ignore=shutil.ignore_patterns("__pycache__"))
    yield project
    project.close()


def test_beans_are_counted_by_the_consumer(beans: Project) -> None:
    consumer = beans.start("main.huey")

    printed = run(beans.home / "main.py", beans.home, typed="100\n")

    assert printed == ["How many beans? Enqueued job to count 100 beans", "Counted 100 beans"]
    assert "-- counted 100 beans --" in consumer.log
    assert consumer.stop() == 0


def test_beans_are_counted_in_redis_when_one_line_is_another(beans: Project) -> None:
    config = beans.home / "config.py"
    text = config.read_text("utf-8")
    line = 'huey = SqliteHuey("beans", filename="beans.db")'
    assert text.count(line) == 1
    config.write_text(text.replace(line, f'huey = RedisHuey("beans", port={shared_server().port})'), "utf-8")

    test_beans_are_counted_by_the_consumer(beans)

    assert not (beans.home / "beans.db").exists()


def test_beans_wait_for_the_consumer(beans: Project) -> None:
    script = "from main import count_beans; count_beans(7); from tasks import try_thrice; try_thrice()"
    subprocess.run([sys.executable, "-c", script], cwd=beans.home, env=bare_environment(), check=True, timeout=25)

    consumer = beans.start("main.huey")

    wait_until(lambda: "-- counted 7 beans --" in consumer.log, told=lambda: consumer.log)
    wait_until(lambda: consumer.log.count("trying....") == 4, told=lambda: consumer.log)
    assert consumer.stop() == 0

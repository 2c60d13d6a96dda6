"""The fixtures, in a pytest of its own as users have it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from huey.testing.pytest_plugin import find_huey
from tests.support.helpers import bare_environment

APP = """
from huey import SqliteHuey

huey = SqliteHuey("app", filename="app.db")
not_one = object()

@huey.task()
def add(a, b):
    return a + b

@huey.task(retries=1, retry_delay=60)
def fails():
    raise ValueError("no")
"""
CONFIGURED = "[pytest]\nhuey_app = app:huey\n"


def run_pytest(folder: Path, files: Mapping[str, str], *options: str) -> str:
    """Write *files* into *folder*, run pytest there, and return what it says."""
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "--color=no", "-q", *options]
    ended = subprocess.run(command, cwd=folder, env=bare_environment(), capture_output=True, text=True, timeout=50, check=False)
    return ended.stdout + ended.stderr


def test_pytest_finds_the_fixtures_by_their_entry_point() -> None:
    assert [point.value for point in entry_points(group="pytest11", name="huey")] == ["huey.testing.pytest_plugin"]


def test_each_fixture_does_what_it_says(tmp_path: Path) -> None:
    tests = """
import pytest
from datetime import timedelta
from app import add, fails, huey

def test_memory(huey_memory):
    assert huey_memory.huey is huey
    add(1, 2)
    assert len(huey_memory.enqueued()) == 1

def test_it_is_empty_again(huey_memory, assert_no_tasks):
    assert_no_tasks()

def test_clock_and_drain(huey_clock, huey_drain):
    fails()
    assert [run.state for run in huey_drain()] == ["retrying"]
    huey_clock.advance(60)
    assert [run.state for run in huey_drain()] == ["failed"]
    fails()
    assert len(huey_drain(until=timedelta(days=1))) == 2

def test_enqueued(assert_enqueued):
    add(1, 2)
    assert_enqueued(add, args=(1, 2), times=1)

def test_without_a_fixture_nothing_is_replaced():
    assert type(huey.storage).__name__ == "SqliteStorage"
"""
    files = {"app.py": APP, "test_app.py": tests, "pytest.ini": CONFIGURED}

    assert "5 passed" in run_pytest(tmp_path, files, "-W", "error", "-n", "2")
    assert {path.name for path in tmp_path.iterdir()} == set(files)


def test_failures_show_the_line_of_the_test_and_the_difference(tmp_path: Path) -> None:
    tests = """
from app import add

def test_enqueued(assert_enqueued):
    add(1, 2)
    assert_enqueued(add, args=(1, 3))

def test_none(assert_no_tasks):
    add(1, 2)
    assert_no_tasks()
"""
    told = run_pytest(tmp_path, {"app.py": APP, "test_app.py": tests, "pytest.ini": CONFIGURED})

    assert "2 failed" in told
    assert "AssertionError: app.add with arguments (1, 3) is not enqueued" in told
    assert "its arguments are (1, 2), not (1, 3)" in told
    assert "AssertionError: 1 task enqueued, none expected" in told
    assert "    assert_no_tasks()" in told
    assert "memory_queue.py" not in told


def test_a_fixture_may_return_the_instance(tmp_path: Path) -> None:
    conftest = """
import pytest

@pytest.fixture
def huey_app():
    from app import huey
    return huey
"""
    tests = "from app import add\n\ndef test_add(huey_drain):\n    add(1, 2)\n    assert [run.value for run in huey_drain()] == [3]\n"

    assert "1 passed" in run_pytest(tmp_path, {"app.py": APP, "conftest.py": conftest, "test_app.py": tests})


def test_without_either_it_says_what_to_write(tmp_path: Path) -> None:
    told = run_pytest(tmp_path, {"test_app.py": "def test_any(huey_drain): ...\n"})

    assert "1 error" in told
    assert "huey's fixtures do not know which Huey to use." in told
    assert 'huey_app = "app:huey"' in told
    assert "def huey_app():" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("path", "fact"),
    [
        ("app:hewy", "huey_app = 'app:hewy': module app has no Huey of the name 'hewy'; its instances: huey."),
        ("app.not_one", "module app has no Huey of the name 'not_one'; its instances: huey."),
        ("json:dumps", "it has no Huey instance."),
        ("app", "huey_app = 'app' names no module and instance."),
        (":huey", "huey_app = ':huey' names no module and instance."),
    ],
)
def test_a_wrong_path_says_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, fact: str) -> None:
    (tmp_path / "app.py").write_text(APP, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "app", raising=False)

    with pytest.raises(pytest.fail.Exception) as caught:
        find_huey(path)

    assert fact in str(caught.value)
    assert 'huey_app = "app:huey"' in str(caught.value)
    monkeypatch.delitem(sys.modules, "app", raising=False)


def test_a_module_that_is_missing_is_an_import_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        find_huey("nowhere:huey")


def test_the_plugin_costs_nothing_where_no_fixture_is_used(tmp_path: Path) -> None:
    tests = """
import sys

def test_it():
    assert "huey.testing.pytest_plugin" in sys.modules
    assert not [name for name in ("huey.api", "huey.engine", "huey.testing.memory_queue", "sqlite3") if name in sys.modules]
"""
    assert "1 passed" in run_pytest(tmp_path, {"test_app.py": tests})

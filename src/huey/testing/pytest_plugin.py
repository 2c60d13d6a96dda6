"""Fixtures for pytest, which finds this module by its entry point. huey itself is imported when a fixture is used.

The instance is named in the configuration of pytest, ``huey_app = "app:huey"``, or returned by a fixture ``huey_app`` of the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from huey.testing import MemoryQueue, TaskRun, TravelClock

OPTION = "huey_app"
WAY_OUT = """Write in pyproject.toml, for an instance `huey` in app.py:

    [tool.pytest.ini_options]
    huey_app = "app:huey"

or in conftest.py:

    @pytest.fixture
    def huey_app():
        from app import huey
        return huey
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(OPTION, "The Huey instance that the fixtures of huey use, as module:name", type="string")


@pytest.fixture
def huey_app(request: pytest.FixtureRequest) -> Any:
    """The Huey of the application, as the option ``huey_app`` names it. Override it to return another one."""
    return find_huey(str(request.config.getini(OPTION)))


def find_huey(path: str) -> Any:
    """Return the instance that the option names. Fail the test, with what to write, if there is none."""
    if not path:
        pytest.fail(f"huey's fixtures do not know which Huey to use.\n{WAY_OUT}", pytrace=False)
    module, _, name = path.rpartition(":" if ":" in path else ".")
    if not module or not name:
        pytest.fail(f"huey_app = {path!r} names no module and instance.\n{WAY_OUT}", pytrace=False)
    from importlib import import_module

    from huey.api import Huey

    found: Any = import_module(module)
    known = [key for key, value in vars(found).items() if isinstance(value, Huey)]
    found = getattr(found, name, None)
    if not isinstance(found, Huey):
        there = f"its instances: {', '.join(known)}" if known else "it has no Huey instance"
        pytest.fail(f"huey_app = {path!r}: module {module} has no Huey of the name {name!r}; {there}.\n{WAY_OUT}", pytrace=False)
    return found


@pytest.fixture
def huey_memory(huey_app: Any) -> Iterator[MemoryQueue]:
    """The Huey of the application, with its tasks in memory until ``drain()`` runs them: see ``huey.testing.memory``."""
    from huey.testing import memory

    with memory(huey_app) as queue:
        yield queue


@pytest.fixture
def huey_clock(huey_memory: MemoryQueue) -> TravelClock:
    """The clock of ``huey_memory``: ``advance(seconds)``, ``move_to(datetime)``."""
    return huey_memory.clock


@pytest.fixture
def huey_drain(huey_memory: MemoryQueue) -> Callable[..., list[TaskRun]]:
    """``huey_drain()`` runs what is due, ``huey_drain(until=timedelta(days=1))`` what becomes due: see ``MemoryQueue.drain``."""
    return huey_memory.drain


@pytest.fixture
def assert_enqueued(huey_memory: MemoryQueue) -> Callable[..., None]:
    """See ``MemoryQueue.assert_enqueued``."""
    return huey_memory.assert_enqueued


@pytest.fixture
def assert_no_tasks(huey_memory: MemoryQueue) -> Callable[[], None]:
    """See ``MemoryQueue.assert_no_tasks``."""
    return huey_memory.assert_no_tasks

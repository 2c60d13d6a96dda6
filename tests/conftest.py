"""Fixtures for every room of the tests."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import Phase, settings

from huey import Huey, MemoryHuey, RedisHuey, SqliteHuey
from huey.testing.clock import FakeClock
from tests.support.helpers import Project
from tests.support.redis_server import shared_server

ON_REDIS = (
    "tests/compat_049/test_huey_class.py",
    "tests/compat_049/test_task_decorator.py",
    "tests/compat_049/test_results.py",
    "tests/compat_049/test_revoking.py",
    "tests/compat_049/test_events.py",
    "tests/compat_049/test_registry.py",
    "tests/cases/test_workflow_threads.py",
    "tests/compat_3x/",
    "tests/consumer/test_sharing.py",
    "tests/consumer/test_rates.py",
    "tests/consumer/test_coroutines.py",
    "tests/consumer/test_event_loop.py",
)
"""What is tested on Redis too. The rest does not look at the storage."""

# To explain a failure Hypothesis traces every line of every example, which takes most of the time of a test.
settings.register_profile("huey", phases=[phase for phase in Phase if phase is not Phase.explain])
settings.load_profile("huey")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Hundreds of thousands of objects are made, and stay: the garbage collector need not look through them, now or in each test."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept = [item for item in items if "redis-instance" not in item.name or item.nodeid.startswith(ON_REDIS)]
    chosen = set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen] if len(kept) < len(items) else [])
    items[:] = waiting_first(kept, getattr(config, "workerinput", {}).get("workercount", 1))


def waiting_first(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Deal the tests that wait for processes out to all *workers*, of which each begins with its share, so that none ends with them.

    Each worker gets one slice of the list, all of the same length.
    """
    waiting = [item for item in items if item.nodeid.startswith("tests/crash/")]
    others = iter([item for item in items if not item.nodeid.startswith("tests/crash/")])
    dealt: list[pytest.Item] = []
    for worker in range(workers):
        size = len(items) // workers + (worker < len(items) % workers)
        share = waiting[worker::workers][:size]
        dealt += [*share, *islice(others, size - len(share))]
    return [*dealt, *others]


@pytest.fixture
def clock() -> FakeClock:
    """Stands at a Monday's noon, UTC."""
    return FakeClock()


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", id="redis-instance")])
def make_huey(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Huey]]:
    """Makes instances, ``make_huey(name="app", **options)``: in memory, or all in one SQLite file, or in Redis."""
    made: list[Huey] = []

    def make(name: str = "app", **options: Any) -> Huey:
        if request.param == "memory":
            made.append(MemoryHuey(name, **options))
        elif request.param == "redis":
            made.append(RedisHuey(name, port=shared_server().port, **options))
        else:
            made.append(SqliteHuey(name, filename=tmp_path / "queue.db", **options))
        return made[-1]

    yield make
    for huey in made:
        huey.close()
    if request.param == "redis" and made:
        # The next test begins with an empty server.
        with redis.Redis(port=shared_server().port) as server:
            server.flushdb()


@pytest.fixture
def huey(make_huey: Callable[..., Huey]) -> Huey:
    """An instance with an empty queue, on each storage."""
    return make_huey()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """An application in a folder of its own, and the consumers started on it."""
    project = Project(tmp_path)
    yield project
    project.close()


@pytest.fixture
def set_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the local time zone of this process (a POSIX text such as ``EST5``) until the test ends."""

    def set_to(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield set_to
    monkeypatch.undo()
    time.tzset()

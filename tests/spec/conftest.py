"""The promises are tested on what users have: an instance, a consumer in this process, or the consumer command."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from huey.testing.clock import TurnableClock
from tests.helpers import Project, wait_until


@pytest.fixture(autouse=True)
def _leaves_no_thread() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    wait_until(lambda: set(threading.enumerate()) <= before, told=lambda: f"these threads run on: {set(threading.enumerate()) - before}")


@pytest.fixture
def clock() -> TurnableClock:
    """Stands at a Monday's noon, UTC."""
    return TurnableClock()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """An application of its own folder, and the consumers started on it."""
    project = Project(tmp_path)
    yield project
    project.close()

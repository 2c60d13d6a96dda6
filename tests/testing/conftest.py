"""An application in memory, as the tests of an application have it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from huey import Huey, MemoryHuey
from huey.testing import memory
from huey.testing.memory_queue import MemoryQueue

MONDAY = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
"""When the clock begins."""


@pytest.fixture
def huey() -> Huey:
    return MemoryHuey("app")


@pytest.fixture
def queue(huey: Huey) -> Iterator[MemoryQueue]:
    with memory(huey, MONDAY) as queue:
        yield queue

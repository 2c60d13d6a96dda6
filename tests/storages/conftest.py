"""Storages in the shared Redis: ``make(**options)``, and a client of that server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.storages.redis_storages import Make, makes
from tests.support.redis_server import shared_server


@pytest.fixture
def make() -> Iterator[Make]:
    yield from makes(shared_server())


@pytest.fixture
def server() -> Iterator[Any]:
    """A client of the shared server."""
    with redis.Redis(port=shared_server().port) as client:
        yield client

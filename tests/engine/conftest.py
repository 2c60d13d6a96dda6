"""Engines with one runner, and with four."""

from __future__ import annotations

import pytest

from huey.testing.clock import FakeClock
from tests.engine.bench import Bench


@pytest.fixture
def bench(clock: FakeClock) -> Bench:
    return Bench(clock)


@pytest.fixture
def four(clock: FakeClock) -> Bench:
    return Bench(clock, 4)

"""Naive times that are not converted, on parts of 0.4.9: shipped ones, and ones that a user wrote."""

from __future__ import annotations

from typing import Any

import pytest

from huey import Huey
from tests.compat_049.wall_times import Make, WallTimeRules


class TestWallTimesOfParts(WallTimeRules):
    @pytest.fixture
    def make(self, parts: tuple[Any, Any, Any]) -> Make:
        return lambda **options: Huey(*parts, **options)

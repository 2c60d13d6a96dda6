"""keep_finished: what it may be."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from huey import MemoryHuey, SqliteHuey
from huey.exceptions import ConfigurationError
from huey.storage.helpers import Retention


@pytest.mark.parametrize("keep_finished", [0, timedelta(0)])
def test_nothing_keeps_nothing(keep_finished: object) -> None:
    assert not Retention.of(keep_finished).is_on


@pytest.mark.parametrize("keep_finished", [1, 10**9, timedelta(seconds=1), timedelta.max])
def test_a_number_or_a_time_keeps(keep_finished: object) -> None:
    assert Retention.of(keep_finished).is_on


@pytest.mark.parametrize("keep_finished", [-1, True, 3600.0, "1 day", None, timedelta(-1), 2**63])
@pytest.mark.parametrize("make", [MemoryHuey, SqliteHuey])
def test_anything_else_is_refused_and_the_ways_out_are_named(make: type[MemoryHuey | SqliteHuey], keep_finished: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"keep_finished=.*number of .*timedelta"):
        make("app", keep_finished=keep_finished)

"""What goes on while a storage is at work."""

from __future__ import annotations

from collections.abc import Callable

Meanwhile = Callable[[], None]
"""Called by a turn when there is nothing left to do in Python but to wait."""


def nothing() -> None:
    """Nothing."""

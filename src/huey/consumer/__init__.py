"""The consumer, which runs tasks. ``from huey.consumer import Consumer`` works as in 0.4.9 and 3.x."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "Consumer":
        raise AttributeError(f"module 'huey.consumer' has no attribute {name!r}")
    from huey.consumer.program import Consumer

    return Consumer

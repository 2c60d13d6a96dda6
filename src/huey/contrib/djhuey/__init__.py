"""The 3.x path of ``huey.djhuey``: the same names, the same instance. INSTALLED_APPS may have either, or both."""

from __future__ import annotations

from typing import Any

from huey import djhuey
from huey.djhuey import __all__ as __all__
from huey.djhuey import crontab as crontab


def __getattr__(name: str) -> Any:
    try:
        return getattr(djhuey, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return dir(djhuey)

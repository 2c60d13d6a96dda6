"""huey: a lightweight task queue.

    from huey import Huey, crontab

    huey = Huey('my-app')

    @huey.task()
    def add(a, b):
        return a + b

    result = add(1, 2)                 # put in; a consumer runs it
    result.get(blocking=True)          # 3

Names are loaded at their first use, so that ``import huey`` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from huey.constants import __version__ as __version__

if TYPE_CHECKING:
    from huey.api import Huey as Huey
    from huey.cron import crontab as crontab
    from huey.exceptions import CancelExecution as CancelExecution
    from huey.exceptions import HueyException as HueyException
    from huey.exceptions import RetryTask as RetryTask
    from huey.exceptions import TaskException as TaskException
    from huey.presets import MemoryHuey as MemoryHuey
    from huey.presets import SqliteHuey as SqliteHuey

_HOMES = {
    "Huey": "huey.api",
    "crontab": "huey.cron",
    "CancelExecution": "huey.exceptions",
    "HueyException": "huey.exceptions",
    "RetryTask": "huey.exceptions",
    "TaskException": "huey.exceptions",
    "MemoryHuey": "huey.presets",
    "SqliteHuey": "huey.presets",
}

__all__ = ["CancelExecution", "Huey", "HueyException", "MemoryHuey", "RetryTask", "SqliteHuey", "TaskException", "crontab"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'huey' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

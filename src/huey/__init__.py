"""huey: a lightweight task queue.

    from huey import Huey, crontab

    huey = Huey('my-app')

    @huey.task()
    def add(a, b):
        return a + b

    result = add(1, 2)                 # enqueued; a consumer runs it
    result.get(blocking=True)          # 3

Names are loaded at their first use, so that ``import huey`` costs next to nothing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from huey.constants import __version__ as __version__

if sys.platform in ("win32", "emscripten", "wasi"):
    # Without file locks between processes, forks and signals, huey could not keep its promises.
    raise ImportError(f"huey runs on Linux and macOS, not on {sys.platform}; on Windows use it inside WSL, the Windows Subsystem for Linux")

if TYPE_CHECKING:
    from logging import Logger

    logger: Logger
    """The logger of huey; the loggers of its parts are its children."""

    from huey.api import Huey as Huey
    from huey.cron import crontab as crontab
    from huey.exceptions import CancelExecution as CancelExecution
    from huey.exceptions import HueyException as HueyException
    from huey.exceptions import RetryTask as RetryTask
    from huey.exceptions import TaskException as TaskException
    from huey.presets import BlackHoleHuey as BlackHoleHuey
    from huey.presets import CySqliteHuey as CySqliteHuey
    from huey.presets import FileHuey as FileHuey
    from huey.presets import MemoryHuey as MemoryHuey
    from huey.presets import PriorityRedisExpireHuey as PriorityRedisExpireHuey
    from huey.presets import PriorityRedisHuey as PriorityRedisHuey
    from huey.presets import RedisExpireHuey as RedisExpireHuey
    from huey.presets import RedisHuey as RedisHuey
    from huey.presets import SqliteHuey as SqliteHuey
    from huey.task.composition import chord as chord
    from huey.task.composition import group as group
    from huey.utils import SKIPPED as SKIPPED
    from huey.utils import Error as Error

__all__ = [
    "SKIPPED",
    "BlackHoleHuey",
    "CancelExecution",
    "CySqliteHuey",
    "Error",
    "FileHuey",
    "Huey",
    "HueyException",
    "MemoryHuey",
    "PriorityRedisExpireHuey",
    "PriorityRedisHuey",
    "RedisExpireHuey",
    "RedisHuey",
    "RetryTask",
    "SqliteHuey",
    "TaskException",
    "chord",
    "crontab",
    "group",
    "logger",
]

_HOMES = {
    "Huey": "huey.api",
    "crontab": "huey.cron",
    **dict.fromkeys(("CancelExecution", "HueyException", "RetryTask", "TaskException"), "huey.exceptions"),
    **dict.fromkeys(("chord", "group"), "huey.task.composition"),
    **dict.fromkeys(("SKIPPED", "Error"), "huey.utils"),
}
"""The modules of those names that are not in ``huey.presets``."""


def __getattr__(name: str) -> Any:
    if name == "logger":
        from logging import getLogger

        return getLogger("huey")
    if name not in __all__:
        from huey.runtime.missing_names import not_here

        not_here(__name__, name)
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES.get(name, "huey.presets")), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

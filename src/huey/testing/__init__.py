"""For tests of applications: ``memory(huey)``, fixtures for pytest, a mixin for unittest. For storages: the contract as a suite, a clock.

Each is loaded from its own module when it is used: ``huey.testing.pytest_plugin``, ``huey.testing.clock.FakeClock``,
``huey.testing.contract.StorageContract``.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huey.api import Huey
    from huey.testing.memory_queue import MemoryQueue as MemoryQueue
    from huey.testing.mixin import HueyTestMixin as HueyTestMixin
    from huey.testing.travel import TravelClock as TravelClock
    from huey.testing.worker import TaskRun as TaskRun

_HOMES = {"HueyTestMixin": "mixin", "MemoryQueue": "memory_queue", "TaskRun": "worker", "TravelClock": "travel"}
"""Names of this package, and the modules that they are loaded from."""


def memory(huey: Huey, now: datetime | None = None) -> AbstractContextManager[MemoryQueue]:
    """Keep the tasks of *huey* in memory inside the block, ``with memory(huey) as queue:``.

    Calls are enqueued and stay, also with ``immediate`` or ``always_eager``, until ``queue.drain()`` runs them. The real store is not
    touched. Functions, hooks and signal handlers stay as they are; options of *huey* that are changed inside are reset afterwards. *now*:
    the time at which ``queue.clock`` begins; naive: as for ``clock.move_to``; default: the time now. Raise TypeError if *huey* is none.
    """
    from huey.testing.memory_queue import replaced

    return replaced(huey, now)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

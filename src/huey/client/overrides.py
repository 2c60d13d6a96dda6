"""Methods of ``Huey`` that a subclass may override and an instrumentation may patch, on the class or on one object.

Every enqueue then passes through ``Huey.enqueue`` and every run through ``Huey._execute``. As long as they are the original methods, which
is looked up at each use, the parts of huey call each other directly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from huey.task.task import Task


class Overrides:
    """The methods of one ``Huey`` that may be replaced. *originals*: the methods as huey defines them, by name."""

    def __init__(self, huey: Any, originals: Mapping[str, Callable[..., Any]]) -> None:
        self._huey = huey
        self._originals = originals

    def call_enqueue(self, task: Task) -> Any:
        """Enqueue *task* through ``Huey.enqueue``, whether or not that is replaced."""
        return self._huey.enqueue(task)

    @property
    def custom_enqueue(self) -> Callable[[Task], Any] | None:
        """``Huey.enqueue`` if it is overridden or patched, else None."""
        return self._replaced("enqueue")

    @property
    def custom_execute(self) -> Callable[[Task], Any] | None:
        """``Huey._execute`` if it is overridden or patched, else None."""
        return self._replaced("_execute")

    @property
    def custom_error_result(self) -> Callable[[Task, BaseException], dict[str, Any]] | None:
        """``Huey.build_error_result`` if it is overridden or patched, else None."""
        return self._replaced("build_error_result")

    def _replaced(self, verb: str) -> Callable[..., Any] | None:
        method: Callable[..., Any] = getattr(self._huey, verb)
        return None if getattr(method, "__func__", None) is self._originals[verb] else method

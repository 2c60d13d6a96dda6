"""The object that ``@huey.periodic_task()`` returns."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import ParamSpec, TypeVar

from huey.runtime.logs import SafeLogger
from huey.runtime.masking import opened
from huey.task.options import TaskOptions
from huey.task.task_class import TaskHost
from huey.task.wrapper import TaskWrapper

P = ParamSpec("P")
R = TypeVar("R")

log = SafeLogger("huey")


class PeriodicWrapper(TaskWrapper[P, R]):
    """A function that the scheduler enqueues. A direct call runs it in the calling process; its results are not stored."""

    kind = "periodic task"
    stores_result = False

    def __init__(
        self, huey: TaskHost, func: Callable[P, R], name: str | None, options: TaskOptions, validate_datetime: Callable[[datetime], bool]
    ) -> None:
        self.validate_datetime = validate_datetime
        super().__init__(huey, func, name, options)
        self._was_called = False
        if missing := self._parameters.missing:
            raise ValueError(
                f"{self.name}() has parameters without a default ({', '.join(missing)}), and a periodic task is called without arguments: "
                "give them defaults"
            )

    @opened
    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not self._was_called:
            self._was_called = True
            log.info("%s is periodic: a direct call runs it here; to enqueue one run use .schedule()", self.name)
        return self.func(*args, **kwargs)

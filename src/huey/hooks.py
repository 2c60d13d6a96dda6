"""Hooks: functions of the application that are called around the runs of tasks, and at the start and end of each runner.

They are called in the order in which they were declared. If one raises, the exception is logged and the others are still called. Only
``CancelExecution`` in a ``pre_execute`` hook has an effect: the task is not run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from huey.exceptions import ASKED_TO_STOP
from huey.runtime.functions import check_runs_when_called
from huey.runtime.logs import SafeLogger, is_ctrl_c

F = TypeVar("F", bound=Callable[..., Any])

log = SafeLogger("huey")

PRE, POST, STARTUP, SHUTDOWN = "pre_execute", "post_execute", "on_startup", "on_shutdown"


class Hooks:
    """The hooks of one Huey by kind. The lists stay the same objects, so that checking an empty one costs next to nothing."""

    def __init__(self) -> None:
        self.by_kind: dict[str, list[tuple[str, Callable[..., Any]]]] = {kind: [] for kind in (PRE, POST, STARTUP, SHUTDOWN)}
        self.pre = self.by_kind[PRE]
        self.post = self.by_kind[POST]

    def declare(self, kind: str, name: str | None) -> Callable[[F], F]:
        """Return a decorator that adds its function. Raise ValueError if it was written without parentheses."""
        if callable(name):
            raise ValueError(f"write @huey.{kind}() with parentheses")

        def add(hook: F) -> F:
            self.add(kind, name, hook)
            return hook

        return add

    def add(self, kind: str, name: str | None, hook: Callable[..., Any]) -> None:
        """Add *hook*. It replaces one of the same *name*; without a name, the same function is added once."""
        check_runs_when_called(hook, f"a hook {kind}")
        hooks = self.by_kind[kind]
        for index, (known, there) in enumerate(hooks):
            if there is hook or known == name:
                hooks[index] = (name or known, hook)
                return
        hooks.append((name or str(getattr(hook, "__name__", "")) or repr(hook), hook))

    def remove(self, kind: str, name_or_hook: Any) -> bool:
        """Remove a hook, given by its name or itself; return whether there was one."""
        hooks = self.by_kind[kind]
        for index, (name, hook) in enumerate(hooks):
            if name_or_hook in (name, hook):
                del hooks[index]
                return True
        return False

    def call(self, kind: str, *arguments: Any) -> None:
        """Call all hooks of a kind. CancelExecution raised by a ``pre_execute`` hook propagates, and the rest are not called."""
        for name, hook in list(self.by_kind[kind]):
            try:
                hook(*arguments)
            except ASKED_TO_STOP as error:
                if kind == PRE:
                    # The hook rejects the task, or the time limit of both has passed.
                    raise
                log.warning("the %s hook %r raised %s, which has an effect only in pre_execute", kind, name, type(error).__name__)
            except BaseException as error:  # The user's function: it may raise anything, SystemExit included.
                if is_ctrl_c(error):
                    raise
                log.exception("the %s hook %r raised; its exception is ignored", kind, name)

"""Hooks: functions of the application that are called around the runs of tasks, and at the start and end of each runner.

They are called in the order in which they were declared. One that raises is logged, and the others are called all the same; only
``CancelExecution`` in a ``pre_execute`` hook means something: the task is not run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from huey.exceptions import ASKED_TO_STOP
from huey.runtime.functions import refuse_what_does_not_run
from huey.runtime.logs import SafeLogger, is_ctrl_c
from huey.signals import Signals

F = TypeVar("F", bound=Callable[..., Any])

log = SafeLogger("huey")

PRE, POST, STARTUP, SHUTDOWN = "pre_execute", "post_execute", "on_startup", "on_shutdown"


class Hooks:
    """Hooks by kind. Lists that stay the same objects, so that a look at an empty one costs next to nothing."""

    def __init__(self) -> None:
        self.by_kind: dict[str, list[tuple[str, Callable[..., Any]]]] = {kind: [] for kind in (PRE, POST, STARTUP, SHUTDOWN)}
        self.pre = self.by_kind[PRE]
        self.post = self.by_kind[POST]

    def add(self, kind: str, name: str | None, hook: Callable[..., Any]) -> None:
        """Of two hooks that are given the same name the latter takes the place of the former; one without counts once."""
        refuse_what_does_not_run(hook, f"a hook {kind}")
        hooks = self.by_kind[kind]
        for place, (known, there) in enumerate(hooks):
            if there is hook or known == name:
                hooks[place] = (name or known, hook)
                return
        hooks.append((name or str(getattr(hook, "__name__", "")) or repr(hook), hook))

    def remove(self, kind: str, name_or_hook: Any) -> bool:
        hooks = self.by_kind[kind]
        for place, (name, hook) in enumerate(hooks):
            if name_or_hook in (name, hook):
                del hooks[place]
                return True
        return False

    def call(self, kind: str, *arguments: Any) -> None:
        """Call all of a kind. CancelExecution of a ``pre_execute`` hook passes, and the rest are not called."""
        for name, hook in list(self.by_kind[kind]):
            try:
                hook(*arguments)
            except ASKED_TO_STOP as error:
                if kind == PRE:
                    # The hook does not want the task; or the time of both is over.
                    raise
                log.warning("the %s hook %r raised %s, which means something in pre_execute only", kind, name, type(error).__name__)
            except BaseException as error:  # The user's function: it may raise anything, SystemExit included.
                if is_ctrl_c(error):
                    raise
                log.exception("the %s hook %r raised; what it was called for goes on", kind, name)


class HookRoom:
    """The part of ``Huey`` where hooks and signal handlers are declared."""

    hooks: Hooks
    signals: Signals

    def pre_execute(self, name: str | None = None) -> Callable[[F], F]:
        """Decorator: call the function with each task before it runs, in the runner's thread. ``CancelExecution`` keeps it from running."""
        return self._declare(PRE, name)

    def post_execute(self, name: str | None = None) -> Callable[[F], F]:
        """Decorator: call the function with ``(task, value, exception)`` after each run, once its result is stored, in the same thread."""
        return self._declare(POST, name)

    def on_startup(self, name: str | None = None) -> Callable[[F], F]:
        """Decorator: call the function, without arguments, in each runner of a consumer before it takes its first task."""
        return self._declare(STARTUP, name)

    def on_shutdown(self, name: str | None = None) -> Callable[[F], F]:
        """Decorator: call the function, without arguments, in each runner of a consumer that stops, after its last task."""
        return self._declare(SHUTDOWN, name)

    def _declare(self, kind: str, name: str | None) -> Callable[[F], F]:
        if callable(name):
            raise ValueError(f"write @huey.{kind}() with brackets")

        def declare(hook: F) -> F:
            self.hooks.add(kind, name, hook)
            return hook

        return declare

    def unregister_pre_execute(self, name_or_fn: Any) -> bool:
        """Call that hook no more; True if it was known."""
        return self.hooks.remove(PRE, name_or_fn)

    def unregister_post_execute(self, name_or_fn: Any) -> bool:
        return self.hooks.remove(POST, name_or_fn)

    def unregister_on_startup(self, name_or_fn: Any) -> bool:
        return self.hooks.remove(STARTUP, name_or_fn)

    def unregister_on_shutdown(self, name_or_fn: Any) -> bool:
        return self.hooks.remove(SHUTDOWN, name_or_fn)

    def signal(self, *signals: str) -> Callable[[F], F]:
        """Decorator: call the function with ``(signal, task)`` at each of these signals (``huey.signals``), or at all. For ``error`` the
        exception follows. ValueError: no such signal."""
        if signals and callable(signals[0]):
            raise ValueError("write @huey.signal() with brackets, and the signals in them if not all are wanted")

        def connect(handler: F) -> F:
            self.signals.connect(handler, signals)
            return handler

        return connect

    def disconnect_signal(self, receiver: Callable[..., Any], *signals: str) -> None:
        """Call a handler no more at these signals, or at any."""
        self.signals.disconnect(receiver, signals)

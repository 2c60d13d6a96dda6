"""The registry: finds the function for a task name.

Each ``Huey`` has its own registry. A name that it does not know is looked up in those of the other instances of this process. Nothing is
ever imported because a message names it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from itertools import count
from operator import attrgetter
from typing import Any

from huey.exceptions import UnknownTask
from huey.runtime.functions import innermost
from huey.runtime.logs import SafeLogger
from huey.task import identity
from huey.task.identity import is_of_script
from huey.task.periodic import PeriodicWrapper
from huey.task.wrapper import TaskWrapper

log = SafeLogger("huey")

_all: weakref.WeakValueDictionary[int, Registry] = weakref.WeakValueDictionary()
"""Every registry of this process, the oldest first."""
_next = count().__next__


class Registry:
    """A registry of task functions by name."""

    def __init__(self) -> None:
        self._tasks: dict[str, TaskWrapper[Any, Any]] = {}
        self._aliases: dict[str, TaskWrapper[Any, Any]] = {}
        """The same by former names."""
        _all[_next()] = self

    def register(self, wrapper: TaskWrapper[Any, Any]) -> None:
        """Add a function. Raises ValueError if another one has its name, or one of its aliases.

        The same function replaces itself. So does one whose module is executed again and, with a warning, one that is entered again at a
        prompt or in a notebook.
        """
        identity.note(wrapper.func)
        names = (wrapper.name, *wrapper.options.aliases)
        known = {name: self._tasks.get(name) or self._aliases.get(name) for name in names}
        for name, other in known.items():
            if other is not None and other is not wrapper:
                _check_is_again(name, other, wrapper)
        for other in known.values():
            if other is not None and self._tasks.get(other.name) is other and other.name in names:
                self.unregister(other.name)
        self._tasks[wrapper.name] = wrapper
        for name in wrapper.options.aliases:
            self._aliases[name] = wrapper

    def adopt(self, other: Registry) -> None:
        """Add the functions of another instance's registry, except those whose names are taken."""
        for wrapper in other:
            self._tasks.setdefault(wrapper.name, wrapper)
        for name, wrapper in other._aliases.items():
            self._aliases.setdefault(name, wrapper)

    def unregister(self, name: str) -> bool:
        """Remove a function; return whether it was registered."""
        wrapper = self._tasks.pop(name, None)
        for alias in () if wrapper is None else wrapper.options.aliases:
            if self._aliases.get(alias) is wrapper:
                del self._aliases[alias]
        return wrapper is not None

    def find(self, name: str) -> TaskWrapper[Any, Any]:
        """Return the function of that name: from this registry, else from the oldest instance that knows it. Raise UnknownTask if no
        instance in this process does."""
        wrapper = self._tasks.get(name)
        if wrapper is not None:
            return wrapper
        for registry in (self, *_all.values()):
            wrapper = registry._tasks.get(name) or registry._aliases.get(name)
            if wrapper is not None:
                return wrapper
        raise UnknownTask(f"{name} not found in TaskRegistry: {self._hint(name)}")

    def _hint(self, name: str) -> str:
        """Return the likely reason why a task is unknown here."""
        if is_of_script(name):
            return (
                "it was enqueued by a file that was run as a script, or from a notebook or a prompt, so that its module is called __main__ "
                "there and something else here; move the function into a module that both import, or give it a name='...' of its own"
            )
        last = name.rpartition(".")[2]
        alike = sorted(known for known in self._tasks if known.rpartition(".")[2] == last and _is_end_of(known, name))
        if alike:
            return f"there is {alike[0]} here; import its module by one name everywhere, or give the task a name='...' of its own"
        return "import the module that defines it together with the Huey instance"

    def __contains__(self, name: str) -> bool:
        return name in self._tasks

    def __iter__(self) -> Iterator[TaskWrapper[Any, Any]]:
        return iter(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def periodic(self) -> list[PeriodicWrapper[Any, Any]]:
        """The periodic functions."""
        return [wrapper for wrapper in self._tasks.values() if isinstance(wrapper, PeriodicWrapper)]


TaskRegistry = Registry
"""The name of the class in huey 3.x."""


class Everything:
    """The functions of all instances of this process, by the names of 0.4.9."""

    def __contains__(self, name: str) -> bool:
        """Return True if a function of that name is registered, or one whose task class, ``queuecmd_<function>``, has that name."""
        return any(name in (wrapper.name, wrapper.task_class.__name__) for registry in list(_all.values()) for wrapper in registry)

    def get_periodic_tasks(self) -> list[Any]:
        """Return one task of each periodic function."""
        return [wrapper.task_class() for registry in list(_all.values()) for wrapper in registry.periodic]


registry = Everything()
"""``huey.registry.registry`` of 0.4.9, read-only."""


def instances() -> list[Any]:
    """Return the instances of ``Huey`` in this process with which functions were declared, the oldest first."""
    found = [next(iter(registry)).huey for registry in list(_all.values()) if len(registry)]
    return list({id(huey): huey for huey in found}.values())


def _is_end_of(one: str, other: str) -> bool:
    """Return True if one of two dotted names is the end of the other."""
    return f".{one}".endswith(f".{other}") or f".{other}".endswith(f".{one}")


def _check_is_again(name: str, known: TaskWrapper[Any, Any], wrapper: TaskWrapper[Any, Any]) -> None:
    """Raise ValueError if *wrapper* is not *known* declared again."""
    if identity.is_same(known.func, wrapper.func):
        if identity.is_made_again(known.func, wrapper.func) or _run_alike(known, wrapper):
            return
        kinds = sorted({type(each).kind for each in (known, wrapper)})
        twice = " and as a ".join(kinds) if len(kinds) > 1 else f"{kinds[0]} in two ways, with other options"
        raise ValueError(
            f"the task name {name!r} is taken: one function is declared as a {twice}; give one of the two another name with name='...'"
        )
    if not identity.is_typed_again(known.func, wrapper.func):
        raise ValueError(
            f"the task name {name!r} is taken by {_describe(known.func)}; give one of the two another name with name='...'"
            + _why(known.func, wrapper.func)
        )
    log.warning("the task %s is declared again: the new function replaces the old one", name)


def _run_alike(known: TaskWrapper[Any, Any], wrapper: TaskWrapper[Any, Any]) -> bool:
    """Return True if a worker would run both in the same way. (Retries, priority and so on travel with each task.)"""
    if type(known) is not type(wrapper) or not identity.is_same(_run_by(known.options), _run_by(wrapper.options)):
        return False
    if isinstance(known, PeriodicWrapper) and isinstance(wrapper, PeriodicWrapper):
        return identity.is_same(known.validate_datetime, wrapper.validate_datetime)
    return True


_run_by = attrgetter("retries_as_argument", "include_task", "timeout", "retry_on", "no_retry_on", "constraints")


def _describe(func: Any) -> str:
    func = innermost(func)
    code = getattr(func, "__code__", None)
    return f"{func!r:.200}" if code is None else f"{func.__qualname__} ({code.co_filename}, line {code.co_firstlineno})"


def _why(known: Any, func: Any) -> str:
    code = getattr(known, "__code__", None)
    is_one = code is not None and code is getattr(func, "__code__", None) and not hasattr(known, "__wrapped__")
    return ". Both were made by the same lines: if that is a decorator, let it use functools.wraps" if is_one else ""

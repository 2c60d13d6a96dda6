"""Which function a name means.

Each Huey instance has a registry of its own. A name that it does not know but another instance of this process does is found there
(S136, C16). Nothing is ever imported because a message says so (S3).
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from itertools import count
from typing import Any

from huey.decorators import PeriodicWrapper, TaskWrapper
from huey.exceptions import UnknownTask

_all: weakref.WeakValueDictionary[int, Registry] = weakref.WeakValueDictionary()
"""Every registry of this process, the oldest first."""
_next = count().__next__


class Registry:
    """Names and the functions behind them."""

    def __init__(self) -> None:
        self._tasks: dict[str, TaskWrapper[Any, Any]] = {}
        self._aliases: dict[str, TaskWrapper[Any, Any]] = {}
        """By the names that functions had before."""
        _all[_next()] = self

    def register(self, wrapper: TaskWrapper[Any, Any]) -> None:
        """Add a function. The same function again replaces itself; another one under its name is a ValueError (C16)."""
        for name in (wrapper.name, *wrapper.options.aliases):
            known = self._tasks.get(name) or self._aliases.get(name)
            if known is not None and not _is_same(known.func, wrapper.func):
                raise ValueError(f"the task name {name!r} is taken by {known.func!r}; give one of the two another name with name='...'")
        self._tasks[wrapper.name] = wrapper
        for name in wrapper.options.aliases:
            self._aliases[name] = wrapper

    def unregister(self, name: str) -> bool:
        """Forget a function; True if it was known."""
        wrapper = self._tasks.pop(name, None)
        for alias in () if wrapper is None else wrapper.options.aliases:
            self._aliases.pop(alias, None)
        return wrapper is not None

    def find(self, name: str) -> TaskWrapper[Any, Any]:
        """The function of that name: ours, else the one of the oldest instance that knows it. UnknownTask: no instance of this process
        does."""
        wrapper = self._tasks.get(name)
        if wrapper is not None:
            return wrapper
        for registry in (self, *_all.values()):
            wrapper = registry._tasks.get(name) or registry._aliases.get(name)
            if wrapper is not None:
                return wrapper
        raise UnknownTask(f"{name} not found in TaskRegistry: import the module that defines it together with the Huey instance")

    def __contains__(self, name: str) -> bool:
        return name in self._tasks

    def __iter__(self) -> Iterator[TaskWrapper[Any, Any]]:
        return iter(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def periodic(self) -> list[PeriodicWrapper[Any, Any]]:
        """Functions that run by the clock."""
        return [wrapper for wrapper in self._tasks.values() if isinstance(wrapper, PeriodicWrapper)]


class Everything:
    """What all instances of this process know, by 0.4.9's names."""

    def __contains__(self, name: str) -> bool:
        """A function of that name, or of the task class of that name, ``queuecmd_<function>``, is registered."""
        return any(name in (wrapper.name, wrapper.task_class.__name__) for registry in list(_all.values()) for wrapper in registry)

    def get_periodic_tasks(self) -> list[Any]:
        """A task of each periodic function."""
        return [wrapper.task_class() for registry in list(_all.values()) for wrapper in registry.periodic]


registry = Everything()
"""``huey.registry.registry`` of 0.4.9, to look only."""


def _is_same(one: Any, other: Any) -> bool:
    # A reloaded module defines its functions anew: same place, same function.
    return one is other or (one.__qualname__, one.__module__) == (other.__qualname__, other.__module__)

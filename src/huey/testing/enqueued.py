"""What ``assert_enqueued`` asks for, how an enqueued task differs from it, and how both are described."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from huey.runtime.clock import SECOND, Micros, micros
from huey.runtime.display import arguments, counted
from huey.runtime.times import shown_time, to_micros, to_seconds
from huey.task.task import Task
from huey.task.wrapper import TaskWrapper
from huey.testing.worker import SHOWN_CHARS, described

TOLERANCE = SECOND
"""How far a time may be from the one asked for: code and test may each have read the clock of the machine."""
SHOWN_TASKS = 20
"""How many enqueued tasks a message lists."""


class Enqueued(NamedTuple):
    """A task that is enqueued."""

    task: Task
    queue: str
    state: str
    """``ready``, ``scheduled``, ``retrying``, ``blocked``, ``waiting``."""
    due: Micros | None
    delay: Micros
    """From its enqueue until it is due."""

    def __str__(self) -> str:
        when = "" if self.due is None else f", due at {shown_time(self.due, False):%Y-%m-%d %H:%M:%S} UTC ({_length(self.delay)} later)"
        return f"{described(self.task)} in queue {self.queue!r}: {self.state}{when}"


class Wanted(NamedTuple):
    """What is asked for; None: anything."""

    wrapper: Any
    """The decorated function, or the name of the task."""
    args: Sequence[Any] | None
    kwargs: Mapping[str, Any] | None
    delay: Micros | None
    eta: Micros | None
    queue: str | None

    @classmethod
    def of(
        cls,
        task: Any,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        delay: float | timedelta | None,
        eta: datetime | None,
        queue: str | None,
    ) -> Wanted:
        """Check the arguments of ``assert_enqueued``. Raise TypeError or ValueError for one that cannot be meant."""
        wrapper = getattr(task, "_wrapper", task)
        if not isinstance(wrapper, TaskWrapper | str):
            raise TypeError(
                f"{task!r}: give the decorated function, or the name of the task, and the arguments as args=(...), kwargs={{...}}"
            )
        if args is not None and not isinstance(args, tuple | list):
            raise TypeError(f"args={args!r}: give the arguments as a tuple, such as args=({args!r},)")
        length = None if delay is None else micros(to_seconds(delay))
        return cls(wrapper, args, kwargs, length, None if eta is None else to_micros(eta, True), queue)

    @property
    def name(self) -> str:
        return self.wrapper if isinstance(self.wrapper, str) else self.wrapper.name

    def differences(self, found: Enqueued) -> list[str]:
        """Return how *found*, a task of the same name, differs; nothing if it does not."""
        facts = []
        if not self._has_arguments_of(found.task):
            wanted = arguments(tuple(self.args or ()), dict(self.kwargs or {}), SHOWN_CHARS)
            facts.append(f"its arguments are ({arguments(found.task.args, found.task.kwargs, SHOWN_CHARS)}), not ({wanted})")
        if self.delay is not None and abs(found.delay - self.delay) > TOLERANCE:
            facts.append(f"its delay is {_length(found.delay)}, not {_length(self.delay)}")
        if self.eta is not None and (found.due is None or abs(found.due - self.eta) > TOLERANCE):
            facts.append(f"its eta is {_time(found.due)}, not {_time(self.eta)}")
        if self.queue is not None and found.queue != self.queue:
            facts.append(f"its queue is {found.queue!r}, not {self.queue!r}")
        return facts

    def _has_arguments_of(self, task: Task) -> bool:
        if self.args is None and self.kwargs is None:
            return True
        wanted = tuple(self.args or ()), dict(self.kwargs or {})
        return wanted == (task.args, task.kwargs) or self._bound(*wanted) == self._bound(task.args, task.kwargs)

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the arguments by parameter, so that it does not matter which were given by name."""
        try:
            return dict(inspect.signature(self.wrapper.func).bind_partial(*args, **kwargs).arguments)
        except (AttributeError, TypeError, ValueError):  # Only the name is known, or the function does not say.
            return args, kwargs

    def __str__(self) -> str:
        facts = []
        if self.args is not None or self.kwargs is not None:
            facts.append(f"arguments ({arguments(tuple(self.args or ()), dict(self.kwargs or {}), SHOWN_CHARS)})")
        if self.delay is not None:
            facts.append(f"a delay of {_length(self.delay)}")
        if self.eta is not None:
            facts.append(f"the eta {_time(self.eta)}")
        if self.queue is not None:
            facts.append(f"the queue {self.queue!r}")
        return f"{self.name} with {', '.join(facts)}" if facts else self.name


def misfit(wanted: Wanted, found: Sequence[Enqueued], times: int | None, ran: Sequence[str]) -> str | None:
    """Return why *found*, all enqueued tasks, is not what was asked for, or None. *times*: how often it must be there; None: at least once.
    *ran*: the names of the tasks that have run already."""
    same = [(each, wanted.differences(each)) for each in found if each.task.name == wanted.name]
    fitting = sum(not differences for _, differences in same)
    if fitting == times or (times is None and fitting):
        return None
    lines = [f"{wanted} is not enqueued" if times is None else f"{wanted} is enqueued {counted(fitting, 'time')}, expected: {times}"]
    if runs := ran.count(wanted.name):
        lines.append(f"it has run already ({counted(runs, 'time')}); assert before drain(), or look at what drain() returns")
    lines += listed(found, {id(each): differences for each, differences in same})
    return "\n".join(lines)


def listed(found: Sequence[Enqueued], differences: Mapping[int, Sequence[str]]) -> list[str]:
    """Return lines that list what is enqueued, each with its *differences*."""
    if not found:
        return ["nothing is enqueued"]
    lines = ["enqueued:"]
    for each in found[:SHOWN_TASKS]:
        lines.append(f"  {each}")
        lines += [f"    {fact}" for fact in differences.get(id(each), ())]
    if len(found) > SHOWN_TASKS:
        lines.append(f"  and {counted(len(found) - SHOWN_TASKS, 'more task')}")
    return lines


def _length(length: Micros) -> str:
    return f"{length / SECOND:g} s"


def _time(when: Micros | None) -> str:
    return "none" if when is None else f"{shown_time(when, False):%Y-%m-%d %H:%M:%S} UTC"

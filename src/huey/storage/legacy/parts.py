"""The four parts, checked at the start, and what becomes of their errors."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from huey.backends.base import Acknowledging, Part, Ticking
from huey.exceptions import ConfigurationError, HueyException, QueueException, StorageRefused

log = logging.getLogger("huey")

QUEUE = ("write", "read")
STORE = ("put", "peek", "get")
SCHEDULE = ("add", "read")
EVENTS = ("emit",)


class Parts:
    """A queue, and what there is beside it. ConfigurationError: something is no such part."""

    def __init__(self, queue: Any, store: Any = None, schedule: Any = None, events: Any = None) -> None:
        wanted = (("queue", queue, QUEUE), ("result_store", store, STORE), ("schedule", schedule, SCHEDULE), ("events", events, EVENTS))
        for role, part, methods in wanted:
            _check(role, part, methods)
        self.queue, self.store, self.schedule, self.events = queue, store, schedule, events
        self.name = getattr(queue, "name", None) or "huey"
        self.holding: list[Any] = [part for part in (queue, schedule) if isinstance(part, Acknowledging)]
        """Those that keep what is claimed until it is acknowledged."""
        self.ticking: Any = queue if isinstance(queue, Ticking) else None
        self.is_blocking = bool(getattr(queue, "blocking", False))
        self.take_priorities = bool(getattr(queue, "takes_priorities", False))

    @property
    def all(self) -> list[Any]:
        return [part for part in (self.queue, self.store, self.schedule) if part is not None]

    @property
    def are_shipped(self) -> bool:
        """All are huey's own, which open their connections anew in each process."""
        return all(part is None or type(part).__module__.startswith("huey.backends.") for part in (*self.all, self.events))

    @property
    def are_trusted(self) -> bool:
        """Nobody else can write into any of them."""
        return all(bool(getattr(part, "is_trusted", False)) for part in self.all)

    def startup_warnings(self, processes: int, periodic: bool) -> list[str]:
        """What a consumer has to tell at its start; see ``Storage.startup_warnings``."""
        queue = label_of(self.queue)
        told: list[str] = []
        if self.queue not in self.holding:
            told.append(
                f"{queue} can only read: a task that runs when its worker is killed is lost; a queue that is also a Holding loses none"
            )
        if self.schedule is not None and self.schedule not in self.holding:
            name = label_of(self.schedule)
            told.append(
                f"{name} can only read: a kill while a due task moves to the queue loses it; a schedule that is also a Holding loses none"
            )
        if self.schedule is None and self.queue not in self.holding:
            told.append("there is no schedule: tasks for later wait in the worker's memory, and a kill loses them")
        if periodic and self.ticking is None:
            if processes > 1:
                raise ConfigurationError(
                    f"periodic tasks with {processes} worker processes: {queue} cannot tell them which ticks were fired, so each would run "
                    "them; use threads (-k thread), or --no-periodic, or a queue that is also Ticking"
                )
            told.append(f"{queue} notes no ticks: let one consumer only run periodic tasks, the others with --no-periodic")
        for part in self.all:
            if isinstance(part, Part):
                with failing_as(QueueException, part, "caveats"):
                    told += part.startup_warnings()
        return told

    def __repr__(self) -> str:
        given = [*self.all, self.events] if self.events is not None else self.all
        return f"<{' '.join(dict.fromkeys(label_of(part) for part in given))}>"


def label_of(part: Any) -> str:
    """What a part is called where a user reads of it."""
    return getattr(part, "label", None) or type(part).__name__


def _check(role: str, part: Any, methods: Sequence[str]) -> None:
    if part is None and role != "queue":
        return
    missing = [method for method in methods if not callable(getattr(part, method, None))]
    if missing or isinstance(part, type):
        fact = "that is a class, give an instance" if isinstance(part, type) else f"it has no {', '.join(missing)}"
        raise ConfigurationError(f"{role}={part!r}: {fact}; huey.backends.base says what such a part does")


@contextmanager
def failing_as(kind: type[QueueException], part: Any, method: str) -> Iterator[None]:
    """What a part raises, as an error of huey's with the original as its cause (C27)."""
    try:
        yield
    except HueyException:
        raise
    except Exception as error:  # A part is the user's code, and may raise anything.
        raise kind(f"{type(error).__name__}: {error} [in {label_of(part)}.{method}]") from error


def refuse(what: str, part: Any) -> StorageRefused:
    """A promise that such parts cannot keep."""
    return StorageRefused(f"{what}: {label_of(part)} cannot do that; SqliteHuey and RedisHuey can")

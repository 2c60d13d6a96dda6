"""The four components of a 0.4.9 queue, checked when they are given, and the translation of their errors."""

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


class Components:
    """A queue, and optionally a result store, a schedule and an event emitter. ConfigurationError: an argument is no such component."""

    def __init__(self, queue: Any, store: Any = None, schedule: Any = None, events: Any = None) -> None:
        wanted = (("queue", queue, QUEUE), ("result_store", store, STORE), ("schedule", schedule, SCHEDULE), ("events", events, EVENTS))
        for role, part, methods in wanted:
            _check(role, part, methods)
        self.queue, self.store, self.schedule, self.events = queue, store, schedule, events
        self.name = getattr(queue, "name", None) or "huey"
        self.holding: list[Any] = [part for part in (queue, schedule) if isinstance(part, Acknowledging)]
        """Those that keep a claimed message until it is acknowledged."""
        self.ticking: Any = queue if isinstance(queue, Ticking) else None
        self.is_blocking = bool(getattr(queue, "blocking", False))
        self.take_priorities = bool(getattr(queue, "takes_priorities", False))

    @property
    def all(self) -> list[Any]:
        return [part for part in (self.queue, self.store, self.schedule) if part is not None]

    @property
    def are_shipped(self) -> bool:
        """True if all are huey's own, which reconnect in each process."""
        return all(part is None or type(part).__module__.startswith("huey.backends.") for part in (*self.all, self.events))

    @property
    def are_trusted(self) -> bool:
        """True if no other user can write to any of them."""
        return all(bool(getattr(part, "is_trusted", False)) for part in self.all)

    def startup_warnings(self, processes: int, periodic: bool) -> list[str]:
        """Return the warnings of ``Storage.startup_warnings``."""
        queue = label_of(self.queue)
        warnings: list[str] = []
        if self.queue not in self.holding:
            warnings.append(f"{queue} can only read: a task that runs when its worker is killed is lost; an Acknowledging queue loses none")
        if self.schedule is not None and self.schedule not in self.holding:
            name = label_of(self.schedule)
            warnings.append(
                f"{name} can only read: a kill while a due task moves to the queue loses it; an Acknowledging schedule loses none"
            )
        if self.schedule is None and self.queue not in self.holding:
            warnings.append("there is no schedule: scheduled tasks wait in the worker's memory, and a kill loses them")
        if periodic and self.ticking is None:
            if processes > 1:
                raise ConfigurationError(
                    f"periodic tasks with {processes} worker processes: {queue} does not record which ticks were fired, so each would run "
                    "them; use threads (-k thread), or --no-periodic, or a Ticking queue"
                )
            warnings.append(f"{queue} does not record ticks: let only one consumer run periodic tasks; start others with --no-periodic")
        for part in self.all:
            if isinstance(part, Part):
                with translating_errors(QueueException, part, "caveats"):
                    warnings += part.startup_warnings()
        return warnings

    def __repr__(self) -> str:
        given = [*self.all, self.events] if self.events is not None else self.all
        return f"<{' '.join(dict.fromkeys(label_of(part) for part in given))}>"


def label_of(part: Any) -> str:
    """Return the name of a component for messages."""
    return getattr(part, "label", None) or type(part).__name__


def _check(role: str, part: Any, methods: Sequence[str]) -> None:
    if part is None and role != "queue":
        return
    missing = [method for method in methods if not callable(getattr(part, method, None))]
    if missing or isinstance(part, type):
        fact = "that is a class, give an instance" if isinstance(part, type) else f"it has no {', '.join(missing)}"
        raise ConfigurationError(f"{role}={part!r}: {fact}; huey.backends.base describes such components")


@contextmanager
def translating_errors(kind: type[QueueException], part: Any, method: str) -> Iterator[None]:
    """Raise errors of *part* as *kind*, with the original as the cause."""
    try:
        yield
    except HueyException:
        raise
    except Exception as error:  # A component is the user's code, and may raise anything.
        raise kind(f"{type(error).__name__}: {error} [in {label_of(part)}.{method}]") from error


def unsupported(what: str, part: Any) -> StorageRefused:
    """Return the error for a feature that these components do not support."""
    return StorageRefused(f"{what}: {label_of(part)} cannot do that; SqliteHuey and RedisHuey can")

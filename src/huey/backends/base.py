"""Base classes for the four components of a 0.4.9 queue: subclass them to keep tasks wherever you like.

    queue = MyQueue("app", ...)                   # BaseQueue: a list, first in, first out
    store = MyStore("app", ...)                   # BaseDataStore: a dict, for results and revocations
    huey = Huey(queue, result_store=store)        # optionally also schedule=BaseSchedule, events=BaseEventEmitter

Data is ASCII text, passed as bytes; a component may return it as bytes or str. Keys are str. Timestamps are naive datetimes in UTC. A
component is used by several threads of one process: each worker process imports the application and so creates its own components. A
component may raise any exception: the consumer waits and tries again, and a caller gets it as the cause of a ``QueueException``.

A queue that only reads cannot keep running tasks: they are lost if their worker is killed. A queue that is also an ``Acknowledging`` loses
nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from huey.runtime.times import to_micros

Data = bytes | str


class Part:
    """Base class of all components: a name, and how to connect."""

    def __init__(self, name: str, **connection: Any) -> None:
        self.name = name
        self.connection = connection

    def startup_warnings(self) -> list[str]:
        """Return what a consumer logs about this component at startup."""
        return []

    @property
    def is_trusted(self) -> bool:
        """Whether no other user can write there, so that pickles of any class may be read from it."""
        return False

    def __repr__(self) -> str:
        # Never the connection: it may hold a password.
        return f"<{type(self).__name__} {getattr(self, 'name', '')!r}>"


class BaseQueue(Part):
    """A list of messages, first in, first out. Connections are made here or at first use."""

    blocking = False
    """Whether ``read`` waits for a message. If False, the consumer polls (``-d``, ``-m``, ``-b``)."""

    def write(self, data: Data) -> None:
        """Append a message."""
        raise NotImplementedError

    def read(self) -> Data | None:
        """Remove and return the first message, or None if there is none. Of two callers only one gets it."""
        raise NotImplementedError

    def remove(self, data: Data) -> int:
        """Remove all messages equal to *data*, and return how many there were."""
        raise NotImplementedError

    def flush(self) -> None:
        """Remove all messages. Optional."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Return the number of messages. Optional."""
        raise NotImplementedError

    def __bool__(self) -> bool:
        """Return True, for an empty queue too."""
        return True


class BaseDataStore(Part):
    """A store of values by key."""

    def put(self, key: str, value: Any) -> None:
        """Store *value*, replacing an earlier one."""
        raise NotImplementedError

    def peek(self, key: str) -> Any:
        """Return the value, or ``huey.utils.EmptyData`` if there is none."""
        raise NotImplementedError

    def get(self, key: str) -> Any:
        """Remove and return the value, or return ``huey.utils.EmptyData`` if there is none."""
        raise NotImplementedError

    def flush(self) -> None:
        """Remove all values."""
        raise NotImplementedError


class BaseSchedule(Part):
    """A schedule of messages that are due at a later time."""

    def add(self, data: Data, timestamp: datetime) -> None:
        """Store a message that is due at *timestamp*."""
        raise NotImplementedError

    def read(self, timestamp: datetime) -> list[Any]:
        """Remove and return all messages that are due at *timestamp* or before, soonest first."""
        raise NotImplementedError

    def flush(self) -> None:
        """Remove all messages."""
        raise NotImplementedError


class BaseEventEmitter:
    """A publisher of events. An error is logged and otherwise ignored."""

    def __init__(self, channel: str, **connection: Any) -> None:
        self.channel = channel
        self.connection = connection

    def emit(self, data: str) -> None:
        """Send one event, a JSON text."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self, 'channel', '')!r}>"


class Acknowledging:
    """Additional methods of a queue or schedule, so that a kill loses nothing: a claimed message stays, held by a worker, until it is
    acknowledged. Each method is atomic.

    A holder is a worker's id. A message that is held is neither read nor counted.
    """

    def claim(self, holder: str, limit: int, timestamp: datetime | None = None) -> list[Data]:
        """Claim the first *limit* messages for *holder* and return them; in a schedule, those that are due at *timestamp*."""
        raise NotImplementedError

    def claim_next(self, holder: str, timeout: float) -> Data | None:
        """Like ``claim(holder, 1)``, but wait up to *timeout* seconds for a message. Only blocking queues need it."""
        raise NotImplementedError

    def ack(
        self,
        holder: str,
        data: Data,
        instead: Data | None = None,
        *,
        first: bool = False,
        successor: str | None = None,
        timestamp: datetime | None = None,
    ) -> bool:
        """Remove *data*, which *holder* holds, and store *instead* in its place, if given: held by *successor*, or in the queue (at its
        front with *first*), or in the schedule until *timestamp*. Return False, and change nothing, if *holder* does not hold *data*."""
        raise NotImplementedError

    def held(self, holder: str) -> list[Data]:
        """Return the messages that *holder* holds."""
        raise NotImplementedError

    def waiting(self, limit: int) -> list[Data]:
        """Return the first *limit* messages that are not held, without removing them."""
        raise NotImplementedError

    def register(self, holder: str, text: str) -> None:
        """Store a holder with *text*, replacing an earlier text."""
        raise NotImplementedError

    def registered(self) -> dict[str, str]:
        """Return the texts of all registered holders."""
        raise NotImplementedError

    def deregister(self, holder: str) -> None:
        """Remove a holder, unless it holds a message."""
        raise NotImplementedError


class Ticking:
    """Additional methods of a queue, so that a periodic task runs once per tick, however many consumers are running."""

    def tick(self, task: str, at: int, data: Data | None) -> bool:
        """Store *at* and append *data* (unless that is None) if the last tick of *task* is older than *at*, atomically. Return False if it
        is not."""
        raise NotImplementedError

    def ticks(self) -> dict[str, int]:
        """Return the last tick of each task."""
        raise NotImplementedError


class Components(NamedTuple):
    """The component classes of one module by role, as Django's settings name them: ``huey.backends.<module>.Components``."""

    queue: type[BaseQueue]
    result_store: type[BaseDataStore] | None
    schedule: type[BaseSchedule] | None
    events: type[BaseEventEmitter] | None


def micros_of(timestamp: datetime) -> int:
    """Return a naive time, read as UTC, in microseconds since 1970."""
    return to_micros(timestamp.replace(tzinfo=UTC), naive_is_local=False)


def naive_utc(micros: int) -> datetime:
    """Return the naive UTC time of *micros*."""
    return datetime.fromtimestamp(micros // 1_000_000, UTC).replace(tzinfo=None, microsecond=micros % 1_000_000)

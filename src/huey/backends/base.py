"""What the four parts of a 0.4.9 queue do: subclass these to keep tasks wherever you like (S153-S166).

    queue = MyQueue("app", ...)                   # BaseQueue: a list, first in, first out
    store = MyStore("app", ...)                   # BaseDataStore: a dict, for results and revocations
    huey = Huey(queue, result_store=store)        # and, if you like, schedule=BaseSchedule, events=BaseEventEmitter

Data are texts in ASCII, handed over as bytes; a part may give them back as bytes or str. Keys are str. Timestamps are naive datetimes, UTC.
A part is used by several threads, and by one process: each worker process imports the application and so makes parts of its own.
A part that fails raises what it likes: the consumer waits and tries again, a caller gets it as the cause of a ``QueueException``.

A queue that can only read cannot keep what runs: it is lost when its worker is killed. One that is a ``Acknowledging`` too loses nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from huey.runtime.times import to_micros

Data = bytes | str


class Part:
    """What all parts have in common: a name, and how to connect."""

    def __init__(self, name: str, **connection: Any) -> None:
        self.name = name
        self.connection = connection

    def startup_warnings(self) -> list[str]:
        """What a consumer tells at its start about this part."""
        return []

    @property
    def is_trusted(self) -> bool:
        """Nobody else can write there, so pickles of any class may be read from it."""
        return False

    def __repr__(self) -> str:
        # Never the connection: it may hold a password.
        return f"<{type(self).__name__} {getattr(self, 'name', '')!r}>"


class BaseQueue(Part):
    """A list of messages, first in, first out. Connections are made here or at first use."""

    blocking = False
    """``read`` waits for a message. False: the consumer looks again after a while (``-d``, ``-m``, ``-b``)."""

    def write(self, data: Data) -> None:
        """Put a message at the end."""
        raise NotImplementedError

    def read(self) -> Data | None:
        """Take the first message out; None when there is none. Of two callers one gets it."""
        raise NotImplementedError

    def remove(self, data: Data) -> int:
        """Remove all messages equal to *data*; how many there were."""
        raise NotImplementedError

    def flush(self) -> None:
        """Remove all. Optional."""
        raise NotImplementedError

    def __len__(self) -> int:
        """How many wait. Optional."""
        raise NotImplementedError

    def __bool__(self) -> bool:
        """A queue is there, also an empty one."""
        return True


class BaseDataStore(Part):
    """Values by key."""

    def put(self, key: str, value: Any) -> None:
        """Keep *value*, in place of what was there."""
        raise NotImplementedError

    def peek(self, key: str) -> Any:
        """The value; ``huey.utils.EmptyData`` when there is none."""
        raise NotImplementedError

    def get(self, key: str) -> Any:
        """The value, which is removed; ``huey.utils.EmptyData`` when there is none."""
        raise NotImplementedError

    def flush(self) -> None:
        """Remove all."""
        raise NotImplementedError


class BaseSchedule(Part):
    """Messages for later."""

    def add(self, data: Data, timestamp: datetime) -> None:
        """Keep a message until that time."""
        raise NotImplementedError

    def read(self, timestamp: datetime) -> list[Any]:
        """Take out all messages whose time is *timestamp* or before, soonest first."""
        raise NotImplementedError

    def flush(self) -> None:
        """Remove all."""
        raise NotImplementedError


class BaseEventEmitter:
    """Tells events to whoever listens. Send and forget: an error is noted in the log, and the work goes on (S134)."""

    def __init__(self, channel: str, **connection: Any) -> None:
        self.channel = channel
        self.connection = connection

    def emit(self, data: str) -> None:
        """Send one event, a JSON text."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self, 'channel', '')!r}>"


class Acknowledging:
    """What a queue or schedule offers beside so that a kill loses nothing: a message that is claimed stays, held by a worker, until it is
    acknowledged. Each method is one step: it happens whole or not at all.

    A holder is a worker's id. What it holds is neither read nor counted as waiting.
    """

    def claim(self, holder: str, limit: int, timestamp: datetime | None = None) -> list[Data]:
        """Let *holder* hold the first *limit* messages, and return them; of a schedule those whose time is *timestamp* or before."""
        raise NotImplementedError

    def claim_next(self, holder: str, timeout: float) -> Data | None:
        """As ``claim(holder, 1)``, but wait up to *timeout* seconds for a message. Only a blocking queue needs it."""
        raise NotImplementedError

    def ack(
        self,
        holder: str,
        data: Data,
        instead: Data | None = None,
        *,
        first: bool = False,
        heir: str | None = None,
        timestamp: datetime | None = None,
    ) -> bool:
        """*holder* lets go of *data*, and *instead*, if given, takes its place: held by *heir* if there is one, else waiting at the end of
        the queue, in front with *first*; in a schedule until *timestamp*. False: *holder* does not hold it, and nothing changed."""
        raise NotImplementedError

    def held(self, holder: str) -> list[Data]:
        """What *holder* holds."""
        raise NotImplementedError

    def waiting(self, limit: int) -> list[Data]:
        """The first *limit* messages that nobody holds, left where they are."""
        raise NotImplementedError

    def enlist(self, holder: str, text: str) -> None:
        """Note a holder, and *text* about it in place of an earlier one."""
        raise NotImplementedError

    def enlisted(self) -> dict[str, str]:
        """All holders noted, and their texts."""
        raise NotImplementedError

    def dismiss(self, holder: str) -> None:
        """Forget a holder, unless it holds something."""
        raise NotImplementedError


class Ticking:
    """What a queue offers beside so that a periodic task runs once per tick, however many consumers there are."""

    def tick(self, task: str, at: int, data: Data | None) -> bool:
        """One step: if the last tick of *task* is older than *at*, note *at* and write *data*, unless that is None. False: it is not."""
        raise NotImplementedError

    def ticks(self) -> dict[str, int]:
        """The last tick of each task."""
        raise NotImplementedError


class Components(NamedTuple):
    """The classes of one module by role, as Django's settings name them: ``huey.backends.<module>.Components``."""

    queue: type[BaseQueue]
    result_store: type[BaseDataStore] | None
    schedule: type[BaseSchedule] | None
    events: type[BaseEventEmitter] | None


def micros_of(timestamp: datetime) -> int:
    """A naive time, read as UTC, in microseconds since 1970."""
    return to_micros(timestamp.replace(tzinfo=UTC), naive_is_local=False)


def naive_utc(micros: int) -> datetime:
    """The other way round."""
    return datetime.fromtimestamp(micros // 1_000_000, UTC).replace(tzinfo=None, microsecond=micros % 1_000_000)

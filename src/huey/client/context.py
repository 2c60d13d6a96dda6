"""What the parts of ``Huey`` and of a consumer are made from: what belongs to one queue, as one frozen value, and replaced methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from huey.engine.task_decoder import TaskDecoder
from huey.hooks import Hooks
from huey.registry import Registry
from huey.runtime.clock import Clock, Ids, Micros, Rng
from huey.runtime.times import micros_to_wall, to_micros, wall_time
from huey.serializer import Codec
from huey.signals import Signals
from huey.storage.base import Storage
from huey.task.task import Task


class CallPolicy(NamedTuple):
    """The options of a ``Huey`` that control how calls are made and what is kept of them. See ``Huey``."""

    results: bool = True
    store_none: bool = False
    store_intermediate_errors: bool = True
    always_eager: bool = False
    utc: bool = True
    keep_ids: float | None = None


class QueueContext(NamedTuple):
    """One queue: its name, storage and codec, and what it shares with the other queues of its ``Huey``."""

    name: str
    storage: Storage
    codec: Codec
    make_codec: Callable[..., Codec]
    """Makes the codec of another queue, with the same options."""
    clock: Clock
    rng: Rng
    new_id: Ids
    registry: Registry
    signals: Signals
    hooks: Hooks
    policy: CallPolicy = CallPolicy()

    def for_queue(self, name: str) -> QueueContext:
        """Return the context of another queue in the same store. Raise ConfigurationError if the storage supports only one queue."""
        storage = self.storage.for_queue(name)
        codec = self.make_codec(name, is_trusted=lambda: storage.is_trusted)
        return self._replace(name=name, storage=storage, codec=codec)

    @property
    def decoder(self) -> TaskDecoder:
        """Builds tasks from records, rows and leases."""
        return TaskDecoder(self.registry, self.codec)

    def at(self, timestamp: datetime | None) -> Micros:
        """Return *timestamp* in microseconds UTC; None is now. A naive one is read as the time on the consumer's clock."""
        if timestamp is None:
            return self.clock.now()
        if timestamp.tzinfo is not None:
            return to_micros(timestamp, True)
        wall = wall_time(timestamp)
        return wall - self.consumer_offset(wall)

    def consumer_offset(self, now: Micros) -> Micros:
        """Return how far the consumer's clock is ahead of UTC: as the consumer recorded it or, before any consumer has started, as ``utc``
        says."""
        noted = self.storage.peek("setting", "offset")
        try:
            return int(noted or b"")
        except ValueError:
            return micros_to_wall(now, not self.policy.utc) - now


class Overrides:
    """Methods of one ``Huey`` that a subclass may override and an instrumentation may patch, on the class or on one object. *originals*:
    the methods as huey defines them, by name.

    Every enqueue then passes through ``Huey.enqueue`` and every run through ``Huey._execute``. While they are the original methods, which
    is checked at each use, the parts of huey call each other directly.
    """

    def __init__(self, huey: Any, originals: Mapping[str, Callable[..., Any]]) -> None:
        self._huey = huey
        self._originals = originals

    def call_enqueue(self, task: Task) -> Any:
        """Enqueue *task* through ``Huey.enqueue``, replaced or not."""
        return self._huey.enqueue(task)

    @property
    def custom_enqueue(self) -> Callable[[Task], Any] | None:
        """``Huey.enqueue`` if it is overridden or patched, else None."""
        return self._replaced("enqueue")

    @property
    def custom_execute(self) -> Callable[[Task], Any] | None:
        """``Huey._execute`` if it is overridden or patched, else None."""
        return self._replaced("_execute")

    @property
    def custom_error_result(self) -> Callable[[Task, BaseException], dict[str, Any]] | None:
        """``Huey.build_error_result`` if it is overridden or patched, else None."""
        return self._replaced("build_error_result")

    def _replaced(self, verb: str) -> Callable[..., Any] | None:
        method: Callable[..., Any] = getattr(self._huey, verb)
        return None if getattr(method, "__func__", None) is self._originals[verb] else method

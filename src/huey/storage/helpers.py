"""Small functions that every storage uses: how much one call accepts, and checks of finishes before the store is called.

And how long results are kept (``result_ttl=``), and how many succeeded tasks, or for how long (``keep_finished=``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from huey.exceptions import ConfigurationError
from huey.runtime.clock import Micros
from huey.storage.rows import TaskIds, TaskName
from huey.task.lifecycle import Finish
from huey.task.record import Record, RecordBatch
from huey.task.record_options import may_have_constraints

T = TypeVar("T")

CHUNK = 1000
"""Most records that one enqueue writes in one step."""
MOST: Micros = 2**62
"""More tasks, or microseconds, than any retention."""
_MESSAGES = (bytes, bytearray, str)


@dataclass(slots=True)
class BulkEnqueue:
    """The destination of the chunks of one ``bulk_enqueue``."""

    enqueue: Callable[..., Mapping[str, str]]


def check_records(records: Sequence[object]) -> None:
    """Check the records of one enqueue. Raise ValueError if there are too many, TypeError for a message, as storages of huey 3.x take."""
    if isinstance(records, _MESSAGES):
        raise TypeError(
            "storage.enqueue() takes task records, not messages: enqueue a task with huey.enqueue(task); for a message of "
            "huey.serialize_task(): huey.enqueue(huey.deserialize_task(data))"
        )
    if len(records) > CHUNK:
        raise ValueError(f"{len(records)} records: one enqueue takes at most {CHUNK}; use in_chunks")


def check_keys(keys: Sequence[object]) -> None:
    """Check the keys of one call. Raise ValueError if there are too many."""
    if len(keys) > CHUNK:
        raise ValueError(f"{len(keys)} keys: one call takes at most {CHUNK}")


def in_chunks(records: Iterable[T]) -> Iterable[list[T]]:
    """Yield *records* in lists of at most ``CHUNK``."""
    left = iter(records)
    while chunk := list(islice(left, CHUNK)):
        yield chunk


def any_constraints(records: Sequence[Record]) -> bool:
    """Return True if one of the records may have constraints."""
    # An isinstance check against an abstract class takes as long as all the rest.
    if type(records) is RecordBatch:
        return may_have_constraints(records.template.options)
    return any(map(may_have_constraints, [record.options for record in records]))


def newest(finishes: Sequence[Finish]) -> tuple[Sequence[Finish], list[str]]:
    """Return *finishes* with only the newest lease of each task, and the ids of the others, whose leases can no longer hold."""
    latest: dict[str, Finish] = {}
    for finish in finishes:
        lease = finish.lease
        if lease.id not in latest or lease.token > latest[lease.id].lease.token:
            latest[lease.id] = finish
    if len(latest) == len(finishes):
        return finishes, []
    kept = set(map(id, latest.values()))
    return list(latest.values()), [finish.lease.id for finish in finishes if id(finish) not in kept]


def parts_of(targets: Sequence[TaskIds | TaskName]) -> tuple[str | None, str | None, Micros | None]:
    """Return the id, the name and the enqueue in the targets of one ``get_revocation``."""
    id, name, enqueue = None, None, None
    for target in targets:
        if isinstance(target, TaskName):
            name = target.name
        else:
            (id,), enqueue = target
    return id, name, enqueue


class Retention(NamedTuple):
    """A retention rule: succeeded tasks stay while they are among the newest ``most`` and younger than ``age``."""

    most: int
    age: Micros

    @property
    def is_on(self) -> bool:
        return self.most > 0 and self.age > 0

    @classmethod
    def of(cls, keep_finished: Any) -> Retention:
        """Make a rule from a number of tasks to keep, or a timedelta. Raise ConfigurationError for anything else."""
        if isinstance(keep_finished, timedelta) and keep_finished >= timedelta(0):
            return cls(MOST, min(MOST, keep_finished // timedelta(microseconds=1)))
        if isinstance(keep_finished, int) and not isinstance(keep_finished, bool) and 0 <= keep_finished <= MOST:
            return cls(keep_finished, MOST)
        raise ConfigurationError(
            f"keep_finished={keep_finished!r}: give the number of succeeded tasks to keep, or a timedelta such as timedelta(days=1)"
        )


def parse_result_ttl(result_ttl: Any) -> float | None:
    """Return *result_ttl* in seconds, or None for no limit. Raise ConfigurationError for anything else."""
    is_number = isinstance(result_ttl, int | float) and not isinstance(result_ttl, bool)
    if result_ttl is not None and not (is_number and 0 <= result_ttl < math.inf):
        raise ConfigurationError(f"result_ttl={result_ttl!r}: give how many seconds unread results are kept, or None for no limit")
    return None if result_ttl is None else float(result_ttl)

"""Small functions that every storage uses: how much one call accepts, and checks of finishes before the store is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from huey.runtime.clock import Micros
from huey.storage.rows import TaskIds, TaskName
from huey.task.lifecycle import Finish
from huey.task.record import Record, RecordBatch
from huey.task.record_options import may_have_constraints

T = TypeVar("T")

CHUNK = 1000
"""Most records that one enqueue writes in one step."""
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

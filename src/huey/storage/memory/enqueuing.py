"""Enqueueing tasks: each is new, already known, or kept out by a key."""

from __future__ import annotations

from collections.abc import Sequence

from huey.runtime.clock import Micros
from huey.storage.helpers import any_constraints
from huey.storage.memory import edges, keys, revocations
from huey.storage.memory.row import Row
from huey.storage.memory.tables import Tables
from huey.storage.rows import EventFactory
from huey.task.record import Record
from huey.task.record_options import read_constraints


def enqueue(tables: Tables, records: Sequence[Record], make_events: EventFactory | None, now: Micros) -> dict[str, str]:
    """Enqueue tasks; of two with the same id, the first. Map each one that was kept out to the id of the task that kept it out."""
    others: dict[str, str | None] = {}
    duplicates: dict[str, str] = {}
    for record in records:
        if record.id in others:
            continue
        other = others[record.id] = insert(tables, record, now)
        is_same_call = other == record.id in tables.tasks.rows and read_constraints(record.options).own is None
        if other is not None and not is_same_call:
            duplicates[record.id] = other
    if make_events is not None and tables.events.are_followed(now):
        texts = make_events()
        if any_constraints(records):
            texts = [text for record, text in zip(records, texts, strict=True) if others[record.id] is None]
        tables.events.publish(texts, now)
    return duplicates


def insert(tables: Tables, record: Record, now: Micros, parents: int = 0) -> str | None:
    """Enqueue one task, which waits for that number of *parents*, and return None, or return the id that keeps it out: its own, if held or
    reserved, or the key's holder."""
    former, row = tables.tasks.rows.get(record.id), Row(record, now)
    is_own = row.constraints.own is not None
    if former is not None and not (former.is_ended and is_own):
        return record.id
    if (other := keys.duplicate_of(tables, row, now)) is not None:
        return other
    if is_own:
        # A new run of an id that may have had earlier runs: its token is higher than all of theirs, and nothing is left of them.
        if former is not None:
            tables.tasks.remove([record.id])
            edges.forget(tables, record.id)
        row.token = tables.tasks.top_token
        tables.values["result"].pop(record.id, None)
    row.revoked = revocations.hand_over(tables, row, now)
    row.open_parents = parents
    (tables.tasks.wait if parents else tables.tasks.queue)(row)
    keys.enqueued(tables, row, now)
    return None


def tick(tables: Tables, name: str, tick: Micros, record: Record | None, now: Micros) -> bool:
    """Fire a tick of a periodic task. Return False if this tick or a later one has already fired."""
    if name in tables.ticks and tables.ticks[name][0] >= tick:
        return False
    tables.ticks[name] = tick, now
    if record is not None:
        insert(tables, record, now)
    return True

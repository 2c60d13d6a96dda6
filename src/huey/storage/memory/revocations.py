"""Revocations: of tasks, kept in their rows; of ids that are not held and of names, kept in dicts of their own."""

from __future__ import annotations

from huey.runtime.clock import Micros
from huey.runtime.times import EARLIEST_ZONE
from huey.storage.base import FOREVER, REVOCATION_KEPT
from huey.storage.memory.row import Row
from huey.storage.memory.tables import Tables, peek, pop, remove
from huey.storage.rows import Revocation, TaskIds, TaskName
from huey.task.record_options import FIRST


def revoke(tables: Tables, target: TaskIds | TaskName, until: Micros | None, once: bool, now: Micros) -> None:
    revocation = Revocation(FOREVER if until is None else until, once)
    if isinstance(target, TaskName):
        tables.revoked_names[target.name] = revocation
        return
    for id in target.ids:
        row = _row_of(tables, id, target.enqueue)
        if row is None or (target.enqueue is None and row.may_come_again):
            tables.revoked_ids[id, target.enqueue] = revocation, now + REVOCATION_KEPT
        elif not row.is_ended:
            row.revoked = revocation


def restore(tables: Tables, target: TaskIds | TaskName, now: Micros) -> list[str]:
    if isinstance(target, TaskName):
        return [target.name] if tables.revoked_names.pop(target.name, None) is not None else []
    return [id for id in target.ids if _restore(tables, id, target.enqueue, now)]


def _restore(tables: Tables, id: str, enqueue: Micros | None, now: Micros) -> bool:
    row = _row_of(tables, id, enqueue)
    if row is None or (enqueue is None and row.may_come_again):
        return pop(tables.revoked_ids, (id, enqueue), now) is not None
    if row.is_ended or row.revoked is None:
        return False
    row.revoked = None
    return True


def find(tables: Tables, id: str | None, name: str | None, enqueue: Micros | None, now: Micros) -> Revocation | None:
    if id is not None:
        row = _row_of(tables, id, enqueue)
        found = (row.revoked if row is not None else None) or peek(tables.revoked_ids, (id, enqueue), now)
        if found is not None:
            return found
    return None if name is None else tables.revoked_names.get(name)


def hand_over(tables: Tables, row: Row, now: Micros) -> Revocation | None:
    """Return the revocation that applies to a new row: that of its enqueue before that of its id."""
    own = row.constraints.own
    of_id = pop(tables.revoked_ids, (row.id, None), now)
    return (pop(tables.revoked_ids, (row.id, own), now) if own is not None else None) or of_id


def obey_name(tables: Tables, name: str, now: Micros, offset: Micros) -> bool:
    """Return True if a task of that name must not run. Uses up a revocation for once."""
    revocation = tables.revoked_names.get(name)
    if revocation is None or not revocation.holds(now, offset):
        return False
    if revocation.once:
        del tables.revoked_names[name]
    return True


def prune(tables: Tables, now: Micros) -> int:
    gone = remove(tables.revoked_ids, lambda kept: kept[1] <= now or not kept[0].holds(now, -EARLIEST_ZONE))
    return gone + remove(tables.revoked_names, lambda revocation: not revocation.holds(now, -EARLIEST_ZONE))


def _row_of(tables: Tables, id: str, enqueue: Micros | None) -> Row | None:
    """Return the row of an id, if it is from this enqueue (None: from any)."""
    row = tables.tasks.rows.get(id)
    return row if row is None or enqueue is None or (row.constraints.own or FIRST) == enqueue else None

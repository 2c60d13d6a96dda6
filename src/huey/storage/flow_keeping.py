"""How long the succeeded members of a flow are kept: until all have ended, and then as long as results are."""

from __future__ import annotations

from contextlib import suppress

from huey.runtime.clock import Micros
from huey.runtime.times import to_micros
from huey.storage.base import KEPT_RESULT, PRUNE, Storage
from huey.storage.flows import flow_info, kept_after
from huey.storage.rows import TaskRow
from huey.storage.unreadable import UNREADABLE
from huey.task.flow import FLOW
from huey.task.lifecycle import State
from huey.task.record_options import read_policy

MARGIN = KEPT_RESULT
"""How early they are looked at: a storage may have a clock of its own, and their results go that much later than they."""


def keep_members(storage: Storage, now: Micros) -> None:
    """Keep the members that the next ``prune`` would remove although their flow has not ended, or not long ago.

    It looks at as many rows as a ``prune`` removes, in the same order, and at the next ones if it kept some of these.
    """
    while storage.features.supports_workflows:
        late = [row for row in storage.find("kept", limit=PRUNE) if (row.due or 0) <= now + MARGIN]
        if not _keep(storage, late, now) or len(late) < PRUNE:
            return


def _keep(storage: Storage, rows: list[TaskRow], now: Micros) -> bool:
    members: dict[tuple[str, str], list[TaskRow]] = {}
    for row in rows:
        with suppress(*UNREADABLE):
            queue, id = read_policy(row.options)[FLOW]
            members.setdefault((queue, id), []).append(row)
    kept = False
    for (queue, id), its in members.items():
        until = _kept_until(storage if queue == storage.name else storage.for_queue(queue), id, now)
        ids = [row.id for row in its if (row.due or 0) < until]
        if ids:
            storage.keep(ids, until)
            kept = True
    return kept


def _kept_until(storage: Storage, id: str, now: Micros) -> Micros:
    """Return until when the members of the flow *id* are kept; 0 if nothing is known of it."""
    info = None
    with suppress(*UNREADABLE):
        info = flow_info(storage, id)
    if info is None:
        return 0
    if info.state == State.RUNNING:
        return now + kept_after(storage)
    ends = (to_micros(member.since, False) for member in info.members if member.since is not None)
    return max(ends, default=now) + kept_after(storage)

"""Enqueueing of workflows: tasks that wait for others, all or nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from huey.runtime.clock import Micros
from huey.storage.base import FOREVER
from huey.storage.memory import edges as edge_tables
from huey.storage.memory import enqueuing
from huey.storage.memory.tables import Edges, Outcome, peek
from huey.storage.rows import EventFactory, Revocation
from huey.task.lifecycle import State
from huey.task.record_options import read_constraints
from huey.task.workflow import SKIPPED, SUCCEEDED, Edge, Opened, QueuedRecord, TaskRef, Workflow, not_held, prepared


def enqueue(edges: Edges, workflow: Workflow, make_events: EventFactory | None, now: Micros) -> tuple[dict[TaskRef, str], list[Opened]]:
    """Enqueue *workflow*. Return the ids that stand for tasks which were not enqueued, and the tasks that need not wait after all. Raise
    ValueError if it cannot be enqueued."""
    tasks = prepared(workflow)
    refs = {each.ref for each in tasks}
    outside = [edge.parent for edge in workflow.edges if edge.parent not in refs]
    for ref in (*outside, *workflow.replaces.values()):
        if not edges.is_live(ref):
            raise not_held(ref)
    if held := {each.ref: each.record.id for each in tasks if _is_held(edges, each, now)}:
        return held, []
    stand_ins = _insert(edges, workflow, tasks, now)
    for edge in workflow.edges:
        if edge.child not in stand_ins:
            _add_edge(edges, edge._replace(parent=stand_ins.get(edge.parent, edge.parent)), now)
    for new, old in workflow.replaces.items():
        _replace(edges, new, old, now)
    opened = edge_tables.settle(edges, now)
    if make_events is not None:
        _publish(edges, workflow, make_events, stand_ins, now)
    return {ref: other.id for ref, other in stand_ins.items()}, opened


def _insert(edges: Edges, workflow: Workflow, tasks: Sequence[QueuedRecord], now: Micros) -> dict[TaskRef, TaskRef]:
    """Insert *tasks*; return, for those that a unique key keeps out, the holder of the key."""
    parents = Counter(edge.child for edge in workflow.edges)
    parents.update({new: row.open_parents for new, old in workflow.replaces.items() if (row := edges.row(old)) is not None})
    stand_ins: dict[TaskRef, TaskRef] = {}
    for queue, record in tasks:
        ref = TaskRef(queue, record.id)
        other = enqueuing.insert(edges.queues[queue], record, now, parents[ref])
        if other is not None:
            stand_ins[ref] = TaskRef(queue, other)
    return stand_ins


def follow_up(edges: Edges, workflow: Workflow, now: Micros) -> list[Opened]:
    """Enqueue what follows a finish, or leave it out if that is not possible."""
    try:
        return enqueue(edges, workflow, None, now)[1]
    except ValueError:
        return []


def _is_held(edges: Edges, task: QueuedRecord, now: Micros) -> bool:
    row, constraints = edges.row(task.ref), read_constraints(task.record.options)
    if row is not None and not (row.is_ended and constraints.own is not None):
        return True
    return constraints.id_ttl is not None and peek(edges.queues[task.queue].kept_ids, task.record.id, now) is not None


def _add_edge(edges: Edges, edge: Edge, now: Micros) -> None:
    edges.add(edge)
    row = edges.row(edge.parent)
    if row is None or row.is_ended:
        # The holder of a unique key has ended; only the result of a success counts.
        value = None
        if row is None or row.state == State.SUCCEEDED:
            value = peek(edges.queues[edge.parent.queue].values["result"], edge.parent.id, now)
        edges.ended.setdefault(edge.parent, Outcome(SKIPPED) if value is None else Outcome(SUCCEEDED, value))


def _replace(edges: Edges, new: TaskRef, old: TaskRef, now: Micros) -> None:
    """Move all edges of *old*, which is cancelled or revoked, to *new*."""
    row, former = edges.row(new), edges.row(old)
    if row is None or former is None:
        return
    for child, position in edges.open.pop(old, {}):
        edges.links[child][position].parent = new
        edges.open.setdefault(new, {})[child, position] = None
    if links := edges.links.pop(old, None):
        edges.links[new] = links
        for position, link in links.items():
            if link.end is None:
                del edges.open[link.parent][old, position]
                edges.open[link.parent][new, position] = None
    if former.state != State.WAITING:
        former.revoked = Revocation(FOREVER, False)
        return
    former.end(State.CANCELLED, "revoked", now)
    edge_tables.has_never_run(edges.queues[old.queue], former, now)


def _publish(edges: Edges, workflow: Workflow, make_events: EventFactory, stand_ins: dict[TaskRef, TaskRef], now: Micros) -> None:
    followed = {queue for queue, tables in edges.queues.items() if tables.events.are_followed(now)}
    if followed:
        for ref, text in workflow.pair_events(make_events()).items():
            if ref not in stand_ins:
                edges.queues[ref.queue].events.publish([text], now)

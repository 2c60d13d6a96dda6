"""Workflows: tasks that wait for other tasks. The values that pass through the contract, and what can be checked without a storage.

An *edge* leads from a parent to a child. A child is WAITING until its edges let it be queued:

- ``then``: the child is queued when the parent succeeded; otherwise it is cancelled, and so are its own children.
- ``join``: the child is queued when the last of its parents has ended, in whatever way.

An edge ends once, in the same step as its parent. It then keeps what the parent gave (its value, its error, or that it was skipped) until
the child's row goes, so that each run of the child reads the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from huey.task.record import Record
from huey.task.record_options import with_edges

THEN, JOIN = "then", "join"
"""Kinds of edges."""
SUCCEEDED, FAILED, SKIPPED = "succeeded", "failed", "skipped"
"""How a parent ended, for its children. ``skipped``: neither of the others, such as revoked, expired, cancelled or discarded."""

ORPHANS = "these tasks waited for others that can no longer end, and were cancelled (orphaned): %s"
"""The warning that `prune` logs."""

MOST_TASKS = 10_000
MOST_BYTES = 64 * 1024 * 1024
"""Tasks besides the callbacks of chords, and bytes of the arguments of all, that one workflow may have."""
STEP = 1000
"""Edges that one step ends; the rest of a larger cascade is ended by later turns and by ``prune``."""
PIECE = 4 * 1024 * 1024
"""Bytes of values that one call of ``parent_ends`` returns, not counting the last."""


class TaskRef(NamedTuple):
    """One task of a store."""

    queue: str
    id: str


class QueuedRecord(NamedTuple):
    """A task of a workflow, and the queue that it goes to."""

    queue: str
    record: Record

    @property
    def ref(self) -> TaskRef:
        return TaskRef(self.queue, self.record.id)


class Edge(NamedTuple):
    """*child* waits for *parent*."""

    parent: TaskRef
    child: TaskRef
    kind: str
    position: int = 0
    """The place of the parent's value among those that the child gets; different for each parent of a child."""


class Workflow(NamedTuple):
    """Tasks that are enqueued together, or not at all."""

    tasks: Sequence[QueuedRecord]
    edges: Sequence[Edge] = ()
    replaces: Mapping[TaskRef, TaskRef] = {}
    """Tasks of this workflow that take the place of held ones: all edges from and to the old task lead from and to the new one."""

    @property
    def refs(self) -> set[TaskRef]:
        """All tasks that it names."""
        named = {each.ref for each in self.tasks} | {ref for edge in self.edges for ref in edge[:2]}
        return named | {ref for pair in self.replaces.items() for ref in pair}

    def pair_events(self, events: Sequence[str]) -> dict[TaskRef, str]:
        """Return *events*, one for each task that has no parents, by that task."""
        children = {edge.child for edge in self.edges}
        first = [ref for each in self.tasks if (ref := each.ref) not in children] if events else []
        return dict(zip(first, events, strict=True))


class ParentEnd(NamedTuple):
    """What one parent gave to its child."""

    position: int
    kind: str
    outcome: str
    """``succeeded``, ``failed`` or ``skipped``."""
    value: bytes | None
    """Of one that succeeded: its ``Finish.output``, else its ``Finish.value``; None if neither was given."""
    error: str | None
    """Of one that failed: JSON object of the failure, ``error`` and ``traceback``; None if it is no longer kept."""
    parent: TaskRef
    """The parent; of one that failed: the task whose failure it was, which may be an ancestor."""


class EdgeRow(NamedTuple):
    """An edge as the inspector shows it."""

    parent: TaskRef
    child: TaskRef
    kind: str
    position: int
    outcome: str | None
    """None while the parent has not ended."""


class Opened(NamedTuple):
    """A task that was WAITING and is queued now, since its parents have ended."""

    queue: str
    id: str
    name: str
    retries: int = 0
    """Runs left after the next one."""
    retry_delay: float = 0.0
    is_scheduled: bool = False
    """Its eta is still ahead."""


def prepared(workflow: Workflow) -> list[QueuedRecord]:
    """Check *workflow*, and return its tasks in an order in which parents come first, with options that say how many parents each has and
    whether others wait for it.

    Raises ValueError for a workflow that cannot work: too large, an id twice, an edge to a task that is not part of it, two parents at one
    position, a ring.
    """
    tasks, edges = workflow.tasks, workflow.edges
    number = len(tasks) - len({edge.child for edge in edges if edge.kind == JOIN})
    if number > MOST_TASKS:
        raise ValueError(
            f"a workflow of {number} tasks: at most {MOST_TASKS} are enqueued together; let a task of the workflow enqueue further ones"
        )
    size = sum(len(each.record.payload) for each in tasks)
    if size > MOST_BYTES:
        raise ValueError(
            f"the arguments of a workflow weigh {size / 2**20:.0f} MiB, and at most {MOST_BYTES // 2**20} MiB are enqueued together; "
            "store large values elsewhere and pass where they are"
        )
    nodes = {TaskRef(each.queue, each.record.id): each for each in tasks}
    if len(nodes) < len(tasks):
        ((twice, _),) = Counter(each.record.id for each in tasks).most_common(1)
        raise ValueError(f"the task {twice} is twice in one workflow; make a task of its own for each position, with .s()")
    if not edges:
        return list(tasks)
    parents, children = _graph(nodes, edges)
    known: dict[tuple[str | None, int, bool], str | None] = {}
    result = []
    for ref in _in_order(nodes, parents, children):
        queue, record = nodes[ref]
        key = (record.options, parents.get(ref, 0), ref in children)
        if key not in known:
            known[key] = with_edges(*key)
        result.append(QueuedRecord(queue, record._replace(options=known[key])))
    return result


def _graph(nodes: Mapping[TaskRef, object], edges: Sequence[Edge]) -> tuple[dict[TaskRef, int], dict[TaskRef, list[TaskRef]]]:
    """Return the number of parents of each child, and the children of each parent."""
    parents: dict[TaskRef, int] = {}
    children: dict[TaskRef, list[TaskRef]] = {}
    positions = set[tuple[TaskRef, int]]()
    for parent, child, _, position in edges:
        if child not in nodes:
            raise ValueError(f"the task {child.id} cannot be made to wait: it is not part of the workflow that is enqueued")
        parents[child] = parents.get(child, 0) + 1
        children.setdefault(parent, []).append(child)
        positions.add((child, position))
    if len(positions) < len(edges):
        raise ValueError("two parents of one task have the same position")
    return parents, children


def _in_order(nodes: Mapping[TaskRef, object], parents: Mapping[TaskRef, int], children: Mapping[TaskRef, list[TaskRef]]) -> list[TaskRef]:
    """Return the tasks with parents before their children, otherwise as given."""
    left = dict(parents)
    for outside in children.keys() - nodes.keys():
        for child in children[outside]:
            left[child] -= 1
    free = [ref for ref in nodes if not left.get(ref)]
    for ref in free:
        for child in children.get(ref, ()):
            left[child] -= 1
            if not left[child]:
                free.append(child)
    if len(free) < len(nodes):
        ring = next(ref for ref, count in left.items() if count)
        raise ValueError(f"the task {ring.id} waits, by way of other tasks, for itself: a workflow must not be a ring")
    return free


def not_held(ref: TaskRef) -> ValueError:
    """Return the error for a task outside a workflow that was to be a parent, or to be replaced."""
    return ValueError(
        f"the task {ref.id} has ended, or was never enqueued, so that no task can wait for it or take its place; nothing was enqueued"
    )


def failure_pointer(ref: TaskRef) -> str:
    """Return the ``error`` of a task that is cancelled because *ref* failed: a JSON object with ``failed``, a queue and an id."""
    return json.dumps({"failed": list(ref)})


def failed_ancestor(error: str | None) -> TaskRef | None:
    """Return the task that a `failure_pointer` names; None if *error* is none."""
    found = json.loads(error).get("failed") if error is not None and '"failed"' in error else None
    return TaskRef(*found) if isinstance(found, list) and len(found) == 2 else None

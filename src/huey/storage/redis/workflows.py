"""Workflows in Redis: encode the arguments of lua/parts/workflows.lua, and decode the answers of the scripts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from huey.storage.helpers import in_chunks
from huey.storage.redis import keys
from huey.storage.redis.messages import Arg, group, groups, lease_of, text_of, whole_or
from huey.task.lifecycle import Finish
from huey.task.record import Record
from huey.task.record_options import may_have_constraints
from huey.task.workflow import EdgeRow, Opened, ParentEnd, QueuedRecord, TaskRef, Workflow, not_held, prepared


def arguments_of(workflow: Workflow, tasks: Sequence[QueuedRecord], events: Sequence[str]) -> list[Arg]:
    """Return a plan and its groups and events (lua/parts/workflows.lua)."""
    names = sorted({ref.queue for ref in workflow.refs})
    numbers = {name: number for number, name in enumerate(names, 1)}
    children = {edge.child for edge in workflow.edges} | set(workflow.replaces)
    parents: dict[TaskRef, int] = {}
    for edge in workflow.edges:
        parents[edge.child] = parents.get(edge.child, 0) + 1
    arguments: list[Arg] = []
    queues, singles, event_positions = list[Any](), list[Any](), list[Any]()
    is_single = {each.ref: each.ref in children or may_have_constraints(each.record.options) for each in tasks}
    for name in names:
        plain = sorted((each.record for each in tasks if each.queue == name and not is_single[each.ref]), key=lambda record: record.id)
        start = len(arguments)
        for some in in_chunks(plain):
            arguments += groups(some)
        queues.append([keys.prefix(name), name, start, len(arguments)])
    texts = workflow.pair_events(events)
    for each in tasks:
        ref, event = each.ref, 0
        if ref in texts:
            event = len(arguments)
            arguments.append(texts[ref])
        if is_single[ref]:
            record: Record = each.record
            singles.append([numbers[ref.queue], len(arguments), parents.get(ref, 0), event if ref in texts else -1])
            arguments += group(record, (record.id,), (record.payload,))
        elif ref in texts:
            event_positions.append([numbers[ref.queue], event])
    edges = [[numbers[e.child.queue], e.child.id, e.position, numbers[e.parent.queue], e.parent.id, e.kind] for e in workflow.edges]
    replaces = [[numbers[new.queue], new.id, numbers[old.queue], old.id] for new, old in workflow.replaces.items()]
    plan = {"queues": queues, "singles": singles, "edges": edges, "replaces": replaces, "events": event_positions}
    return [json.dumps(plan), *arguments]


def encode_outputs(finishes: Sequence[Finish]) -> tuple[list[int], list[Arg], list[Arg]]:
    """Return the numbers of outputs and of follow-ups, and both as arguments of lua/turn.lua."""
    outputs: list[Arg] = []
    follow_ups: list[Arg] = []
    for finish in finishes:
        if finish.output is not None:
            outputs += [finish.lease.id, finish.output]
    following = [(finish.lease.id, finish.follow_ups) for finish in finishes if finish.follow_ups is not None]
    for id, workflow in following:
        plan, *arguments = arguments_of(workflow, prepared(workflow), [])
        follow_ups += [id, len(arguments), plan, *arguments]
    return [len(outputs) // 2, len(following)], outputs, follow_ups


def opened_of(found: list[Any]) -> Opened:
    queue, id, message, attempt, is_scheduled = found
    lease = lease_of(id, message, None)
    retries = max(0, lease.retries - whole_or(int, attempt, 0))
    return Opened(text_of(queue), lease.id, lease.name, retries, lease.retry_delay, bool(is_scheduled))


def answer_of(how: bytes, found: list[bytes]) -> dict[TaskRef, str]:
    """Return which tasks of a workflow were not enqueued, each with the task that stands for it. Raise ValueError if a task that should be
    held is not."""
    names = [text_of(each) for each in found]
    if how == b"absent":
        raise not_held(TaskRef(_queue_of(found[0]), names[1]))
    if how == b"held":
        return {TaskRef(_queue_of(prefix), id): id for prefix, id in zip(found[::2], names[1::2], strict=True)}
    return {TaskRef(_queue_of(prefix), id): other for prefix, id, other in zip(found[::3], names[1::3], names[2::3], strict=True)}


def parent_ends_from(found: list[Any]) -> list[ParentEnd]:
    """Return what lua/parent_ends.lua has found."""
    ends: list[ParentEnd] = []
    items = iter(found)
    for head, value in zip(items, items, strict=False):
        position, kind, outcome, prefix, parent = head.split(b" ", 4)
        error = None
        if outcome == b"failed":
            failed_queue, failed, error = next(items), next(items), next(items)
            prefix, parent = failed_queue or prefix, failed or parent
        ref = TaskRef(_queue_of(prefix), text_of(parent))
        ends.append(ParentEnd(int(position), text_of(kind), text_of(outcome), value, None if error is None else text_of(error), ref))
    return ends


def edge_of(found: list[Any]) -> EdgeRow:
    parent_queue, parent, child_queue, child, kind, position, outcome = found
    refs = TaskRef(_queue_of(parent_queue), text_of(parent)), TaskRef(_queue_of(child_queue), text_of(child))
    return EdgeRow(*refs, text_of(kind), int(position), None if outcome is None else text_of(outcome))


@lru_cache(maxsize=64)
def _queue_of(prefix: bytes) -> str:
    """Return the name of the queue whose keys begin with *prefix*."""
    return unquote(prefix.decode()[len("huey:{") : -len("}:")])

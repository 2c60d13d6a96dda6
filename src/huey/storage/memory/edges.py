"""Edges between tasks: what a task waits for, and the ends of its parents."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from huey.runtime.clock import Micros
from huey.storage.memory import keys
from huey.storage.memory.row import Row
from huey.storage.memory.tables import Edges, Outcome, Tables
from huey.storage.stats import CANCELLED as COUNTED_CANCELLED
from huey.storage.stats import ENQUEUED
from huey.task import reasons, workflow
from huey.task.lifecycle import Finish, State
from huey.task.record_options import policy_micros


def end_run(tables: Tables, row: Row, finish: Finish, error: str | None) -> None:
    """Record the end of a task by its last run."""
    ref = workflow.TaskRef(tables.name, row.id)
    if ref not in tables.edges.open:
        return
    if row.state == State.SUCCEEDED:
        tables.edges.end(ref, Outcome(workflow.SUCCEEDED, finish.value if finish.output is None else finish.output))
    elif row.state == State.FAILED or (error is not None and row.reason != "revoked"):
        tables.edges.end(ref, Outcome(workflow.FAILED, error=error, failed=ref))
    else:
        tables.edges.end(ref, Outcome(workflow.SKIPPED))


def skip(tables: Tables, ids: Iterable[str]) -> None:
    """Record that tasks ended without a run."""
    for id in ids:
        tables.edges.end(workflow.TaskRef(tables.name, id), Outcome(workflow.SKIPPED))


def settle(edges: Edges, now: Micros) -> list[workflow.Opened]:
    """End up to ``STEP`` edges of parents that have ended, and open or cancel the children. Return the opened ones."""
    walk = deque((parent, end) for parent, end in edges.ended.items())
    touched: dict[workflow.TaskRef, Row] = {}
    room = workflow.STEP
    while walk and room:
        parent, end = walk.popleft()
        waiting = edges.open.get(parent, {})
        while waiting and room:
            (child, position), room = next(iter(waiting)), room - 1
            del waiting[child, position]
            link = edges.links[child][position]
            link.end = end._replace(error=end.error if link.kind == workflow.JOIN else None)
            row = edges.row(child)
            if row is None or row.state != State.WAITING:
                continue
            row.open_parents -= 1
            touched[child] = row
            if link.is_broken:
                _cancel(edges, child, row, end, now)
                walk.append((child, edges.ended.get(child, end)))
        if not waiting:
            edges.open.pop(parent, None)
            edges.ended.pop(parent, None)
    return [opened for ref, row in sorted(touched.items(), key=lambda item: item[0]) if (opened := _open(edges, ref, row, now))]


def _cancel(edges: Edges, ref: workflow.TaskRef, row: Row, end: Outcome, now: Micros) -> None:
    tables = edges.queues[ref.queue]
    is_failure = end.outcome == workflow.FAILED and end.failed is not None
    row.end(State.CANCELLED, reasons.PARENT_FAILED if is_failure else reasons.PARENT_SKIPPED, now)
    row.error = workflow.failure_pointer(end.failed) if is_failure and end.failed is not None else None
    has_never_run(tables, row, now)
    edges.end(ref, Outcome(end.outcome, failed=end.failed))


def has_never_run(tables: Tables, row: Row, now: Micros) -> None:
    """Release and count what was cancelled while it was WAITING."""
    keys.release(tables, row)
    tables.statistics.count(row.record.name, COUNTED_CANCELLED, now)
    tables.statistics.count(row.record.name, ENQUEUED, row.created)


def _open(edges: Edges, ref: workflow.TaskRef, row: Row, now: Micros) -> workflow.Opened | None:
    if row.state != State.WAITING or row.open_parents > 0:
        return None
    broken = next((link.end for link in edges.links[ref].values() if link.is_broken), None)
    if broken is not None:
        # One parent was retried by hand and succeeded, but another one had failed too.
        _cancel(edges, ref, row, broken, now)
        return None
    row.requeue(row.due if row.due is not None and row.due > now else None, None, now)
    length = policy_micros(row.record.options, "expires_in")
    if row.record.expires is not None and length is not None:
        # A relative expiry counts from here.
        row.record = row.record._replace(expires=max(now, row.due or 0) + length)
    edges.queues[ref.queue].tasks.queue(row)
    id, name, retries, retry_delay = row.label
    return workflow.Opened(ref.queue, id, name, retries, retry_delay, row.due is not None)


def reopen(tables: Tables, ids: Sequence[str]) -> None:
    """Return tasks to WAITING that were cancelled because of tasks that have been requeued. Those that are WAITING already, as the requeued
    themselves, wait again for each parent that is to run again."""
    edges = tables.edges
    lost = _lost_edges(edges)
    again = [workflow.TaskRef(tables.name, id) for id in ids]
    for ref in again:
        for child, position in lost.get(ref, ()):
            row = edges.row(child)
            if row is not None and row.is_cancelled_by_parent and edges.links[child][position].kind == workflow.THEN:
                again.append(child)
                row.state, row.reason, row.error, row.finished, row.revoked = State.WAITING, None, None, None, None
                if policy_micros(row.record.options, "expires_in") is None:
                    row.record = row.record._replace(expires=None)
                keys.hold(edges.queues[child.queue], [child.id])
    for ref in again:
        edges.ended.pop(ref, None)
        for child, position in lost.get(ref, ()):
            row = edges.row(child)
            if row is not None and row.state == State.WAITING:
                edges.links[child][position].end = None
                edges.open.setdefault(ref, {})[child, position] = None
                row.open_parents = sum(link.end is None for link in edges.links[child].values())


def _lost_edges(edges: Edges) -> dict[workflow.TaskRef, list[tuple[workflow.TaskRef, int]]]:
    """Return, by parent, the edges (child and position) whose parents ended without success."""
    lost: dict[workflow.TaskRef, list[tuple[workflow.TaskRef, int]]] = {}
    for child, links in edges.links.items():
        for position, link in links.items():
            if link.end is not None and link.end.outcome != workflow.SUCCEEDED:
                lost.setdefault(link.parent, []).append((child, position))
    return lost


def forget_gone(tables: Tables) -> None:
    """Remove the edges to tasks that are no longer held."""
    links = tables.edges.links
    for ref in [ref for ref in links if ref.queue == tables.name and ref.id not in tables.tasks.rows]:
        forget(tables, ref.id)


def forget(tables: Tables, id: str) -> None:
    """Remove the edges to a task."""
    child = workflow.TaskRef(tables.name, id)
    for position, link in tables.edges.links.pop(child, {}).items():
        waiting = tables.edges.open.get(link.parent)
        if waiting is not None:
            waiting.pop((child, position), None)
            if not waiting:
                del tables.edges.open[link.parent]


def parent_ends(tables: Tables, id: str, after: int) -> list[workflow.ParentEnd]:
    found, size = list[workflow.ParentEnd](), 0
    for position, link in sorted(tables.edges.links.get(workflow.TaskRef(tables.name, id), {}).items()):
        if position <= after or link.end is None:
            continue
        if size >= workflow.PIECE:
            break
        outcome, value, error, failed = link.end
        if failed is not None and error is None and (row := tables.edges.row(failed)) is not None:
            error = row.error
        found.append(workflow.ParentEnd(position, link.kind, outcome, value, error, failed or link.parent))
        size += len(value or b"")
    return found


def edge_rows(tables: Tables, ids: Sequence[str]) -> list[workflow.EdgeRow]:
    asked = {workflow.TaskRef(tables.name, id) for id in ids}
    return [
        workflow.EdgeRow(link.parent, child, link.kind, position, None if link.end is None else link.end.outcome)
        for child, links in sorted(tables.edges.links.items())
        for position, link in sorted(links.items())
        if child in asked or link.parent in asked
    ]

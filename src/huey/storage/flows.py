"""Flows as a store knows them: what they are made of, kept as a value, and what became of each member."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from huey.runtime import display
from huey.runtime.clock import Micros, micros
from huey.storage.base import Storage
from huey.storage.helpers import in_chunks
from huey.storage.rows import TaskRow
from huey.task import reasons
from huey.task.flow import Flow
from huey.task.lifecycle import FINAL, State
from huey.task.workflow import TaskRef, Workflow

MAPS = "flow"
"""The kind of value under which a store keeps what a flow is made of, by its id."""
MAP_TTL = 30 * 86400.0
"""Seconds for which it is kept after the enqueue."""


class FlowMember(NamedTuple):
    """A task of a flow."""

    id: str
    queue: str
    name: str
    state: str
    """As ``TaskInfo.state``; ``succeeded`` also if the storage has no row of it any more."""
    reason: str | None
    """Why it ended, or is delayed."""
    waits_for: tuple[str, ...]
    """Ids of the members that it waits for and that have not ended."""
    since: datetime | None
    """When it ended or, before that, was enqueued; None if the storage has no row of it any more."""


class FlowInfo(NamedTuple):
    """A flow as the inspector shows it."""

    id: str
    name: str
    members: tuple[FlowMember, ...]
    """In the order in which they were added."""
    edges: tuple[tuple[str, str], ...]
    """Ids of a member, and of one that waits for it."""

    @property
    def state(self) -> str:
        """``running`` until all members have ended; then ``failed`` if one failed, ``cancelled`` if one was cancelled other than by the
        flow itself, else ``succeeded``."""
        states = {member.state for member in self.members}
        if not states <= {*FINAL}:
            return State.RUNNING
        if State.FAILED in states:
            return State.FAILED
        of_flow = (reasons.NOT_NEEDED, reasons.PARENT_FAILED, reasons.PARENT_SKIPPED)
        is_cancelled = any(member.state == State.CANCELLED and member.reason not in of_flow for member in self.members)
        return State.CANCELLED if is_cancelled else State.SUCCEEDED

    def explain(self) -> str:
        """Return a line for each member: its name, its state, what it waits for, and since when."""
        names = {member.id: member.name for member in self.members}
        lines = [f"flow {self.name} {self.id}: {self.state}"]
        for member in self.members:
            line = f"  {member.name} {member.id}: {member.state}"
            if member.reason:
                line += f" ({member.reason})"
            if member.waits_for:
                line += ", waits for " + ", ".join(f"{names.get(id, '')} {id}" for id in member.waits_for)
            lines.append(line if member.since is None else f"{line}, since {member.since:%Y-%m-%d %H:%M:%S %Z}")
        return "\n".join(lines)

    def mermaid(self) -> str:
        """Return the graph as a Mermaid flowchart, each member with its state."""
        numbers = {member.id: number for number, member in enumerate(self.members)}
        nodes = [f'  m{number}["{_quoted(self.members[number].name)}<br>{self.members[number].state}"]' for number in numbers.values()]
        return "\n".join(["flowchart TD", *nodes, *(f"  m{numbers[parent]} --> m{numbers[child]}" for parent, child in self.edges)])


def _quoted(name: str) -> str:
    return name.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def kept_after(storage: Storage) -> Micros:
    """Return how long members that succeeded, and their values, are kept after the end of their flow: as long as results."""
    return micros(MAP_TTL if storage.result_ttl is None else storage.result_ttl)


def flow_map(storage: Storage, flow: Flow, workflow: Workflow) -> Callable[[], Any]:
    """Return the function that stores what *flow* is made of."""
    body = _body(flow, workflow)
    return lambda: storage.put(MAPS, flow.id, body, MAP_TTL)


def store_additions(storage: Storage, adder: str, flow: Flow, workflow: Workflow) -> None:
    """Store the members that the task *adder* adds to its flow when it succeeds."""
    storage.put(f"{MAPS} {flow.id}", adder, _body(flow, workflow), MAP_TTL)


def _body(flow: Flow, workflow: Workflow) -> bytes:
    queues = {each.record.id: each.queue for each in workflow.tasks}
    members = [[queues[task.id], task.id, task.name] for task in flow.tasks]
    edges = list(dict.fromkeys((edge.parent.id, edge.child.id) for edge in flow.edges))
    return json.dumps({"name": flow.name, "members": members, "edges": edges}).encode()


def flow_info(storage: Storage, id: str) -> FlowInfo | None:
    """Return the flow of that *id*; None if the store does not know it."""
    body = storage.take(MAPS, [id]).get(id)
    if body is None:
        return None
    found = json.loads(body)
    listed, edges = list(found["members"]), list(found["edges"])
    rows = _rows(storage, [TaskRef(queue, member) for queue, member, _ in listed])
    additions = {adder: json.loads(body) for adder, body in storage.take(f"{MAPS} {id}").items()}
    for _, adder, _ in listed:
        # Those of a run that did not succeed were never enqueued.
        if adder in additions and (adder not in rows or rows[adder].state == State.SUCCEEDED):
            added = additions[adder]
            rows |= _rows(storage, [TaskRef(queue, member) for queue, member, _ in added["members"]])
            listed += added["members"]
            edges += added["edges"]
    open_parents: dict[str, list[str]] = {}
    for parent, child in edges:
        if (row := rows.get(parent)) is not None and row.state not in FINAL:
            open_parents.setdefault(child, []).append(parent)
    members = [_member(TaskRef(queue, member), name, rows.get(member), open_parents.get(member, [])) for queue, member, name in listed]
    return FlowInfo(id, found["name"], tuple(members), tuple((parent, child) for parent, child in edges))


def _rows(storage: Storage, refs: list[TaskRef]) -> dict[str, TaskRow]:
    found: dict[str, TaskRow] = {}
    for queue in dict.fromkeys(ref.queue for ref in refs):
        there = storage if queue == storage.name else storage.for_queue(queue)
        for ids in in_chunks(ref.id for ref in refs if ref.queue == queue):
            found |= {row.id: row for row in there.find(ids=ids)}
    return found


def _member(ref: TaskRef, name: str, row: TaskRow | None, waits_for: list[str]) -> FlowMember:
    if row is None:
        return FlowMember(ref.id, ref.queue, name, State.SUCCEEDED, None, (), None)
    since = display.time(row.created if row.finished is None else row.finished)
    return FlowMember(ref.id, ref.queue, name, row.state, row.reason, tuple(waits_for) if row.state == State.WAITING else (), since)

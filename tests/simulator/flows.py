"""Flows of a history: their real handles, on a storage that loses calls. A flow has the tasks of a workflow, and what its members add."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, cast

from huey.client.flows import FlowResult
from huey.storage.base import Storage
from huey.storage.flows import MAP_TTL, MAPS
from huey.storage.rows import TaskIds
from huey.task.flow import Flow
from huey.task.lifecycle import State
from huey.task.workflow import TaskRef, Workflow
from tests.simulator.edges import Edges
from tests.simulator.rules import demand

Insist = Callable[..., bool]
"""Makes a call to the storage of a ledger, until it has an answer or the caller gives up."""


class Flows:
    """All flows of a history."""

    def __init__(self, edges: Edges, insist: Insist) -> None:
        self._edges = edges
        self._insist = insist
        self._flows: list[list[TaskRef]] = []
        self._replaced: set[TaskRef] = set()

    def begin(self, workflow: Workflow) -> None:
        """A workflow was acknowledged: it is a flow."""
        self._flows.append([each.ref for each in workflow.tasks])

    def replaced(self, ref: TaskRef) -> None:
        """Another task takes the position of one: a flow with it is none any more."""
        self._replaced.add(ref)

    def members(self) -> list[list[TaskRef]]:
        """Of each flow, with all that were added so far."""
        found = []
        for first in self._flows:
            refs = list(first)
            for ref in refs:
                refs += self._edges.added.get(ref, ())
            if self._replaced.isdisjoint(refs):
                found.append(refs)
        return found

    def cancel(self, refs: Sequence[TaskRef]) -> None:
        self._edges.counts["flow cancelled"] += 1
        self._handle(refs).cancel()

    def retry(self, refs: Sequence[TaskRef]) -> None:
        self._edges.counts["flow retried"] += 1
        self._handle(refs).retry()

    def _handle(self, refs: Sequence[TaskRef]) -> FlowResult:
        flow, storage = (
            Flow("flow", f"flow of {refs[0].id}", refs[0].queue, lambda flow: None),
            _Wire(self._edges, self._insist, refs[0].queue),
        )
        body = {"name": flow.name, "members": [[*ref, "task"] for ref in refs], "edges": []}
        self._edges.ledgers[refs[0].queue].storage.put(MAPS, flow.id, json.dumps(body).encode(), MAP_TTL)
        return FlowResult(cast(Storage, storage), flow, {})

    def check_complete(self, flows: Sequence[Sequence[TaskRef]]) -> None:
        """Each flow that was retried is complete."""
        for refs in flows:
            ends = {ref.id: (entry.state, entry.reason) for ref in refs if (entry := self._edges.entry(ref)).state != State.SUCCEEDED}
            demand(not ends, "I13", f"a flow was retried, and its members did not succeed: {ends}")


class _Wire:
    """The storage of one queue, as the handle of a flow sees it."""

    def __init__(self, edges: Edges, insist: Insist, name: str) -> None:
        self.name = name
        self._edges, self._insist, self._ledger = edges, insist, edges.ledgers[name]

    def for_queue(self, name: str) -> _Wire:
        return _Wire(self._edges, self._insist, name)

    def take(self, *call: Any) -> Any:
        return self._ledger.storage.take(*call)

    def find(self, **call: Any) -> Any:
        return self._ledger.storage.find(**call)

    def revoke(self, target: TaskIds) -> None:
        self._insist(self._ledger, "revoke", target)

    def retry(self, ids: list[str]) -> list[str]:
        self._insist(self._ledger, "retry", ids)
        return []

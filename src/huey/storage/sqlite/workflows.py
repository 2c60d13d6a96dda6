"""Workflows in SQLite: staged tasks and edges, and the triggers of sql/edges.sql."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from huey.runtime.clock import Micros
from huey.runtime.failpoints import failpoint
from huey.storage.rows import EventFactory
from huey.storage.sqlite.database import Database
from huey.storage.sqlite.staging import STAGED, UNIT, UNIT_BYTES, Staging
from huey.task.lifecycle import Finish
from huey.task.workflow import EdgeRow, ParentEnd, QueuedRecord, TaskRef, Workflow, not_held, prepared


class Workflows:
    """Puts workflows into the queues of *database*. *sql* has its statements by name."""

    def __init__(self, database: Database, staging: Staging, sql: Mapping[str, str]) -> None:
        self._database = database
        self._staging = staging
        self._sql = sql

    def enqueue(self, workflow: Workflow, make_events: EventFactory | None, now: Micros) -> dict[TaskRef, str]:
        """Enqueue *workflow*. Return what was not enqueued, as `Storage.enqueue_workflow`. Raise ValueError if nothing was."""
        tasks = prepared(workflow)
        with self._database.enqueue_lock:
            queues = self._register(workflow)
            events = list(make_events()) if make_events is not None and self._is_followed(queues, now) else []
            failpoint("enqueue_workflow:before-commit")
            self._staging.begin()
            self._stage("", workflow, tasks, queues, now, events)
            units = 1 + len(tasks) // UNIT + sum(len(each.record.payload) for each in tasks) // UNIT_BYTES
            self._staging.execute("enqueue_workflow", (now,), units, is_durable=False)
            answer = self._staging.fetch("workflow_answer")
        failpoint("enqueue_workflow:after-commit")
        if missing := [TaskRef(queue, id) for kind, queue, id, _ in answer if kind == "not held"]:
            raise not_held(missing[0])
        return {TaskRef(queue, id): other for _, queue, id, other in answer}

    def _register(self, *workflows: Workflow) -> dict[str, int]:
        """Return the numbers of the queues of *workflows*; new ones are registered."""
        names = {ref.queue for workflow in workflows for ref in workflow.refs}
        return {name: self._database.queue_ids.get(name) or self._number_of(name) for name in names}

    def _number_of(self, name: str) -> int:
        self._database.execute(self._sql["queue_make"], (name,), lock=self._database.held)
        ((number,),) = self._staging.fetch("queue_id", (name,))
        return int(number)

    def _is_followed(self, queues: Mapping[str, int], now: Micros) -> bool:
        return any(self._staging.fetch("is_followed", (number, now)) == [(1,)] for number in queues.values())

    def stage_finishes(self, finishes: Sequence[Finish], now: Micros) -> None:
        """Stage the outputs and the follow-ups of *finishes*, for the turn that writes them."""
        self._staging.add("outputs", [(finish.lease.id, finish.output) for finish in finishes if finish.output is not None])
        follow_ups = [(finish.lease.id, finish.follow_ups) for finish in finishes if finish.follow_ups is not None]
        if follow_ups:
            queues = self._register(*(workflow for _, workflow in follow_ups))
            for follows, workflow in follow_ups:
                self._stage(follows, workflow, prepared(workflow), queues, now, [])

    def _stage(
        self,
        follows: str,
        workflow: Workflow,
        tasks: Sequence[QueuedRecord],
        queues: Mapping[str, int],
        now: Micros,
        events: Sequence[str],
    ) -> None:
        texts = workflow.pair_events(events)
        rows = [
            (None, follows, queues[queue], *record.resolved(now)[:STAGED], texts.get(TaskRef(queue, record.id))) for queue, record in tasks
        ]
        edges = [
            (follows, queues[e.child.queue], e.child.id, e.position, queues[e.parent.queue], e.parent.id, e.kind) for e in workflow.edges
        ]
        replaced = [(follows, queues[new.queue], new.id, queues[old.queue], old.id) for new, old in workflow.replaces.items()]
        self._staging.add("workflow_task", rows)
        self._staging.add("workflow_edge", edges)
        self._staging.add("workflow_replacement", replaced)

    def parent_ends(self, queue: int, id: str, after: int) -> list[ParentEnd]:
        rows = self._database.read(self._sql["parent_ends"], {"queue": queue, "id": id, "after": after})
        return [
            ParentEnd(position, kind, outcome, None if value is None else bytes(value), error, TaskRef(name, parent))
            for position, kind, outcome, value, error, name, parent in rows
        ]

    def edges(self, queue: int, ids: Sequence[str]) -> list[EdgeRow]:
        rows = self._database.read(self._sql["edges"], {"queue": queue, "ids": json.dumps(list(ids))})
        return [EdgeRow(TaskRef(*row[:2]), TaskRef(*row[2:4]), *row[4:]) for row in rows]

    def settle(self, now: Micros) -> bool:
        """End edges that earlier steps left open. Returns whether there were any."""
        if not self._database.read(self._sql["settle_left"]):
            return False
        self._staging.fire("settle", {"now": now}, is_durable=False)
        return True

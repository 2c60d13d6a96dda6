"""Enqueue workflows (pipelines, groups, chords): from what an application describes to records and edges, written in one step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol

from huey.client.call_state import CallState
from huey.client.context import QueueContext
from huey.client.flows import FlowResult
from huey.client.result import Result
from huey.client.result_groups import ResultGroup, handle_of
from huey.engine.follow_ups import ON_ERROR, ON_SUCCESS, template
from huey.engine.task_decoder import as_declared
from huey.exceptions import ConfigurationError
from huey.runtime import current_run as current
from huey.runtime.owned_blocks import Block
from huey.storage.base import Storage
from huey.storage.flows import flow_map, kept_after, store_additions
from huey.storage.rows import TaskRow
from huey.task import events
from huey.task.composition import Plan, WorkflowDescription, chord, group, with_value
from huey.task.flow import FLOW, INPUTS, RUN_IF, Flow
from huey.task.links import Links, stages
from huey.task.record_options import KEEP, read_policy
from huey.task.task import Task
from huey.task.workflow import JOIN, Edge, QueuedRecord, TaskRef, Workflow

Duplicates = Mapping[TaskRef, str]


_LINKS = ("parents", "children", ON_ERROR, ON_SUCCESS, FLOW, INPUTS, RUN_IF)
"""Members of a record's options that say what it has to do with other tasks."""


class Routes(Protocol):
    """Finds the parts of the queues of a ``Huey``."""

    huey: Any

    def route(self, target: Any) -> Any: ...

    def producer_of(self, target: Any) -> Any: ...

    def producer_on(self, queue: str) -> Any: ...

    def inline_worker_on(self, queue: str) -> Any: ...


class WorkflowWrite(partial[None]):
    """Writes a workflow when it is called. It cannot be part of a transaction of the caller's; an outbox lets it wait for the commit."""


class WorkflowProducer:
    """Puts workflows into the queues of one store. *routes*: the queue that they are enqueued through, which leads to the others."""

    def __init__(self, context: QueueContext, state: CallState, routes: Routes) -> None:
        self._storage = context.storage
        self._results = context.policy.results
        self._clock = context.clock
        self._state = state
        self._routes = routes

    def enqueue(self, described: WorkflowDescription | Flow) -> Any:
        """Enqueue a workflow and return its handles; see ``Huey.enqueue``."""
        plan = described.seal() if isinstance(described, Flow) else Plan(described)
        for task in plan.tasks:
            self._check_store(task)
        results = {task.id: Result[Any](self._routes.route(task).huey, task) for task in plan.tasks}
        if plan.tasks:
            self._put(plan, results)
        if isinstance(described, Flow):
            return FlowResult(self._storage, described, results)
        if not self._results and not isinstance(described, chord):
            return None
        return handle_of(described, lambda task: results[task.id])

    def current_flow(self) -> Flow:
        """See ``Huey.current_flow``."""
        member = current.flow_of(current.run.get())
        if member is None:
            raise RuntimeError("huey.current_flow(): no member of a flow runs here; huey.flow(name) makes a new one")
        if member.additions is None:
            member.additions = Flow("additions", member.id, member.queue, self._reject, partial(self._prepare, member.run))
        return member.additions  # type: ignore[no-any-return]

    def _reject(self, flow: Flow) -> None:
        raise ValueError("the members that a run adds are enqueued with its success: only add() them")

    def _prepare(self, run: current.Run, flow: Flow) -> Workflow:
        """Return the workflow of the members that *run* adds, and store what they are, for the inspector."""
        for task in flow.tasks:
            self._check_store(task)
        workflow = self._with_edges(flow)
        there = self._storage if flow.queue == self._storage.name else self._storage.for_queue(flow.queue)
        store_additions(there, run[0], flow, workflow)
        return workflow

    def _check_store(self, task: Task) -> None:
        """ValueError: the function of *task* belongs to a Huey on another store."""
        its = getattr(getattr(task, "wrapper", None), "huey", self._routes.huey)
        if its is self._routes.huey:
            return
        here, there = self._storage, its.storage
        if not here.is_beside(there):
            raise ValueError(f"{task!r} is of {its!r}, which is kept in {there!r}, and this workflow in {here!r}: nothing was enqueued")

    # -- records ------------------------------------------------------------------------------------------------------------------------

    def _put(self, plan: Plan | Flow, results: Mapping[str, Result[Any]]) -> None:
        clients = {(client := self._routes.route(task)).context.name: client for task in plan.tasks}
        # In a cluster a queue can be written to only by itself.
        storage = next(iter(clients.values())).context.storage if len(clients) == 1 else self._storage
        write: Callable[..., Duplicates] = storage.enqueue_workflow
        if storage.features.supports_workflows:
            workflow = self._with_edges(plan)
        else:
            workflow, write = self._without_edges(plan), self._write_each
        for task in plan.tasks:
            task.may_come_again = True
            results[task.id].enqueued_as = task.enqueued_as
        self._when_due(WorkflowWrite(self._write, plan.tasks, workflow, write, results))
        if isinstance(plan, Flow):
            self._when_due(WorkflowWrite(flow_map(self._storage, plan, workflow)))

    def _with_edges(self, plan: Plan | Flow) -> Workflow:
        parents = Counter(edge.child.id for edge in plan.edges)
        givers = {edge.parent.id for edge in plan.edges}
        members = self._members_of_flow(plan) if isinstance(plan, Flow) else plan.members
        tasks = [
            self._record(task, {**members.get(task.id, {}), "parents": parents[task.id], "children": task.id in givers})
            for task in plan.tasks
        ]
        refs = {each.record.id: each.ref for each in tasks}
        edges = [Edge(refs[edge.parent.id], refs[edge.child.id], edge.kind, edge.position) for edge in plan.edges]
        return Workflow(tasks, edges)

    def _members_of_flow(self, flow: Flow) -> dict[str, dict[str, Any]]:
        """Return what the options of its members say: their places in the flow, and for how long they are kept (flow_keeping.py)."""
        ttl = kept_after(self._storage)
        return {task.id: {**flow.members[task.id], KEEP: max(ttl, task.default_keep or 0)} for task in flow.tasks}

    def _without_edges(self, plan: Plan | Flow) -> Workflow:
        """Return the first tasks of a workflow, with the rest in their options, for a storage that cannot keep tasks that wait."""
        if isinstance(plan, Flow):
            raise ConfigurationError(
                f"{self._storage!r} cannot keep a flow: queue parts of 0.4.9 cannot wait. SqliteHuey and RedisHuey can"
            )
        if any(edge.kind == JOIN for edge in plan.edges):
            raise ConfigurationError(
                f"{self._storage!r} cannot keep a chord: queue parts of 0.4.9 cannot count its members. SqliteHuey and RedisHuey can"
            )
        return Workflow([self._pipeline(task) for task in plan.first])

    def _pipeline(self, first: Task) -> QueuedRecord:
        return self._record(first, {ON_SUCCESS: [template(self._record(stage, {})) for stage in stages(first)[1:]]})

    def _record(self, task: Task, members: Mapping[str, Any]) -> QueuedRecord:
        client = self._routes.route(task)
        handlers = self._templates(task.on_error, client.context.storage)
        return QueuedRecord(client.context.name, client.producer.build(task, {**members, ON_ERROR: handlers}))

    def _templates(self, handler: Task | None, storage: Storage) -> list[dict[str, Any]]:
        """Return what a handler of failures of a task in *storage* is made from."""
        if handler is None:
            return []
        if not storage.features.supports_workflows:
            return [template(self._pipeline(handler))]
        for stage in stages(handler):
            if not storage.is_beside(other := self._routes.route(stage).context.storage):
                raise ConfigurationError(
                    f"{stage!r} cannot handle failures of a task in {storage!r} from {other!r}; put both into one queue"
                )
        return [template(self._record(stage, {})) for stage in stages(handler)]

    # -- a task in the place of another ---------------------------------------------------------------------------------------------------

    def is_linked(self, row: TaskRow) -> bool:
        """Return whether other tasks wait for the one of *row*, or it for others, or it has a handler."""
        policy = read_policy(row.options)
        return any(policy.get(name) for name in _LINKS)

    def replace(self, row: TaskRow, task: Task, links: Links | None) -> Any:
        """Put *task* in the place of the one of *row*, which has not ended, and return its handle. *links*: of the former task, as far as
        they are known; with later stages, return the handles of all."""
        client = self._routes.route(task)
        declared = as_declared(client.context.codec, row).options
        members = {name: value for name, value in read_policy(declared).items() if name in (*_LINKS, KEEP)}
        new = QueuedRecord(client.context.name, client.producer.build(task, members))
        task.may_come_again = True
        result = Result[Any](client.huey, task)
        write: Callable[..., Duplicates] = self._storage.enqueue_workflow
        workflow = Workflow([new], [], {new.ref: TaskRef(self._storage.name, row.id)})
        self._when_due(WorkflowWrite(self._write, [task], workflow, write, {task.id: result}))
        if not self._results or links is None or links.stage is None:
            return result if self._results else None
        return ResultGroup([result, *(Result[Any](self._routes.route(stage).huey, stage) for stage in stages(links.stage))])

    # -- writing ------------------------------------------------------------------------------------------------------------------------

    def _when_due(self, write: Callable[[], Any]) -> None:
        """Call *write* now; or leave it to the open batch, or to the outbox."""
        if Block.opened and (batch := self._state.batch) is not None:
            batch.workflows.append(write)
        elif self._state.outbox is None:
            write()
        else:
            self._state.outbox(write)

    def _write(
        self, tasks: Sequence[Task], workflow: Workflow, write: Callable[..., Duplicates], results: Mapping[str, Result[Any]]
    ) -> None:
        waiting = {edge.child for edge in workflow.edges}
        first = [each for each in workflow.tasks if each.ref not in waiting]

        def make_events() -> list[str]:
            return [events.of_enqueue(each.record, self._clock.now()) for each in first]

        # One that takes the place of another may still have to wait.
        announced = [] if workflow.replaces else first
        by_queue: dict[str, list[Any]] = {each.queue: [] for each in announced}
        for each in announced:
            by_queue[each.queue].append(each.record)
        with ExitStack() as stack:
            for queue, records in by_queue.items():
                stack.enter_context(self._routes.producer_on(queue).announcing(records))
            duplicates = write(workflow, make_events)
            is_held = any(ref.id == id for ref, id in duplicates.items())
            for queue, records in by_queue.items():
                records[:] = [] if is_held else [record for record in records if TaskRef(queue, record.id) not in duplicates]
        by_id = {ref.id: id for ref, id in duplicates.items()}
        for task in tasks:
            result = results[task.id]
            result.task, result.is_held = self._routes.producer_of(task).existing(task, by_id), not Block.opened
            result.enqueued_as = result.task.enqueued_as
        if self._state.is_immediate:
            self._run_inline(workflow)

    def _write_each(self, workflow: Workflow, make_events: Callable[[], Sequence[str]]) -> Duplicates:
        duplicates = self._storage.enqueue([each.record for each in workflow.tasks], make_events)
        return {TaskRef(self._storage.name, id): other for id, other in duplicates.items()}

    def _run_inline(self, workflow: Workflow) -> None:
        """Run what is ready, in all queues of the workflow, until nothing is."""
        workers = [self._routes.inline_worker_on(queue) for queue in dict.fromkeys(each.queue for each in workflow.tasks)]
        while any([worker.run_ready() for worker in workers]):
            continue


def run_eagerly(described: WorkflowDescription, run: Callable[[Task], Any], *passed: Any) -> Any:
    """Run a workflow here and now, for ``always_eager``: *run* calls the function of a task. Return the value of a task, the list of those
    of a pipeline or a group, and that of the last task of a chord; exceptions pass, and no handler is called."""
    if isinstance(described, group):
        return [run_eagerly(member, run) for member in described.tasks]
    if isinstance(described, chord):
        lasts = [_last_value(member, run_eagerly(member, run)) for member in described.tasks]
        return _last_value(described.callback, run_eagerly(described.callback, run, lasts))
    found: list[Any] = []
    args, kwargs = (*described.args, *passed), described.kwargs
    for stage in stages(described):
        if found:
            args, kwargs = with_value(stage.args, stage.kwargs, found[-1])
        found.append(run(type(stage)(args, kwargs, id=stage.id)))
    return found if described.on_complete is not None else found[0]


def _last_value(member: Any, found: Any) -> Any:
    return found[-1] if isinstance(member, Task) and member.on_complete is not None else found

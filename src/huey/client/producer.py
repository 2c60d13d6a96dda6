"""Enqueue one task: build its record, store it, and return the handle."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from huey.client.call_state import CallState
from huey.client.context import QueueContext
from huey.client.inline import InlineWorker
from huey.client.result import Result
from huey.client.result_groups import ResultGroup
from huey.client.waits import Host
from huey.client.workflows import WorkflowProducer, run_eagerly
from huey.engine.task_decoder import declaration
from huey.runtime.functions import check_has_run
from huey.runtime.masking import opened
from huey.runtime.owned_blocks import Block
from huey.signals import SIGNAL_ENQUEUED, SIGNAL_SCHEDULED
from huey.storage.helpers import BulkEnqueue
from huey.storage.locks import unsupported
from huey.task import events
from huey.task.composition import chord, group
from huey.task.flow import Flow, run_flow_eagerly
from huey.task.record import Record
from huey.task.record_options import NONE, Constraints, read_constraints, with_constraints, with_members
from huey.task.task import HEADERS, Task, plain_headers
from huey.task.wrapper import TaskWrapper

log = logging.getLogger("huey")

NO_DUPLICATES: Mapping[str, str] = {}
"""The return value of an enqueue without duplicates. A duplicate maps the id of a task whose key is held to the id of the holder."""
NOT_WRITTEN_YET: Mapping[str, str] = {}
"""The return value for tasks that are written later, or perhaps never."""


class Routes(Protocol):
    """The part of a ``Huey`` that finds the producers of its other queues."""

    def producer_of(self, target: Any) -> Producer: ...

    def producer_on(self, queue: str) -> Producer: ...

    def inline_worker(self) -> InlineWorker: ...

    @property
    def workflows(self) -> WorkflowProducer: ...


class Producer:
    """Enqueues tasks into one queue. *huey*: passed to the handles. *routes*: finds the other queues."""

    def __init__(self, context: QueueContext, state: CallState, routes: Routes, huey: Host) -> None:
        self._context = context
        self._storage = context.storage
        self._signals = context.signals
        self._encode = context.codec.encode
        self._signs = context.codec.signs
        self._results = context.policy.results
        self._is_eager = context.policy.always_eager
        self._state = state
        self._routes = routes
        self._huey = huey

    def enqueue(self, task: Any) -> Any:
        """See ``Huey.enqueue``."""
        if not isinstance(task, Task) or task.links is not None:
            return self.enqueue_workflow(task)
        if self._is_eager:
            return self.run_eagerly(task)
        if task.queue is not None and (other := self._routes.producer_of(task)) is not self:
            return other.enqueue(task)
        record = self.build_once(task)
        duplicates = NO_DUPLICATES
        if not self._state.runs_inline or not self._routes.inline_worker().release(task):
            duplicates = self.put([record])
            if duplicates:
                task = self.existing(task, duplicates)
        return self.handle(task, duplicates is not NOT_WRITTEN_YET and not Block.opened) if self._results else None

    @opened
    def run_eagerly(self, task: Task) -> Any:
        """Run the function of *task* here and return its value, or let its exception propagate."""
        wrapper = self._context.registry.find(task.name)
        value = wrapper.body(*task.args, **wrapper.with_extras(task))
        check_has_run(wrapper.name, value)
        return value

    def enqueue_workflow(self, described: Any) -> Any:
        """Enqueue a pipeline, a group or a chord; TypeError: *described* is none."""
        if not isinstance(described, Task | group | chord | Flow):
            raise TypeError(why_no_task(described))
        if not self._is_eager:
            return self._routes.workflows.enqueue(described)
        if isinstance(described, Flow):
            return run_flow_eagerly(described, self.run_eagerly)
        return run_eagerly(described, self.run_eagerly)

    # -- from a task to its record ------------------------------------------------------------------------------------------------------

    def build(self, task: Task, members: Mapping[str, Any] | None = None) -> Record:
        """Return the record of *task*: arguments encoded, constraints resolved, signed if messages are. *members*: more members of its
        options. Raise EncodeError if its arguments cannot be stored, ConfigurationError if the storage lacks its constraints, ValueError if
        an argument cannot be a key.
        """
        if task.expires_in is not None:
            task.resolve_expires(self._context.clock.now())
        if HEADERS in task.kwargs:
            task.headers = plain_headers(task.kwargs.pop(HEADERS))
        arguments, is_constrained = (task.args, task.kwargs or None), task.may_come_again or task.has_constraints
        if not self._signs and not members:
            record = task.record(self._encode("task", task.id, arguments))
            return self._constrained(record, task) if is_constrained else record
        record = task.record(b"")
        if is_constrained:
            record = self._constrained(record, task)
        if members:
            record = record._replace(options=with_members(record.options, members))
        if not self._signs:
            return record._replace(payload=self._encode("task", task.id, arguments))
        return record._replace(payload=self._encode("task", task.id, arguments, declaration(record)))

    def build_once(self, task: Task) -> Record:
        """Build the record like `build`, but count a second enqueue of the same task as a new enqueue of its id."""
        record = self.build(task)
        task.may_come_again = True
        return record

    def _constrained(self, record: Record, task: Task) -> Record:
        """Return *record* with the constraints of its function, or those of an id that the caller chose."""
        supports, of_id = self._storage.features.supports_constraints, NONE
        if task.may_come_again:
            # Two enqueues of one id never share a timestamp, however coarse the clock is.
            self._state.last_enqueue = task.enqueued_as = max(self._context.clock.now(), self._state.last_enqueue + 1)
            of_id = Constraints(own=task.enqueued_as, id_ttl=self._context.policy.keep_ids if supports else None)
        if not task.has_constraints:
            return record._replace(options=with_constraints(record.options, of_id))
        if not supports:
            raise unsupported(self._storage)
        return record._replace(options=self._context.registry.find(task.name).options_of(task, record.options, of_id))

    # -- its handle ---------------------------------------------------------------------------------------------------------------------

    def existing(self, task: Task, duplicates: Mapping[str, str]) -> Task:
        """Return the task that a call stands for: *task* itself or, if it is a duplicate, the existing task."""
        if task.id not in duplicates:
            return task
        other = type(task)(task.args, task.kwargs, id=duplicates[task.id])
        if other.id == task.id:
            log.debug("%s %s is held already: it was not enqueued again", task.name, task.id)
            row = self._storage.get(task.id)
            # If it has just ended, the handle names an enqueue that never happened, and so cannot affect a later one.
            other.enqueued_as = task.enqueued_as if row is None else read_constraints(row.options).own
        return other

    def handle(self, task: Task, is_held: bool) -> Result[Any]:
        """Return the handle of *task*. An open batch may later point it at another task. *is_held*: as in `Result`."""
        result: Result[Any] = Result(self._huey, task, is_held)
        if task.has_constraints and (batch := self._state.batch) is not None:
            batch.handles.append(result)
        return result

    # -- writing ----------------------------------------------------------------------------------------------------------------------

    def put_all(self, chunks: Iterable[Sequence[Record]]) -> Mapping[str, str]:
        """Enqueue *chunks*, one after the other; see ``put``. If one fails, the error says how many tasks were written before it."""
        written = 0
        duplicates: dict[str, str] = {}
        try:
            with self._storage.bulk_enqueue() as target:
                for chunk in chunks:
                    duplicates |= self.put(chunk, target)
                    written += len(chunk)
        except Exception as error:  # Any error: the caller must learn what was written.
            written -= getattr(error, "unconfirmed", 0)
            error.args = (f"{error} ({written} tasks were already written)", *error.args[1:])
            raise
        return duplicates

    def put(self, records: Sequence[Record], target: BulkEnqueue | None = None) -> Mapping[str, str]:
        """Enqueue records, or pass them to the open batch or the outbox. *target*: the bulk call they belong to.

        Return a dict that maps the id of each task whose key is held, and which was not enqueued, to the id of the holder.
        """
        if Block.opened and (batch := self._state.batch) is not None:
            batch.collected.setdefault(self._context.name, []).extend(records)
            return NO_DUPLICATES
        if self._state.outbox is None:
            return self._write(records, target)
        # Records that are not written yet have no known duplicates.
        duplicates: Mapping[str, str] | None = self._state.outbox(lambda: self._write(records, target))
        return NOT_WRITTEN_YET if duplicates is None else duplicates

    def _write(self, records: Sequence[Record], target: BulkEnqueue | None) -> Mapping[str, str]:
        def make_events() -> list[str]:
            return [events.of_enqueue(record, self._context.clock.now()) for record in records]

        enqueue = (target or self._storage).enqueue
        if not self._signals.handlers:
            duplicates = enqueue(records, make_events)
        else:
            stored = list(records)
            with self.announcing(stored):
                duplicates = enqueue(records, make_events)
                stored[:] = [record for record in stored if record.id not in duplicates]
        if self._state.is_immediate:
            self._routes.inline_worker().run_ready()
        return duplicates

    @contextmanager
    def announcing(self, records: Sequence[Record]) -> Iterator[None]:
        """Announce the records that the block stores: unless it raises, call their signal handlers before anything in this process runs
        them."""
        if not self._signals.wants(SIGNAL_ENQUEUED, SIGNAL_SCHEDULED):
            yield
            return
        decoder, now = self._context.decoder, self._context.clock.now()
        with self._signals.handler_gate.holding([record.id for record in records]):
            yield
            for record in records:
                task = decoder.decode_or_stub(record, record.eta)
                self._signals.emit(SIGNAL_ENQUEUED, task)
                if record.eta is not None and record.eta > now:
                    self._signals.emit(SIGNAL_SCHEDULED, task)


def why_no_task(thing: object) -> str:
    """Return the error message for *thing*, which cannot be enqueued."""
    if isinstance(thing, TaskWrapper):
        name = thing.name.rpartition(".")[2]
        return f"{thing!r} is a decorated function: call it, {name}(...), or enqueue its task, huey.enqueue({name}.s(...))"
    if isinstance(thing, Result):
        return f"{thing!r} is a handle: its task is enqueued already"
    if isinstance(thing, type) and issubclass(thing, Task):
        return f"{thing!r} is the task class of a function: give one of its tasks, such as f.s(1, 2) returns"
    if isinstance(thing, list | tuple | ResultGroup):
        return f"{type(thing).__name__}: enqueue takes one task; use huey.enqueue(group([...])) or huey.enqueue_many([...]) for several"
    return f"{thing!r:.100} is not a task: give one, such as f.s(1, 2) returns for a function f decorated with @huey.task()"

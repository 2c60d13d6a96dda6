"""Enqueue tasks: one by one, many at once, or collected in a batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Protocol

from huey.client.call_state import Batch, CallState
from huey.client.context import QueueContext
from huey.client.inline import InlineWorker
from huey.client.overrides import Overrides
from huey.client.records import RecordBuilder
from huey.client.result import Result, ResultGroup, ResultHost
from huey.engine.declared import declaration
from huey.exceptions import HueyException
from huey.runtime.functions import check_has_run
from huey.runtime.masking import opened
from huey.runtime.owned_blocks import Block
from huey.signals import SIGNAL_ENQUEUED, SIGNAL_SCHEDULED
from huey.storage.helpers import CHUNK, BulkEnqueue, in_chunks
from huey.task import events
from huey.task.record import Record, RecordBatch
from huey.task.record_options import read_constraints
from huey.task.task import Task
from huey.task.wrapper import TaskWrapper

log = logging.getLogger("huey")

NO_DUPLICATES: Mapping[str, str] = {}
"""By the id of a task that was not put in since its key is held: the id of the task that holds it. Here: none."""
NOT_WRITTEN_YET: Mapping[str, str] = {}
"""The same, of tasks that are written later, or perhaps never."""


class Routes(Protocol):
    """Finds the producers of the other queues of a ``Huey``."""

    def producer_of(self, target: Any) -> Producer: ...

    def producer_on(self, queue: str) -> Producer: ...

    def inline_worker(self) -> InlineWorker: ...


class Producer:
    """Puts tasks into one queue. *huey* makes the handles, *routes* leads to the other queues."""

    def __init__(
        self, context: QueueContext, state: CallState, overrides: Overrides, records: RecordBuilder, routes: Routes, huey: ResultHost
    ) -> None:
        self._context = context
        self._storage = context.storage
        self._signals = context.signals
        self._results = context.policy.results
        self._is_eager = context.policy.always_eager
        self._state = state
        self._overrides = overrides
        self._build = records.build
        self._routes = routes
        self._result = partial(Result[Any], huey)

    # -- one --------------------------------------------------------------------------------------------------------------------------

    def enqueue(self, task: Task) -> Any:
        """See ``Huey.enqueue``."""
        if not isinstance(task, Task):
            raise TypeError(_why_no_task(task))
        if self._is_eager:
            return self.run_eagerly(task)
        if task.queue is not None and (other := self._routes.producer_of(task)) is not self:
            return other.enqueue(task)
        record = self._build(task)
        # If the same task is enqueued once more, that is another enqueue of its id.
        task.may_come_again = True
        duplicates = NO_DUPLICATES
        if not self._state.runs_inline or not self._routes.inline_worker().release(task):
            duplicates = self.put([record])
            if duplicates:
                task = self._existing(task, duplicates)
        return self._handle(task, duplicates is not NOT_WRITTEN_YET and not Block.opened) if self._results else None

    def _existing(self, task: Task, duplicates: Mapping[str, str]) -> Task:
        """Return the task that a call stands for: *task* itself, or the existing one because of which it was not put in."""
        if task.id not in duplicates:
            return task
        other = type(task)(task.args, task.kwargs, id=duplicates[task.id])
        if other.id == task.id:
            log.debug("%s %s is held already: it was not enqueued again", task.name, task.id)
            row = self._storage.get(task.id)
            # If it has ended just now, the handle names an enqueue that never came, and so no later one.
            other.enqueued_as = task.enqueued_as if row is None else read_constraints(row.options).own
        return other

    def _handle(self, task: Task, is_held: bool) -> Result[Any]:
        result = self._result(task, is_held)
        if task.has_constraints and (batch := self._state.batch) is not None:
            batch.handles.append(result)
        return result

    @opened
    def run_eagerly(self, task: Task) -> Any:
        """Run the function of *task* here and return its value; exceptions pass."""
        wrapper = self._context.registry.find(task.name)
        value = wrapper.func(*task.args, **wrapper.with_extras(task))
        check_has_run(wrapper.name, value)
        return value

    # -- many -------------------------------------------------------------------------------------------------------------------------

    def enqueue_many(self, tasks: Iterable[Task]) -> Any:
        """See ``Huey.enqueue_many``."""
        tasks = list(tasks)
        for task in tasks:
            if not isinstance(task, Task):
                raise TypeError(_why_no_task(task))
        if self._is_eager:
            return [self.run_eagerly(task) for task in tasks]
        if self._overrides.custom_enqueue is not None:
            return self._enqueue_each(tasks)
        producers, duplicates = [self._routes.producer_of(task) for task in tasks], dict(NO_DUPLICATES)
        for producer in dict.fromkeys(producers):
            own = (task for task, its in zip(tasks, producers, strict=True) if its is producer)
            duplicates |= producer.put_all(in_chunks(map(producer._build_once, own)))
        is_held = not Block.opened and self._state.outbox is None
        handles = (its._handle(self._existing(task, duplicates), is_held) for its, task in zip(producers, tasks, strict=True))
        return ResultGroup(handles) if self._results else None

    def map(self, wrapper: TaskWrapper[Any, Any], calls: Iterable[Any]) -> Any:
        """Enqueue one task of *wrapper* per item; see ``TaskWrapper.map``."""
        make = wrapper.task_class
        calls = list(calls)
        arguments = [call if isinstance(call, tuple) else (call,) for call in calls]
        wrapper.check_calls(arguments, calls)
        if self._is_eager:
            return [self.run_eagerly(make(args)) for args in arguments]
        varies = wrapper.options.constraints is not None and wrapper.options.constraints.varies_per_call
        if varies or self._overrides.custom_enqueue is not None:
            return self.enqueue_many(make(args) for args in arguments)
        # Straight to what is stored: a hundred thousand Task objects would cost more than their enqueue.
        codec = self._context.codec
        ids, template = self._context.new_id.many(len(arguments)), self._build(make())
        declared = declaration(template) if codec.signs else None

        def chunk(start: int) -> RecordBatch:
            part = slice(start, start + CHUNK)
            return RecordBatch(template, ids[part], codec.encode_calls(ids[part], arguments[part], declared))

        self.put_all(map(chunk, range(0, len(ids), CHUNK)))
        is_held = not Block.opened and self._state.outbox is None
        handles = (self._result(make(args, id=id), is_held) for id, args in zip(ids, arguments, strict=True))
        return ResultGroup(handles) if self._results else None

    def _build_once(self, task: Task) -> Record:
        record = self._build(task)
        task.may_come_again = True
        return record

    def _enqueue_each(self, tasks: Iterable[Task]) -> Any:
        """Enqueue each task through the replaced ``Huey.enqueue``; they are written together."""
        with nullcontext() if self._state.batch is not None else self.batch():
            handles = [self._overrides.call_enqueue(task) for task in tasks]
        return ResultGroup(handles) if self._results else None

    # -- collected --------------------------------------------------------------------------------------------------------------------

    @contextmanager
    def batch(self) -> Iterator[None]:
        """See ``Huey.batch``."""
        if self._state.batch is not None:
            raise HueyException("batch() inside batch(): one block at a time collects the calls of a thread")
        batch = Batch(self._state)
        try:
            with batch:
                yield
        except GeneratorExit:
            if batch.collected:
                log.warning("a batch() ended since the generator that opened it was closed: %d calls were not enqueued", batch.size)
            raise
        duplicates = dict(NO_DUPLICATES)
        for queue, records in batch.collected.items():
            duplicates |= self._routes.producer_on(queue).put_all(in_chunks(records))
        for result in batch.handles:
            result.task = self._existing(result.task, duplicates)

    @property
    def tick_builder(self) -> Callable[[Task], Record | None] | None:
        """What makes the record of a periodic task's tick by way of ``Huey.enqueue``, if that is replaced, else None. It returns None if
        the tick was not enqueued."""
        return self._build_through_huey if self._overrides.custom_enqueue is not None else None

    def _build_through_huey(self, task: Task) -> Record | None:
        batch = Batch(self._state)
        with batch:
            self._overrides.call_enqueue(task)
        own: Record | None = None
        for queue, records in batch.collected.items():
            own = next((record for record in records if record.id == task.id), own)
            if others := [record for record in records if record.id != task.id]:
                self._routes.producer_on(queue).put_all(in_chunks(others))
        return own

    # -- writing ----------------------------------------------------------------------------------------------------------------------

    def put_all(self, chunks: Iterable[Sequence[Record]]) -> Mapping[str, str]:
        """Put in *chunks*, one after the other; see ``put``. If one fails, the error says how many tasks were written before."""
        written = 0
        duplicates: dict[str, str] = {}
        try:
            with self._storage.bulk_enqueue() as target:
                for chunk in chunks:
                    duplicates |= self.put(chunk, target)
                    written += len(chunk)
        except Exception as error:  # Of whatever kind: the caller has to know.
            written -= getattr(error, "unconfirmed", 0)
            error.args = (f"{error} ({written} tasks were written before)", *error.args[1:])
            raise
        return duplicates

    def put(self, records: Sequence[Record], target: BulkEnqueue | None = None) -> Mapping[str, str]:
        """Put records in, or hand them to the open batch or the outbox. *target*: the bulk call they belong to.

        Return, by the id of each task that was not put in since its key is held, the id of the task that holds it.
        """
        if Block.opened and (batch := self._state.batch) is not None:
            batch.collected.setdefault(self._context.name, []).extend(records)
            return NO_DUPLICATES
        if self._state.outbox is None:
            return self._write(records, target)
        # What is still to be written has met no duplicate yet.
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
        """A block in which *records* are stored. If it does not raise, the handlers of their signals are called before anything
        in this process runs them."""
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


def _why_no_task(thing: object) -> str:
    """Return the error message for a *thing* that cannot be enqueued."""
    if isinstance(thing, TaskWrapper):
        name = thing.name.rpartition(".")[2]
        return f"{thing!r} is a decorated function: call it, {name}(...), or enqueue its task, huey.enqueue({name}.s(...))"
    if isinstance(thing, Result):
        return f"{thing!r} is a handle: its task is enqueued already"
    if isinstance(thing, type) and issubclass(thing, Task):
        return f"{thing!r} is the class of a function's tasks: give a task of it, such as f.s(1, 2) makes"
    if isinstance(thing, list | tuple | ResultGroup):
        return f"{type(thing).__name__}: enqueue takes one task; several go with huey.enqueue_many([...])"
    return f"{thing!r:.100} is no task: give one, such as f.s(1, 2) makes of a function f below @huey.task()"

"""Enqueue many tasks at once: a list of tasks, one function over many arguments, or what a ``batch()`` block collects."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any

from huey.client.call_state import Batch, CallState
from huey.client.context import Overrides, QueueContext
from huey.client.producer import NO_DUPLICATES, Producer, Routes, why_no_task
from huey.client.result import Result
from huey.client.result_groups import ResultGroup
from huey.client.waits import Host
from huey.engine.task_decoder import declaration
from huey.exceptions import HueyException
from huey.runtime.owned_blocks import Block
from huey.storage.helpers import CHUNK, in_chunks
from huey.task.composition import group
from huey.task.record import Record, RecordBatch
from huey.task.task import Task
from huey.task.wrapper import TaskWrapper

log = logging.getLogger("huey")


class BulkProducer:
    """Enqueues many tasks into the queue of *producer*; those that belong to other queues go there."""

    def __init__(
        self, context: QueueContext, state: CallState, overrides: Overrides, producer: Producer, routes: Routes, huey: Host
    ) -> None:
        self._context = context
        self._state = state
        self._overrides = overrides
        self._producer = producer
        self._routes = routes
        self._huey = huey

    def enqueue_many(self, tasks: Iterable[Task]) -> Any:
        """See ``Huey.enqueue_many``."""
        tasks = list(tasks)
        for task in tasks:
            if not isinstance(task, Task):
                raise TypeError(why_no_task(task))
        if any(task.links is not None for task in tasks):
            return self._producer.enqueue_workflow(group(tasks))
        if self._context.policy.always_eager:
            return [self._producer.run_eagerly(task) for task in tasks]
        if self._overrides.custom_enqueue is not None:
            return self._enqueue_each(tasks)
        producers, duplicates = [self._routes.producer_of(task) for task in tasks], dict(NO_DUPLICATES)
        for producer in dict.fromkeys(producers):
            own = (task for task, its in zip(tasks, producers, strict=True) if its is producer)
            duplicates |= producer.put_all(in_chunks(map(producer.build_once, own)))
        is_held = self._is_written_at_once
        handles = (its.handle(its.existing(task, duplicates), is_held) for its, task in zip(producers, tasks, strict=True))
        return ResultGroup(handles) if self._context.policy.results else None

    def map(self, wrapper: TaskWrapper[Any, Any], calls: Iterable[Any]) -> Any:
        """Enqueue one task of *wrapper* per item; see ``TaskWrapper.map``."""
        make, producer = wrapper.task_class, self._producer
        calls = list(calls)
        arguments = [call if isinstance(call, tuple) else (call,) for call in calls]
        wrapper.check_calls(arguments, calls)
        if self._context.policy.always_eager:
            return [producer.run_eagerly(make(args)) for args in arguments]
        varies = wrapper.options.constraints is not None and wrapper.options.constraints.varies_per_call
        if varies or self._overrides.custom_enqueue is not None:
            return self.enqueue_many(make(args) for args in arguments)
        # Build records directly: creating a hundred thousand Task objects would cost more than enqueueing them.
        codec = self._context.codec
        ids, template = self._context.new_id.many(len(arguments)), producer.build(make())
        declared = declaration(template) if codec.signs else None

        def chunk(start: int) -> RecordBatch:
            part = slice(start, start + CHUNK)
            return RecordBatch(template, ids[part], codec.encode_calls(ids[part], arguments[part], declared))

        producer.put_all(map(chunk, range(0, len(ids), CHUNK)))
        is_held = self._is_written_at_once
        handles = (Result[Any](self._huey, make(args, id=id), is_held) for id, args in zip(ids, arguments, strict=True))
        return ResultGroup(handles) if self._context.policy.results else None

    @property
    def _is_written_at_once(self) -> bool:
        """True if enqueued tasks are stored by now, rather than collected or left to the outbox."""
        return not Block.opened and self._state.outbox is None

    def _enqueue_each(self, tasks: Iterable[Task]) -> Any:
        """Enqueue each task through the replaced ``Huey.enqueue``, and write them together."""
        with nullcontext() if self._state.batch is not None else self.batch():
            handles = [self._overrides.call_enqueue(task) for task in tasks]
        return ResultGroup(handles) if self._context.policy.results else None

    @contextmanager
    def batch(self) -> Iterator[None]:
        """See ``Huey.batch``."""
        with self._collecting() as batch:
            yield
        self._write(batch)

    @asynccontextmanager
    async def abatch(self) -> AsyncIterator[None]:
        """See ``Huey.abatch``."""
        from huey.client.awaitable import aside

        with self._collecting() as batch:
            yield
        await aside(self._write, batch)

    @contextmanager
    def _collecting(self) -> Iterator[Batch]:
        if self._state.batch is not None:
            raise HueyException("batch() inside batch(): a thread can have only one open batch at a time")
        batch = Batch(self._state)
        try:
            with batch:
                yield batch
        except GeneratorExit:
            if batch.collected:
                log.warning("a batch() ended because the generator that opened it was closed: %d calls were not enqueued", batch.size)
            raise

    def _write(self, batch: Batch) -> None:
        duplicates = dict(NO_DUPLICATES)
        for queue, records in batch.collected.items():
            duplicates |= self._routes.producer_on(queue).put_all(in_chunks(records))
        for write in batch.workflows:
            write()
        for result in batch.handles:
            result.task = self._producer.existing(result.task, duplicates)

    @property
    def tick_builder(self) -> Callable[[Task], Record | None] | None:
        """A function that builds the record of a periodic task's tick through ``Huey.enqueue``, or None if that is not replaced. It returns
        None if the tick was not enqueued."""
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

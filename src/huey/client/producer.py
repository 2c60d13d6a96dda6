"""Putting tasks in: the part of ``Huey`` that turns calls into records, one by one, many at once, or collected."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from huey.client.inline import ByHand, is_wrapped
from huey.client.limits import Limits
from huey.client.result import Result, ResultGroup
from huey.client.routing import Queues
from huey.engine.declared import declaration
from huey.exceptions import HueyException
from huey.runtime.clock import Ids
from huey.runtime.functions import check_has_run
from huey.runtime.masking import opened
from huey.runtime.owned_blocks import Block, find
from huey.storage.helpers import CHUNK, Place, any_constraints, in_chunks
from huey.task import events
from huey.task.record import Record, RecordBatch
from huey.task.record_options import read_constraints
from huey.task.task import HEADERS, Task, plain_headers
from huey.task.wrapper import TaskWrapper

log = logging.getLogger("huey")
_NONE_MET: Mapping[str, str] = {}
_LATER: Mapping[str, str] = {}
"""The same, of tasks that are put in later, or perhaps never."""


class Batch(Block):
    """The calls of one ``batch()``."""

    def __init__(self, of: object) -> None:
        super().__init__(of)
        self.collected: dict[str, list[Record]] = {}
        """By queue."""
        self.handles: list[Result[Any]] = []

    @property
    def size(self) -> int:
        return sum(map(len, self.collected.values()))


class Putting(ByHand, Limits, Queues):
    """The verbs that put tasks in."""

    always_eager: bool
    new_id: Ids
    _is_immediate: bool
    store_intermediate_errors: bool
    outbox: Callable[[Callable[[], Any]], Any] | None = None
    """Decides when and where each enqueue is written: it is given the write, to call it now (and hand on its answer), after the caller's
    transaction (None), or not at all. None: now."""

    if TYPE_CHECKING:
        # Of the class that is made of all parts; its handles need them.
        revoke: Any
        restore: Any
        is_revoked: Any
        reschedule: Any

    def enqueue(self, task: Task) -> Any:
        """Put a task in: a ``Result``, or None without results. Durable when it returns (C1); the same id again changes nothing.

        A subclass or an instrumentation may wrap it: everything that is put in then passes through it, each task by itself, those of
        ``map`` and ``enqueue_many`` and the ticks of periodic tasks too.
        """
        if not isinstance(task, Task):
            raise TypeError(why_no_task(task))
        if self.always_eager:
            return self.run_now(task)
        if task.queue is not None and self._of(task) is not self:
            return self._of(task).enqueue(task)
        record = self._recorded(task)
        met = _NONE_MET
        if not self._hands or not self._in_hand.put_back(task):
            met = self._put([record])
            task = self._put_in(task, met)
        return self._handle(task, met is not _LATER and not Block.opened) if self.results else None

    def enqueue_many(self, tasks: Iterable[Task]) -> Any:
        """Put many tasks in, in chunks of 1,000 that are each all or nothing: a ``ResultGroup``, or None without results.

        When a chunk fails, the error says how many tasks were written before. TypeError: one of them is no task; nothing was written.
        """
        tasks = list(tasks)
        for task in tasks:
            if not isinstance(task, Task):
                raise TypeError(why_no_task(task))
        if self.always_eager:
            return [self.run_now(task) for task in tasks]
        if self._has_gate:
            return self._one_by_one(tasks)
        places, met = [self._of(task) for task in tasks], dict(_NONE_MET)
        for place in dict.fromkeys(places):
            met |= place._put_all(in_chunks(place._recorded(task) for task, own in zip(tasks, places, strict=True) if own is place))
        is_held = not Block.opened and self.outbox is None
        handles = (place._handle(self._put_in(task, met), is_held) for place, task in zip(places, tasks, strict=True))
        return ResultGroup(handles) if self.results else None

    def _put_in(self, task: Task, met: Mapping[str, str]) -> Task:
        """The task that a call stands for: itself, or the one because of which it was not put in."""
        if task.id not in met:
            return task
        other = type(task)(task.args, task.kwargs, id=met[task.id])
        if other.id == task.id:
            log.debug("%s %s is held already: it was not enqueued again", task.name, task.id)
            row = self.storage.get(task.id)
            # Ended just now: then the handle names an enqueue that never came, and so no later one.
            other.enqueued_as = task.enqueued_as if row is None else read_constraints(row.options).own
        return other

    def _handle(self, task: Task, is_held: bool) -> Result[Any]:
        result: Result[Any] = Result(self, task, is_held)
        if task.has_constraints and (batch := self._batch) is not None:
            batch.handles.append(result)
        return result

    def map_task(self, wrapper: TaskWrapper[Any, Any], calls: Iterable[Any]) -> Any:
        """One task per item; see ``TaskWrapper.map``."""
        make = wrapper.task_class
        calls = list(calls)
        arguments = [call if isinstance(call, tuple) else (call,) for call in calls]
        wrapper.check_calls(arguments, calls)
        if self.always_eager:
            return [self.run_now(make(args)) for args in arguments]
        if self._of(wrapper) is not self:
            return self._of(wrapper).map_task(wrapper, arguments)
        if self._has_gate or (wrapper.options.constraints is not None and wrapper.options.constraints.varies_per_call):
            return self.enqueue_many(make(args) for args in arguments)
        # Straight to what is stored: a hundred thousand Task objects would cost more than their enqueue.
        ids, pattern = self.new_id.many(len(arguments)), self._record(make())
        declared = declaration(pattern) if self.codec.signs else None

        def chunk(start: int) -> RecordBatch:
            place = slice(start, start + CHUNK)
            return RecordBatch(pattern, ids[place], self.codec.encode_calls(ids[place], arguments[place], declared))

        self._put_all(map(chunk, range(0, len(ids), CHUNK)))
        is_held = not Block.opened and self.outbox is None
        handles = (Result[Any](self, make(args, id=id), is_held) for id, args in zip(ids, arguments, strict=True))
        return ResultGroup(handles) if self.results else None

    @property
    def _has_gate(self) -> bool:
        return is_wrapped(self, "enqueue", Putting)

    def _one_by_one(self, tasks: Iterable[Task]) -> Any:
        """Each by ``enqueue``, which is wrapped; written together."""
        with nullcontext() if self._batch is not None else self.batch():
            handles = [self.enqueue(task) for task in tasks]
        return ResultGroup(handles) if self.results else None

    @property
    def ticket(self) -> Callable[[Task], Record | None] | None:
        """Makes the record of a tick's task, by the way of ``enqueue``; None where that is not wrapped. No record: it was not enqueued."""
        return self._collected if self._has_gate else None

    def _collected(self, task: Task) -> Record | None:
        batch = Batch(self._home or self)
        with batch:
            self.enqueue(task)
        own: Record | None = None
        for queue, records in batch.collected.items():
            own = next((record for record in records if record.id == task.id), own)
            if others := [record for record in records if record.id != task.id]:
                self.on(queue)._put_all(in_chunks(others))
        return own

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Calls of this thread inside the block are put in together at its end, in chunks of 1,000; none when the block raises. Their
        handles work from then on."""
        if self._batch is not None:
            raise HueyException("batch() inside batch(): one block at a time collects the calls of a thread")
        batch = Batch(self._home or self)
        try:
            with batch:
                yield
        except GeneratorExit:
            if batch.collected:
                log.warning("a batch() ended since the generator that opened it was closed: %d calls were not enqueued", batch.size)
            raise
        met = dict(_NONE_MET)
        for queue, records in batch.collected.items():
            met |= self.on(queue)._put_all(in_chunks(records))
        for result in batch.handles:
            result.task = self._put_in(result.task, met)

    @property
    def _batch(self) -> Batch | None:
        """The batch that this thread and asyncio task opened; None outside."""
        batch = find(Batch, self._home or self)
        return batch if batch is not None and batch.is_mine else None

    @opened
    def run_now(self, task: Task) -> Any:
        """Run the task's function here and return its value; exceptions pass (S19)."""
        wrapper = self.registry.find(task.name)
        value = wrapper.func(*task.args, **wrapper.with_extras(task))
        check_has_run(wrapper.name, value)
        return value

    def _record(self, task: Task) -> Record:
        if task.expires_in is not None:
            task.resolve_expires(self.clock.now())
        if HEADERS in task.kwargs:
            task.headers = plain_headers(task.kwargs.pop(HEADERS))
        if self.codec.signs:
            return self._signed_record(task)
        record = task.record(self.codec.encode("task", task.id, (task.args, task.kwargs or None)))
        return self.with_constraints(record, task) if task.may_come_again or task.has_constraints else record

    def _recorded(self, task: Task) -> Record:
        """Its record; the next one of this task is another enqueue."""
        record = self._record(task)
        task.may_come_again = True
        return record

    def _signed_record(self, task: Task) -> Record:
        record = task.record(b"")
        if task.may_come_again or task.has_constraints:
            record = self.with_constraints(record, task)
        return record._replace(payload=self.codec.encode("task", task.id, (task.args, task.kwargs or None), declaration(record)))

    def _put_all(self, chunks: Iterable[Sequence[Record]]) -> Mapping[str, str]:
        written = 0
        met: dict[str, str] = {}
        try:
            with self.storage.bulk_enqueue() as place:
                for chunk in chunks:
                    met |= self._put(chunk, place)
                    written += len(chunk)
        except Exception as error:  # Of whatever kind: who called has to know.
            written -= getattr(error, "unconfirmed", 0)
            error.args = (f"{error} ({written} tasks were written before)", *error.args[1:])
            raise
        return met

    def _put(self, records: Sequence[Record], place: Place | None = None) -> Mapping[str, str]:
        """Put them in, by the *place* of a bulk call. For those that are not put in as their key is held: the id of who holds it."""
        if (batch := self._batch) is not None:
            batch.collected.setdefault(self.name, []).extend(records)
            return _NONE_MET
        if self.outbox is None:
            return self._write(records, place)
        # What is still to come has met nothing yet.
        met: Mapping[str, str] | None = self.outbox(lambda: self._write(records, place))
        return _LATER if met is None else met

    def _write(self, records: Sequence[Record], place: Place | None) -> Mapping[str, str]:
        if self.signals.handlers:
            put_in = list(records)
            with self.announcing(put_in):
                met = self._enqueue(records, place)
                put_in[:] = [record for record in put_in if record.id not in met]
        else:
            met = self._enqueue(records, place)
        if self._is_immediate:
            self._run_ready()
        return met

    def _enqueue(self, records: Sequence[Record], place: Place | None) -> Mapping[str, str]:
        def tell() -> list[str]:
            return [events.of_enqueue(record, self.clock.now()) for record in records]

        to = place or self.storage
        if self.storage.supports_constraints and any_constraints(records):
            return to.admit(records, tell)
        to.enqueue(records, tell)
        return _NONE_MET


def why_no_task(thing: object) -> str:
    """What to say of a thing that cannot be enqueued."""
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

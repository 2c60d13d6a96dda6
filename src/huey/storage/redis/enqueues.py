"""Enqueueing: one script for one plain record, one for many, one for records with constraints.

Each enqueue is executed once, however often it is sent (pipeline.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

from huey.exceptions import ConfigurationError, StorageError, StorageUnavailable
from huey.runtime.clock import Micros, Rng, micros
from huey.runtime.failpoints import failpoint
from huey.storage.base import Storage
from huey.storage.helpers import BulkEnqueue, any_constraints, check_records
from huey.storage.redis import keys
from huey.storage.redis.messages import Arg, group, groups, single
from huey.storage.redis.pipeline import EnqueueCall, EnqueuePipeline, EnqueueSequences
from huey.storage.redis.queue import RedisQueue
from huey.storage.redis.turns import WorkerStorage
from huey.storage.redis.workflows import answer_of, arguments_of
from huey.storage.rows import EventFactory
from huey.task.record import Record
from huey.task.record_options import may_have_constraints
from huey.task.workflow import QueuedRecord, TaskRef, Workflow, prepared

T = TypeVar("T")

FIRST_GAP_S, LONGEST_GAP_S = 0.05, 0.5
"""Seconds between two attempts while the server is unreachable."""
NOT_SIMPLE = 2
"""The answer of lua/enqueue_one.lua if it has enqueued nothing."""


class EnqueuingStorage(WorkerStorage):
    """The methods of ``RedisStorage`` that enqueue. *timeout*: seconds for which an enqueue retries while the server is unreachable; see
    ``WorkerStorage`` for the rest."""

    def __init__(self, queue: RedisQueue, rng: Rng, timeout: float, result_ttl: float | None, keeps_finished: bool) -> None:
        super().__init__(queue, result_ttl, keeps_finished)
        self._rng = rng
        self._timeout = timeout
        self._sequences = EnqueueSequences(queue.clock, rng)

    def enqueue(
        self,
        records: Sequence[Record],
        make_events: EventFactory | None = None,
        now: Micros | None = None,
        submit: Callable[[EnqueueCall], None] | None = None,
    ) -> dict[str, str]:
        """Enqueue *records* as the contract says. *submit*: the function that sends the call, if it is part of a bulk."""
        if type(records) is list and len(records) == 1:
            options = records[0].options
            are_constrained = options is not None and may_have_constraints(options)
        else:
            check_records(records)
            if not records:
                return {}
            are_constrained = any_constraints(records)
        if are_constrained:
            return self._enqueue_constrained(records, make_events, now)
        queue = self._queue
        arguments = groups(records)
        one = single(arguments) if len(records) == 1 else None
        call = EnqueueCall(len(records), queue.now(now), arguments, make_events, one)
        failpoint("enqueue:before-commit")
        if submit is None or queue.is_followed or queue.durable is not None:
            submit = self._submit
        submit(call)
        failpoint("enqueue:after-commit")
        return {}

    def is_beside(self, other: Storage) -> bool:
        if not isinstance(other, EnqueuingStorage) or self.where != other.where:
            return False
        return self.name == other.name or not self._queue.is_in_cluster

    @property
    def where(self) -> str:
        """The server and its database, as messages name them."""
        return self._queue.where

    def enqueue_workflow(
        self, workflow: Workflow, make_events: EventFactory | None = None, now: Micros | None = None
    ) -> dict[TaskRef, str]:
        tasks = prepared(workflow)
        queue, others = self._queue, sorted({ref.queue for ref in workflow.refs} - {self._queue.name})
        if others and queue.is_in_cluster:
            raise ConfigurationError(
                f"a workflow cannot cross queues ({', '.join([queue.name, *others])}) in a Redis cluster, where each queue may be on a "
                "node of its own: put its tasks into one queue, or use one server"
            )
        if others:
            queue.command("SADD", keys.QUEUES, *others)
        failpoint("enqueue_workflow:before-commit")
        how, found = self._numbered(lambda number: self._execute_workflow(workflow, tasks, make_events, queue.now(now), number))
        failpoint("enqueue_workflow:after-commit")
        return answer_of(how, found)

    def _execute_workflow(
        self,
        workflow: Workflow,
        tasks: Sequence[QueuedRecord],
        make_events: EventFactory | None,
        now: Arg,
        number: tuple[Arg, ...],
    ) -> tuple[bytes, list[bytes]]:
        """Return the outcome of the enqueue, and the tasks that caused it."""
        queue = self._queue
        events = list(make_events()) if make_events is not None and queue.is_followed else None
        mode = 0 if make_events is None else 1 if events is None else 2
        answer = queue.call("enqueue_workflow", mode, *number, *arguments_of(workflow, tasks, events or []), now=now, after=queue.durable)
        if answer == 1:
            queue.is_followed = True
            return self._execute_workflow(workflow, tasks, make_events, now, number)
        # A repeated call without a stored answer gets an empty answer.
        return (answer[0], answer[1]) if answer else (b"in", [])

    @contextmanager
    def bulk_enqueue(self) -> Iterator[BulkEnqueue]:
        pipeline = EnqueuePipeline(self._queue, self._sequences, self._submit, self._send)
        bulk = BulkEnqueue(partial(self.enqueue, submit=pipeline.submit))
        try:
            yield bulk
        except BaseException:
            # The exception of the block is raised, not an error of the remaining calls.
            with suppress(StorageError):
                pipeline.drain()
            raise
        finally:
            bulk.enqueue = self.enqueue
        pipeline.drain()

    def tick(self, name: str, tick: Micros, record: Record | None, events: Sequence[str] = (), now: Micros | None = None) -> bool:
        failpoint("tick:before-commit")
        queue = self._queue
        task = [] if record is None else groups([record])
        fired = queue.call("tick", name, tick, queue.name, len(events), *events, *task, now=now, after=queue.durable)
        failpoint("tick:after-commit")
        return bool(fired)

    def _persist(self, act: Callable[[], T], seconds: float) -> T:
        """Repeat *act*, which is safe to repeat, for *seconds* while the server is unreachable; return its value."""
        until, gap, is_unknown = None, FIRST_GAP_S, False
        clock = self._queue.clock
        while True:
            try:
                return act()
            except StorageUnavailable as error:
                is_unknown = error.is_unknown = error.is_unknown or is_unknown
                now = clock.monotonic()
                until = until or now + micros(seconds)
                if now + micros(gap) >= until:
                    raise
            clock.sleep(gap * (0.5 + self._rng.random() / 2))
            gap = min(2 * gap, LONGEST_GAP_S)

    def _submit(self, call: EnqueueCall) -> None:
        self._numbered(partial(self._execute, call))

    def _numbered(self, execute: Callable[[tuple[Arg, ...]], T]) -> T:
        """Call *execute* with a new number for an enqueue, wait for the reply and return it."""
        sequence = self._sequences.take()
        answer = self._persist(partial(execute, (sequence.id, sequence.number())), self._timeout)
        self._sequences.release(sequence)
        return answer

    def _send(self, call: EnqueueCall, sequence: str, number: Micros) -> None:
        """Send *call* again under its number, so that it is executed only once."""
        self._persist(partial(self._execute, call, (sequence, number)), self._timeout)

    def _execute(self, call: EnqueueCall, number: tuple[Arg, ...]) -> None:
        queue, make_events = self._queue, call.make_events
        run = partial(queue.call, now=call.now, after=queue.durable)
        if call.single is not None and not queue.is_followed:
            channel = queue.name if make_events is not None else ""
            if run("enqueue_one", channel, *number, *call.single, soon=True) != NOT_SIMPLE:
                return
        if make_events is None or not queue.is_followed:
            queue.is_followed = bool(run("enqueue", int(make_events is not None), queue.name, *number, 0, *call.arguments))
        if make_events is not None and queue.is_followed:
            # It was not executed if the server has just said that there is a follower.
            events = list(make_events())
            queue.is_followed = bool(run("enqueue", 2, queue.name, *number, len(events), *events, *call.arguments))

    def _enqueue_constrained(self, records: Sequence[Record], make_events: EventFactory | None, now: Micros | None) -> dict[str, str]:
        # Each as a group of one, in their order.
        arguments = [argument for record in records for argument in group(record, (record.id,), (record.payload,))]
        failpoint("enqueue:before-commit")
        found = self._numbered(lambda number: self._execute_constrained(arguments, make_events, self._queue.now(now), number))
        failpoint("enqueue:after-commit")
        return {id.decode(): other.decode() for id, other in zip(found[::2], found[1::2], strict=True)}

    def _execute_constrained(
        self, arguments: list[Arg], make_events: EventFactory | None, now: Arg, number: tuple[Arg, ...]
    ) -> list[bytes]:
        """Return the ids of duplicates, each followed by the id of the task it duplicates."""
        queue = self._queue
        events = make_events() if make_events is not None and queue.is_followed else None
        mode = 0 if make_events is None else 1 if events is None else 2
        head = (mode, queue.name, *number, len(events or ()))
        is_followed, duplicates = queue.call("enqueue_constrained", *head, *(events or ()), *arguments, now=now, after=queue.durable)
        queue.is_followed = bool(is_followed)
        if is_followed and mode == 1:
            return self._execute_constrained(arguments, make_events, now, number)
        found: list[bytes] = duplicates
        return found

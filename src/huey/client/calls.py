"""The part of ``Huey`` that enqueues tasks, gets their results and revokes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from huey.client.facade import QueueFacade
from huey.client.flows import FlowResult
from huey.client.result import Result
from huey.client.result_groups import ChordResult, ResultGroup
from huey.client.status import find_progress, find_status
from huey.runtime.times import Expires
from huey.task.bounds import LONGEST_NAME, parse_text
from huey.task.composition import chord, group
from huey.task.flow import Flow
from huey.task.progress import Progress
from huey.task.task import Task

if TYPE_CHECKING:
    from huey.client import typed
    from huey.task.task import Pipeline

R = TypeVar("R")


class CallFacade(QueueFacade):
    """The methods of ``Huey`` that enqueue and revoke tasks and get their results."""

    @overload
    def enqueue(self, task: chord) -> ChordResult: ...
    @overload
    def enqueue(self, task: group | Pipeline) -> ResultGroup: ...  # type: ignore[overload-overlap]
    @overload
    def enqueue(self, task: Flow) -> FlowResult: ...
    @overload
    def enqueue(self, task: Task[R]) -> Result[R]: ...
    def enqueue(self, task: Any) -> Any:
        """Enqueue *task* and return its ``Result``, or None if results are disabled. The task is durable when this returns. If the id is
        held already, nothing changes.

        A task with a pipeline, a ``group`` or a ``chord`` is enqueued whole or not at all, and returns a ``ResultGroup`` with the handle of
        each stage or member, or a ``ChordResult``. Raise ValueError or TypeError, before anything is enqueued, if a part of it cannot work.

        A subclass or an instrumentation may replace this method: every enqueued task then passes through it, one at a time, including those
        of ``map`` and ``enqueue_many`` and the ticks of periodic tasks; a workflow passes through it as a whole.
        """
        return self.client.producer.enqueue(task)

    @overload
    async def aenqueue(self, task: chord) -> ChordResult: ...
    @overload
    async def aenqueue(self, task: group | Pipeline) -> ResultGroup: ...  # type: ignore[overload-overlap]
    @overload
    async def aenqueue(self, task: Flow) -> FlowResult: ...
    @overload
    async def aenqueue(self, task: Task[R]) -> Result[R]: ...
    async def aenqueue(self, task: Any) -> Any:
        """Enqueue *task* from a coroutine, as ``enqueue`` does, without blocking its event loop."""
        # A batch collects calls of its own thread, and a collected call waits for nothing.
        if self.client.router.state.batch is not None:
            return self.enqueue(task)
        return await self.client.awaitable.aside(self.enqueue, task)

    def flow(self, name: str) -> typed.Flow:
        """Return a new flow, a graph of tasks: ``add`` tasks to it, some of them as arguments of others, and ``enqueue`` it. *name*: how
        the inspector shows it. Raise ValueError for a name that is empty, no text, or longer than 1,000 characters."""
        return cast("typed.Flow", Flow(parse_text("name", name, LONGEST_NAME), self.new_id(), self.name, self.enqueue))

    def current_flow(self) -> Flow:
        """Return the flow that the running task is a member of, to ``add`` members: they are enqueued in the step that writes the success
        of this run, and a run that fails adds none. Raise RuntimeError outside a member of a flow."""
        return self.client.workflows.current_flow()

    def enqueue_many(self, tasks: Iterable[Task[R]]) -> ResultGroup[R]:
        """Enqueue many tasks and return a ``ResultGroup``, or None if results are disabled. Chunks of 1,000 are each all or nothing.

        If a chunk fails, the error says how many tasks were written before it. Raise TypeError and write nothing if an item is no task.
        """
        return self.client.bulk.enqueue_many(tasks)  # type: ignore[no-any-return]

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Collect the calls of this thread inside the block, and enqueue them together at its end, in chunks of 1,000. If the block raises,
        none is enqueued. The handles work once the block has ended."""
        with self.client.bulk.batch():
            yield

    @asynccontextmanager
    async def abatch(self) -> AsyncIterator[None]:
        """Collect the calls of this coroutine inside ``async with huey.abatch():``, as ``batch`` does, and enqueue them at its end without
        blocking the event loop."""
        async with self.client.bulk.abatch():
            yield

    def using(self, connection: Any) -> AbstractContextManager[None]:
        """Enqueue the calls of this thread inside the block in the transaction of *connection*, which must be to the same SQLite file: a
        commit stores them, a rollback leaves none. Raise ConfigurationError for another file or kind of storage."""
        return self.client.using(connection)

    def result(
        self,
        id: str,
        blocking: bool = False,
        timeout: float | None = None,
        backoff: float = 1.15,
        max_delay: float = 1.0,
        revoke_on_timeout: bool = False,
        preserve: bool = False,
        allow_wait: bool = False,
    ) -> Any:
        """Return the result of the task of that id; see ``Result.get``. With *blocking*, this also waits for an unknown id: it may still be
        enqueued."""
        return Result[Any](self, Task(id=id)).get(blocking, timeout, backoff, max_delay, revoke_on_timeout, preserve, allow_wait)

    def status(self, id: str) -> str:
        """Return what the task of that id is doing in this queue.

        ``scheduled``: it waits for its time. ``ready``: for a free worker. ``waiting``: for other tasks. ``blocked``: for a limit, a rate,
        or a worker that knows its function. ``running``. ``retrying``: queued after a try that failed. ``succeeded``: as long as its result
        is stored, or the task is kept (``keep_finished``, ``keep=``). ``failed``, ``cancelled``: as long as the task or its result is kept.
        ``unknown``: nothing is stored under that id, or no longer.
        """
        return find_status(self, id)

    def progress(self, id: str) -> Progress | None:
        """Return what the run of that task in this queue has reported last, with ``fraction``, ``message`` and ``at``; see
        ``Task.progress``. None if it has reported nothing, or has succeeded."""
        return find_progress(self, id)

    def revoke(self, task: Any, revoke_until: datetime | None = None, revoke_once: bool = False) -> None:
        """Keep a task (a ``Task``, ``Result`` or id) from running, or all tasks of a decorated function or task class.

        *revoke_until*: when the revocation ends; a naive datetime is wall time on the consumer's clock (UTC by default). *revoke_once*:
        skip only the next run. Each call overwrites the previous one. A running task is asked to stop; if it has a worker process to
        itself, that process is killed. Given a task or result, this revokes that enqueue only; given an id that is not held, its next
        enqueue within 7 days.
        """
        self.client.route(task).revoker.revoke(task, revoke_until, revoke_once)

    def revoke_all(self, task_class: Any, revoke_until: datetime | None = None, revoke_once: bool = False) -> None:
        """Keep all tasks of a function from running; *task_class*: the decorated function, or the class of its tasks."""
        self.client.route(task_class).revoker.revoke_all(task_class, revoke_until, revoke_once)

    def restore(self, task: Any) -> bool:
        """Take a revocation back; return whether there was one that had not taken effect yet."""
        return self.client.route(task).revoker.restore(task)

    def restore_all(self, task_class: Any) -> bool:
        """Take the revocation of a function back; return whether there was one. *task_class*: as for ``revoke_all``."""
        return self.client.route(task_class).revoker.restore_all(task_class)

    def is_revoked(self, task: Any, timestamp: datetime | None = None, peek: bool = True) -> bool:
        """Return whether a task, its id, or a function is revoked at *timestamp* (None: now). A bare id does not tell its function.

        With *peek* False, also remove a revocation that is for one run only or has ended, as a consumer does.
        """
        return self.client.route(task).revoker.is_revoked(task, timestamp, peek)

    def reschedule(
        self,
        task: Task,
        eta: datetime | None = None,
        delay: float | timedelta | None = None,
        expires: Expires | None = None,
        priority: int | None = None,
        preserve_pipeline: bool = True,
    ) -> Any:
        """Enqueue the same call again, with a new id, and revoke the old task; see ``Result.reschedule``. The expiry is kept unless
        *expires* is given."""
        return self.client.route(task).revoker.reschedule(task, eta, delay, expires, priority, preserve_pipeline)

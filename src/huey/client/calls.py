"""The calls of ``Huey``: enqueue tasks, get their results, revoke them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from typing import Any

from huey.client.facade import QueueFacade
from huey.client.result import Result
from huey.runtime.times import Expires
from huey.task.task import Task


class CallFacade(QueueFacade):
    """See the module."""

    def enqueue(self, task: Task) -> Any:
        """Enqueue *task* and return its ``Result``, or None if results are disabled. The task is durable when this returns; the same id
        again changes nothing.

        A subclass or an instrumentation may replace this method: every task that is enqueued then passes through it, one at a time, also
        those of ``map`` and ``enqueue_many`` and the ticks of periodic tasks.
        """
        return self.client.producer.enqueue(task)

    def enqueue_many(self, tasks: Iterable[Task]) -> Any:
        """Enqueue many tasks and return a ``ResultGroup``, or None if results are disabled. Chunks of 1,000 are each all or nothing.

        If a chunk fails, the error says how many tasks were written before. TypeError: one of them is no task; nothing was written.
        """
        return self.client.bulk.enqueue_many(tasks)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Collect the calls of this thread inside the block, and enqueue them together at its end, in chunks of 1,000; none if the block
        raises. Their handles work from then on."""
        with self.client.bulk.batch():
            yield

    def using(self, connection: Any) -> AbstractContextManager[None]:
        """Make what this thread enqueues inside the block part of the transaction of *connection*, which is to the same SQLite file: a
        rollback leaves no task, a commit leaves it. ConfigurationError: another file, or another kind of storage."""
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
        """Return the result of the task of that id; see ``Result.get``. An id that is not held, and of which no result is stored, is waited
        for: it may be enqueued yet."""
        return Result[Any](self, Task(id=id)).get(blocking, timeout, backoff, max_delay, revoke_on_timeout, preserve, allow_wait)

    def revoke(self, task: Any, revoke_until: datetime | None = None, revoke_once: bool = False) -> None:
        """Keep a task (a ``Task``, ``Result`` or id) from running; with a decorated function, or its task class, all its tasks.

        *revoke_until*: only until then; a naive datetime is wall time, which the consumer reads on its own clock (UTC by default).
        *revoke_once*: only the next run.
        Each call overwrites the former. A running task is asked to stop; if it has a worker process for itself, that is killed then.
        Through a task or result it holds for that enqueue only; an id that is not held is revoked for its next enqueue within 7 days.
        """
        self.client.route(task).revoker.revoke(task, revoke_until, revoke_once)

    def revoke_all(self, task_class: Any, revoke_until: datetime | None = None, revoke_once: bool = False) -> None:
        """Keep all tasks of a function from running; *task_class*: the decorated function, or the class of its tasks."""
        self.client.route(task_class).revoker.revoke_all(task_class, revoke_until, revoke_once)

    def restore(self, task: Any) -> bool:
        """Take a revocation back; return whether there was one that had not been obeyed yet."""
        return self.client.route(task).revoker.restore(task)

    def restore_all(self, task_class: Any) -> bool:
        """Take the revocation of a function back; *task_class*: as for ``revoke_all``."""
        return self.client.route(task_class).revoker.restore_all(task_class)

    def is_revoked(self, task: Any, timestamp: datetime | None = None, peek: bool = True) -> bool:
        """Whether a task, its id, or a function is revoked at that time (None: now). An id alone does not say which function it is of.

        *peek* False: this takes back a revocation that is for one run, or over, as a consumer does.
        """
        return self.client.route(task).revoker.is_revoked(task, timestamp, peek)

    def reschedule(
        self,
        task: Task,
        eta: datetime | None = None,
        delay: float | timedelta | None = None,
        expires: Expires | None = None,
        priority: int | None = None,
    ) -> Any:
        """Enqueue the same call again, with a new id, and revoke the former task; see ``Result.reschedule``. Its expiry is kept unless
        another is given."""
        return self.client.route(task).revoker.reschedule(task, eta, delay, expires, priority)

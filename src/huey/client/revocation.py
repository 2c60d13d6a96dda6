"""Revoke, restore and reschedule tasks."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from huey.client.context import Overrides, QueueContext
from huey.client.workflows import WorkflowProducer
from huey.exceptions import HueyException, QueueException
from huey.runtime.clock import Micros
from huey.runtime.times import Expires, resolve_eta, to_micros, wall_time
from huey.storage.base import FOREVER
from huey.storage.rows import Revocation, TaskIds, TaskName
from huey.task.bounds import parse_text
from huey.task.lifecycle import FINAL
from huey.task.record_options import FIRST
from huey.task.task import Task
from huey.task.wrapper import TaskWrapper


class Revoker:
    """Writes and reads the revocations of one queue. Consumers check them before a task starts, and act at once if it is running."""

    def __init__(self, context: QueueContext, overrides: Overrides, workflows: WorkflowProducer) -> None:
        self._context = context
        self._storage = context.storage
        self._overrides = overrides
        self._workflows = workflows

    def revoke(self, target: Any, until: datetime | None = None, once: bool = False) -> None:
        """See ``Huey.revoke``."""
        if is_function(target):
            self.revoke_all(target, until, once)
        else:
            self._check_results()
            self._storage.revoke(TaskIds([_id(target)], _enqueue(target)), _until(until), once)

    def revoke_all(self, target: Any, until: datetime | None = None, once: bool = False) -> None:
        """See ``Huey.revoke_all``."""
        self._check_results()
        for name in _names(target):
            self._storage.revoke(TaskName(name), _until(until), once)

    def _check_results(self) -> None:
        if not self._context.policy.results:
            raise QueueException("revoking needs a result store, and this Huey has results=False; create it with results=True")

    def restore(self, target: Any) -> bool:
        """See ``Huey.restore``."""
        return self.restore_all(target) if is_function(target) else bool(self._storage.restore(TaskIds([_id(target)], _enqueue(target))))

    def restore_all(self, target: Any) -> bool:
        """See ``Huey.restore_all``."""
        return any([self._storage.restore(TaskName(name)) for name in _names(target)])

    def is_revoked(self, target: Any, timestamp: datetime | None = None, peek: bool = True) -> bool:
        """See ``Huey.is_revoked``."""
        at = self._context.at(timestamp)
        if is_function(target):
            name, revocation = None, self._storage.get_revocation(TaskName(_wrapper(target).name))
        else:
            called = getattr(target, "task", target)
            name = called.name if isinstance(called, Task) else None
            names = [] if name is None else [TaskName(name)]
            revocation = self._storage.get_revocation(TaskIds([_id(target)], _enqueue(target)), *names)
        if revocation is None:
            return False
        holds = self._holds(revocation, at, timestamp)
        if not peek and (revocation.once or not holds):
            _ = self.restore(target) or (name and self._storage.restore(TaskName(name)))
        return holds

    def _holds(self, revocation: Revocation, at: Micros, timestamp: datetime | None) -> bool:
        if revocation.until < 0 and timestamp is not None and timestamp.tzinfo is None:
            # Both are times on the consumer's clock.
            return wall_time(timestamp) < -revocation.until
        return revocation.holds(at, self._context.consumer_offset(at))

    def reschedule(
        self,
        task: Task,
        eta: datetime | None = None,
        delay: float | timedelta | None = None,
        expires: Expires | None = None,
        priority: int | None = None,
        preserve_pipeline: bool = True,
    ) -> Any:
        """See ``Huey.reschedule``."""
        row = self._storage.get(task.id) if not task.name or self._storage.features.supports_workflows else None
        links = task.links
        if not task.name:
            if row is None:
                raise HueyException(f"task {task.id} is no longer held, and its arguments are not known here; call its function again")
            task = self._context.decoder.decode(row)
        again = type(task)(
            task.args,
            task.kwargs,
            **resolve_eta(eta, delay, now=self._context.clock.now())._asdict(),
            retries=task.retries,
            retry_delay=task.retry_delay,
            retry_backoff=task.retry_backoff,
            timeout=task.timeout,
            priority=task.priority if priority is None else priority,
            expires=expires,
        )
        if expires is None:
            again.expires, again.expires_at, again.expires_in = task.expires, task.expires_at, task.expires_in
        if preserve_pipeline and row is not None and row.state not in FINAL and self._workflows.is_linked(row):
            return self._workflows.replace(row, again, links)
        if preserve_pipeline:
            again.links = links
        self.revoke(task)
        return self._overrides.call_enqueue(again)


def _until(until: datetime | None) -> Micros | None:
    """Return when a revocation ends, as storages expect it: a naive time is wall time, which the consumer reads."""
    if until is None or until.tzinfo is not None:
        return None if until is None else min(to_micros(until, True), FOREVER)
    return -max(1, wall_time(until))


def is_function(target: Any) -> bool:
    """Return whether *target* stands for all tasks of a function: a decorated function, or the class of its tasks."""
    return isinstance(target, TaskWrapper) or (isinstance(target, type) and issubclass(target, Task))


def _names(target: Any) -> tuple[str, ...]:
    """Return the name of a function and its aliases."""
    wrapper = _wrapper(target)
    return wrapper.name, *wrapper.options.aliases


def _wrapper(target: Any) -> TaskWrapper[Any, Any]:
    wrapper = target if isinstance(target, TaskWrapper) else getattr(target, "wrapper", None) if is_function(target) else None
    if not isinstance(wrapper, TaskWrapper):
        raise ValueError(f"{target!r}: give a decorated function, or the class of its tasks")
    return wrapper


def _id(target: Any) -> str:
    id = target if isinstance(target, str) else getattr(target, "id", None)
    if not isinstance(id, str) or not id:
        raise ValueError(f"{target!r}: give a task, a result, a decorated function, the class of its tasks, or the id of a task")
    parse_text("id", id)
    return id


def _enqueue(target: Any) -> Micros | None:
    """Return which enqueue of its id a task or result stands for; None for a bare id, or an id that is enqueued only once."""
    enqueue: Micros | None = getattr(target, "enqueued_as", None)
    if enqueue is None and getattr(getattr(target, "task", None), "enqueued_as", None) is not None:
        # The handle of the first enqueue of a task that was enqueued again.
        return FIRST
    return enqueue

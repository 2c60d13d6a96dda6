"""The part of ``Huey`` that takes tasks back: revoking in all its forms, restoring, and the same call at another time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from huey.engine.task_decoder import TaskDecoder
from huey.exceptions import HueyException, QueueException
from huey.registry import Registry
from huey.runtime.clock import Clock, Micros
from huey.runtime.times import Expires, micros_to_wall, resolve_eta, to_micros, wall_time
from huey.serializer import Codec
from huey.storage.base import FOREVER, Storage
from huey.storage.rows import Revocation
from huey.task.bounds import parse_text
from huey.task.record_options import FIRST
from huey.task.task import Task
from huey.task.wrapper import TaskWrapper


class Revoking:
    """A revocation is a mark: the consumer obeys it when the task would start, and at once when it runs."""

    storage: Storage
    codec: Codec
    registry: Registry
    clock: Clock
    results: bool
    utc: bool

    if TYPE_CHECKING:

        def enqueue(self, task: Task) -> Any: ...

        def _of(self, target: Any) -> Any: ...

    def revoke(self, task: Any, revoke_until: datetime | None = None, revoke_once: bool = False) -> None:
        """Keep a task (a ``Task``, ``Result`` or id) from running; with a decorated function, or its task class, all tasks (S54-S60).

        *revoke_until*: until then; a naive datetime is wall time, which the consumer reads on its own clock (UTC by default).
        *revoke_once*: only the next run.
        Each call overwrites the former. A task that runs is asked to stop; a process that it has for itself is killed then.
        Through a task or result it holds for that enqueue only; an id that is not held is revoked for its next enqueue within 7 days.
        """
        if _is_function(task):
            self.revoke_all(task, revoke_until, revoke_once)
        else:
            self._need_results()
            self._of(task).storage.cancel([_id(task)], _limit(revoke_until), revoke_once, _enqueue(task))

    def _need_results(self) -> None:
        if not self.results:
            raise QueueException("revoking needs a result store (S55), and this Huey has results=False; make it with results=True")

    def revoke_all(self, task_class: Any, revoke_until: datetime | None = None, revoke_once: bool = False) -> None:
        """Keep all tasks of a function from running; *task_class*: the decorated function, or the class of its tasks."""
        self._need_results()
        wrapper = _function(task_class)
        storage = self._of(wrapper).storage
        for name in (wrapper.name, *wrapper.options.aliases):
            storage.cancel_name(name, _limit(revoke_until), revoke_once)

    def revoke_by_id(self, id: str, revoke_until: datetime | None = None, revoke_once: bool = False) -> None:
        """Keep the task of that id from running."""
        self.revoke(id, revoke_until, revoke_once)

    def restore(self, task: Any) -> bool:
        """Take a revocation back; True if there was one that had not been obeyed yet."""
        return self.restore_all(task) if _is_function(task) else bool(self._restore(task))

    def _restore(self, target: Any) -> list[str]:
        storage: Storage = self._of(target).storage
        return storage.restore([_id(target)], _enqueue(target))

    def restore_all(self, task_class: Any) -> bool:
        """Take the revocation of a function back; *task_class*: as for ``revoke_all``."""
        wrapper = _function(task_class)
        storage = self._of(wrapper).storage
        return any([storage.restore_name(name) for name in (wrapper.name, *wrapper.options.aliases)])

    def restore_by_id(self, id: str) -> bool:
        """Take the revocation of one task back."""
        return self.restore(id)

    def is_revoked(self, task: Any, timestamp: datetime | None = None, peek: bool = True) -> bool:
        """Whether a task, its id, or a function is revoked at that time (None: now). An id alone does not tell its function.

        *peek* False: a revocation for one run, or one that is over, is taken back by this, as a consumer does.
        """
        when = self._as_of(timestamp)
        wrapper = _function(task) if _is_function(task) else None
        storage = self._of(wrapper or task).storage
        mark: Revocation | None
        if wrapper is not None:
            mark = storage.revocation(name=wrapper.name)
        else:
            called = getattr(task, "task", task)
            name = called.name if isinstance(called, Task) else None
            mark = storage.revocation(_id(task), name, _enqueue(task))
        if mark is None:
            return False
        if mark.until < 0 and timestamp is not None and timestamp.tzinfo is None:
            # Both are what the consumer's clock shows.
            holds = wall_time(timestamp) < -mark.until
        else:
            holds = mark.holds(when, self.consumer_offset(when))
        if not peek and (mark.once or not holds):
            _ = self.restore_all(wrapper) if wrapper is not None else self._restore(task) or (name and storage.restore_name(name))
        return holds

    def reschedule(
        self,
        task: Task,
        eta: datetime | None = None,
        delay: float | timedelta | None = None,
        expires: Expires | None = None,
        priority: int | None = None,
    ) -> Any:
        """Enqueue the same call anew, under a new id, and revoke the former; see ``Result.reschedule``. Its expiry is kept unless another
        is given."""
        if not task.name:
            row = self.storage.get(task.id)
            if row is None:
                raise HueyException(f"task {task.id}: not held any more, and its arguments are not known here; call its function anew")
            task = TaskDecoder(self.registry, self.codec).task(row)
        again = type(task)(
            task.args,
            task.kwargs,
            **resolve_eta(eta, delay, now=self.clock.now())._asdict(),
            retries=task.retries,
            retry_delay=task.retry_delay,
            retry_backoff=task.retry_backoff,
            timeout=task.timeout,
            priority=task.priority if priority is None else priority,
            expires=expires,
        )
        if expires is None:
            again.expires, again.expires_at, again.expires_in = task.expires, task.expires_at, task.expires_in
        self.revoke(task)
        return self.enqueue(again)

    def _as_of(self, timestamp: datetime | None) -> Micros:
        if timestamp is None or timestamp.tzinfo is not None:
            return self.clock.now() if timestamp is None else to_micros(timestamp, True)
        wall = wall_time(timestamp)
        return wall - self.consumer_offset(wall)

    def consumer_offset(self, now: Micros) -> Micros:
        """How far the clock of the consumer is ahead of UTC, as it has noted; before the first one starts, as this Huey has ``utc``."""
        noted = self.storage.peek("setting", "offset")
        try:
            return int(noted or b"")
        except ValueError:
            return micros_to_wall(now, not self.utc) - now


def _limit(until: datetime | None) -> Micros | None:
    """Until when a revocation holds, as storages take it: a naive time is wall time, which the consumer reads."""
    if until is None or until.tzinfo is not None:
        return None if until is None else min(to_micros(until, True), FOREVER)
    return -max(1, wall_time(until))


def _is_function(target: Any) -> bool:
    """It stands for all tasks of a function: the decorated function, or their class."""
    return isinstance(target, TaskWrapper) or (isinstance(target, type) and issubclass(target, Task))


def _function(target: Any) -> TaskWrapper[Any, Any]:
    wrapper = target if isinstance(target, TaskWrapper) else getattr(target, "wrapper", None) if _is_function(target) else None
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
    """Which enqueue of its id a task or result is; None: an id alone, or one that comes once."""
    enqueue: Micros | None = getattr(target, "enqueued_as", None)
    if enqueue is None and getattr(getattr(target, "task", None), "enqueued_as", None) is not None:
        # The handle of the first enqueue of a task that was enqueued once more.
        return FIRST
    return enqueue

"""Handles for callers: ``Result`` for one task, ``ResultGroup`` for several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Generic, TypeVar

from huey.client import waits
from huey.exceptions import DecodeError, ResultTimeout, TaskException
from huey.runtime.method_masking import Masked
from huey.runtime.times import Expires
from huey.storage.helpers import CHUNK, in_chunks
from huey.task.lifecycle import FINAL, State
from huey.task.task import Task
from huey.utils import Error

R = TypeVar("R")

_NOTHING = object()
OTHER_QUEUES_INTERVAL_S = 0.2
"""Seconds between checks of results that are in several queues and cannot be waited for together."""
CHECKED_AT_ONCE = 200
"""How many tasks one check examines for having ended without a result."""


class Result(Masked, Generic[R]):
    """The handle of one task; ``huey.api.AsyncData`` is an alias."""

    __slots__ = ("_data", "_failure", "_value", "enqueued_as", "huey", "is_held", "task")

    def __init__(self, huey: waits.Host, task: Task, is_held: bool = False) -> None:
        self.huey = huey
        self.task = task
        self.is_held = is_held
        """True if the task is known to have been stored: if it is no longer there, it has ended."""
        self.enqueued_as = task.enqueued_as
        """As ``Task.enqueued_as``, but unchanged if the task is enqueued again."""
        self._data: bytes | None = None
        """The stored result, not decoded yet."""
        self._value: Any = _NOTHING
        self._failure: TaskException | None = None

    @property
    def id(self) -> str:
        return self.task.id

    def get(
        self,
        blocking: bool = False,
        timeout: float | None = None,
        backoff: float = 1.15,
        max_delay: float = 1.0,
        revoke_on_timeout: bool = False,
        preserve: bool = False,
        allow_wait: bool = False,
    ) -> R | None:
        """Return the value that the task returned, or None if there is no result yet and *blocking* is False, or if the task ended without
        storing one, as a task that returns None does.

        *timeout*: seconds to wait when blocking; None waits without limit, 0 checks once. The caller is woken when the result arrives;
        *backoff* and *max_delay* are kept from 0.4.9 and have no effect. *preserve*: leave the result in the store. *allow_wait*: inside a
        task, wait for another task of the same queue without a warning, even if nothing else can run it.
        The handle keeps the result. While retries are left, a call that does not wait raises the error of the last try (unless
        ``store_intermediate_errors`` is off), and one that waits keeps waiting.
        Raise ResultTimeout (= DataStoreTimeout) if the result does not arrive in time; the message says why, and with *revoke_on_timeout*
        the task is revoked. Without a timeout it is raised if the task is cancelled. Raise TaskException if the task failed, HopelessWait
        if the only worker waits inside its tasks, TypeError if *blocking* is a number of seconds.
        """
        if timeout is not None or blocking not in (True, False):
            waits.check_arguments(blocking, timeout, self.huey, self.task.name or "a task")
        if not self._is_known() and not self._fetch(preserve):
            if not blocking:
                waits.raise_of_try(self.huey, self.task.id)
                return None
            with waits.inside_task([self], allow_wait) as check:
                self._wait(timeout, revoke_on_timeout, preserve, check)
        if self._data is not None:
            self._decode(self._data)
        if self._failure is not None:
            raise self._failure
        return self._value  # type: ignore[no-any-return]

    __call__ = get

    def _is_known(self) -> bool:
        return self._data is not None or self._value is not _NOTHING or self._failure is not None

    def _wait(self, timeout: float | None, revoke_on_timeout: bool, preserve: bool, check: Callable[[], None]) -> None:
        for left in waits.slices(self.huey.clock, timeout, check):
            # Another caller may have taken it first; then treat it as if nothing had been stored.
            is_there = self.huey.storage.wait([self.id], left) and self._fetch(preserve)
            if is_there or self._has_ended(preserve, endless=timeout is None):
                return
        reason = waits.why(self)
        if revoke_on_timeout:
            self.revoke()
        raise ResultTimeout(f"no result of {self.task.name or 'task'} {self.id} within {timeout} s: {reason}")

    def _has_ended(self, preserve: bool, *, endless: bool = False) -> bool:
        """Return whether the task has ended, in whatever way, and keep what ``get`` returns or raises. A cancelled task may be retried by
        hand: return False, or raise ResultTimeout for a caller that waits without limit (*endless*)."""
        storage = self.huey.storage
        row = storage.get(self.id) if storage.features.sees_all else None
        if row is None and not (self.is_held and storage.features.sees_all):
            return False
        self.is_held = True
        if row is not None and row.state not in FINAL:
            return False
        if self._fetch(preserve):
            return True
        if row is None or row.state not in (State.CANCELLED, State.FAILED):
            self._value = None
        elif row.state == State.FAILED:
            self._failure = waits.failure_of(row, retries=0)
        elif (failure := waits.failure_of_parent(self.huey, row)) is not None:
            self._failure = failure
        elif endless:
            raise ResultTimeout(f"no result of {self.task.name or 'task'} {self.id} will come: {waits.why(self)}")
        else:
            return False
        return True

    def _fetch(self, preserve: bool) -> bool:
        id = self.task.id
        data = self.huey.client.context.storage.take("result", [id], remove=not preserve).get(id)
        if data is None:
            return False
        self._data = data
        return True

    def _decode(self, data: bytes) -> None:
        try:
            is_error, value = self.huey.client.context.codec.decode_result(self.task.id, data)
        except DecodeError:
            # Put it back: another process, with the right secret or class, may be able to read it.
            self.huey.storage.put("result", self.id, data, if_absent=True)
            raise
        finally:
            self._data = None
        if is_error or isinstance(value, Error):
            self._failure = TaskException(value if is_error else value.metadata)
        else:
            self._value = value

    def is_ready(self) -> bool:
        """Return whether there is a result. As with ``get()``, this handle takes and keeps it, so other handles no longer find it."""
        if self._is_known() or self._fetch(preserve=False):
            return True
        storage = self.huey.client.context.storage
        return storage.features.supports_workflows and waits.failure_of_parent(self.huey, storage.get(self.task.id)) is not None

    def reset(self) -> None:
        """Forget the result that this handle keeps."""
        self._data, self._value, self._failure = None, _NOTHING, None

    def revoke(self, revoke_until: datetime | None = None, revoke_once: bool = True) -> None:
        """Keep the task from running, for ever or until *revoke_until*. If it is running, it is asked to stop."""
        self.huey.revoke(self, revoke_until, revoke_once)

    def reschedule(
        self,
        eta: datetime | None = None,
        delay: float | timedelta | None = None,
        expires: Expires | None = None,
        priority: int | None = None,
        preserve_pipeline: bool = True,
    ) -> Any:
        """Enqueue the same call again with a new id, for another time (now, without *eta* and *delay*), and revoke this task. Return the
        new ``Result``. Unless *preserve_pipeline* is False, the new task takes the place of this one in its pipeline or chord; if others
        follow it in a pipeline, return a ``ResultGroup`` of all. Raise HueyException if this handle was made from an id only and the
        storage no longer holds the task.
        """
        return self.huey.reschedule(self.task, eta, delay, expires, priority, preserve_pipeline)

    def restore(self) -> bool:
        """Take the revocation back if the task was not skipped yet; return whether there was one."""
        return self.huey.restore(self)

    def is_revoked(self) -> bool:
        return self.huey.is_revoked(self)

    def __deepcopy__(self, memo: object = None) -> Result[R]:
        return type(self)(self.huey, self.task)

    __copy__ = __deepcopy__

    def __reduce__(self) -> Any:
        raise TypeError(f"the handle of task {self.id} cannot be pickled: keep result.id, and use huey.result(id)")

    def __repr__(self) -> str:
        return f"<Result: task {self.id}>"


class ResultGroup(Masked):
    """The handles of several tasks, in the order of the calls. The handle of a member that is a pipeline, a group or a chord is a
    ``ResultGroup`` or a ``ChordResult``; its value is what its own ``get`` returns."""

    def __init__(self, results: Iterable[Any]) -> None:
        self._given = results

    def __repr__(self) -> str:
        count = len(self._members)
        return f"<ResultGroup: {count} task{'s' * (count != 1)}>"

    @cached_property
    def _members(self) -> list[Any]:
        # Created on first use: many callers never need them.
        return list(self._given)

    @cached_property
    def _results(self) -> list[Result[Any]]:
        """The handles of single tasks on which the values depend."""
        return [result for member in self._members for result in _results_of(member)]

    def get(
        self,
        blocking: bool = False,
        timeout: float | None = None,
        backoff: float = 1.15,
        max_delay: float = 1.0,
        revoke_on_timeout: bool = False,
        preserve: bool = False,
        allow_wait: bool = False,
    ) -> list[Any]:
        """Return the values in order; without *blocking*, None for those that have not arrived. *timeout*: seconds for all together.
        *revoke_on_timeout*: on a timeout, revoke the tasks whose results are missing. The rest is as in ``Result.get``."""
        if self._results and (timeout is not None or blocking not in (True, False)):
            waits.check_arguments(blocking, timeout, self._results[0].huey, "a group")
        if blocking and self._results:
            with waits.inside_task(self._open(), allow_wait) as check:
                self._wait(timeout, revoke_on_timeout, preserve, check)
        elif not preserve:
            self._fetch(self._open())
        return [_value_of(member, preserve) for member in self._members]

    __call__ = get

    def _open(self) -> list[Result[Any]]:
        return [result for result in self._results if not result._is_known()]

    def _fetch(self, results: list[Result[Any]], preserve: bool = False) -> None:
        """Take the results that have arrived, up to a thousand per step from each queue. *preserve*: leave them in the store."""
        for huey in dict.fromkeys(result.huey for result in results):
            for part in in_chunks(result for result in results if result.huey is huey):
                found = huey.storage.take("result", [result.id for result in part], remove=not preserve)
                for result in part:
                    result._data = found.get(result.id, result._data)

    def _wait(self, timeout: float | None, revoke_on_timeout: bool, preserve: bool, check: Callable[[], None]) -> None:
        if not preserve:
            self._fetch(self._open())
        for left in waits.slices(self._results[0].huey.clock, timeout, check):
            missing = self._open()
            # From last to first: once the last result is there, most of the others are too.
            if missing and missing[-1].huey.storage.wait([missing[-1].id], left):
                self._fetch(missing[-1:] if preserve else missing, preserve)
            # Trailing tasks that ended without a result must not delay the caller.
            while (missing := self._open()) and missing[-1]._has_ended(preserve, endless=timeout is None):
                continue
            if not missing:
                return
        missing = self._open()
        reason = waits.why(missing[-1])
        if revoke_on_timeout:
            for result in missing:
                result.revoke()
        fact = f"{len(missing)} of {len(self._results)} results are missing after {timeout} s"
        raise ResultTimeout(f"{fact}; the last of them, {missing[-1].task.name or 'task'} {missing[-1].id}: {reason}")

    def as_completed(self, backoff: float = 1.15, max_delay: float = 1.0, allow_wait: bool = False) -> Iterator[Any]:
        """Yield the values as they arrive, waiting for each; None for a task that ended without a result. Raise TaskException if a task
        failed, ResultTimeout if one was cancelled. *backoff* and *max_delay* have no effect. *allow_wait*: as in ``Result.get``."""
        members, pause, start = list(self._members), waits.FIRST_CHECK_S, 0
        while members:
            self._fetch(self._open())
            ready = [member for member in members if _is_ready(member)]
            members = [member for member in members if not _is_ready(member)]
            for member in ready:
                yield _value_of(member, preserve=False)
            left = [result for member in members for result in _results_of(member) if not result._is_known()]
            if left and not ready:
                if not self._wait_for_one(left, pause, allow_wait):
                    start = 0 if start >= len(left) else start
                    for result in left[start : start + CHECKED_AT_ONCE]:
                        result._has_ended(False, endless=True)
                    start += CHECKED_AT_ONCE
                pause = waits.CHECK_INTERVAL_S

    def _wait_for_one(self, left: list[Result[Any]], pause: float, allow_wait: bool) -> bool:
        # With several queues, wait on one and check the others now and then.
        of_one = [result.id for result in left if result.huey is left[0].huey][:CHUNK]
        # Only around the wait: between two values the caller does not wait.
        with waits.inside_task(left, allow_wait) as check:
            check()
            return left[0].huey.storage.wait(of_one, pause if len(of_one) == len(left) else min(pause, OTHER_QUEUES_INTERVAL_S))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._members)

    def __getitem__(self, index: int) -> Any:
        """Wait for the value at that index and return it."""
        return self._members[index].get(blocking=True)

    def __len__(self) -> int:
        return len(self._members)

    def __deepcopy__(self, memo: Any) -> ResultGroup:
        return ResultGroup([deepcopy(member, memo) for member in self._members])

    def __reduce__(self) -> Any:
        raise TypeError("handles cannot be pickled: keep [result.id for result in group], and use huey.result(id) for each")


def _results_of(member: Any) -> list[Result[Any]]:
    """Return the handles on which the value of *member*, a ``Result``, ``ResultGroup`` or ``ChordResult``, depends."""
    if isinstance(member, ResultGroup):
        return member._results
    return [member] if isinstance(member, Result) else [member.callback]


def _is_ready(member: Any) -> bool:
    return all(result._is_known() for result in _results_of(member))


def _value_of(member: Any, preserve: bool) -> Any:
    """Return the value of *member* without waiting."""
    if isinstance(member, ResultGroup):
        return [_value_of(each, preserve) for each in member._members]
    return member.get(preserve=preserve)

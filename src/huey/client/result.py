"""``Result``: the handle of one task, for callers. Those of several tasks are in result_groups.py."""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, TypeVar, overload

from huey.client import waits
from huey.client.status import ENDED, UNKNOWN, find_progress, find_status
from huey.exceptions import DecodeError, ResultTimeout, TaskException
from huey.runtime.method_masking import Masked
from huey.runtime.missing_names import explain_missing_names
from huey.runtime.times import Expires
from huey.task.lifecycle import FINAL, State
from huey.task.progress import Progress
from huey.task.task import Task
from huey.utils import Error

R = TypeVar("R")

_NOTHING = object()


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

    @overload
    def get(
        self,
        blocking: Literal[True],
        timeout: float | None = None,
        backoff: float = 1.15,
        max_delay: float = 1.0,
        revoke_on_timeout: bool = False,
        preserve: bool = False,
        allow_wait: bool = False,
    ) -> R: ...
    @overload
    def get(
        self,
        blocking: bool = False,
        timeout: float | None = None,
        backoff: float = 1.15,
        max_delay: float = 1.0,
        revoke_on_timeout: bool = False,
        preserve: bool = False,
        allow_wait: bool = False,
    ) -> R | None: ...
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

    async def aget(self, timeout: float | None = None, preserve: bool = False, allow_wait: bool = False) -> R:
        """Return the value for a coroutine: like ``get(blocking=True, timeout=timeout)``, but the event loop goes on meanwhile.
        ``await result`` is the same without a limit. Arguments and errors as for ``get``."""
        return await self.huey.client.awaitable.value_of(self, timeout, preserve, allow_wait)  # type: ignore[no-any-return]

    def __await__(self) -> Generator[Any, None, R]:
        return self.aget().__await__()

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

    @property
    def status(self) -> str:
        """What the task is doing: ``scheduled``, ``ready``, ``blocked``, ``waiting``, ``running``, ``retrying``, ``succeeded``, ``failed``,
        ``cancelled``, ``unknown``; see ``Huey.status``. ``ended``: it was stored, is no longer there, and has left no result."""
        if self._failure is not None:
            # A run that was cancelled leaves an error too.
            return State.CANCELLED if find_status(self.huey, self.id) == State.CANCELLED else State.FAILED
        if self._value is not _NOTHING:
            return State.SUCCEEDED
        found = find_status(self.huey, self.id, self._data)
        return ENDED if found == UNKNOWN and self.is_held else found

    @property
    def progress(self) -> Progress | None:
        """What its run has reported last with ``Task.progress``; None if it has reported nothing, or has succeeded."""
        return find_progress(self.huey, self.id)

    def exception(self) -> TaskException | None:
        """Return the error with which the task failed, or None if it has not failed; does not wait. While retries are left, return the
        error of the last try. As with ``get()``, this handle takes and keeps the result."""
        try:
            self.get()
        except TaskException as error:
            return error
        return None

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


explain_missing_names(Result, is_handle=True)


# -- for groups ---------------------------------------------------------------------------------------------------------------------------


def is_known(result: Result[Any]) -> bool:
    """Return whether the handle has what its task came to, so that ``get`` needs no storage."""
    return result._is_known()


def wait_briefly(result: Result[Any], seconds: float, preserve: bool, endless: bool) -> bool:
    """Wait up to *seconds* for the result, and return whether the handle knows how the task ended; see `has_ended`."""
    if result._is_known() or (result.huey.storage.wait([result.id], seconds) and result._fetch(preserve)):
        return True
    return result._has_ended(preserve, endless=endless)


def keep(result: Result[Any], data: bytes) -> None:
    """Keep the stored form of the task's result in its handle."""
    result._data = data


def has_ended(result: Result[Any], preserve: bool, *, endless: bool) -> bool:
    """Return whether the task has ended, also if no result was stored; the handle is known then. *preserve*: leave a result in the store.
    *endless*: raise ResultTimeout for a cancelled task."""
    return result._has_ended(preserve, endless=endless)

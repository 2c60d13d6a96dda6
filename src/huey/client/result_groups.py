"""Handles of several tasks: ``ResultGroup`` and ``ChordResult``, and which of them the enqueue of a workflow returns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from copy import deepcopy
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Literal, overload

from huey.client import waits
from huey.client.result import Result, has_ended, is_known, keep
from huey.exceptions import ResultTimeout
from huey.runtime.method_masking import Masked
from huey.storage.helpers import CHUNK, in_chunks
from huey.task.composition import WorkflowDescription, group, last_of
from huey.task.links import stages
from huey.task.task import Task

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    R = TypeVar("R", default=Any)
    """What each task returns; a bare ``ResultGroup`` is a ``ResultGroup[Any]``."""
else:
    from typing import TypeVar

    R = TypeVar("R")

OTHER_QUEUES_INTERVAL_S = 0.2
"""Seconds between checks of results that are in several queues and cannot be waited for together."""
CHECKED_AT_ONCE = 200
"""How many tasks one check examines for having ended without a result."""


class ResultGroup(Masked, Generic[R]):
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
    ) -> list[R]: ...
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
    ) -> list[R | None]: ...
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

    async def aget(self, timeout: float | None = None, preserve: bool = False) -> list[R]:
        """Return the values in order, for a coroutine; ``await group`` is the same without a limit. *timeout*: seconds for all together.
        The first task that failed raises its error, and ends the wait. The rest is as in ``Result.aget``."""
        if self._results:
            await self._results[0].huey.client.awaitable.values_of(self._results, timeout, preserve)
        return [_value_of(member, preserve) for member in self._members]

    def __await__(self) -> Generator[Any, None, list[R]]:
        return self.aget().__await__()

    async def __aiter__(self) -> AsyncIterator[R]:
        """Yield the values as they arrive, as ``as_completed`` does, for ``async for``."""
        if self._results:
            async for value in self._results[0].huey.client.awaitable.in_order_of_arrival(self._results):
                yield value

    def _open(self) -> list[Result[Any]]:
        return [result for result in self._results if not is_known(result)]

    def _fetch(self, results: list[Result[Any]], preserve: bool = False) -> None:
        """Take the results that have arrived, up to a thousand per step from each queue. *preserve*: leave them in the store."""
        for huey in dict.fromkeys(result.huey for result in results):
            for part in in_chunks(result for result in results if result.huey is huey):
                found = huey.storage.take("result", [result.id for result in part], remove=not preserve)
                for result in part:
                    if (data := found.get(result.id)) is not None:
                        keep(result, data)

    def _wait(self, timeout: float | None, revoke_on_timeout: bool, preserve: bool, check: Callable[[], None]) -> None:
        if not preserve:
            self._fetch(self._open())
        for left in waits.slices(self._results[0].huey.clock, timeout, check):
            missing = self._open()
            # From last to first: once the last result is there, most of the others are too.
            if missing and missing[-1].huey.storage.wait([missing[-1].id], left):
                self._fetch(missing[-1:] if preserve else missing, preserve)
            # Trailing tasks that ended without a result must not delay the caller.
            while (missing := self._open()) and has_ended(missing[-1], preserve, endless=timeout is None):
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

    def as_completed(self, backoff: float = 1.15, max_delay: float = 1.0, allow_wait: bool = False) -> Iterator[R]:
        """Yield the values as they arrive, waiting for each; None for a task that ended without a result. Raise TaskException if a task
        failed, ResultTimeout if one was cancelled. *backoff* and *max_delay* have no effect. *allow_wait*: as in ``Result.get``."""
        members, pause, start = list(self._members), waits.FIRST_CHECK_S, 0
        while members:
            self._fetch(self._open())
            ready = [member for member in members if _is_ready(member)]
            members = [member for member in members if not _is_ready(member)]
            for member in ready:
                yield _value_of(member, preserve=False)
            left = [result for member in members for result in _results_of(member) if not is_known(result)]
            if left and not ready:
                if not self._wait_for_one(left, pause, allow_wait):
                    start = 0 if start >= len(left) else start
                    for result in left[start : start + CHECKED_AT_ONCE]:
                        has_ended(result, False, endless=True)
                    start += CHECKED_AT_ONCE
                pause = waits.CHECK_INTERVAL_S

    def _wait_for_one(self, left: list[Result[Any]], pause: float, allow_wait: bool) -> bool:
        # With several queues, wait on one and check the others now and then.
        of_one = [result.id for result in left if result.huey is left[0].huey][:CHUNK]
        # Only around the wait: between two values the caller does not wait.
        with waits.inside_task(left, allow_wait) as check:
            check()
            return left[0].huey.storage.wait(of_one, pause if len(of_one) == len(left) else min(pause, OTHER_QUEUES_INTERVAL_S))

    def __iter__(self) -> Iterator[Result[R]]:
        return iter(self._members)

    def __getitem__(self, index: int) -> R:
        """Wait for the value at that index and return it."""
        return self._members[index].get(blocking=True)  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self._members)

    def __deepcopy__(self, memo: Any) -> ResultGroup:
        return ResultGroup([deepcopy(member, memo) for member in self._members])

    def __reduce__(self) -> Any:
        raise TypeError("handles cannot be pickled: keep [result.id for result in group], and use huey.result(id) for each")


class ChordResult(Masked):
    """The handle of a chord. ``get()`` returns the value of its callback.

    ``results``: a ``ResultGroup`` with one handle for each member, that of its last task. ``callback``: the handle of the callback.
    ``pipeline_results``: a ``ResultGroup`` of the callback and what follows it; None if nothing does.
    """

    def __init__(self, results: ResultGroup, callback: Result[Any], pipeline_results: ResultGroup | None = None) -> None:
        self.results = results
        self.callback = callback
        self.pipeline_results = pipeline_results

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Return the value of the callback, or None if there is none yet; arguments and errors as for ``Result.get``."""
        return self.callback.get(*args, **kwargs)

    __call__ = get

    def reset(self) -> None:
        """Forget the result of the callback that its handle keeps."""
        self.callback.reset()

    def __repr__(self) -> str:
        return f"<ChordResult of {len(self.results)}, callback {self.callback.id}>"


def handle_of(described: WorkflowDescription, result: Callable[[Task], Result[Any]]) -> Any:
    """Return the handle of a workflow, made of those of its tasks."""
    if isinstance(described, group):
        return ResultGroup([handle_of(member, result) for member in described.tasks])
    if isinstance(described, Task):
        handles = [result(stage) for stage in stages(described)]
        return handles[0] if len(handles) == 1 else ResultGroup(handles)
    pipeline = [result(stage) for stage in stages(described.callback)]
    members = ResultGroup([result(last_of(member)) for member in described.tasks])
    return ChordResult(members, pipeline[0], ResultGroup(pipeline) if len(pipeline) > 1 else None)


def _results_of(member: Any) -> list[Result[Any]]:
    """Return the handles on which the value of *member*, a ``Result``, ``ResultGroup`` or ``ChordResult``, depends."""
    if isinstance(member, ResultGroup):
        return member._results
    return [member.callback] if isinstance(member, ChordResult) else [member]


def _is_ready(member: Any) -> bool:
    return all(is_known(result) for result in _results_of(member))


def _value_of(member: Any, preserve: bool) -> Any:
    """Return the value of *member* without waiting."""
    if isinstance(member, ResultGroup):
        return [_value_of(each, preserve) for each in member._members]
    return member.get(preserve=preserve)

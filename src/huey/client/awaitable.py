"""Calls of huey for coroutines: nothing blocks the caller's event loop.

A call that waits for the disk or the server runs in one of a few threads. One more thread of the process waits for all results that
coroutines await: it takes them a thousand at a time, and needs no connection or descriptor for each.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from huey.client import waits
from huey.client.result import Result, has_ended, is_known, keep, wait_briefly
from huey.exceptions import ResultTimeout, StorageError
from huey.runtime import current_run as current
from huey.runtime.clock import SECOND, Micros, micros
from huey.storage.base import Storage
from huey.storage.helpers import in_chunks

T = TypeVar("T")
_END: Any = object()

THREADS = 8
"""Threads for calls that may block."""
QUICK_S = 0.05
"""Seconds that such a thread waits for a result by itself, so that quick tasks are answered at once."""
MOST_QUICK = 4
"""Most threads that do so at a time."""
SLICE_S = 0.1
"""Longest time until the waiting thread also waits for a result that was added meanwhile."""
MOST_WATCHED = 100
"""Results that wake the waiting thread; it looks for the others in each slice."""
ENDED_CHECK_S = 0.2
"""Seconds between two looks for tasks that have ended without a result."""
MOST_CHECKED = 200


async def aside(call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call *call* in a thread, in a copy of the caller's context, and return what it returns."""
    context = copy_context()
    context.run(current.caller.set, asyncio.current_task())
    return await asyncio.get_running_loop().run_in_executor(_process.pool, partial(context.run, call, *args, **kwargs))


async def value_of(result: Result[Any], timeout: float | None, preserve: bool, allow_wait: bool = False) -> Any:
    """Return the value of a task, as a blocking ``Result.get``."""
    if timeout is not None:
        waits.check_arguments(True, timeout, result.huey, result.task.name or "a task")
    if not is_known(result):
        clock = result.huey.clock
        end = None if timeout is None else clock.monotonic() + micros(timeout)
        with waits.inside_task([result], allow_wait) as check:
            # Inside a task it is checked now and then whether the wait can end at all.
            slice = None if current.run.get() is None else clock.monotonic() + micros(waits.CHECK_INTERVAL_S)
            while not await _arrives(result, preserve, _first(end, slice), endless=timeout is None):
                check()
                slice = None if slice is None else clock.monotonic() + micros(waits.CHECK_INTERVAL_S)
                if end is not None and clock.monotonic() >= end:
                    reason = await aside(waits.why, result)
                    raise ResultTimeout(f"no result of {result.task.name or 'task'} {result.id} within {timeout} s: {reason}")
    return result.get(preserve=preserve)


async def values_of(results: Iterable[Result[Any]], timeout: float | None, preserve: bool) -> list[Any]:
    """Return the values of several tasks in order; the first that raises ends the wait."""
    waiting = [asyncio.ensure_future(value_of(result, timeout, preserve)) for result in results]
    try:
        return list(await asyncio.gather(*waiting))
    finally:
        for each in waiting:
            each.cancel()


async def stepwise(values: Iterator[T]) -> AsyncIterator[T]:
    """Yield what *values* yields, which waits in a thread of its own."""
    pool, loop = ThreadPoolExecutor(1, "Calls that follow"), asyncio.get_running_loop()
    try:
        while (value := await loop.run_in_executor(pool, next, values, _END)) is not _END:
            yield value
    finally:
        pool.shutdown(wait=False)


async def in_order_of_arrival(results: Iterable[Result[Any]]) -> AsyncIterator[Any]:
    """Yield the values of tasks as they arrive."""
    waiting = [asyncio.ensure_future(value_of(result, None, preserve=False)) for result in results]
    try:
        for each in asyncio.as_completed(waiting):
            yield await each
    finally:
        for left in waiting:
            left.cancel()


def _first(one: Micros | None, other: Micros | None) -> Micros | None:
    return min((each for each in (one, other) if each is not None), default=None)


async def _arrives(result: Result[Any], preserve: bool, end: Micros | None, *, endless: bool) -> bool:
    """Wait until the task has ended, up to *end*; return whether its handle knows how. It may also return early."""
    process, clock = _process, result.huey.clock
    left = SLICE_S if end is None else max(0.0, (end - clock.monotonic()) / SECOND)
    if process.quick < MOST_QUICK:
        process.quick += 1
        try:
            if await aside(wait_briefly, result, min(QUICK_S, left), preserve, endless):
                return True
        finally:
            process.quick -= 1
        left = 0.0 if end is None else max(0.0, (end - clock.monotonic()) / SECOND)
        if end is not None and left <= 0:
            return False
    return await process.watch.arrival(result, preserve, None if end is None else left, endless=endless)


class Awaited(NamedTuple):
    """A result that a coroutine awaits."""

    result: Result[Any]
    preserve: bool
    endless: bool
    loop: asyncio.AbstractEventLoop
    arrived: asyncio.Future[bool]
    """True: the handle knows how the task ended; False: something went wrong, and the coroutine has to look itself."""


class ResultWatch:
    """The thread that waits for all results that coroutines await. It lives while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._awaited: dict[int, dict[Awaited, None]] = {}
        """By storage, in the order in which they were added."""
        self._storages: dict[int, Storage] = {}
        self._is_running = False

    async def arrival(self, result: Result[Any], preserve: bool, timeout: float | None, *, endless: bool) -> bool:
        """Wait up to *timeout* seconds for the end of a task; return whether the handle knows it now."""
        loop = asyncio.get_running_loop()
        mine = Awaited(result, preserve, endless, loop, loop.create_future())
        self._add(mine)
        try:
            return await asyncio.wait_for(mine.arrived, timeout)
        except TimeoutError:
            return is_known(result)
        finally:
            self._remove(mine)

    def _add(self, mine: Awaited) -> None:
        storage = mine.result.huey.storage
        with self._lock:
            self._storages[id(storage)] = storage
            self._awaited.setdefault(id(storage), {})[mine] = None
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="Results", daemon=True).start()

    def _remove(self, mine: Awaited) -> None:
        key = id(mine.result.huey.storage)
        with self._lock:
            awaited = self._awaited.get(key, {})
            awaited.pop(mine, None)
            if not awaited:
                self._awaited.pop(key, None)
                self._storages.pop(key, None)

    def _run(self) -> None:
        round, next_check = 0, 0.0
        while True:
            with self._lock:
                there = [(self._storages[key], list(awaited)) for key, awaited in self._awaited.items()]
                if not there:
                    self._is_running = False
                    return
            clock = there[0][1][0].result.huey.clock
            checks = clock.monotonic() / SECOND >= next_check
            if checks:
                next_check, round = clock.monotonic() / SECOND + ENDED_CHECK_S, round + 1
            for storage, awaited in there:
                try:
                    self._collect(storage, awaited, SLICE_S / len(there), round if checks else 0)
                except StorageError:
                    # Each coroutine looks itself, and gets the error.
                    _resume(awaited, False)

    def _collect(self, storage: Storage, awaited: Sequence[Awaited], seconds: float, round: int) -> None:
        """Wait for the first results, hand over what has arrived and, in a *round* of checks, whose tasks have ended without one."""
        storage.wait([each.result.id for each in awaited[:MOST_WATCHED]], seconds)
        for preserve in (True, False):
            for some in in_chunks(each for each in awaited if each.preserve is preserve and not each.arrived.done()):
                found = storage.take("result", [each.result.id for each in some], remove=not preserve)
                arrived = [each for each in some if each.result.id in found]
                for each in arrived:
                    keep(each.result, found[each.result.id])
                _resume(arrived, True)
        if round and storage.features.sees_all:
            left = [each for each in awaited if not is_known(each.result)]
            start = (round * MOST_CHECKED) % len(left) if len(left) > MOST_CHECKED else 0
            for each in islice(left, start, start + MOST_CHECKED):
                try:
                    if has_ended(each.result, each.preserve, endless=each.endless):
                        _resume([each], True)
                except ResultTimeout:
                    _resume([each], False)


def _resume(awaited: Sequence[Awaited], is_known: bool) -> None:
    """Let the coroutines that await these results go on."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Awaited]] = {}
    for each in awaited:
        by_loop.setdefault(each.loop, []).append(each)
    for loop, its in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, its, is_known)


def _resolve(awaited: Sequence[Awaited], is_known: bool) -> None:
    for each in awaited:
        if not each.arrived.done():
            each.arrived.set_result(is_known)


class _Process:
    """What one process has for all its event loops."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(THREADS, "Calls")
        self.watch = ResultWatch()
        self.quick = 0


_process = _Process()


def stop_threads() -> None:
    """Let the threads of this process end that make calls for coroutines; the next call starts new ones."""
    _process.pool.shutdown(wait=False)
    _reset()


def _reset() -> None:
    global _process
    _process = _Process()


os.register_at_fork(after_in_child=_reset)

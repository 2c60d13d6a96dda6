"""Waiting for results and events, on one connection of the process for each of the two (shared_listeners.py)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from huey.runtime.clock import SECOND, micros
from huey.runtime.masking import checkpoint
from huey.storage.base import FOLLOWER
from huey.storage.helpers import in_chunks
from huey.storage.redis.queue import RedisQueue
from huey.storage.redis.shared_listeners import SAFETY_INTERVAL_S, EventListener, ResultListener, Wait


class Notifications:
    """``wait``, ``follow``, and the verbs of events."""

    def __init__(self, queue: RedisQueue) -> None:
        self._queue = queue

    def wait(self, ids: Sequence[str], timeout: float | None) -> bool:
        if timeout is None or timeout > 0:
            shared_listener = self._queue.connections.pool.shared_listener(ResultListener)
            mine = self._wait_for(tuple(ids))
            if shared_listener.wait(mine, self._time_left(timeout)):
                return True
            shared_listener.forget(mine)
        return any(self._queue.call("watch_results", "", *some) for some in in_chunks(ids))

    def follow(self, after: int | None, timeout: float = 0.0) -> tuple[int, list[str]]:
        left = self._time_left(timeout)
        while True:
            checkpoint()
            position, *events = self._queue.call("follow", FOLLOWER, "" if after is None else after)
            if after is None or events:
                return position, [event.decode() for event in events]
            seconds = left()
            if seconds <= 0:
                return position, []
            # The stream is read each second, in case a wake-up was lost.
            a_second = self._time_left(min(seconds, SAFETY_INTERVAL_S))
            self._queue.connections.pool.shared_listener(EventListener).wait(self._wait_for((position,)), a_second)

    def _wait_for(self, subjects: tuple[object, ...]) -> Wait:
        return Wait(self._queue.connections, self._queue.prefix, subjects, self._queue.now)

    def _time_left(self, timeout: float | None) -> Callable[[], float]:
        """Return a function that returns the seconds that are left of *timeout*."""
        if timeout is None:
            return lambda: math.inf
        clock = self._queue.clock
        deadline = clock.monotonic() + micros(timeout)
        return lambda: (deadline - clock.monotonic()) / SECOND

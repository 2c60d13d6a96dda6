"""Pruning what has expired, and repairing what other programs have damaged."""

from __future__ import annotations

import logging

from huey.runtime.clock import Micros
from huey.storage.base import DEAD_LETTERS_KEPT, EVENTS_KEPT, PRUNE
from huey.storage.redis.messages import text_of
from huey.storage.redis.queue import RedisQueue
from huey.storage.retention import Retention
from huey.storage.stats import HOURS_KEPT, MINUTES_KEPT

log = logging.getLogger("huey")


class Upkeep:
    """``prune``. *retention*: which succeeded tasks are kept."""

    def __init__(self, queue: RedisQueue, retention: Retention) -> None:
        self._queue = queue
        self._retention = retention

    def prune(self, now: Micros | None = None) -> int:
        ages = (DEAD_LETTERS_KEPT, EVENTS_KEPT, MINUTES_KEPT, HOURS_KEPT)
        kept = (*ages, self._retention.most, self._retention.age, PRUNE)
        gone: int
        gone, damaged = self._queue.call("prune", self._queue.lease_time(), *kept, now=now)
        if damaged:
            names = ", ".join(sorted(self._queue.prefix + text_of(name) for name in damaged))
            found = self._queue.call("repair", self._queue.lease_time(), now=now)
            log.critical(
                "%s: keys of this queue were damaged by other programs; they were renamed to %sdamaged: (%s), and %d tasks in "
                "them were restored",
                self._queue.connections.where, self._queue.prefix, names, found,
            )  # fmt: skip
        return gone

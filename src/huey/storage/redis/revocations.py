"""Revocations: of tasks by id, of one enqueue of an id, and of task names."""

from __future__ import annotations

from huey.runtime.clock import Micros
from huey.storage.base import FOREVER, REVOCATION_KEPT
from huey.storage.helpers import in_chunks, parts_of
from huey.storage.redis import keys
from huey.storage.redis.messages import Arg, parse_revocation
from huey.storage.redis.queue import RedisQueue
from huey.storage.rows import Revocation, TaskIds, TaskName


class Revocations:
    """``revoke``, ``restore`` and ``get_revocation``."""

    def __init__(self, queue: RedisQueue) -> None:
        self._queue = queue

    def revoke(self, target: TaskIds | TaskName, until: Micros | None = None, once: bool = False) -> None:
        limit, flag = FOREVER if until is None else until, int(once)
        if isinstance(target, TaskName):
            self._queue.connections.command("HSET", self._queue.prefix + keys.REVOKED_NAMES, target.name, f"{limit} {flag}")
            return
        for some in in_chunks(target.ids):
            self._queue.call("revoke", limit, flag, REVOCATION_KEPT, _or_any(target.enqueue), *some)

    def restore(self, target: TaskIds | TaskName) -> list[str]:
        if isinstance(target, TaskName):
            return [target.name] if self._queue.connections.command("HDEL", self._queue.prefix + keys.REVOKED_NAMES, target.name) else []
        enqueue = _or_any(target.enqueue)
        return [id.decode() for some in in_chunks(target.ids) for id in self._queue.call("restore", enqueue, *some)]

    def get_revocation(self, *targets: TaskIds | TaskName) -> Revocation | None:
        id, name, enqueue = parts_of(targets)
        which = ("" if id is None else f"+{id}", "" if name is None else f"+{name}", _or_any(enqueue))
        found = self._queue.call("get_revocation", *which)
        return None if found is None else parse_revocation(found)


def _or_any(enqueue: Micros | None) -> Arg:
    """Return which enqueue of an id is meant, as the scripts take it."""
    return "" if enqueue is None else enqueue

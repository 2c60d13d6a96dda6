"""What a worker holds: release, take-over, heartbeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from huey.runtime.clock import Micros
from huey.runtime.failpoints import failpoint
from huey.storage.helpers import CHUNK
from huey.storage.redis.finishes import details, who
from huey.storage.redis.messages import Arg, lease_of, raw_of, whole_or
from huey.storage.redis.queue import RedisQueue
from huey.storage.rows import Missing, Worker, WorkerRow
from huey.task.record import Lease


class Leases:
    """The verbs of leases, but for the turn."""

    def __init__(self, queue: RedisQueue) -> None:
        self._queue = queue

    def release(self, worker: Worker, leases: Sequence[Lease]) -> None:
        for start in range(0, len(leases), CHUNK):
            pairs: list[Arg] = [part for lease in leases[start : start + CHUNK] for part in (raw_of(lease.id), lease.token)]
            self._queue.call("release", worker.id, *pairs)

    def claim_missing(self, worker: Worker, missing: Sequence[Missing], want: int, now: Micros | None = None) -> list[Lease]:
        which = [part for each in missing for part in each]
        return _leases(self._durably("claim_missing", worker.id, details(worker), want, *which, now=now))

    def reclaim(self, dead: WorkerRow, worker: Worker) -> list[Lease]:
        failpoint("reclaim:before-commit")
        found = self._durably("reclaim", worker.id, details(worker), raw_of(dead.worker.id), dead.until, who(dead.worker))
        failpoint("reclaim:after-commit")
        return _leases(found)

    def heartbeat(self, workers: Sequence[Worker]) -> None:
        if workers:
            known = [part for worker in workers for part in (worker.id, details(worker))]
            self._queue.call("heartbeat", self._queue.lease_time(), *known)

    def held_by(self, worker: Worker) -> list[Lease]:
        ids, messages, states, tokens = self._queue.call("leases", raw_of(worker.id))
        found = zip(ids, messages, states, (whole_or(int, token, 0) for token in tokens), strict=True)
        return [lease_of(*each) for each in found]

    def _durably(self, verb: str, *arguments: Arg, now: Micros | None = None) -> Any:
        queue = self._queue
        return queue.connections.call(verb, queue.prefix, queue.now(now), queue.lease_time(), *arguments, after=queue.durable)


def _leases(found: list[Any]) -> list[Lease]:
    return [lease_of(*each) for each in zip(*found, strict=True)]

"""A post: one queue that a supervisor takes tasks from, with all that it needs for its workers and their deaths."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from huey.consumer.janitor import Janitor
from huey.consumer.processes import Child
from huey.consumer.recovery import Recovery
from huey.consumer.worker_spec import make_worker

if TYPE_CHECKING:
    from huey.api import Huey


class WorkerPool:
    """*workers*: tasks of this queue that run at the same time."""

    def __init__(self, huey: Huey, kind: str, workers: int) -> None:
        self.huey = huey
        self.workers = workers
        self.processes, self.runners = (workers, 1) if kind == "process" else (1, workers)
        """Worker processes, and runners in each."""
        # Of its own: what it takes over it holds in its queue.
        me = make_worker(f"{huey.rng.getrandbits(128):032x}", "supervisor")
        execution = huey.execution()
        self.janitor = Janitor(huey.storage, me, huey.clock, execution.settle, execution.declared)
        self.deaths = Recovery(huey.storage, me, huey.clock, execution.settle, execution.may_retry, execution.declared)


def pools_for(huey: Huey, kind: str, shares: dict[str, int]) -> dict[str, WorkerPool]:
    """The posts of a consumer, by queue."""
    return {queue: WorkerPool(huey.on(queue), kind, workers) for queue, workers in shares.items()}


def heartbeat(posts: dict[str, WorkerPool], children: Iterable[Child]) -> None:
    """Renew the leases of all workers, each in its queue."""
    for queue, post in posts.items():
        post.huey.storage.heartbeat([child.worker for child in children if child.queue == queue])

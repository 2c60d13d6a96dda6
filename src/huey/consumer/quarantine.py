"""Suspects run one at a time, in processes of their own; those go when there is nothing left for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from huey.consumer.processes import Child
from huey.consumer.worker_pool import WorkerPool
from huey.runtime.clock import Micros, micros

IDLE = 2.0
"""Seconds without a suspect after which a quarantine worker goes."""


class Quarantine:
    """*children*: the workers of now. *start*: starts a quarantine worker for a queue; False: it cannot."""

    def __init__(self, posts: Mapping[str, WorkerPool], children: Callable[[], Sequence[Child]], start: Callable[[str], bool]) -> None:
        self._posts = posts
        self._children = children
        self._start = start

    def look(self, now: Micros) -> None:
        """Start what is needed, and let go what is not."""
        for queue, post in self._posts.items():
            self._look_at(queue, post, now)

    def _look_at(self, queue: str, post: WorkerPool, now: Micros) -> None:
        kept = [child for child in self._children() if child.worker.kind == "quarantine" and not child.is_leaving]
        there = [child for child in kept if child.queue == queue]
        suspects = len(post.huey.storage.find("suspect", limit=post.workers))
        busy = sum(bool(child.page.running()) for child in there)
        for _ in range(min(suspects + busy, post.workers) - len(there)):
            if not self._start(queue):
                break
        for child in there:
            if suspects or child.page.running():
                child.idle_since = None
            elif child.idle_since is None:
                child.idle_since = now
            elif now - child.idle_since > micros(IDLE):
                child.tell_to_stop()

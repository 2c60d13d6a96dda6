"""The tasks of the workflows that the storm kills, and the process that enqueues them.

A member notes what it was given, by a digest, and returns its id, that list, and as many bytes as it was told to. Marks in a folder say
what somebody did before: crash, ask for another run, be mended.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

from huey import SKIPPED, Error, Huey
from huey.exceptions import RetryTask, StorageUnavailable
from huey.task.task import Task
from tests.crash.graphs import LIMITED, MENDED, ONCE, PLAIN, QUEUES, UNIQUE, build, draw, nodes_of
from tests.support.history import Journal

AT_MOST = 2
NODE = "node"
ALL = "all"
"""Stands for the id of each member, where all are mended."""
RETRY_SHARE = 0.7
"""Of the members that fail until they are mended, those that somebody retries by hand."""


def payload(id: str, size: int) -> bytes:
    return bytes([crc32(id.encode()) & 255]) * size


def described(got: Any) -> Any:
    """What a member was given, in a form that can be compared: by whom, and whether it is whole."""
    if isinstance(got, Error):
        return ["error", got.metadata["task_id"]]
    if got is SKIPPED:
        return ["skipped"]
    if isinstance(got, list) and got[:1] == [NODE]:
        _, id, _, value = got
        return ["ok", id, len(value) if value == payload(id, len(value)) else "damaged"]
    if isinstance(got, list | tuple):
        return [described(each) for each in got]
    return ["strange", repr(got)[:100]]


def digest(described: Any) -> str:
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


class Marks:
    """Facts that outlive processes."""

    KINDS = ("crashed", "snoozed", "mended", "retried")

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "marks"
        self._folder.mkdir(exist_ok=True)

    def has(self, id: str, kind: str) -> bool:
        return (self._folder / f"{id}.{kind}").exists()

    def is_first(self, id: str, kind: str) -> bool:
        """Leave it; False: it was there."""
        if self.has(id, kind):
            return False
        (self._folder / f"{id}.{kind}").touch()
        return True

    def count(self, id: str) -> int:
        return sum(self.has(id, kind) for kind in self.KINDS)


def make_members(huey: Huey, folder: Path, journal: Journal) -> dict[str, Any]:
    marks = Marks(folder)

    def run(how: str, size: int, seconds: float, got: Sequence[Any], task: Task) -> list[Any]:
        given = described(got)
        if marks.has(ALL, "mended") and how != "adds":
            how = "ok"
        # A run that was asked for is no rerun: it is another try.
        fields = {"id": task.id, "token": task.token, "attempt": task.attempt + 100 * marks.count(task.id), "name": task.name}
        journal.note("start", **fields, got=digest(given))
        task.progress(0.5, f"run {task.token}")
        time.sleep(seconds)
        if how == "poison" or (how == "crashes" and marks.is_first(task.id, "crashed")):
            journal.note("killed by line", id=task.id)
            os.kill(os.getpid(), signal.SIGKILL)
        journal.note("end", **fields)
        if how == "snoozes" and marks.is_first(task.id, "snoozed"):
            raise RetryTask("once more")
        if how == "fails" or (how == "flaky" and task.attempt == 0) or (how == "hand" and not marks.has(task.id, "mended")):
            journal.note("raised", id=task.id, token=task.token)
            raise ValueError(f"{how} {task.id}")
        if how == "adds":
            flow = huey.current_flow()
            first = flow.add(members[PLAIN, 0].s("ok", 0, 10, 0.0, id=f"{task.id}.first"))
            flow.add(members[PLAIN, 1].s("ok", 0, 10, 0.0, first, id=f"{task.id}.next"))
        return [NODE, task.id, given, payload(task.id, size)]

    def handle(of: str, error: BaseException, task: Task) -> list[str]:
        fields = {"id": task.id, "token": task.token, "attempt": task.attempt, "name": task.name}
        journal.note("start", **fields)
        journal.note("end", **fields)
        return [of, str(error)]

    members: dict[tuple[str, int], Any] = {}
    handlers = []
    for number, queue in enumerate(QUEUES):
        members.update({(kind, number): make(huey, f"{kind} {number}", queue, run) for kind, make in _KINDS.items()})
        handlers.append(huey.task(name=f"handler {number}", queue=queue, include_task=True)(handle))

    @huey.task(name="texts")
    def texts(values: list[Any]) -> list[Any]:
        return [value.metadata["error"] if isinstance(value, Error) else described(value) for value in values]

    return {"members": members, "handlers": handlers, "texts": texts}


def _plain(huey: Huey, name: str, queue: str, run: Callable[..., Any]) -> Any:
    @huey.task(name=name, queue=queue, retry_delay=0.3, include_task=True)
    def plain(how: str, key: int, size: int, seconds: float, *got: Any, task: Task) -> list[Any]:
        return run(how, size, seconds, got, task)

    return plain


def _unique(huey: Huey, name: str, queue: str, run: Callable[..., Any]) -> Any:
    @huey.task(name=name, queue=queue, retry_delay=0.3, include_task=True, unique="key")
    def unique(how: str, key: int, size: int, seconds: float, *got: Any, task: Task) -> list[Any]:
        return run(how, size, seconds, got, task)

    return unique


def _limited(huey: Huey, name: str, queue: str, run: Callable[..., Any]) -> Any:
    @huey.task(name=name, queue=queue, retry_delay=0.3, include_task=True, concurrency=AT_MOST, key="key")
    def limited(how: str, key: int, size: int, seconds: float, *got: Any, task: Task) -> list[Any]:
        return run(how, size, seconds, got, task)

    return limited


def _once(huey: Huey, name: str, queue: str, run: Callable[..., Any]) -> Any:
    @huey.task(name=name, queue=queue, retry_delay=0.3, include_task=True, at_most_once=True)
    def once(how: str, key: int, size: int, seconds: float, *got: Any, task: Task) -> list[Any]:
        return run(how, size, seconds, got, task)

    return once


_KINDS = {PLAIN: _plain, UNIQUE: _unique, LIMITED: _limited, ONCE: _once, MENDED: _plain}


# -- the producer -------------------------------------------------------------------------------------------------------------------------


def produce_graphs(
    app: SimpleNamespace, *, folder: str, seed: int, first: int, most: int = 10**9, crowd: int = 250, only_flows: bool = False
) -> int:
    """Enqueue *most* graphs, as long as there are not too many tasks, revoke some of their members, mend and retry others."""
    producer = _Producer(app, Path(folder), random.Random(seed), only_flows)
    for n in range(first, first + most):
        while not producer.has_room(crowd):
            producer.meddle()
        producer.enqueue(n)
        producer.meddle()
    while producer.revocations:
        producer.meddle()
    return 0


class _Producer:
    def __init__(self, app: SimpleNamespace, folder: Path, rng: random.Random, only_flows: bool) -> None:
        self._app, self._rng, self._only_flows = app, rng, only_flows
        self._queues = [app.huey.on(queue) for queue in QUEUES]
        self._journal = Journal(folder / "history.jsonl")
        self._marks = Marks(folder)
        self.revocations: deque[tuple[float, int, str]] = deque()
        """When, in which queue, which task."""

    def has_room(self, crowd: int) -> bool:
        try:
            return sum(unfinished(huey.storage.counts()) for huey in self._queues) < crowd
        except StorageUnavailable:
            return False

    def enqueue(self, n: int) -> None:
        seed = self._rng.randrange(10**9)
        graph = draw(seed, only_flows=self._only_flows)
        nodes = list(nodes_of(graph))
        has_own_ids = self._rng.random() < 0.3
        own_ids = iter([f"g{n}.{i}" if has_own_ids else None for i in range(len(nodes))])
        workflow, tasks = build(graph, self._app.members, self._app.handlers, own_ids, self._app.huey.flow)
        ids = [task.id for task in tasks]
        handlers = {task.id: task.on_error.id for task in tasks if task.on_error is not None}
        flow = getattr(workflow, "id", None) if self._only_flows else None
        self._journal.note("graph", n=n, seed=seed, members=ids, handlers=handlers, flow=flow)
        try:
            self._app.huey.enqueue(workflow)
        except StorageUnavailable:
            return  # Whether it was enqueued is not known.
        self._journal.note("graph in", n=n)
        now = time.monotonic()
        for node, id in zip(nodes, ids, strict=True):
            if node.how == "revoked":
                self.revocations.append((now + self._rng.choice((0, 0.05, 0.3, 1)) * self._rng.random(), node.queue, id))

    def meddle(self) -> None:
        """Revoke what is due, mend some that failed."""
        time.sleep(0.02)
        try:
            for _ in range(len(self.revocations)):
                at, queue, id = self.revocations.popleft()
                if at > time.monotonic():
                    self.revocations.append((at, queue, id))
                else:
                    self._queues[queue].revoke_by_id(id)
            for number, huey in enumerate(self._queues if self._rng.random() < 0.1 else ()):
                mend(huey, number, self._marks)
        except StorageUnavailable:
            return


def mend(huey: Huey, number: int, marks: Marks) -> None:
    """Mend members that failed, most of them, and retry them by hand."""
    for row in huey.storage.find("failed", f"{MENDED} {number}", 10_000):
        if crc32(row.id.encode()) % 100 < 100 * RETRY_SHARE:
            marks.is_first(row.id, "mended")
            huey.inspector.retry(row.id)


def unfinished(counts: Any) -> int:
    return int(counts.ready + counts.scheduled + counts.running + counts.blocked + counts.waiting)

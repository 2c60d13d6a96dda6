"""Workflows of all shapes: pipelines and chords, with one another in them, as ``then`` and ``chord`` build them; and flows."""

from __future__ import annotations

import random
from collections.abc import Callable

from huey.task.workflow import JOIN, THEN, Edge, QueuedRecord, TaskRef, Workflow


def grow(rng: random.Random, new_task: Callable[[], QueuedRecord], depth: int = 3) -> Workflow:
    """Return a random workflow of a few tasks that *new_task* makes."""
    tasks: list[QueuedRecord] = []
    edges: list[Edge] = []

    def add(parents: list[TaskRef], kind: str) -> TaskRef:
        tasks.append(new_task())
        edges.extend(Edge(parent, tasks[-1].ref, kind, position) for position, parent in enumerate(parents))
        return tasks[-1].ref

    shape = rng.choice(("pipeline", "chord", "flow"))
    if shape == "flow":
        refs: list[TaskRef] = []
        for _ in range(rng.randint(2, 6)):
            refs.append(add(rng.sample(refs, min(len(refs), rng.choice((0, 1, 2, 2)))), rng.choice((THEN, THEN, JOIN))))
    else:
        _grow(rng, add, [], depth, shape)
    return Workflow(tasks, edges)


def _grow(rng: random.Random, add: Callable[[list[TaskRef], str], TaskRef], before: list[TaskRef], depth: int, shape: str) -> TaskRef:
    """Add a part that begins when *before* has succeeded; return the task that it ends with."""

    def part(before: list[TaskRef]) -> TaskRef:
        return _grow(rng, add, before, depth - 1, rng.choices(("task", "pipeline", "chord"), (4, 1, 1))[0] if depth > 1 else "task")

    if shape == "task":
        return add(before, THEN)
    if shape == "pipeline":
        for _ in range(rng.randint(2, 3)):
            before = [part(before)]
        return before[0]
    return add([part(before) for _ in range(rng.choice((1, 2, 2, 3)))], JOIN)

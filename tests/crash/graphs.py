"""Random workflows for the storm: pipelines, groups and chords, nested, of members that end in every way that a task can.

A graph is a description, drawn from a seed: the process that enqueues it and the test that judges it draw the same. ``nodes_of`` and
``edges_of`` say what it consists of, ``build`` makes the tasks of an application from it, in the same order.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from huey import chord, group
from huey.task.workflow import JOIN, THEN

QUEUES = ("app", "app other")
DEEPEST, WIDEST = 6, 200
LARGEST = 2**20
"""Bytes of a value."""
KEYS = 4
PLAIN, UNIQUE, LIMITED, ONCE, MENDED = "plain", "unique", "limited", "once", "mended"
"""Functions of members. One of ONCE runs at most once; those of MENDED fail until somebody mends them and retries them by hand."""
ENDS_WELL = ("ok", "flaky", "snoozes", "crashes")
HOW = {"ok": 60, "flaky": 10, "fails": 8, "snoozes": 5, "revoked": 6, "expires": 5, "hand": 5, "crashes": 2.5, "poison": 0.15}
"""How members behave, and how many of them do."""


class Node(NamedTuple):
    """One task of a graph."""

    how: str
    function: str
    queue: int
    key: int
    """Of a unique or limited one."""
    size: int
    """Bytes of its value."""
    seconds: float
    retries: int
    delay: float | None
    expires: float | None
    is_handled: bool
    """It has a handler of its failures."""


class Pipe(NamedTuple):
    """A task and what follows it."""

    nodes: tuple[Node, ...]


class Chord(NamedTuple):
    members: tuple[Any, ...]
    callback: Pipe


class Group(NamedTuple):
    members: tuple[Any, ...]


Graph = Pipe | Chord | Group
Edges = list[tuple[int, int, str, int]]
"""Numbers of parent and child, kind, position."""


# -- drawing ------------------------------------------------------------------------------------------------------------------------------


def draw(seed: int) -> Graph:
    """The graph of a seed."""
    return _Drawing(random.Random(seed)).graph()


class _Drawing:
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._is_wide = rng.random() < 0.04
        self._room = WIDEST + 40 if self._is_wide else rng.choice((4, 10, 20, 40))

    def graph(self) -> Graph:
        if self._is_wide:
            return Chord(tuple(self._pipe(1) for _ in range(self._rng.randint(60, WIDEST))), self._pipe(2))
        return self._thing(self._rng.choice((1, 2, 2, 3, 3, DEEPEST)), may_be_group=True)

    def _thing(self, depth: int, may_be_group: bool) -> Graph:
        kind = self._rng.random()
        if depth == 0 or self._room <= 2 or kind < 0.3:
            return self._pipe(self._rng.choice((1, 1, 2, 3, 6)))
        self._room -= 1
        width = self._rng.choice((0, 1, 2, 2, 3, 3, 5, 8))
        if may_be_group and kind < 0.42:
            return Group(tuple(self._thing(depth - 1, True) for _ in range(max(1, width))))
        return Chord(tuple(self._thing(depth - 1, False) for _ in range(width)), self._pipe(self._rng.choice((1, 1, 2, 3))))

    def _pipe(self, length: int) -> Pipe:
        return Pipe(tuple(self._node(position) for position in range(length)))

    def _node(self, position: int) -> Node:
        rng = self._rng
        self._room -= 1
        (how,) = rng.choices([*HOW], [*HOW.values()])
        function = MENDED if how == "hand" else rng.choices((PLAIN, UNIQUE, LIMITED, ONCE), (76, 8, 12, 4))[0]
        if how in ("revoked", "poison") or (function == UNIQUE and position > 0):
            function = PLAIN
        size = rng.choice((0, 10, 10, 100, 1000, 10_000)) if rng.random() < 0.985 else rng.choice((100_000, LARGEST))
        seconds = 0.1 if how == "revoked" else rng.choice((0, 0, 0.002, 0.01, 0.03))
        return Node(
            how=how,
            function=function,
            queue=int(rng.random() < 0.4),
            key=rng.randrange(KEYS),
            size=size,
            seconds=seconds,
            retries=rng.choice((1, 2)) if how == "flaky" else rng.choice((0, 0, 1)) if how == "fails" else 0,
            delay=rng.uniform(0.2, 8) if rng.random() < 0.06 else None,
            expires=rng.uniform(0.2, 4) if how == "expires" else None,
            is_handled=rng.random() < 0.3,
        )


# -- taking apart -------------------------------------------------------------------------------------------------------------------------


def nodes_of(graph: Graph) -> Iterator[Node]:
    if isinstance(graph, Pipe):
        yield from graph.nodes
        return
    for member in graph.members:
        yield from nodes_of(member)
    if isinstance(graph, Chord):
        yield from graph.callback.nodes


def edges_of(graph: Graph) -> Edges:
    edges: Edges = []
    _join(graph, 0, edges)
    return edges


def _join(graph: Graph, first: int, edges: Edges) -> tuple[int, int]:
    """Add the edges of a graph whose nodes begin at that number; return the number after them, and that of its last task."""
    if isinstance(graph, Pipe):
        after = first + len(graph.nodes)
        edges += [(number, number + 1, THEN, 0) for number in range(first, after - 1)]
        return after, after - 1
    lasts = []
    after = first
    for member in graph.members:
        after, last = _join(member, after, edges)
        lasts.append(last)
    if isinstance(graph, Group):
        return after, -1
    edges += [(last, after, JOIN, position) for position, last in enumerate(lasts)]
    return _join(graph.callback, after, edges)


# -- making tasks -------------------------------------------------------------------------------------------------------------------------


def build(
    graph: Graph, functions: Mapping[tuple[str, int], Any], handlers: Sequence[Any], ids: Iterator[str | None]
) -> tuple[Any, list[Any]]:
    """The workflow of a graph, and its tasks in the order of ``nodes_of``. *functions*: by kind and queue. *ids*: of the tasks, or None."""
    tasks: list[Any] = []

    def made(thing: Graph) -> Any:
        if isinstance(thing, Pipe):
            first, *rest = [make(node) for node in thing.nodes]
            for stage in rest:
                first.then(stage)
            return first
        members = [made(member) for member in thing.members]
        if isinstance(thing, Group):
            return group(members)
        callback = made(thing.callback)
        return chord(members, callback) if len(members) % 2 else group(members).then(callback)

    def make(node: Node) -> Any:
        options: dict[str, Any] = {"retries": node.retries, "delay": node.delay, "expires": node.expires, "id": next(ids)}
        given = {name: value for name, value in options.items() if value is not None}
        task = functions[node.function, node.queue].s(node.how, node.key, node.size, node.seconds, **given)
        if node.is_handled:
            task.error(handlers[node.queue], task.id)
        tasks.append(task)
        return task

    return made(graph), tasks

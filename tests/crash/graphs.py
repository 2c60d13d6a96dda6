"""Random workflows for the storm: pipelines, groups, chords and flows, nested, of members that end in every way that a task can.

A graph is a description, drawn from a seed: the process that enqueues it and the test that judges it draw the same. ``nodes_of``,
``edges_of`` and ``inputs_of`` say what it consists of, ``build`` makes the tasks of an application from it, in the same order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from huey import chord, group
from huey.task.flow import ALWAYS, FAILURE, SUCCESS
from huey.task.workflow import JOIN, STEP, THEN

QUEUES = ("app", "app other")
DEEPEST, WIDEST = 6, 200
HUGE = STEP + 100
"""Edges that no single step ends."""
LARGEST = 2**20
"""Bytes of a value."""
KEYS = 4
PLAIN, UNIQUE, LIMITED, ONCE, MENDED = "plain", "unique", "limited", "once", "mended"
"""Functions of members. One of ONCE runs at most once; those of MENDED fail until somebody mends them and retries them by hand."""
ENDS_WELL = ("ok", "flaky", "snoozes", "crashes", "adds")
HOW = {"ok": 60, "flaky": 10, "fails": 8, "snoozes": 5, "revoked": 6, "expires": 5, "hand": 5, "crashes": 1.5, "poison": 0.1}
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


class Dag(NamedTuple):
    """A flow: what each node waits for, nodes before it, and when it runs."""

    nodes: tuple[Node, ...]
    parents: tuple[tuple[int, ...], ...]
    run_ifs: tuple[str, ...]


class Inputs(NamedTuple):
    """How a node gets the values of those that it waits for."""

    is_list: bool = False
    """All as one list."""
    run_if: str = SUCCESS


Nested = Pipe | Chord | Group
Graph = Nested | Dag
Edges = list[tuple[int, int, str, int]]
"""Numbers of parent and child, kind, position."""


# -- drawing ------------------------------------------------------------------------------------------------------------------------------


def draw(seed: int, *, only_flows: bool = False) -> Graph:
    """The graph of a seed."""
    drawing = _Drawing(random.Random(seed))
    return drawing.flow() if only_flows else drawing.graph()


class _Drawing:
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        size = rng.random()
        self._is_huge, self._is_wide = size < 0.006, size < 0.05
        self._room = WIDEST + 40 if self._is_wide else rng.choice((4, 10, 20, 40))

    def graph(self) -> Graph:
        if self._is_huge:
            return self._long() if self._rng.random() < 0.5 else self._fan()
        if self._is_wide:
            return Chord(tuple(self._pipe(1) for _ in range(self._rng.randint(60, WIDEST))), self._pipe(2))
        if self._rng.random() < 0.25:
            return self._dag(self._rng.randint(1, self._room))
        return self._thing(self._rng.choice((1, 2, 2, 3, 3, DEEPEST)), may_be_group=True)

    def flow(self) -> Dag:
        return self._fan() if self._is_huge else self._dag(self._rng.randint(1, self._room))

    def _thing(self, depth: int, may_be_group: bool) -> Nested:
        kind = self._rng.random()
        if depth == 0 or self._room <= 2 or kind < 0.3:
            return self._pipe(self._rng.choice((1, 1, 2, 3, 6)))
        self._room -= 1
        width = self._rng.choice((0, 1, 2, 2, 3, 3, 5, 8))
        if may_be_group and kind < 0.42:
            return Group(tuple(self._thing(depth - 1, True) for _ in range(max(1, width))))
        return Chord(tuple(self._thing(depth - 1, False) for _ in range(width)), self._pipe(self._rng.choice((1, 1, 2, 3))))

    def _long(self) -> Pipe:
        """A pipeline that breaks at once: all the others are cancelled."""
        first = self._node(0)._replace(how="fails", function=PLAIN, retries=0)
        return Pipe((first, *(self._small(n) for n in range(HUGE))))

    def _fan(self) -> Dag:
        """One that many wait for, and one that waits for them."""
        nodes = (self._node(0), *(self._small(n) for n in range(HUGE)), self._node(0))
        parents = ((), *[(0,)] * HUGE, tuple(range(1, HUGE + 1)))
        return Dag(nodes, parents, (SUCCESS, *[SUCCESS] * HUGE, ALWAYS))

    def _small(self, n: int) -> Node:
        return Node("ok", PLAIN, n % 2, 0, 10, 0.0, 0, None, None, False)

    def _dag(self, size: int) -> Dag:
        rng = self._rng
        nodes = [self._node(position) for position in range(size)]
        nodes = [node._replace(how="adds") if node.how == "ok" and rng.random() < 0.1 else node for node in nodes]
        parents = [tuple(rng.sample(range(n), min(n, rng.choice((0, 1, 1, 2, 3))))) for n in range(size)]
        run_ifs = [rng.choice((SUCCESS, SUCCESS, ALWAYS, FAILURE)) if before else SUCCESS for before in parents]
        return Dag(tuple(nodes), tuple(parents), tuple(run_ifs))

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
    if isinstance(graph, Pipe | Dag):
        yield from graph.nodes
        return
    for member in graph.members:
        yield from nodes_of(member)
    if isinstance(graph, Chord):
        yield from graph.callback.nodes


def inputs_of(graph: Graph) -> Iterator[Inputs]:
    """In the order of ``nodes_of``."""
    if isinstance(graph, Dag):
        for number, run_if in enumerate(graph.run_ifs):
            yield Inputs(number % 2 == 1, run_if)
    elif isinstance(graph, Pipe):
        yield from [Inputs()] * len(graph.nodes)
    else:
        for member in graph.members:
            yield from inputs_of(member)
    if isinstance(graph, Chord):
        yield Inputs(is_list=True, run_if=ALWAYS)
        yield from [Inputs()] * (len(graph.callback.nodes) - 1)


def edges_of(graph: Graph) -> Edges:
    if isinstance(graph, Dag):
        kinds = [THEN if run_if == SUCCESS else JOIN for run_if in graph.run_ifs]
        return [(parent, n, kinds[n], at) for n, parents in enumerate(graph.parents) for at, parent in enumerate(parents)]
    edges: Edges = []
    _join(graph, 0, edges)
    return edges


def _join(graph: Nested, first: int, edges: Edges) -> tuple[int, int]:
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
    graph: Graph,
    functions: Mapping[tuple[str, int], Any],
    handlers: Sequence[Any],
    ids: Iterator[str | None],
    make_flow: Callable[[str], Any],
) -> tuple[Any, list[Any]]:
    """The workflow of a graph, and its tasks in the order of ``nodes_of``. *functions*: by kind and queue. *ids*: of the tasks, or None.
    *make_flow*: ``huey.flow``."""
    tasks: list[Any] = []

    def made(thing: Nested) -> Any:
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

    def flow_of(dag: Dag) -> Any:
        flow = make_flow("storm")
        for number, node in enumerate(dag.nodes):
            given = [tasks[parent] for parent in dag.parents[number]]
            task = make(node, *([given] if number % 2 and given else given))
            flow.add(task, run_if=dag.run_ifs[number])
        return flow

    def make(node: Node, *given: Any) -> Any:
        options: dict[str, Any] = {"retries": node.retries, "delay": node.delay, "expires": node.expires, "id": next(ids)}
        options = {name: value for name, value in options.items() if value is not None}
        task = functions[node.function, node.queue].s(node.how, node.key, node.size, node.seconds, *given, **options)
        if node.is_handled:
            task.error(handlers[node.queue], task.id)
        tasks.append(task)
        return task

    return flow_of(graph) if isinstance(graph, Dag) else made(graph), tasks

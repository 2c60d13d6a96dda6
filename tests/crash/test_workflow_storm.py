"""The kill storm with workflows: random graphs over two queues of one store, of members that end in every way that a task can.

Nothing waits for ever, nothing is lost, and no callback runs twice: each task ends as its function and the ends of those it waited for say,
whoever was killed meanwhile, and whatever replies of the server were lost.

HUEY_STORM_GRAPHS sets how many graphs a long storm has (100), HUEY_STORM_KILLS how many kills it has, as every storm.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from huey.runtime.clock import system_clock
from huey.storage.rows import TaskRow
from tests.crash.commands import KINDS, Command, Commanded
from tests.crash.graph_laws import Story, ends_in, judge_graphs, misstated
from tests.crash.graphs import QUEUES
from tests.crash.members import Marks, mend, unfinished
from tests.crash.test_command_storm import SPEED, Storm
from tests.crash.test_redis_storm import restart_at, urls
from tests.crash.tools import KILLS, ROOT, Child, Verdict, most_common_problems, storm_seed
from tests.support import history
from tests.support.lossy_proxy import LossyProxy
from tests.support.redis_server import ALWAYS, Server

GRAPHS = int(os.environ.get("HUEY_STORM_GRAPHS", "100"))
SHORT_GAP, GAP = 0.8, 1.0
"""Seconds between two kills, in short and in long storms."""
LOSS = 0.01
"""Share of the replies of Redis that are lost."""


@pytest.mark.timeout(240)
def test_workflows_outlive_kills_of_any_process(make_place_of_graphs: Any, show: Any) -> None:
    storm(make_place_of_graphs(), show, [*KINDS], kills=8, graphs=15, gap=SHORT_GAP)


@pytest.mark.chaos
@pytest.mark.timeout(240)
def test_workflows_in_redis_outlive_kills_and_lost_replies(make_place_of_graphs: Any, show: Any) -> None:
    with Server(None, *ALWAYS) as server, LossyProxy(server.port, loss=LOSS) as proxy:
        storm(make_place_of_graphs(**urls(server, proxy)), show, [*KINDS], kills=10, graphs=20, gap=SHORT_GAP)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_many_workflows_outlive_many_kills(make_place_of_graphs: Any, show: Any, kind: str) -> None:
    storm(make_place_of_graphs(), show, [kind], kills=KILLS, graphs=GRAPHS)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("loss", [0, LOSS])
@pytest.mark.parametrize("kind", KINDS)
def test_many_workflows_in_redis_outlive_many_kills(make_place_of_graphs: Any, show: Any, kind: str, loss: float) -> None:
    restarts = {KILLS * n // 4: (signal.SIGTERM, signal.SIGKILL)[n % 2] for n in range(1, 4)} if loss else {}
    with Server(None, *ALWAYS) as server, LossyProxy(server.port, loss=loss) as proxy:
        place = make_place_of_graphs(**urls(server, proxy))
        storm(place, show, [kind], kills=KILLS, graphs=GRAPHS, between=restart_at(server, restarts))
    show(f"{proxy.lost} replies lost, {len(restarts)} restarts of the server")


class PlaceOfGraphs(Commanded):
    """A place whose queue and whose second queue share workflows."""

    only_flows = False

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, has_graphs=True, **options)
        self.queues = [self.app.huey.on(queue) for queue in QUEUES]
        self.marks = Marks(folder)

    def command(self, kind: str, *flags: str, workers: int | None = None, cwd: Path = ROOT, **environment: str) -> Command:
        return super().command(kind, "-n", "--queues", ",".join(QUEUES), *flags, workers=workers, cwd=cwd, **environment)

    def streaming(self, seed: int, first: int, crowd: int = 250, is_shared: bool = False, **environment: str) -> Child:
        return self.producing(seed, first, most=10**9, crowd=crowd)

    def producing(self, seed: int, first: int, most: int, crowd: int = 250) -> Child:
        """A producer of graphs, in a process of its own."""
        options = {"folder": str(self.folder), "seed": seed, "first": first, "most": most, "crowd": crowd, "app": self.options}
        options["only_flows"] = self.only_flows
        child = Child(self, "produce_graphs", options, {})
        self.children.append(child)
        return child

    def graphs(self) -> int:
        """How many were put in, or may have been."""
        return sum(line["op"] == "graph" for line in history.lines(self.journal))

    def is_done(self) -> bool:
        if any(unfinished(huey.storage.counts()) for huey in self.queues):
            return False
        for number, huey in enumerate(self.queues):
            mend(huey, number, self.marks)
        return not any(unfinished(huey.storage.counts()) for huey in self.queues)

    def _is_over(self, last: Command) -> bool:
        producers = [child for child in self.children if not isinstance(child, Command)]
        if any(child.is_alive for child in producers) or not (last.is_known and self.is_done()):
            return False
        living = {last.pid, *last.workers()}
        return all(row.worker.pid in living for huey in self.queues for row in huey.storage.workers())

    def unfinished(self) -> str:
        """The tasks that are stuck, with what they wait for."""
        said = []
        for huey in self.queues:
            for state in ("queued", "running", "blocked", "waiting"):
                for row in huey.storage.find(state, limit=50):
                    edges = [
                        f"{edge.kind} {edge.parent.queue} {edge.parent.id} {edge.outcome} {self._state_of(*edge.parent)}"
                        for edge in huey.storage.edges([row.id])
                        if edge.child.id == row.id
                    ]
                    said.append(f"{huey.name} {row.name} {row.id}: {state} {row.reason}, waits for {edges}")
            said.append(f"{huey.name}: {huey.storage.counts()}, {huey.storage.workers()}")
        return "\n".join(said)

    def _state_of(self, queue: str, id: str) -> str:
        row = self.app.huey.on(queue).storage.get(id)
        return "gone" if row is None else f"{row.state} {row.reason}"

    # -- judging -------------------------------------------------------------------------------------------------------------------------

    def verdict(self) -> Verdict:
        self.ends = {id: end for huey in self.queues for id, end in ends_in(huey).items()}
        verdict = super().verdict()
        lines = history.lines(self.journal)
        self.story = Story(lines)
        mended = [id for id in self.story.members if self.marks.has(id, "mended")]
        problems = judge_graphs(self.story, self.ends, self.excused, mended)
        problems += [problem for huey in self.queues for problem in misstated(huey, self.ends)]
        return verdict._replace(problems=verdict.problems + problems, tasks=len(self.story.members))

    def _ended(self, events: Iterable[history.Event]) -> set[str]:
        return {*self.ends}

    def _failed(self) -> list[TaskRow]:
        return [row for huey in self.queues for row in huey.storage.find("failed", limit=10**6)]

    def _left_over(self) -> list[str]:
        problems = []
        for huey in self.queues:
            problems += [f"nothing is left over: worker {row.worker.pid}, holding {row.holds}" for row in huey.storage.workers()]
            if unfinished(huey.storage.counts()):
                problems.append(f"nothing is left over: {huey.name}: {huey.storage.counts()}")
        return problems


@pytest.fixture
def make_place_of_graphs(tmp_path: Path) -> Iterator[Any]:
    places = []

    def make(for_processes: Any = None, **options: Any) -> PlaceOfGraphs:
        place = PlaceOfGraphs(tmp_path, fast=[SPEED, system_clock.now(), system_clock.monotonic()], **options)
        place.options = place.options | (for_processes or {})
        places.append(place)
        return place

    yield make
    for place in places:
        place.clean_up()


def storm(
    place: PlaceOfGraphs,
    show: Any,
    kinds: list[str],
    *,
    kills: int,
    graphs: int,
    gap: float = GAP,
    between: Any = lambda strikes, commands: None,
) -> Verdict:
    seed = storm_seed(show)
    began = time.monotonic()
    rage = Storm(place, random.Random(seed), kinds, between=between)

    rage.kill(kills, gap=gap)
    raged = time.monotonic() - began
    if (missing := graphs - place.graphs()) > 0:
        place.producing(seed, first=0, most=missing)
    place.finish_by_command(kinds[0], timeout=120 + max(0, missing))

    verdict = place.verdict()
    ends = Counter(f"{end.how} {end.reason or ''}".strip() for end in place.ends.values())
    took = f"{raged:.0f} + {time.monotonic() - began - raged:.0f} s"
    show(f"{verdict}; {place.graphs()} graphs; {dict(rage.count)}; {dict(ends)}; poison by chance {len(place.excused)}; {took}")
    assert not verdict.problems, most_common_problems(verdict.problems)
    assert verdict.kills >= kills
    assert place.graphs() >= graphs
    return verdict

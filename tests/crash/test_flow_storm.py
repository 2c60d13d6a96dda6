"""The kill storm with flows only, whose members add members; in the end each is retried by its handle until it is complete.

Nothing waits for ever, no member runs twice; a retry completes each flow, and what had succeeded does not run again.

HUEY_STORM_GRAPHS sets how many flows a long storm has (100), HUEY_STORM_KILLS how many kills it has, as every storm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huey import Huey
from huey.client.flows import FlowResult
from huey.runtime.clock import system_clock
from huey.storage.flows import FlowInfo
from huey.task.flow import Flow
from huey.task.lifecycle import State
from huey.task.reasons import NOT_NEEDED, PARENT_SKIPPED
from tests.crash.graph_laws import OK
from tests.crash.members import ALL
from tests.crash.test_command_storm import SPEED
from tests.crash.test_redis_storm import urls
from tests.crash.test_workflow_storm import GRAPHS, SHORT_GAP, PlaceOfGraphs, storm
from tests.crash.tools import KILLS, most_common_problems
from tests.support import history
from tests.support.lossy_proxy import LossyProxy
from tests.support.redis_server import ALWAYS, Server

THREAD = "thread"
ROUNDS = 3
"""A member that expires some seconds after it is queued may do so again, so that another retry may be needed."""


@pytest.mark.timeout(240)
def test_a_retry_completes_each_flow_after_kills(make_place_of_flows: Any, show: Any) -> None:
    rage(make_place_of_flows(), show, kills=5, flows=10, gap=SHORT_GAP)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_retry_completes_many_flows_after_kills(make_place_of_flows: Any, show: Any) -> None:
    rage(make_place_of_flows(), show, kills=KILLS, flows=GRAPHS)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_retry_completes_many_flows_in_redis(make_place_of_flows: Any, show: Any) -> None:
    with Server(None, *ALWAYS) as server, LossyProxy(server.port, loss=0) as proxy:
        rage(make_place_of_flows(**urls(server, proxy)), show, kills=KILLS, flows=GRAPHS)


class PlaceOfFlows(PlaceOfGraphs):
    """A place whose graphs are flows."""

    only_flows = True

    def handles(self) -> list[FlowResult]:
        """Those of all flows that the store knows, in order."""
        lines = [line for line in history.lines(self.journal) if line["op"] == "graph"]
        found = [handle_of(self.app.huey, line["flow"]) for line in lines]
        return [handle for handle in found if self.app.huey.inspector.flow(handle.id) is not None]

    def retry_all(self, handles: list[FlowResult]) -> int:
        """Retry the flows that are not complete; return how many."""
        incomplete = [handle for handle in handles if not is_complete(handle.status())]
        for handle in incomplete:
            for member in handle.status().members:
                if member.state in (State.FAILED, State.CANCELLED):
                    self.marks.is_first(member.id, "retried")
            handle.retry()
        return len(incomplete)

    def starts(self) -> Counter[str]:
        """How often each task was started."""
        return Counter(line["id"] for line in history.lines(self.journal) if line["op"] == "start")


def handle_of(huey: Huey, id: str) -> FlowResult:
    return FlowResult(huey.storage, Flow("storm", id, huey.name, lambda flow: None), {})


def is_complete(info: FlowInfo) -> bool:
    """All its members succeeded, or are those for a failure that is none any more."""
    return all(
        member.state == State.SUCCEEDED or (member.state == State.CANCELLED and member.reason in (NOT_NEEDED, PARENT_SKIPPED))
        for member in info.members
    ) and (info.state == State.SUCCEEDED)


@pytest.fixture
def make_place_of_flows(tmp_path: Path) -> Iterator[Any]:
    places = []

    def make(for_processes: Any = None, **options: Any) -> PlaceOfFlows:
        place = PlaceOfFlows(tmp_path, fast=[SPEED, system_clock.now(), system_clock.monotonic()], **options)
        place.options = place.options | (for_processes or {})
        places.append(place)
        return place

    yield make
    for place in places:
        place.clean_up()


def rage(place: PlaceOfFlows, show: Any, *, kills: int, flows: int, **options: Any) -> None:
    storm(place, show, [THREAD], kills=kills, graphs=flows, **options)
    handles, before = place.handles(), place.starts()
    had_succeeded = {id for id in place.story.members if id in place.ends and place.ends[id].how == OK}
    assert {handle.status().state for handle in handles} <= {State.SUCCEEDED, State.FAILED, State.CANCELLED}

    place.marks.is_first(ALL, "mended")
    retried = []
    while len(retried) < ROUNDS and (count := place.retry_all(handles)):
        retried.append(count)
        place.finish_by_command(THREAD, timeout=120)

    since = place.starts() - before
    show(f"{len(handles)} flows known, retried {retried}, {since.total()} runs since, {len(had_succeeded)} members had succeeded")
    problems = [f"a retry completes a flow: {info.explain()}" for handle in handles if not is_complete(info := handle.status())]
    problems += [f"what succeeded does not run again: {id} {since[id]} times" for id in sorted(had_succeeded & {*since})]
    problems += [f"a retry runs a member once: {id} {since[id]} times" for id in since if since[id] > len(retried)]
    assert not problems, most_common_problems(problems)

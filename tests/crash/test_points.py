"""Every crash point of ``huey.runtime.failpoints`` with a kill at its first and at its third visit: a new consumer finishes everything."""

from __future__ import annotations

from typing import Any

import pytest

from huey.runtime.failpoints import FAILPOINTS
from tests.crash.app import PERIODIC
from tests.crash.tools import Place, most_common_problems, ticks_of
from tests.support.helpers import wait_until

VISITS = (1, 3)
IN_CONSUMER = sorted(point for point in FAILPOINTS if point.partition(":")[0] in ("turn", "run", "tick"))
IN_RECLAIM = sorted(point for point in FAILPOINTS if point.startswith("reclaim:"))
IN_PRODUCER = sorted(point for point in FAILPOINTS if point.startswith("enqueue:"))


def judged(place: Any) -> Any:
    verdict = place.verdict()
    assert not verdict.problems, most_common_problems(verdict.problems) + "\n" + place.log()
    return verdict


def some_of_each_kind(place: Any) -> None:
    """Tasks enough for every point to be visited three times."""
    place.bulk(range(5))
    for n in range(3):
        place.work(n, 0.01)
        place.flaky(n, failures=2)
    place.doomed(1)
    place.work(7, delay=0.2)


def held_by_the_dead(place: Any, count: Any) -> None:
    """As many consumers as *count* die while each holds a task."""
    for n in range(count):
        place.gated(n)
    # All of them live at the same time, else one would take over from another.
    holders = [place.start(workers=1, periodic=False) for _ in range(count)]
    wait_until(lambda: len({run.node for run in place.runs()}) == count, "each of them runs a task")
    for holder in holders:
        holder.kill()
    place.open_gate()


def test_every_point_has_a_test() -> None:
    assert {*IN_CONSUMER, *IN_RECLAIM, *IN_PRODUCER, "stop:before-deregister"} == FAILPOINTS


@pytest.mark.parametrize("visit", VISITS)
@pytest.mark.parametrize("point", IN_CONSUMER)
def test_a_consumer_killed_there_loses_nothing(place: Place, point: Any, visit: Any) -> None:
    some_of_each_kind(place)

    place.start(crash_at=f"{point}#{visit}").dies()

    place.finish(and_then=lambda: len(ticks_of(place.runs())) >= len(PERIODIC))
    judged(place)


@pytest.mark.parametrize("visit", VISITS)
@pytest.mark.parametrize("point", IN_RECLAIM)
def test_a_killed_take_over_is_taken_over_itself(place: Place, point: Any, visit: Any) -> None:
    held_by_the_dead(place, visit)

    place.start(crash_at=f"{point}#{visit}").dies()

    place.finish()
    assert judged(place).kills == visit + 1


@pytest.mark.parametrize("visit", VISITS)
def test_one_that_stops_is_killed_before_it_says_goodbye(place: Place, visit: Any) -> None:
    some_of_each_kind(place)

    child = place.start("consumers", crash_at=f"stop:before-deregister#{visit}", times=visit)
    child.dies()

    place.finish()
    judged(place)


@pytest.mark.parametrize("visit", VISITS)
@pytest.mark.parametrize("point", IN_PRODUCER)
def test_an_enqueue_is_there_once_it_is_committed(place: Place, point: Any, visit: Any) -> None:
    place.start("producer", crash_at=f"{point}#{visit}", tasks=5).dies()

    committed = visit if point == "enqueue:after-commit" else visit - 1
    assert {row.id for row in place.storage.find()} == {f"p{n}" for n in range(committed)}
    place.expected = {f"p{n}": n * n for n in range(committed)}
    place.finish()
    judged(place)


@pytest.mark.parametrize("visit", VISITS)
@pytest.mark.parametrize("point", IN_PRODUCER)
def test_a_chunk_is_there_whole_or_not_at_all(place: Place, point: Any, visit: Any) -> None:
    place.start("producer", crash_at=f"{point}#{visit}", tasks=3, chunk=1000).dies()

    committed = visit if point == "enqueue:after-commit" else visit - 1
    place.expected = {f"p{chunk}-{n}": n * n for chunk in range(committed) for n in range(1000)}
    assert {row.id for row in place.storage.find(limit=10**6)} == place.expected.keys()
    place.finish()
    judged(place)


@pytest.mark.chaos
@pytest.mark.parametrize("second", [*IN_CONSUMER, *IN_RECLAIM, "stop:before-deregister"])
@pytest.mark.parametrize("first", IN_CONSUMER)
def test_two_kills_in_a_row_lose_nothing(place: Place, first: Any, second: Any) -> None:
    some_of_each_kind(place)
    place.start(crash_at=first).dies()

    # Where the first kill left nothing to take over, the second point may not be met: then a stop ends it.
    heir = place.start(crash_at=second)
    wait_until(lambda: place.is_done() or not heir.is_alive, "all is done, or the second point is met")
    if heir.is_alive:
        heir.ask_to_stop()
    if heir.process.wait(20) != 0:
        heir.dies()

    place.finish()
    judged(place)

"""The kill storm with locks, keyed limits, unique keys, rates, retries and at-most-once tasks in the mix (T1, C10).

Nothing is lost or doubled; a limit is never exceeded, a lock has one holder whose token grows, a key is never held by nobody, and what is
to run at most once does.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huey.runtime.clock import system_clock
from huey.task.record_options import Constraints, with_constraints
from huey.testing.contract.tools import task
from tests.crash.commands import KINDS, Commanded
from tests.crash.shared import KEYS, LOCKS, judge_once, judge_sharing
from tests.crash.test_command_storm import SPEED, Storm
from tests.crash.test_redis_storm import ALWAYS, restart_at, urls
from tests.crash.tools import KILLS, Verdict, most_common_problems, storm_seed
from tests.support import history
from tests.support.lossy_proxy import LossyProxy
from tests.support.redis_server import Server


@pytest.mark.timeout(120)
def test_what_tasks_share_outlives_kills_of_any_process(make_shared_place: Any, show: Any) -> None:
    storm(make_shared_place(), show, [*KINDS], kills=11, seconds=5)


@pytest.mark.timeout(120)
def test_what_tasks_share_in_redis_outlives_kills(make_shared_place: Any, show: Any) -> None:
    with Server(None, *ALWAYS) as server, LossyProxy(server.port, loss=0.002) as proxy:
        between = restart_at(server, {4: signal.SIGKILL})
        storm(make_shared_place(**urls(server, proxy)), show, [*KINDS], kills=12, seconds=7, between=between)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_what_tasks_share_outlives_many_kills(make_shared_place: Any, show: Any, kind: Any) -> None:
    verdict = storm(make_shared_place(), show, [kind], kills=KILLS, seconds=KILLS * 0.65)

    assert verdict.kills >= KILLS


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_what_tasks_share_in_redis_outlives_many_kills(make_shared_place: Any, show: Any, kind: Any) -> None:
    with Server(None, *ALWAYS) as server, LossyProxy(server.port, loss=0.005) as proxy:
        restarts = {KILLS * n // 5: (signal.SIGKILL, signal.SIGTERM)[n % 2] for n in range(1, 5)}
        place = make_shared_place(**urls(server, proxy))
        verdict = storm(place, show, [kind], kills=KILLS, seconds=KILLS * 0.65, between=restart_at(server, restarts))
    show(f"{proxy.lost} replies lost, {len(restarts)} restarts of the server")

    assert verdict.kills >= KILLS


class SharedPlace(Commanded):
    """A place of tasks that share something."""

    def verdict(self) -> Verdict:
        verdict = super().verdict()
        lines = history.lines(self.journal)
        return verdict._replace(problems=verdict.problems + judge_sharing(lines, self.deaths) + judge_once(lines) + self._held_by_nobody())

    def _excuse(self, lines: Any) -> None:
        super()._excuse(lines)
        self.lost = [row.id for row in self.storage.find("failed", limit=10**6) if row.name == "once" and row.reason == "lost"]
        self.excused += self.lost

    def _held_by_nobody(self) -> list[str]:
        """Now that all is done, every key and every lock is free."""
        records = [task(f"last {n}", options=with_constraints(None, Constraints(unique=f"single:{n}"))) for n in range(KEYS)]
        problems = [f"no key is held by nobody: {met}" for met in [self.storage.enqueue(records)] if met]
        return problems + [f"no lock is held by nobody: {n}" for n in range(LOCKS) if self.storage.find_lock(f"lock {n}")]


@pytest.fixture
def make_shared_place(tmp_path: Path) -> Iterator[Any]:
    places = []

    def make(for_processes: Any = None, **options: Any) -> SharedPlace:
        place = SharedPlace(tmp_path, fast=[SPEED, system_clock.now(), system_clock.monotonic()], **options)
        place.options = place.options | (for_processes or {})
        places.append(place)
        return place

    yield make
    for place in places:
        place.clean_up()


def storm(
    place: SharedPlace, show: Any, kinds: list[str], *, kills: int, seconds: float, between: Any = lambda strikes, commands: None
) -> Verdict:
    seed = storm_seed(show)
    began = time.monotonic()
    rage = Storm(place, random.Random(seed), kinds, is_shared=True, between=between)

    rage.kill(kills, gap=seconds / kills)
    place.finish_by_command(kinds[0])

    verdict = place.verdict()
    ran = {line["name"] for line in history.lines(place.journal) if line["op"] == "start"}
    show(f"{verdict}; {dict(rage.count)}; lost as wished {len(place.lost)}; {time.monotonic() - began:.0f} s")
    assert not verdict.problems, most_common_problems(verdict.problems)
    assert {"keyed", "single", "guarded", "rated", "paced", "once"} <= ran
    return verdict

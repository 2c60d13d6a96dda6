"""The kill storm with locks, keyed limits, unique keys, rates, retries and at-most-once tasks in the mix (T1, C10).

Nothing is lost or doubled; a limit is never exceeded, a lock has one holder whose token grows, a key is never held by nobody, and what is
to run at most once does.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from huey.clock import system_clock
from huey.terms import Terms, with_terms
from huey.testing import history
from huey.testing.contract.tools import task
from tests.crash.commands import KINDS, Commanded
from tests.crash.shared import KEYS, LOCKS, judge_once, judge_sharing
from tests.crash.test_command_storm import SPEED, Storm
from tests.crash.tools import Verdict, most_common_problems


@pytest.mark.timeout(120)
def test_what_tasks_share_outlives_kills_of_any_process(make_shared_place, show):
    storm(make_shared_place(), show, [*KINDS], kills=20, seconds=9)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_what_tasks_share_outlives_three_hundred_kills(make_shared_place, show, kind):
    verdict = storm(make_shared_place(), show, [kind], kills=310, seconds=200)

    assert verdict.kills >= 300


class SharedPlace(Commanded):
    """A place of tasks that share something."""

    def verdict(self) -> Verdict:
        verdict = super().verdict()
        lines = history.lines(self.journal)
        return verdict._replace(problems=verdict.problems + judge_sharing(lines, self.deaths) + judge_once(lines) + self._held_by_nobody())

    def _excuse(self, lines):
        super()._excuse(lines)
        self.lost = [row.id for row in self.storage.find("failed", limit=10**6) if row.name == "once" and row.reason == "lost"]
        self.excused += self.lost

    def _held_by_nobody(self) -> list[str]:
        """Now that all is done, every key and every lock is free."""
        records = [task(f"last {n}", options=with_terms(None, Terms(unique=f"single:{n}"))) for n in range(KEYS)]
        problems = [f"no key is held by nobody: {met}" for met in [self.storage.admit(records)] if met]
        return problems + [f"no lock is held by nobody: {n}" for n in range(LOCKS) if self.storage.lock(f"lock {n}")]


@pytest.fixture
def make_shared_place(tmp_path):
    places = []

    def make() -> SharedPlace:
        places.append(SharedPlace(tmp_path, fast=[SPEED, system_clock.now(), system_clock.monotonic()]))
        return places[-1]

    yield make
    for place in places:
        place.clean_up()


def storm(place: SharedPlace, show, kinds: list[str], *, kills: int, seconds: float) -> Verdict:
    seed = int(os.environ.get("HUEY_STORM_SEED") or random.randrange(10**6))
    show(f"seed {seed} (HUEY_STORM_SEED={seed} draws the same lives)")
    began = time.monotonic()
    rage = Storm(place, random.Random(seed), kinds, is_shared=True)

    rage.kill(kills, gap=seconds / kills)
    place.finish_by_command(kinds[0])

    verdict = place.verdict()
    ran = {line["name"] for line in history.lines(place.journal) if line["op"] == "start"}
    show(f"{verdict}; {dict(rage.count)}; lost as wished {len(place.lost)}; {time.monotonic() - began:.0f} s")
    assert not verdict.problems, most_common_problems(verdict.problems)
    assert {"keyed", "single", "guarded", "rated", "once"} <= ran
    return verdict

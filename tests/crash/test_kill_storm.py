"""The kill storm: SIGKILL at random instants while direct, scheduled, retried and periodic tasks flow.

0 lost, 0 lost results, never two live runs of one task, and what had ended and was stored does not run again. The wall clock of these
processes runs twenty times as fast as the machine's, so that a storm of half a minute lives through ten minutes of ticks.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from huey.runtime.clock import system_clock
from tests.crash.app import PERIODIC
from tests.crash.tools import KILLS, Child, Place, Verdict, most_common_problems, storm_seed
from tests.support.helpers import wait_until

RUNNERS = 4
SPEED = 20
LONGEST_SLACK = 0.25
"""Seconds from the end of a body to a kill that made it run again, where nothing else keeps the disk busy. The bar is 50 ms; what was
stored never runs again, at no load."""
CROWD = 150
"""Unfinished tasks at which the producer waits."""


@pytest.mark.timeout(120)
def test_kills_lose_nothing(make_place: Any, show: Any) -> None:
    verdict = storm(make_place, show, kills=14, seconds=5.6)

    assert verdict.kills >= 14


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_many_kills_lose_nothing(make_place: Any, show: Any) -> None:
    verdict = storm(make_place, show, kills=KILLS, seconds=KILLS * 4 / 3)

    assert verdict.kills >= KILLS
    assert verdict.slack < LONGEST_SLACK


def storm(make_place: Callable[..., Place], show: Callable[[object], None], *, kills: int, seconds: float) -> Verdict:
    """Kill *kills* consumers within about *seconds*, let the last one finish, judge."""
    seed = storm_seed(show)
    place = make_place(fast=[SPEED, system_clock.now(), system_clock.monotonic()])
    began = time.monotonic()

    _rage(place, random.Random(seed), kills, life=seconds / kills)
    place.finish(timeout=30, workers=RUNNERS)

    verdict = place.verdict()
    show(f"{verdict}, {time.monotonic() - began:.0f} s")
    assert not verdict.problems, most_common_problems(verdict.problems)
    assert verdict.reruns <= 2 * RUNNERS * kills
    assert verdict.ticks >= len(PERIODIC)
    return verdict


def _rage(place: Place, rng: random.Random, kills: int, life: float) -> None:
    """Let consumers live for a random time each, mostly one, at times two, and kill one after the other."""
    producer = _Producer(place, rng)
    alive: list[Child] = []
    for _ in range(kills):
        while len(alive) < rng.choice((1, 1, 1, 2)):
            alive.append(place.start(workers=RUNNERS))
        # Some die while they start, most in the middle of their work.
        end = time.monotonic() + rng.choice((rng.uniform(0, 0.4) * life, rng.uniform(0.4, 1.4) * life, rng.uniform(0.8, 1.8) * life))
        wait_until(lambda end=end: producer.goes_on() and time.monotonic() >= end, "the time has come", every=0.004)  # type: ignore[misc]
        alive.pop(rng.randrange(len(alive))).kill()
    for child in alive:
        child.process.kill()
        child.dies()


class _Producer:
    """Puts tasks of every kind in, as long as there are not too many."""

    def __init__(self, place: Place, rng: random.Random) -> None:
        self._place = place
        self._rng = rng
        self._count = 0

    def goes_on(self) -> bool:
        counts = self._place.storage.counts()
        for _ in range(min(5, CROWD - counts.ready - counts.scheduled - counts.running)):
            self._one()
        return True

    def _one(self) -> None:
        place, rng = self._place, self._rng
        self._count = n = self._count + 1
        kind = rng.random()
        if kind < 0.45:
            place.work(n, rng.choice((0, 0.005, 0.02, 0.04, 0.08)))
        elif kind < 0.55:
            place.bulk(range(n, n + rng.randrange(2, 20)))
        elif kind < 0.75:
            place.work(n, rng.choice((0, 0.02)), delay=rng.uniform(0.5, 20))
        elif kind < 0.95:
            place.flaky(n, failures=rng.randrange(3))
        else:
            place.doomed(n)

"""The kill storm against the real command: workers, supervisors, whole process groups and producers die at random instants.

Both kinds of command run on one queue, at times two commands together. 0 lost, 0 lost results, never two live runs of one task; only what
had not been stored runs again.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from huey.runtime.clock import system_clock
from tests.crash.app import PERIODIC
from tests.crash.commands import KINDS, Command, Commanded
from tests.crash.tools import KILLS, Child, most_common_problems, storm_seed
from tests.support.helpers import wait_until

SPEED = 20
LONGEST_SLACK = 0.25
"""Seconds from the end of a body to a kill that made it run again, where nothing else keeps the disk busy. The bar is 50 ms."""
VICTIMS = ("worker",) * 5 + ("supervisor",) * 2 + ("group",) * 2 + ("producer",)
RANGE = 10**6
"""Numbers for one life of a producer."""


@pytest.mark.timeout(120)
def test_kills_of_any_process_of_the_command_lose_nothing(make_commanded: Any, show: Any) -> None:
    storm(make_commanded, show, kills=9, seconds=4.5)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_many_kills_of_any_process_of_the_command_lose_nothing(make_commanded: Any, show: Any) -> None:
    verdict = storm(make_commanded, show, kills=KILLS, seconds=KILLS * 0.8)

    assert verdict.kills >= KILLS
    assert verdict.slack < LONGEST_SLACK


def storm(
    make_commanded: Any,
    show: Any,
    *,
    kills: int,
    seconds: float,
    between: Any = lambda strikes, commands: None,
    for_processes: Any = None,
    **options: Any,
) -> Any:
    """Kill *kills* processes within about *seconds*, let a last command finish, judge. *between*: what else happens after so many kills,
    to those commands. *options*: of the place; *for_processes*: those that are others for its processes."""
    seed = storm_seed(show)
    place = make_commanded(fast=[SPEED, system_clock.now(), system_clock.monotonic()], **options)
    began = time.monotonic()
    place.options = place.options | (for_processes or {})
    rage = Storm(place, random.Random(seed), between=between)

    rage.kill(kills, gap=seconds / kills)
    raged = time.monotonic() - began
    place.finish_by_command(random.Random(seed).choice([*KINDS]))

    verdict = place.verdict()
    took = f"{raged:.0f} + {time.monotonic() - began - raged:.0f} s"
    show(f"{verdict}; {dict(rage.count)}; failed as poison by chance {len(place.excused)}; {took}")
    assert not verdict.problems, most_common_problems(verdict.problems)
    assert verdict.reruns <= 4 * max(KINDS.values()) * kills
    assert verdict.ticks >= len(PERIODIC)
    return verdict


class Storm:
    """Commands and a producer, one of which dies now and then."""

    def __init__(
        self,
        place: Commanded,
        rng: random.Random,
        kinds: Sequence[str] = (*KINDS,),
        *,
        is_shared: Any = False,
        between: Any = lambda strikes, commands: None,
    ) -> None:
        self._between = between
        self._kinds = kinds
        self._is_shared = is_shared
        self._place = place
        self._rng = rng
        self.count: Counter[str] = Counter()
        self._commands: list[Command] = []
        self._producer: Child | None = None
        self._producers = 0

    def kill(self, kills: int, gap: float) -> None:
        while self.count.total() < kills:
            self._fill_up()
            self._live(self._rng.choice((self._rng.uniform(0, 0.5), self._rng.uniform(0.5, 1.5), self._rng.uniform(0.8, 2.0))) * gap)
            self._strike(self._rng.choice(VICTIMS))
            self._between(self.count.total(), self._commands)
        for command in self._commands:
            command.kill_group()
        if self._producer is not None:
            self._producer.kill()

    def _fill_up(self) -> None:
        while len(self._commands) < self._rng.choice((1, 1, 1, 2)):
            self._commands.append(self._place.command(self._rng.choice(self._kinds)))
        if self._producer is None:
            self._producers += 1
            first = self._producers * RANGE
            self._producer = self._place.streaming(seed=self._rng.randrange(10**6), first=first, is_shared=self._is_shared)

    def _live(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        wait_until(lambda: time.monotonic() >= end, "the time has come", every=0.004)

    def _strike(self, victim: str) -> None:
        if victim == "producer":
            assert self._producer is not None
            self._producer.kill()
            self._producer = None
        elif victim == "worker":
            if not self._rng.choice(self._commands).kill_worker(self._rng.choice):
                # It has not started one yet, or runs without.
                return self._strike("supervisor")
        else:
            command = self._commands.pop(self._rng.randrange(len(self._commands)))
            (command.kill if victim == "supervisor" else command.kill_group)()
        self.count[victim] += 1

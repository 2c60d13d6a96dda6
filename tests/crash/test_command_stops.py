"""Stops at any time: SIGTERM, SIGINT and SIGHUP, once to three times, while tasks flow.

0 lost, the command ends within its limit, and what ended within the limit is not run twice. A second signal ends at once, nothing is lost.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter, defaultdict
from typing import Any

import pytest

from huey.runtime.clock import system_clock
from tests.crash.commands import KINDS, SHUTDOWN, Command, Commanded
from tests.crash.test_command_storm import RANGE, SPEED
from tests.crash.tools import KILLS, Run, most_common_problems, storm_seed
from tests.support.helpers import wait_until

LIMIT = SHUTDOWN + 2
"""Seconds within which a command has to end."""
SLOWNESS = 4.0
"""What a busy machine may add."""
STUBBORN = 2
"""Tasks that no stop can wait for; one worker at least is left for the others."""
ASKS = (signal.SIGTERM, signal.SIGINT)


@pytest.mark.timeout(120)
def test_stops_at_any_time_lose_nothing(make_commanded: Any, show: Any) -> None:
    verdict = stop_again_and_again(make_commanded, show, signals=9)

    assert verdict.tasks > 20


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_many_stops_at_any_time_lose_nothing(make_commanded: Any, show: Any) -> None:
    stop_again_and_again(make_commanded, show, signals=KILLS * 2 // 3)


def stop_again_and_again(make_commanded: Any, show: Any, *, signals: int) -> Any:
    seed = storm_seed(show)
    rng = random.Random(seed)
    place = make_commanded(fast=[SPEED, system_clock.now(), system_clock.monotonic()])
    place.lives_by_rule = False
    stops = Stops(place, rng)
    began = time.monotonic()
    producer = place.streaming(seed=seed, first=RANGE, crowd=60)
    for n in range(STUBBORN):
        place.gated(n)

    while stops.count.total() < signals:
        stops.one()
        if stops.count.total() > signals / 4:
            place.open_gate()
    producer.kill()
    place.finish_by_command(rng.choice([*KINDS]))

    verdict = place.verdict()
    problems = verdict.problems + stops.problems + stops.cut_too_early()
    stubborn = f"stubborn tasks began {sum(run.name == 'gated' for run in place.runs())} times"
    show(f"seed {seed}; {verdict}; {dict(stops.count)}; slowest stop {stops.slowest:.1f} s; {stubborn}; {time.monotonic() - began:.0f} s")
    assert not problems, most_common_problems(problems)
    return verdict


class Stops:
    """Commands that are asked to end, politely or not."""

    def __init__(self, place: Commanded, rng: random.Random) -> None:
        self._place = place
        self._rng = rng
        self.count: Counter[str] = Counter()
        self.problems: list[str] = []
        self.slowest = 0.0
        self._rude: set[str] = set()
        """Nodes that were asked to end at once."""

    def one(self) -> None:
        """A life of one command: none to two renewals by SIGHUP, then one to three signals to end."""
        command = self._place.command(self._rng.choice([*KINDS]))
        wait_until(lambda: command.is_known or not command.is_alive, "it has started")
        self._live(0, 0.4)
        for _ in range(self._rng.randrange(3)):
            self._ask(command, signal.SIGHUP)
            self._live(0, 0.5)
            if not command.is_alive:
                self.problems.append(f"SIGHUP ends nothing: exit code {command.process.poll()}: {command.log[-2000:]}")
        number = self._rng.choice((1, 1, 2, 3))
        begun = time.monotonic()
        # Asked twice, it ends at once: what ran then is like killed.
        nodes = [command.node, *map(str, command.workers())]
        for _ in range(number):
            if command.is_alive:
                self._ask(command, self._rng.choice(ASKS))
                self._live(0, 0.25)
        code = command.ended(LIMIT + SLOWNESS)
        self.slowest = max(self.slowest, time.monotonic() - begun)
        if number > 1:
            self._rude.update(nodes)
        elif code != 0:
            self.problems.append(f"a stop that was asked for ends with 0: {code}: {command.log[-2000:]}")

    def _ask(self, command: Command, number: signal.Signals) -> None:
        command.send(number)
        self.count[number.name] += 1

    def _live(self, low: float, high: float) -> None:
        end = time.monotonic() + self._rng.uniform(low, high)
        wait_until(lambda: time.monotonic() >= end, "the time has come", every=0.004)

    def cut_too_early(self) -> list[str]:
        """Only a stubborn task, or one whose command was asked twice, runs again."""
        tries: dict[tuple[str, int], list[Run]] = defaultdict(list)
        for run in self._place.runs():
            tries[run.id, run.attempt].append(run)
        cut = [run for same in tries.values() for run in same[:-1] if run.node not in self._rude and run.name != "gated"]
        return [f"what ends within the limit is not run twice: {run}" for run in cut]

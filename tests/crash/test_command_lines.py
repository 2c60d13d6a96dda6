"""A kill at line after line of the package: of the supervisor, of a worker, of a producer.

First every process of a small life writes down the lines that it comes to. Then lines drawn from these are armed one after the other; the
first process that comes to the armed line kills itself, and what is started after it goes on. A line that is not met while tasks flow is
met when a command stops, or when the next one starts.
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from huey.runtime.clock import system_clock
from tests.crash.commands import KINDS, Command, Commanded
from tests.crash.lines import Target
from tests.crash.test_command_storm import RANGE, SPEED
from tests.crash.tools import KILLS, Child, most_common_problems, storm_seed
from tests.support.helpers import wait_until

MEETING = 1.0
"""Seconds to wait for a line while tasks flow."""


@pytest.mark.timeout(120)
def test_a_kill_at_any_line_of_the_command_loses_nothing(make_commanded: Any, show: Any) -> None:
    verdict = kill_at_lines(make_commanded, show, count=6)

    assert verdict.kills >= 3


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_kills_at_many_lines_of_the_command_lose_nothing(make_commanded: Any, show: Any) -> None:
    verdict = kill_at_lines(make_commanded, show, count=KILLS * 2 // 3)

    assert verdict.kills >= KILLS // 2


def kill_at_lines(make_commanded: Any, show: Any, *, count: int) -> Any:
    seed = storm_seed(show)
    rng = random.Random(seed)
    lines = [line for kind in KINDS for line in recorded_lines(make_commanded(), kind)]
    by_role = {role: sorted({line for line in lines if line.startswith(role)}) for role in ("supervisor", "worker", "producer")}
    targets = [
        target for role in by_role.values() for target in spread(rng, role, count * len(role) // sum(map(len, by_role.values())) + 1)
    ]
    show(f"seed {seed}; lines met: {', '.join(f'{len(found)} {role}' for role, found in by_role.items())}; {len(targets)} targets")
    place = make_commanded(fast=[SPEED, system_clock.now(), system_clock.monotonic()])
    began = time.monotonic()
    chain = Chain(place, rng)

    met = [chain.kill_at(number, *target.split(" ")) for number, target in enumerate(targets, 1)]
    chain.end()
    place.finish_by_command(rng.choice([*KINDS]))

    verdict = place.verdict()
    show(f"{verdict}; {met.count(False)} lines not met; failed as poison by chance {len(place.excused)}; {time.monotonic() - began:.0f} s")
    assert not verdict.problems, most_common_problems(verdict.problems)
    return verdict


def spread(rng: random.Random, lines: list[str], count: int) -> list[str]:
    """So many of the lines, at even distances, in the order of the files: successive lines, from another first one each time."""
    if not lines:
        return []
    stride = max(1, len(lines) // count)
    return lines[rng.randrange(stride) :: stride][:count]


def recorded_lines(place: Commanded, kind: str) -> set[str]:
    """What a short life of a command and a producer passes through, stop included."""
    command = place.command(kind, CHAOS_LINES="record")
    producer = place.streaming(seed=1, first=RANGE, crowd=20, CHAOS_LINES="record")
    wait_until(lambda: len(place.runs()) > 30, "tasks run", every=0.05)
    producer.kill()
    assert command.stop() == 0, command.log
    return {line for line in (place.folder / "lines.txt").read_text("ascii").splitlines() if line.count(":") == 1}


class Chain:
    """A command and a producer that are started anew whenever the armed line has killed them."""

    def __init__(self, place: Commanded, rng: random.Random) -> None:
        self._place = place
        self._rng = rng
        self._target = Target(place.folder)
        self._command: Command | None = None
        self._producer: Child | None = None
        self._lives = 0

    def kill_at(self, number: int, role: str, line: str) -> bool:
        """Whether somebody came to that line and died there."""
        self._start_missing()
        self._target.arm(number, role, line)
        met = self._is_met(number, role)
        self._target.arm(number, "nobody", "")
        self._forget_dead()
        return met

    def end(self) -> None:
        self._target.arm(9999, "nobody", "")
        self._start_missing()
        self._command.kill_group()  # type: ignore[union-attr]
        self._producer.kill()  # type: ignore[union-attr]

    def _is_met(self, number: int, role: str) -> bool:
        if self._is_hit(number, MEETING):
            return True
        if role == "producer":
            self._restart_producer()
            return self._is_hit(number, MEETING)
        self._command.send(signal.SIGTERM)  # type: ignore[union-attr]
        wait_until(lambda: not self._command.is_alive, "it stops, or meets its line")  # type: ignore[union-attr]
        if self._is_hit(number, 0):
            return True
        self._forget_dead()
        self._start_missing()
        return self._is_hit(number, 2 * MEETING)

    def _is_hit(self, number: int, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        wait_until(lambda: self._target.victim(number) or time.monotonic() >= deadline, "the time is over", every=0.004)
        victim = self._target.victim(number)
        if victim:
            wait_until(lambda: not Path(f"/proc/{victim}").exists() or self._forget_dead(), f"{victim} has died at its line")
        return bool(victim)

    def _forget_dead(self) -> bool:
        """Bury who has ended. True when somebody has."""
        gone = False
        if self._command is not None and not self._command.is_alive:
            gone = True
            self._command = None
        if self._producer is not None and not self._producer.is_alive:
            gone = True
            self._producer = None
        return gone

    def _restart_producer(self) -> None:
        if self._producer is not None and self._producer.is_alive:
            self._producer.kill()
        self._producer = None
        self._start_missing()

    def _start_missing(self) -> None:
        if self._command is None:
            self._command = self._place.command(self._rng.choice([*KINDS]), CHAOS_LINES="kill")
        if self._producer is None:
            self._lives += 1
            first = self._lives * RANGE
            self._producer = self._place.streaming(seed=self._rng.randrange(10**6), first=first, crowd=40, CHAOS_LINES="kill")

"""A task that keeps the GIL: its worker seems dead and is not. One run, no false death, and a stop is obeyed while it is held."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.crash.commands import KINDS, SHUTDOWN, Commanded
from tests.crash.tools import most_common_problems
from tests.support import history
from tests.support.helpers import wait_until

SLOWNESS = 3.0
"""Seconds that a busy machine may add to a stop."""
FOR_EVER = 600
OTHERS = 100


def is_held(place: Any) -> Any:
    return "grip" in {line["op"] for line in history.lines(place.journal)}


@pytest.mark.parametrize("hold", [5, pytest.param(50, marks=pytest.mark.chaos)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(120)
def test_a_worker_whose_gil_is_kept_is_not_taken_for_dead(commanded: Commanded, show: Any, kind: Any, hold: Any) -> None:
    """The hold of `make chaos` lasts longer than three leases; another command would take over what looks dead."""
    place = commanded
    command, other = place.command(kind, "-n"), place.command(kind, "-n")
    wait_until(lambda: command.is_known and other.is_known, "both have started")
    held = place._expect(place.app.grip(7, hold).id, 49)
    wait_until(lambda: is_held(place), "the GIL is held")
    workers = {*command.workers(), *other.workers()}
    place.bulk(range(OTHERS), 0.005)

    wait_until(place.is_done, "everything is done", timeout=hold + 20)

    (run,) = place.started(held)
    meanwhile = {done.id for done in place.runs() if run.start < done.start and done.end < run.end}  # type: ignore[operator]
    show(f"GIL held {(run.end - run.start) / 1e6:.1f} s; {len(meanwhile)} of {OTHERS} other tasks ran meanwhile")  # type: ignore[operator]
    assert {*command.workers(), *other.workers()} == workers
    assert len(meanwhile) > OTHERS / 2
    assert [command.stop(), other.stop()] == [0, 0]
    verdict = place.verdict()
    assert not verdict.problems, most_common_problems(verdict.problems) + "\n" + place.log()


@pytest.mark.slow_machine
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(60)
def test_a_stop_is_obeyed_while_the_gil_is_kept(commanded: Commanded, show: Any, kind: Any) -> None:
    """Within the shutdown timeout and two seconds; the task is given back, and nobody is to blame."""
    place = commanded
    command = place.command(kind, "-n")
    held = place._expect(place.app.grip(7, FOR_EVER).id, 49)
    wait_until(lambda: is_held(place), "the GIL is held")

    began = time.monotonic()
    assert command.stop() == 0, command.log[-4000:]
    took = time.monotonic() - began

    show(f"stopped within {took:.1f} s, the limit is {SHUTDOWN + 2:.0f} s")
    assert took < SHUTDOWN + 2 + SLOWNESS
    row = place.storage.get(held)
    assert (row.state, row.attempt, row.solo_crashes, row.deaths) == ("queued", 0, 0, 0), row
    assert place.storage.workers() == []


@pytest.mark.slow_machine
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(60)
def test_a_second_stop_ends_at_once_while_the_gil_is_kept(commanded: Commanded, show: Any, kind: Any) -> None:
    place = commanded
    command = place.command(kind, "-n", "--shutdown-timeout", "300")
    held = place._expect(place.app.grip(7, FOR_EVER).id, 49)
    wait_until(lambda: is_held(place), "the GIL is held")

    command.send()
    wait_until(lambda: "stopping" in command.log, "it has heard the first one")
    began = time.monotonic()
    command.stop()
    took = time.monotonic() - began

    show(f"ended {took:.2f} s after the second signal")
    assert took < 2 + SLOWNESS
    row = place.storage.get(held)
    assert (row.state, row.attempt, row.solo_crashes) in [("queued", 0, 0), ("running", 0, 0)], row

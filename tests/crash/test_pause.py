"""A process that is stopped for longer than its lease comes back: what it does then changes nothing (C4, T15)."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.crash.tools import Place
from tests.support import history
from tests.support.helpers import wait_until


@pytest.mark.chaos
@pytest.mark.timeout(90)
def test_one_that_comes_back_from_a_long_pause_is_fenced(place: Place, show: Any) -> None:
    id = place.gated(3)
    paused = place.start(workers=1, periodic=False)
    wait_until(lambda: place.started(id), "it runs")
    os.kill(int(paused.node), signal.SIGSTOP)
    heir = place.start(workers=1, periodic=False)

    wait_until(lambda: len(place.started(id)) == 2, "the heir runs it again", timeout=30)
    os.kill(int(paused.node), signal.SIGCONT)
    place.open_gate()

    wait_until(lambda: "finishes were stale" in place.log(), "the first finish is refused")
    wait_until(place.is_done, "it is done")
    assert [paused.stop(), heir.stop()] == [0, 0]
    assert {run.node for run in place.started(id)} == {paused.node, heir.node}
    assert place.app.huey.result(id) == 9
    assert history.check(history.read(place.journal), paused={paused.node}) == []
    show("2 runs, the first one's finish refused")


@pytest.mark.chaos
@pytest.mark.timeout(90)
def test_a_short_pause_costs_no_lease(place: Place) -> None:
    """Eight seconds are less than a lease: nobody takes over, the task runs once."""
    id = place.gated(3)
    paused = place.start(workers=1, periodic=False)
    wait_until(lambda: place.started(id), "it runs")
    heir = place.start(workers=1, periodic=False)
    os.kill(int(paused.node), signal.SIGSTOP)
    beats = len(history.lines(place.journal))

    wait_until(
        lambda: sum(line["op"] == "heartbeat" and line["node"] == heir.node for line in history.lines(place.journal)[beats:]) >= 2,
        "8 s pass",
    )
    os.kill(int(paused.node), signal.SIGCONT)
    place.open_gate()

    wait_until(place.is_done, "it is done")
    assert [paused.stop(), heir.stop()] == [0, 0]
    assert len(place.started(id)) == 1

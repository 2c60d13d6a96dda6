"""The shared page: what a supervisor can read of a worker, whatever instant it dies in."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from huey.engine.scoreboard import RunningTask, Scoreboard
from huey.runtime.clock import SECOND
from huey.task.bounds import LONGEST_ID


@pytest.fixture
def page() -> Iterator[Scoreboard]:
    page = Scoreboard(3)
    yield page
    page.close()


def test_a_new_page_shows_nothing(page: Scoreboard) -> None:
    assert (page.running(), page.is_ready, page.is_stop_requested) == ([], False, False)


def test_what_runs_is_shown_until_it_ends(page: Scoreboard) -> None:
    page.set_running(1, "a", 7, 1000, 0)
    page.set_running(2, "b", 1, 2000, 5 * SECOND)
    assert page.running() == [RunningTask(1, "a", 7, 1000, 0), RunningTask(2, "b", 1, 2000, 5 * SECOND)]

    page.set_ended(1)
    assert [it.id for it in page.running()] == ["b"]
    assert [it.id for it in page.ended()] == ["a"]

    page.set_running(1, "c", 1, 3000, 0)
    assert [it.id for it in page.running()] == ["c", "b"]
    assert page.ended() == []


def test_the_longest_id_fits_and_touches_no_neighbour(page: Scoreboard) -> None:
    longest = "\U0001f41d" * LONGEST_ID
    page.set_running(0, longest, 2**63, 2**62, 2**62)
    page.set_running(1, "short", 1, 1, 0)
    page.set_running(0, longest, 2**63, 2**62, 2**62)

    assert [it.id for it in page.running()] == [longest, "short"]


def test_a_slot_is_used_again_by_a_shorter_id(page: Scoreboard) -> None:
    page.set_running(0, "long-long-long", 1, 1, 0)
    page.set_running(0, "s", 2, 2, 0)

    assert page.running() == [RunningTask(0, "s", 2, 2, 0)]


def test_what_a_process_wrote_is_read_after_its_death(page: Scoreboard) -> None:
    pid = os.fork()
    if not pid:
        page.set_ready()
        page.set_running(0, "child's", 3, 4, 0)
        os._exit(0)
    os.waitpid(pid, 0)

    assert (page.is_ready, page.running()) == (True, [RunningTask(0, "child's", 3, 4, 0)])


def test_a_page_is_found_by_its_descriptor(page: Scoreboard) -> None:
    same = Scoreboard(3, os.dup(page.fd))
    page.request_stop()
    same.set_running(2, "a", 1, 1, 0)

    assert (same.is_stop_requested, page.running()) == (True, [RunningTask(2, "a", 1, 1, 0)])
    same.close()


@pytest.mark.parametrize(("limit", "now", "by", "is_late"), [(0, 10**12, 0, False), (5, 5, 0, False), (5, 6, 0, True), (5, 6, 2, False)])
def test_late_is_what_ran_longer_than_its_limit(limit: int, now: int, by: float, is_late: bool) -> None:
    assert RunningTask(0, "a", 1, 0, limit * SECOND).is_late(now * SECOND, by) == is_late

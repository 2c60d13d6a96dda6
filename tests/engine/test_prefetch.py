"""How far ahead of its runners a worker claims: a pure value."""

from __future__ import annotations

import pytest

from huey.engine.prefetch import MOST_HELD, Prefetch
from huey.storage.base import LARGEST_TURN


def after(runners: int, *rounds: list[float]) -> Prefetch:
    prefetch = Prefetch(runners)
    for durations in rounds:
        prefetch.observe(durations)
    return prefetch


@pytest.mark.parametrize(
    ("runners", "rounds", "limit", "low_water"),
    [
        (1, [], 1, 0),
        (8, [], 8, 0),
        (1, [[1.0]], 1, 0),
        (4, [[0.1]], 4, 0),
        (1, [[0.01]], 2, 0),
        (1, [[0.01], [0.01]], 4, 1),
        (1, [[0.01]] * 4, 6, 2),
        (4, [[0.025]] * 4, 12, 4),
        (1, [[0.0]] * 20, MOST_HELD, (MOST_HELD - 1) // 2),
        (1, [[0.01]] * 4 + [[10.0]], 1, 0),
        (1, [[0.01, 0.09]], 2, 0),
        (2, [[0.001]] * 10 + [[0.02]], 6, 2),
    ],
)
def test_the_limit_grows_by_doubling_and_falls_at_once(runners: int, rounds: list[list[float]], limit: int, low_water: int) -> None:
    prefetch = after(runners, *rounds)

    assert (prefetch.limit, prefetch.low_water) == (limit, low_water)


@pytest.mark.parametrize(("held", "capacity"), [(0, 6), (5, 1), (6, 0), (9, -3)])
def test_capacity_is_what_the_limit_leaves(held: int, capacity: int) -> None:
    assert after(1, *[[0.01]] * 4).capacity(held) == capacity


@pytest.mark.parametrize(
    ("claims", "batch_limit"),
    [
        ([], LARGEST_TURN),
        ([(10, False)], LARGEST_TURN),
        ([(10, True)], 10),
        ([(0, True)], 1),
        ([(10, True), (9, False)], 10),
        ([(10, True), (10, False)], 12),
        ([(500, True), (500, False)], LARGEST_TURN),
    ],
)
def test_a_turn_cut_off_by_weight_bounds_the_next_ones(claims: list[tuple[int, bool]], batch_limit: int) -> None:
    prefetch = Prefetch(1)
    for claimed, hit_byte_limit in claims:
        prefetch.observe_claim(claimed, hit_byte_limit)

    assert prefetch.batch_limit == batch_limit


def test_while_tasks_are_heavy_nothing_is_claimed_ahead() -> None:
    prefetch = after(1, *[[0.0001]] * 10)
    light = prefetch.refill_at
    prefetch.observe_claim(3, True)

    assert (light, prefetch.refill_at) == (prefetch.low_water, 0)


def test_after_a_reset_it_learns_anew() -> None:
    prefetch = after(2, *[[0.0001]] * 10)
    prefetch.reset()

    assert (prefetch.limit, prefetch.low_water) == (2, 0)


@pytest.mark.parametrize(("durations", "is_short"), [([], False), ([0.00005], True), ([0.001], False)])
def test_short_tasks_are_known_once_one_has_run(durations: list[float], is_short: bool) -> None:
    assert after(1, *[[it] for it in durations]).is_short is is_short

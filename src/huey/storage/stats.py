"""Statistics of tasks: what is counted, and how long it is kept. One row per task name and minute; old minutes are rolled up into hours.

A histogram shows how long runs took. Its bounds are 1, 3, 10, 30, ... milliseconds up to 10,000 seconds: bucket ``i`` counts the runs of at
most ``BOUNDS[i]`` seconds and more than the bound before; the sixteenth and last counts those above all bounds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any, NamedTuple

from huey.runtime.clock import SECOND, Micros

BOUNDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0)
"""Upper bounds of the buckets, seconds; the last bucket has none."""
BUCKETS = len(BOUNDS) + 1
MINUTE, HOUR = 60, 3600
"""Seconds that a row covers."""
MINUTES_KEPT = 48 * 3600 * SECOND
"""Age at which a minute is rolled up into its hour."""
HOURS_KEPT = 90 * 86400 * SECOND
"""Age at which an hour is removed."""


class Stat(NamedTuple):
    """The statistics of the tasks of one name in one minute or hour."""

    name: str
    start: Micros
    span: int
    """Seconds: ``MINUTE`` or ``HOUR``. While an hour is being rolled up it has what was added so far; the rest is still in its minutes."""
    enqueued: int
    succeeded: int
    failed: int
    retried: int
    """Runs that failed and were requeued for another attempt."""
    cancelled: int
    """Tasks that were revoked or had expired."""
    took: float
    """Total seconds of all runs."""
    longest: float
    """Seconds of the longest run."""
    histogram: tuple[int, ...]
    """Runs by duration. Their sum is the number of runs that ``took`` and ``longest`` cover."""


# As numbers, in the order of the columns of a table. Durations are whole microseconds, so that sums are exact.

ENQUEUED, SUCCEEDED, FAILED, RETRIED, CANCELLED, TOOK, LONGEST, HISTOGRAM = range(8)
NOTHING = (0,) * (HISTOGRAM + BUCKETS)
_UNMEASURED = NOTHING[TOOK:]
_BOUNDS = [round(bound * SECOND) for bound in BOUNDS]


def measured(tooks: Iterable[Micros]) -> list[int]:
    """Return durations as numbers in the columns from ``TOOK`` on. A duration of zero means that nothing ran, and is left out."""
    ran = sorted(filter(None, tooks))
    cuts = [0, *[bisect_right(ran, bound) for bound in _BOUNDS], len(ran)]
    return [sum(ran), ran[-1] if ran else 0, *[upto - before for before, upto in pairwise(cuts)]]


def add(numbers: list[int], others: Sequence[int]) -> None:
    """Add *others* to *numbers*."""
    longest = max(numbers[LONGEST], others[LONGEST])
    numbers[:] = [one + other for one, other in zip(numbers, others, strict=True)]
    numbers[LONGEST] = longest


def stat(name: str, start: Micros, span: int, *numbers: int) -> Stat:
    """Return the numbers of a row as a record."""
    enqueued, succeeded, failed, retried, cancelled, took, longest, *histogram = numbers
    counts = (enqueued, succeeded, failed, retried, cancelled)
    return Stat(name, start, span, *counts, took / SECOND, longest / SECOND, tuple(histogram))


def with_waiting(stats: Iterable[Stat], waiting: Iterable[Sequence[Any]]) -> list[Stat]:
    """Return *stats* in order, with tasks that have not ended counted as enqueued. *waiting*: name, start of the minute, how many."""
    rows = {(row.start, row.name, row.span): row for row in stats}
    for name, start, count in waiting:
        row = rows.get((start, name, MINUTE)) or stat(name, start, MINUTE, *NOTHING)
        rows[start, name, MINUTE] = row._replace(enqueued=row.enqueued + count)
    return [rows[key] for key in sorted(rows)]


def tallied(runs: dict[str, tuple[list[Micros], list[Micros]]], now: Micros) -> Iterator[list[Any]]:
    """Yield runs that have just succeeded as rows to count: time, name, enqueued, succeeded, the numbers from ``TOOK`` on. *runs*: by name,
    how long they took and when their tasks were enqueued."""
    for name, (tooks, times) in runs.items():
        yield [now, name, 0, len(tooks), *measured(tooks)]
        for start, how_many in minutes_of(times):
            yield [start, name, how_many, 0, *_UNMEASURED]


def minutes_of(times: Iterable[Micros]) -> list[tuple[Micros, int]]:
    """Return the minutes of *times*, and how many of them lie in each."""
    ordered = sorted(times)
    if start_of(ordered[0], MINUTE) == start_of(ordered[-1], MINUTE):
        return [(ordered[0], len(ordered))]
    return [(start, len(list(some))) for start, some in groupby(ordered, lambda time: start_of(time, MINUTE))]


def start_of(now: Micros, span: int) -> Micros:
    """Return when the minute or hour of *now* began."""
    return now - now % (span * SECOND)

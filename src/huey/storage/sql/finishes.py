"""Finishes as rows for a turn in SQL, with the sums of their statistics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from huey.runtime.clock import SECOND, Micros
from huey.storage.stats import tallied
from huey.task.lifecycle import Finish, State

MANY = 16
"""Number of successes from which they are added up here; fewer are added up in SQL."""

SMALL = 4096
"""Size in bytes up to which values are copied; copying a larger one costs more than it saves."""


class FinishRows(NamedTuple):
    """The rows that a turn writes."""

    successes: list[tuple[Any, ...]]
    """Of tasks that succeeded: id, token, value, duration in microseconds."""
    others: list[tuple[Any, ...]]
    """Of all others: id, token, state, due, the counters, reason, value, error, duration, and expiry and options if they change."""
    size: int
    """Size of all values in bytes."""
    tally: str | None
    """The statistics of `successes`, added up, as JSON; None if SQL adds them up."""
    top_token: int
    """The highest token in `successes`."""
    wall: Micros
    """The time that the consumer's own clock shows."""


def rows_of(finishes: Sequence[Finish], now: Micros, offset: Micros) -> FinishRows:
    """Return the rows of *finishes*. *offset*: how far the consumer's clock is ahead of UTC."""
    successes: list[tuple[Any, ...]] = []
    others: list[tuple[Any, ...]] = []
    runs: dict[str, tuple[list[Micros], list[Micros]]] = {}
    size, top_token = 0, 0
    for finish in finishes:
        lease, duration = finish.lease, round(finish.duration * SECOND)
        value: bytes | bytearray | None = finish.value
        if value is not None:
            size += len(value)
            if len(value) < SMALL:
                # The driver takes a bytearray as it is, and looks for an adapter of bytes.
                value = bytearray(value)
        if finish.state == State.SUCCEEDED:
            successes.append((lease.id, lease.token, value, duration))
            if lease.token > top_token:
                top_token = lease.token
            try:
                durations, times = runs[lease.name]
            except KeyError:
                durations, times = runs[lease.name] = ([], [])
            durations.append(duration)
            times.append(lease.created)
        else:
            error = None if finish.error is None else json.dumps(finish.error)
            counted = finish[3:7]
            row_end = (finish.reason, value, error, duration, finish.expires_at(now), finish.options)
            others.append((lease.id, lease.token, finish.state, finish.due_at(now), *counted, *row_end))
    tally = json.dumps(list(tallied(runs, now))) if len(successes) >= MANY else None
    return FinishRows(successes, others, size, tally, top_token, now + offset)

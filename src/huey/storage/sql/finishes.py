"""The row_end of runs, as a turn hands them to SQL: rows, and what they add up to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from huey.runtime.clock import SECOND, Micros
from huey.storage.stats import tallied
from huey.task.lifecycle import Finish, State

MANY = 16
"""Successes that are added up here; fewer are in SQL."""

SMALL = 4096
"""Bytes of a value; copying a bigger one costs more than it brings."""


class FinishRows(NamedTuple):
    """What a turn writes."""

    successes: list[tuple[Any, ...]]
    """Successes: id, token, value, microseconds."""
    others: list[tuple[Any, ...]]
    """All others: id, token, state, what is counted, reason, value, error, microseconds, expiry and options if they change."""
    size: int
    """Bytes of all values."""
    tally: str | None
    """What ``successes`` adds up to, as JSON; None: it is left to SQL."""
    top_token: int
    """The highest token among ``successes``."""
    wall: Micros
    """What the consumer's clock shows."""


def rows_of(finishes: Sequence[Finish], now: Micros, offset: Micros) -> FinishRows:
    """*finishes*, sorted and added up. *offset*: how far the consumer's clock is ahead of UTC."""
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

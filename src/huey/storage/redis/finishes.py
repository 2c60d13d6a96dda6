"""Encode finishes as arguments of the turn's script (lua/turn.lua)."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from huey.runtime.clock import SECOND, Micros
from huey.storage.base import TURN_BYTES
from huey.storage.redis.messages import Arg, raw_of, text_of
from huey.storage.rows import Worker
from huey.storage.stats import MINUTE, NOTHING, SUCCEEDED, TOOK, measured, minutes_of, start_of
from huey.storage.unreadable import UNREADABLE
from huey.task.lifecycle import Finish, State

FINISH_SIZE = 15
"""Arguments of a finish that is more than a plain success."""
ROW = struct.Struct(f"<{len(NOTHING)}d")
"""A row of statistics, as the server keeps it."""


def encode_finishes(finishes: Sequence[Finish], keep: bool) -> tuple[list[int], list[Arg]]:
    """Return the numbers of plain successes, of their values, of other finishes, of task names, and whether all tokens of successes are 1;
    and all of them as arguments. *keep*: succeeded tasks are kept, so none is plain."""
    ids: list[Arg] = []
    tokens: list[Arg] = []
    values: list[Arg] = []
    mute: list[tuple[str, int]] = []
    others: list[Arg] = []
    runs: dict[str, tuple[list[Micros], list[Micros]]] = {}
    for finish in finishes:
        lease, state, _, _, _, _, _, _, value, _, duration, _, _, _, _, _, own = finish
        if state != State.SUCCEEDED or keep or own is not None:
            others += _encode_finish(finish)
            continue
        if value is None:
            mute.append(lease[:2])
        else:
            ids.append(lease[0])
            tokens.append(lease[1])
            values.append(value)
        try:
            durations, times = runs[lease[2]]
        except KeyError:
            durations, times = runs[lease[2]] = ([], [])
        durations.append(round(duration * SECOND))
        times.append(lease[14])
    for id, token in mute:
        ids.append(id)
        tokens.append(token)
    tally = [argument for name, (durations, times) in runs.items() for argument in _tally(name, durations, times)]
    are_first = tokens.count(1) == len(tokens)
    counts = [len(ids), len(values), len(others) // FINISH_SIZE, len(runs), int(are_first)]
    return counts, [*ids, *(() if are_first else tokens), *values, *others, *tally]


def too_heavy(finishes: Sequence[Finish]) -> Iterator[Sequence[Finish]]:
    """Yield the finishes that must be written first in separate turns, because all values together are too large for one turn."""
    size, start = 0, 0
    for number, finish in enumerate(finishes):
        if finish.value is not None or finish.output is not None:
            weight = len(finish.value or b"") + len(finish.output or b"")
            size += weight
            if size > TURN_BYTES and number > start:
                yield finishes[start:number]
                size, start = weight, number


def _tally(name: str, durations: list[Micros], times: list[Micros]) -> list[Arg]:
    """Return the statistics of one name's successes, and the minutes in which their tasks were enqueued."""
    row = [0] * TOOK
    row[SUCCEEDED] = len(durations)
    minutes = [number for start, how_many in minutes_of(times) for number in (start_of(start, MINUTE), how_many)]
    return [name, ROW.pack(*row, *measured(durations)), len(minutes) // 2, *minutes]


def _encode_finish(finish: Finish) -> list[Arg]:
    lease, error, later = finish.lease, finish.error, finish.delay if finish.keep is None else finish.keep
    text = "" if error is None else json.dumps(error)
    tail = json.dumps({"reason": finish.reason, "error": None if error is None else error.get("error")})[1:-1]
    return [
        raw_of(lease.id),
        lease.token,
        finish.state,
        f"+{later}" if later is not None else "" if finish.due is None else finish.due,
        finish.attempt,
        finish.solo_crashes,
        finish.deaths,
        "" if finish.unknown_until is None else finish.unknown_until,
        "" if finish.reason is None else f"+{finish.reason}",
        text,
        "" if finish.value is None else b"+" + finish.value,
        round(finish.duration * SECOND),
        tail,
        "" if finish.expires_in is None else finish.expires_in,
        "" if finish.options is None else finish.options,
    ]


@lru_cache(256)
def who(worker: Worker) -> str:
    """Return the identity of the worker that ran a task, as part of a JSON object."""
    return json.dumps({"worker": worker.id, "host": worker.host, "pid": worker.pid})[1:-1]


@lru_cache(256)
def details(worker: Worker) -> str:
    """Return the stored form of a worker."""
    return json.dumps(worker)


def worker_of(id: bytes, text: bytes | None) -> Worker:
    """Return a stored worker, without fields that a newer release has added. An unreadable one has only its id; its lease tells when it is
    dead."""
    try:
        values: Any = json.loads(text or b"")
        worker = Worker(*values[: len(Worker._fields)])
        if tuple(map(type, worker)) == (str, str, int, str, int, str, str) and worker.id == text_of(id):
            return worker
    except UNREADABLE:
        pass
    return Worker(text_of(id), "", 0, "", 0)

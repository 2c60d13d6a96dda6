"""Reads what the tasks that a task waited for have passed on, and adds it to its arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from huey.engine.follow_ups import Codecs
from huey.exceptions import ERROR_TYPE, DecodeError
from huey.task.composition import with_value
from huey.task.flow import FAILURE, FLOW, INPUTS, RUN_IF, with_inputs
from huey.task.record import Lease
from huey.task.record_options import read_policy
from huey.task.workflow import FAILED, JOIN, SUCCEEDED, ParentEnd
from huey.utils import SKIPPED, Error

MOST_BYTES = 256 * 1024 * 1024
"""Bytes of values that one task gets at most."""
GONE = {"error": "the task failed, and its error is no longer kept", "traceback": ""}


class NotNeeded(Exception):
    """A member of a flow runs only if a task that it waits for has failed, and none has."""


class ParentValues:
    """*read*: ``Storage.parent_ends`` of the queue. *codecs*: those of the queues of the store."""

    def __init__(self, read: Callable[[str, int], list[ParentEnd]], codecs: Codecs) -> None:
        self._read = read
        self._codecs = codecs

    def add(self, lease: Lease, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with the values of the parents of *lease*: that of a task before it in a pipeline, those of the members of a
        chord as one list, those of a flow's in their places. DecodeError: they cannot be read, are too large, or are gone, which does not
        matter if the lease is lost. NotNeeded. StorageError."""
        ends: list[ParentEnd] = []
        size = 0
        while len(ends) < lease.parents and (piece := self._read(lease.id, ends[-1].position if ends else -1)):
            ends += piece
            size += sum(len(end.value or b"") for end in piece)
            if size > MOST_BYTES:
                raise DecodeError(
                    f"task {lease.id}: what it gets has more than {MOST_BYTES // 2**20} MiB; pass where large values are kept"
                )
        if len(ends) < lease.parents:
            raise DecodeError(
                f"task {lease.id}: what the tasks before it passed on is no longer kept for it, since another task has taken its position "
                "in the workflow; enqueue a new one"
            )
        policy = read_policy(lease.options)
        if policy.get(RUN_IF) == FAILURE and not any(end.outcome == FAILED for end in ends):
            raise NotNeeded(lease.id)
        if FLOW in policy:
            return with_inputs(args, kwargs, policy.get(INPUTS, ()), {end.position: self._value(end) for end in ends})
        joined = [self._value(end) for end in ends if end.kind == JOIN]
        if joined:
            args = (*args, joined)
        for end in ends:
            if end.kind != JOIN:
                args, kwargs = with_value(args, kwargs, self._value(end))
        return args, kwargs

    def _value(self, end: ParentEnd) -> Any:
        if end.outcome == SUCCEEDED:
            return None if end.value is None else self._codecs(end.parent.queue).decode("result", end.parent.id, end.value)
        if end.outcome != FAILED:
            return SKIPPED
        error = GONE if end.error is None else json.loads(end.error)
        return Error({"retries": 0, **{name: value for name, value in error.items() if name != ERROR_TYPE}, "task_id": end.parent.id})

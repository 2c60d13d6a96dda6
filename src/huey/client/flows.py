"""The handle of a flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huey.client.result import Result
from huey.client.result_groups import ResultGroup
from huey.runtime.method_masking import Masked
from huey.storage.base import Storage
from huey.storage.flows import MAP_TTL, FlowInfo, FlowMember, flow_info
from huey.storage.rows import TaskIds
from huey.task import reasons
from huey.task.flow import Flow
from huey.task.lifecycle import FINAL, State

PRESERVE = 6
"""Number of the argument *preserve* of ``Result.get``."""


class FlowResult(Masked):
    """The handle of a flow; ``results`` has those of its members, in the order in which they were added."""

    def __init__(self, storage: Storage, flow: Flow, results: Mapping[str, Result[Any]]) -> None:
        self.id = flow.id
        self.name = flow.name
        self.results = ResultGroup([results[task.id] for task in flow.tasks])
        self._storage = storage
        self._lasts = [results[task.id] for task in flow.lasts]

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Return the value of the task that no other waits for or, if there are several, the list of their values in the order in which
        they were added; members with ``run_if="failure"`` do not count. Arguments and errors are those of ``Result.get``, but the values
        stay in the store until they expire (*preserve* is True unless it is given), so that other handles can read them too."""
        if len(args) < PRESERVE:
            kwargs.setdefault("preserve", True)
        return self._lasts[0].get(*args, **kwargs) if len(self._lasts) == 1 else ResultGroup(self._lasts).get(*args, **kwargs)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the value, up to *timeout* seconds (None: no limit), and return it: ``get(blocking=True, timeout=timeout)``."""
        return self.get(blocking=True, timeout=timeout)

    def status(self) -> FlowInfo:
        """Return the state of the flow and of each member. Raise LookupError 30 days after the enqueue."""
        found = flow_info(self._storage, self.id)
        if found is None:
            raise LookupError(f"flow {self.id}: the store does not know it; it is kept for {MAP_TTL / 86400:.0f} days after its enqueue")
        return found

    def explain(self) -> str:
        """Return a line for each member: its name, its state, what it waits for, and since when."""
        return self.status().explain()

    def cancel(self) -> None:
        """Revoke all members that have not ended, those that run first: they are asked to stop."""
        open_members = [member for member in self.status().members if member.state not in FINAL]
        for is_running in (True, False):
            for queue, ids in _by_queue([member for member in open_members if (member.state == State.RUNNING) is is_running]).items():
                self._on(queue).revoke(TaskIds(ids))

    def retry(self) -> list[str]:
        """Requeue the members that failed or were cancelled, with all their tries. Those that were cancelled because of them wait again, no
        longer revoked; what succeeded stays as it is, and a callback that ran does not run again. Return the ids of the requeued."""
        ended = [
            member
            for member in self.status().members
            if member.state in (State.FAILED, State.CANCELLED) and member.reason != reasons.NOT_NEEDED
        ]
        requeued = [id for queue, ids in _by_queue(ended).items() for id in self._on(queue).retry(ids)]
        is_retried = {member.id for member in ended}
        for result in self.results:
            if result.id in is_retried:
                result.reset()
        return requeued

    def _on(self, queue: str) -> Storage:
        return self._storage if queue == self._storage.name else self._storage.for_queue(queue)

    def __repr__(self) -> str:
        return f"<FlowResult {self.name!r} of {len(self.results)}, {self.id}>"


def _by_queue(members: list[FlowMember]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for member in members:
        found.setdefault(member.queue, []).append(member.id)
    return found

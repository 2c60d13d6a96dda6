"""Handles of workflows: which ``Result``, ``ResultGroup`` or ``ChordResult`` an enqueue returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from huey.client.result import Result, ResultGroup
from huey.runtime.method_masking import Masked
from huey.task.composition import WorkflowDescription, group, last_of
from huey.task.links import stages
from huey.task.task import Task


class ChordResult(Masked):
    """The handle of a chord. ``get()`` returns the value of its callback.

    ``results``: a ``ResultGroup`` with one handle for each member, that of its last task. ``callback``: the handle of the callback.
    ``pipeline_results``: a ``ResultGroup`` of the callback and what follows it; None if nothing does.
    """

    def __init__(self, results: ResultGroup, callback: Result[Any], pipeline_results: ResultGroup | None = None) -> None:
        self.results = results
        self.callback = callback
        self.pipeline_results = pipeline_results

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Return the value of the callback, or None if there is none yet; arguments and errors as for ``Result.get``."""
        return self.callback.get(*args, **kwargs)

    __call__ = get

    def reset(self) -> None:
        """Forget the result of the callback that its handle keeps."""
        self.callback.reset()

    def __repr__(self) -> str:
        return f"<ChordResult of {len(self.results)}, callback {self.callback.id}>"


def handle_of(described: WorkflowDescription, result: Callable[[Task], Result[Any]]) -> Any:
    """Return the handle of a workflow, made of those of its tasks."""
    if isinstance(described, group):
        return ResultGroup([handle_of(member, result) for member in described.tasks])
    if isinstance(described, Task):
        handles = [result(stage) for stage in stages(described)]
        return handles[0] if len(handles) == 1 else ResultGroup(handles)
    pipeline = [result(stage) for stage in stages(described.callback)]
    members = ResultGroup([result(last_of(member)) for member in described.tasks])
    return ChordResult(members, pipeline[0], ResultGroup(pipeline) if len(pipeline) > 1 else None)

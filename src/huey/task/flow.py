"""Flows: graphs of tasks. A task that is passed as an argument of another is an edge between them, and its value arrives there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal, TypeVar, overload

from huey.runtime.suggestions import did_you_mean
from huey.task.composition import PlannedEdge, check_call
from huey.task.task import Task
from huey.task.workflow import JOIN, THEN
from huey.utils import SKIPPED

R = TypeVar("R")

RunIf = Literal["success", "failure", "always"]
SUCCESS: Final = "success"
FAILURE: Final = "failure"
ALWAYS: Final = "always"
"""When a member runs: if all that it waits for succeeded; once all have ended, if one failed; once all have ended, in whatever way."""
RUN_IFS = (SUCCESS, FAILURE, ALWAYS)

FLOW, INPUTS, RUN_IF = "flow", "inputs", "run_if"
"""Members of a record's options: the queue and the id of its flow; for each value that it gets, the position of the parent, the parameter
(number or name) and, in a list, the index; `FAILURE`."""


class Flow:
    """A graph of tasks that are enqueued together, or not at all; made by ``huey.flow(name)``.

    flow = huey.flow("import")
    parts = [flow.add(fetch.s(page)) for page in range(3)]
    flow.add(merge.s(parts))
    result = flow.enqueue()
    """

    def __init__(self, name: str, id: str, queue: str, put: Callable[[Flow], Any], prepare: Callable[[Flow], Any] | None = None) -> None:
        """*queue*: where the store keeps what it is made of. *put*: enqueues it. *prepare*: makes records of what a run adds."""
        self.name = name
        self.id = id
        self.queue = queue
        self.tasks: list[Task] = []
        """Its members, in the order in which they were added."""
        self.edges: list[PlannedEdge] = []
        self.members: dict[str, dict[str, Any]] = {}
        """By the id of a task: what the options of its record say of its flow."""
        self._put = put
        self._prepare = prepare
        self._is_enqueued = False
        self._is_adding: set[str] = set()

    @overload
    def add(self, task: Task[None], *, run_if: RunIf = SUCCESS, after: Iterable[Any] = ()) -> Task[None]: ...
    @overload
    def add(self, task: Task[R], *, run_if: RunIf = SUCCESS, after: Iterable[Any] = ()) -> R: ...
    def add(self, task: Any, *, run_if: RunIf = SUCCESS, after: Iterable[Any] = ()) -> Any:
        """Add *task*, such as ``f.s(1)``, and return it, to be passed as an argument of others. To a type checker it returns the value that
        the task will give, so that it checks where that goes.

        It waits for each task among its arguments, alone or in a list, and gets their values in these places when it runs. Those that were
        not added yet are added first. *after*: more tasks that it waits for, whose values it does not get. *run_if*: ``success``, if all
        of them succeeded, otherwise it is cancelled; ``always``, once all have ended, in whatever way, a failed one giving a
        ``huey.Error`` and a cancelled one ``huey.SKIPPED``; ``failure``, the same, but only if at least one has failed.

        Raise TypeError if *task* is not a task, or if its function does not take the arguments; ValueError if it cannot be a member: it
        was added before, has a pipeline, or waits for itself, or the flow is enqueued already.
        """
        self._check(task, run_if)
        self._is_adding.add(task.id)
        try:
            self._link(task, run_if, after)
        finally:
            self._is_adding.discard(task.id)
        return task

    def _link(self, task: Task, run_if: RunIf, after: Iterable[Task]) -> None:
        parents: list[Task] = []
        inputs: list[list[Any]] = []
        args = [self._input(value, [number], parents, inputs) for number, value in enumerate(task.args)]
        kwargs = {name: self._input(value, [name], parents, inputs) for name, value in task.kwargs.items()}
        for other in after:
            self._parent(other, parents)
        if run_if == FAILURE and not parents:
            raise ValueError(f"{task!r} waits for no task, so none can fail: run_if='failure' needs one among its arguments, or in after=")
        check_call(task, 0)
        task.args, task.kwargs = tuple(args), kwargs
        kind = THEN if run_if == SUCCESS else JOIN
        self.edges.extend(PlannedEdge(parent, task, kind, position) for position, parent in enumerate(parents))
        self.tasks.append(task)
        self.members[task.id] = {FLOW: [self.queue, self.id], INPUTS: inputs, RUN_IF: run_if if run_if == FAILURE else None}

    def _check(self, task: Any, run_if: str) -> None:
        if self._is_enqueued:
            raise ValueError(f"{self!r} is enqueued already: make another one")
        if not isinstance(task, Task):
            name = getattr(task, "name", "f").rpartition(".")[2]
            raise TypeError(f"{task!r:.100} is no task: give one, such as {name}.s(1) returns")
        if run_if not in RUN_IFS:
            raise ValueError(f"run_if={run_if!r}: give 'success', 'failure' or 'always'{did_you_mean(run_if, RUN_IFS)}")
        if task.on_complete is not None:
            raise ValueError(f"{task!r} has a pipeline: in a flow, pass the task to the one that follows it, or name it in after=")
        if task.id in self.members or task.id in self._is_adding:
            raise ValueError(f"{task!r} is in {self!r} already, or waits for itself: make a task for each place, with .s()")

    def _input(self, value: Any, path: list[Any], parents: list[Task], inputs: list[list[Any]]) -> Any:
        """Return *value* with None in the place of each task, which becomes a parent."""
        if isinstance(value, Task):
            inputs.append([self._parent(value, parents), *path])
            return None
        if type(value) in (list, tuple) and any(isinstance(item, Task) for item in value):
            return [
                self._input(item, [*path, index], parents, inputs) if isinstance(item, Task) else item for index, item in enumerate(value)
            ]
        return value

    def _parent(self, task: Any, parents: list[Task]) -> int:
        """Return the position of *task* among the parents of the one that is added."""
        if getattr(task, "id", None) not in self.members:
            self.add(task)
        for position, parent in enumerate(parents):
            if parent is task:
                return position
        parents.append(task)
        return len(parents) - 1

    def enqueue(self) -> Any:
        """Enqueue its tasks, all or none, and return their ``FlowResult``. Raise ValueError if it has none or too many, or is enqueued
        already; otherwise as ``huey.enqueue``."""
        return self._put(self)

    def prepared(self) -> Any:
        """Return the ``Workflow`` of its members, which the success of a run enqueues; None if there are none."""
        return self._prepare(self.seal()) if self._prepare is not None and self.tasks else None

    def seal(self) -> Flow:
        """Check that it can be enqueued, which it is then, and return it."""
        if self._is_enqueued:
            raise ValueError(f"{self!r} is enqueued already: make another one")
        if not self.tasks:
            raise ValueError(f"{self!r} has no tasks: add some first, flow.add(f.s(1))")
        self._is_enqueued = True
        return self

    @property
    def lasts(self) -> list[Task]:
        """The tasks that no other waits for, leaving out those that run only if another has failed."""
        handlers = {id for id, members in self.members.items() if members[RUN_IF] == FAILURE}
        waited_for = {edge.parent.id for edge in self.edges if edge.child.id not in handlers}
        return [task for task in self.tasks if task.id not in waited_for | handlers]

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def __repr__(self) -> str:
        return f"<flow {self.name!r} of {len(self.tasks)}>"


def with_inputs(args: tuple[Any, ...], kwargs: dict[str, Any], inputs: Iterable[list[Any]], values: dict[int, Any]) -> tuple[Any, Any]:
    """Return the arguments of a member with the *values* of its parents, by position, in their *inputs*."""
    filled: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
    for position, parameter, *index in inputs:
        if index:
            filled[parameter] = list(filled[parameter])
            filled[parameter][index[0]] = values[position]
        else:
            filled[parameter] = values[position]
    return tuple(filled[number] for number in range(len(args))), {name: filled[name] for name in kwargs}


def run_flow_eagerly(flow: Flow, run: Callable[[Task], Any]) -> Any:
    """Run a flow here and now, for ``always_eager``: *run* calls the function of a task. Return what ``FlowResult.get`` returns; exceptions
    pass, so that members that run if another failed never do."""
    values: dict[str, Any] = {}
    for task in flow.seal().tasks:
        given = {edge.position: values[edge.parent.id] for edge in flow.edges if edge.child is task}
        args, kwargs = with_inputs(task.args, task.kwargs, flow.members[task.id][INPUTS], given)
        is_handler = flow.members[task.id][RUN_IF] == FAILURE
        values[task.id] = SKIPPED if is_handler else run(type(task)(args, kwargs, id=task.id))
    found = [values[task.id] for task in flow.lasts]
    return found[0] if len(found) == 1 else found

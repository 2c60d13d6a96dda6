"""Several tasks that belong together: groups, chords, and the plan of what waits for what.

A group or chord only describes tasks; ``Plan`` turns it, or a pipeline, into tasks and the edges between them, checked as a whole before
anything is written. What a stage or a callback is passed when its turn comes stands here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from itertools import pairwise
from typing import Any, NamedTuple

from huey.task import links as linking
from huey.task.links import stages
from huey.task.task import Task
from huey.task.workflow import JOIN, THEN
from huey.utils import Error


class group:
    """Tasks that are enqueued together: *tasks*, pipelines, chords and groups, in any mix."""

    def __init__(self, tasks: Iterable[Any]) -> None:
        self.tasks = list(tasks)

    def then(self, task: Any, /, *args: Any, **kwargs: Any) -> chord:
        """Return the chord of these tasks and *task*, its callback; arguments as for ``Task.then``."""
        return chord(self.tasks, linking.as_task(task, args, kwargs, "the callback of a chord"))

    def error(self, task: Any, /, *args: Any, **kwargs: Any) -> group:
        """Give each member a handler of its failure, and return this group. A function makes one for each; a task is that of all."""
        if isinstance(task, Task):
            task, args, kwargs = linking.as_task(task, args, kwargs, "a handler"), (), {}
        for member in self.tasks:
            _checked(member, "a group").error(task, *args, **kwargs)
        return self

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tasks)

    def __repr__(self) -> str:
        return f"<group of {len(self.tasks)}>"


class chord:
    """Tasks and a *callback* that runs once all of them have ended, in whatever way, with the list of their values as its last argument.

    *tasks*: tasks, pipelines and chords, in any mix. *callback*: a decorated function or a task, with a pipeline if need be. The value of
    a member that failed is a ``huey.Error``, that of one that was revoked, expired or cancelled ``huey.SKIPPED``; that of a pipeline is
    its last stage's.
    """

    def __init__(self, tasks: Iterable[Any], callback: Any) -> None:
        self.tasks = list(tasks)
        self.callback: Task = linking.as_task(callback, (), {}, "the callback of a chord")

    def then(self, task: Any, /, *args: Any, **kwargs: Any) -> chord:
        """Let *task* run after the callback and what follows that, and return this chord; arguments as for ``Task.then``."""
        self.callback.then(task, *args, **kwargs)
        return self

    def error(self, task: Any, /, *args: Any, **kwargs: Any) -> chord:
        """Let *task* run when the callback has failed, and return this chord; arguments as for ``Task.error``."""
        self.callback.error(task, *args, **kwargs)
        return self

    def __repr__(self) -> str:
        return f"<chord of {len(self.tasks)}, then {self.callback!r}>"


# -- the plan -----------------------------------------------------------------------------------------------------------------------------


class PlannedEdge(NamedTuple):
    """*child* waits for *parent*, both tasks of one plan; as ``huey.task.workflow.Edge``."""

    parent: Task
    child: Task
    kind: str
    position: int = 0


class Plan:
    """What a workflow enqueues: its tasks, in the order in which they are enqueued, and what each waits for.

    ValueError: a member that cannot be one, a task that stands twice, or a ring. TypeError: a task whose function does not take the
    arguments that it has or gets.
    """

    def __init__(self, workflow: WorkflowDescription) -> None:
        self.tasks: list[Task] = []
        self.edges: list[PlannedEdge] = []
        self.members: Mapping[str, Mapping[str, Any]] = {}
        """By the id of a task: more members of its record's options."""
        self._lasts: dict[str, Task] = {}
        """By the id of a member: the last task of its pipeline."""
        try:
            self._add(workflow)
        except RecursionError:
            raise ValueError("groups and chords that are nested in a ring, or too deep; nothing was enqueued") from None
        self.by_id = {task.id: task for task in self.tasks}
        self._check_twice()
        self._check_arguments()

    def _add(self, thing: Any) -> Task | None:
        """Add *thing*, and return the task with whose end it has ended; None for a group."""
        if isinstance(thing, group):
            for member in thing.tasks:
                self._add(_checked(member, "a group"))
            return None
        if isinstance(thing, Task):
            last = self._lasts.get(thing.id)
            if last is None:
                last = self._lasts[thing.id] = self._add_pipeline(thing)
            return last
        lasts = [self._add(_checked_member(member, position)) for position, member in enumerate(thing.tasks)]
        callback = thing.callback
        if not lasts:
            callback = copy(callback)
            callback.extend(([],), {})
            check_call(callback, 0)
        last = self._add_pipeline(callback)
        self.edges.extend(PlannedEdge(member, callback, JOIN, position) for position, member in enumerate(lasts) if member is not None)
        return last

    def _add_pipeline(self, first: Task) -> Task:
        pipeline: list[Task] = stages(first)
        self.tasks.extend(pipeline)
        self.edges.extend(PlannedEdge(before, after, THEN) for before, after in pairwise(pipeline))
        return pipeline[-1]

    @property
    def first(self) -> list[Task]:
        """The tasks that wait for none."""
        waiting = {edge.child.id for edge in self.edges}
        return [task for task in self.tasks if task.id not in waiting]

    def _check_twice(self) -> None:
        if len(self.by_id) < len(self.tasks):
            twice = next(
                task for position, task in enumerate(self.tasks) if self.by_id[task.id] is not task or task in self.tasks[:position]
            )
            raise ValueError(
                f"{twice!r} stands twice in this workflow, and each waits for something else: make a task for each; nothing was enqueued"
            )

    def _check_arguments(self) -> None:
        joined = {edge.child.id for edge in self.edges if edge.kind == JOIN}
        following = {edge.child.id for edge in self.edges if edge.kind == THEN}
        for task in self.tasks:
            if task.id in joined:
                check_call(task, 1)
            elif task.id not in following and task.links is not None:
                check_call(task, 0)
            if task.on_error is not None:
                check_call(task.on_error, 1)


WorkflowDescription = Task | group | chord


def is_workflow(thing: Any) -> bool:
    """Whether *thing* is to be planned: a group, a chord, or a task that has links."""
    return isinstance(thing, group | chord) or (isinstance(thing, Task) and thing.links is not None)


def last_of(member: Task | chord) -> Task:
    """Return the task with whose end a member of a chord has ended."""
    pipeline: list[Task] = stages(member.callback if isinstance(member, chord) else member)
    return pipeline[-1]


def _checked(member: Any, of: str) -> Any:
    """Return *member* if it can be one; otherwise raise ValueError."""
    if isinstance(member, Task | group | chord):
        return member
    hint = f"give its task, {member.name.rpartition('.')[2]}.s(...)" if hasattr(member, "task_class") else "give tasks, such as f.s(1)"
    raise ValueError(f"{member!r:.100} cannot be a member of {of}: {hint}; nothing was enqueued")


def _checked_member(member: Any, position: int) -> Any:
    if isinstance(member, group):
        raise ValueError(
            f"member {position} of a chord is {member!r}, which has no value of its own: put its members into the chord, or make it a "
            "chord, group.then(...); nothing was enqueued"
        )
    return _checked(member, "a chord")


def check_call(task: Task, passed: int) -> None:
    """TypeError: its function does not take the arguments of *task* and, behind them, the *passed* ones that it gets."""
    if (wrapper := getattr(task, "wrapper", None)) is not None:
        wrapper.check_task(task, passed)


# -- what is passed on --------------------------------------------------------------------------------------------------------------------


def with_value(args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a stage with the *value* of the one before it: the items of a tuple behind them, those of a dict as keywords
    that were not given, nothing for None, anything else as one argument."""
    if value is None:
        return args, kwargs
    if isinstance(value, tuple) and not isinstance(value, Error):
        return (*args, *value), kwargs
    if isinstance(value, dict):
        return args, {**value, **kwargs}
    return (*args, value), kwargs

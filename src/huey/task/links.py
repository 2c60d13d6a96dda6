"""What is to happen after one task: the stage that follows it, and the handler of its failure.

``Task.then`` and ``Task.error`` write it, before the task is enqueued. A pipeline is its first task: each has the next one.
"""

from __future__ import annotations

from typing import Any


class Links:
    """Of one task. A task without any has none of these."""

    __slots__ = ("handler", "is_partial", "stage", "tail")

    def __init__(self) -> None:
        self.stage: Any = None
        """The task that follows when it has succeeded."""
        self.handler: Any = None
        """The task that runs when it has failed."""
        self.tail: Any = None
        """A later task of its pipeline, from which the last one is found sooner."""
        self.is_partial = False
        """Its function needs more arguments than it has: the task before it has to pass them."""


def stages(task: Any) -> list[Any]:
    """Return *task* and those that follow it in its pipeline."""
    found = [task]
    while (task := task.on_complete) is not None:
        found.append(task)
    return found


def append(task: Any, stage: Any) -> None:
    """Put *stage*, with what follows it, at the end of the pipeline of *task*. ValueError: it is in that pipeline already."""
    last = _last(task)
    if _last(stage) is last:
        raise ValueError(f"{stage!r} is a stage of this pipeline already: it would run in a loop")
    own_links(last).stage = stage
    own_links(task).tail = stage


def add_handler(task: Any, handler: Any) -> None:
    """Make *handler* run when *task* fails or, if it has a handler, when that fails. ValueError: it is one of them already."""
    handled, handling = _handlers(task), _handlers(handler)
    if any(one is other for one in handled for other in handling):
        raise ValueError(f"{handler!r} would handle its own failure, for ever")
    task = handled[-1]
    own_links(task).handler = handler


def _handlers(task: Any) -> list[Any]:
    """Return *task*, the handler of its failure, the handler of that one's, and so on."""
    found = [task]
    while (task := task.on_error) is not None:
        found.append(task)
    return found


def own_links(task: Any) -> Links:
    """Return the links of *task*, which may have had none."""
    if task.links is None:
        task.links = Links()
    return task.links  # type: ignore[no-any-return]


def _last(task: Any) -> Any:
    """Return the last task of the pipeline."""
    first = task
    while task.links is not None and (later := task.links.tail or task.links.stage) is not None:
        task = later
    if task is not first:
        own_links(first).tail = task
    return task


def as_task(thing: Any, args: tuple[Any, ...], kwargs: dict[str, Any], what: str) -> Any:
    """Return the task that is meant as *what*: that of a function with these arguments; or a task, to whose arguments they are added.
    TypeError: *thing* is neither."""
    if hasattr(thing, "task_class"):
        return thing.s(*args, **kwargs)
    if not hasattr(thing, "links"):
        kind = type(thing).__name__
        way_out = (
            "what follows it goes to its own then()" if kind in ("group", "chord") else "give a decorated function or its task, f.s(1)"
        )
        raise TypeError(f"{thing!r:.100} cannot be {what}: {way_out}")
    if args or kwargs:
        thing.extend(args, kwargs)
    return thing

"""The options of ``@huey.task(...)``: check their values, and decide which failures are retried."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, TypedDict

from huey.runtime.functions import check_runs_when_called
from huey.runtime.logs import SafeLogger, is_ctrl_c
from huey.runtime.missing_names import OTHER_OPTIONS
from huey.runtime.suggestions import did_you_mean
from huey.runtime.times import Expires, parse_ttl
from huey.task.bounds import LARGEST, LONGEST_NAME, parse_limit, parse_number, parse_text
from huey.task.constraints import ConstraintSpec, Key, Rate, parse_constraints
from huey.task.task import Task

log = SafeLogger("huey")

ExceptionFilter = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
"""A filter of exceptions: a class, a tuple of classes, or a function that returns whether an exception matches."""


class CallOptionArgs(TypedDict, total=False):
    """The keywords of ``Huey.task`` and ``Huey.periodic_task``, which ``Huey.task`` describes, except for ``context``."""

    name: str | None
    priority: int | None
    expires: Expires | None
    timeout: float | None
    retry_backoff: float
    retry_jitter: float
    max_retry_delay: float | None
    retry_on: ExceptionFilter | None
    no_retry_on: ExceptionFilter | None
    aliases: Sequence[str]
    queue: str | None
    unique: bool | Key
    unique_for: str | float | timedelta
    concurrency: int | None
    key: Key | None
    rate: Rate | None
    rate_key: Key | None
    at_most_once: bool
    keep: float | timedelta | None
    typing: bool
    task_attributes: Mapping[str, Any] | None


class TaskOptionArgs(CallOptionArgs, total=False):
    """All of them."""

    context: bool


_FIRST = ("retries", "retry_delay", "retries_as_argument", "include_task")
"""Options that can be given by position."""


class TaskOptions(NamedTuple):
    """The options with which a function's calls are run."""

    retries: int = 0
    """Further runs after a failure."""
    retry_delay: float = 0.0
    """Minimum seconds between a failure and the next run."""
    retries_as_argument: bool = False
    """Whether to pass the number of retries left as the keyword ``retries``."""
    include_task: bool = False
    """Whether to pass the task as the keyword ``task``."""
    priority: int = 0
    """Higher runs first."""
    expires: Expires | None = None
    """Latest start: seconds or a timedelta from each enqueue, or from the eta if that is in the future; or a datetime."""
    timeout: float | None = None
    """Maximum seconds of a run."""
    retry_backoff: float = 0.0
    """Factor by which the delay grows with each failed try; 0: it does not grow."""
    retry_jitter: float = 0.0
    """Up to this share of the delay is added at random, so that tasks that failed together are not retried together."""
    max_retry_delay: float | None = None
    """Maximum seconds of a delay that grows."""
    retry_on: ExceptionFilter | None = None
    """The exceptions to retry after; others are not retried."""
    no_retry_on: ExceptionFilter | None = None
    """The exceptions not to retry after."""
    aliases: tuple[str, ...] = ()
    """Earlier names of the task."""
    queue: str | None = None
    """The queue of the same store to which its calls go, if not that of its ``Huey``."""
    constraints: ConstraintSpec | None = None
    """Constraints of its calls, such as ``unique=``."""
    keep: float | None = None
    """Seconds for which a task is kept, for the inspector, when it has succeeded."""
    typing: bool = True
    """Whether the arguments of a call are compared with the parameters of the function before it is enqueued."""
    task_attributes: Mapping[str, Any] | None = None
    """Extra attributes of its task class."""

    def may_retry(self, error: BaseException) -> bool:
        """Return whether a run that raised *error* may be retried."""
        if self.no_retry_on is not None and _matches(self.no_retry_on, error):
            return False
        return self.retry_on is None or _matches(self.retry_on, error)


def _matches(which: ExceptionFilter, error: BaseException) -> bool:
    try:
        return isinstance(error, which) if isinstance(which, tuple | type) else bool(which(error))
    except BaseException as raised:  # User code (a function or metaclass): its exception must not hide *error*.
        if is_ctrl_c(raised):
            raise
        log.exception("retry_on or no_retry_on raised an exception for an error of type %s; treating it as no match", type(error).__name__)
        return False


def parse_options(
    verb: str, given: TaskOptionArgs, retries: int, retry_delay: float, retries_as_argument: bool, include_task: bool
) -> TaskOptions:
    """Return the options of the decorator *verb*. Raise TypeError for an unknown keyword, and ValueError for an invalid value; the message
    says which values work."""
    for name in given:
        if name not in TaskOptionArgs.__annotations__:
            other = OTHER_OPTIONS.get(name)
            hint = f"; here: {other}" if other is not None else did_you_mean(name, [*_FIRST, *TaskOptionArgs.__annotations__])
            raise TypeError(f"Huey.{verb}() got an unexpected keyword argument {name!r}{hint}")
    own: dict[str, Any] = {name: value for name, value in given.items() if name in TaskOptions._fields}
    constraints: dict[str, Any] = {name: value for name, value in given.items() if name in ConstraintSpec._fields}
    own["priority"] = own.get("priority") or 0
    options = TaskOptions(retries, retry_delay, retries_as_argument, include_task or given.get("context", False), **own)
    _check(options)
    return options._replace(
        timeout=None if options.timeout is None else parse_limit(options.timeout),
        keep=parse_ttl(options.keep, "keep"),
        aliases=tuple(options.aliases),
        constraints=parse_constraints(**constraints),
    )


def _check(options: TaskOptions) -> None:
    """Raise ValueError for a value that cannot work."""
    if callable(options.retries):
        hint = "write @huey.task() with parentheses" if hasattr(options.retries, "__name__") else "did you mean periodic_task?"
        raise ValueError(f"retries={options.retries!r}: give the number of further runs; {hint}")
    parse_number("retries", options.retries, whole=True)
    parse_number("priority", options.priority, low=-LARGEST, whole=True)
    for name in ("retry_delay", "retry_backoff", "max_retry_delay"):
        if getattr(options, name) is not None:
            parse_number(name, getattr(options, name))
    if parse_number("retry_jitter", options.retry_jitter) > 1:
        raise ValueError(f"retry_jitter={options.retry_jitter!r}: give a share from 0 to 1; 0.1 adds up to a tenth")
    for name in ("retry_on", "no_retry_on"):
        _check_exception_filter(name, getattr(options, name))
    if isinstance(options.aliases, str) or not all(isinstance(name, str) and name for name in options.aliases):
        raise ValueError(f"aliases={options.aliases!r}: give a list of names")
    for name in options.aliases:
        parse_text("aliases", name, LONGEST_NAME)
    if options.queue is not None:
        parse_text("queue", options.queue)
    _check_attributes(options.task_attributes or ())


def _check_attributes(attributes: Iterable[str]) -> None:
    for name in attributes:
        if not name.isidentifier() or name.startswith("_") or hasattr(Task, name):
            raise ValueError(f"task_attributes={{{name!r}: ...}}: a task has that attribute already, or cannot have it; use another name")


def _check_exception_filter(name: str, which: Any) -> None:
    classes = which if isinstance(which, tuple) else (which,)
    if which is None or all(isinstance(it, type) and issubclass(it, BaseException) for it in classes):
        return
    if isinstance(which, tuple | type) or not callable(which):
        raise ValueError(f"{name}={which!r}: give an exception class, a tuple of them, or a function of the exception")
    check_runs_when_called(which, f"{name}=")

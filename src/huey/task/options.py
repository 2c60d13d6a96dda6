"""The options of ``@huey.task(...)``: what they may be, and what they say about a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from huey.runtime.functions import refuse_what_does_not_run
from huey.runtime.logs import SafeLogger, is_ctrl_c
from huey.runtime.times import Expires
from huey.task.bounds import LARGEST, LONGEST_NAME, parse_limit, parse_number, parse_text
from huey.task.constraints import ConstraintSpec
from huey.task.task import Task

log = SafeLogger("huey")

ExceptionFilter = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
"""Exceptions: a class, several, or a function that says whether one is meant."""


class TaskOptions(NamedTuple):
    """How a function's calls are run."""

    retries: int = 0
    """Further runs after a failure."""
    retry_delay: float = 0.0
    """Seconds between a failure and the next run, at least."""
    retries_as_argument: bool = False
    """Pass the runs left as keyword ``retries``."""
    include_task: bool = False
    """Pass the task as keyword ``task``."""
    priority: int = 0
    """Higher runs first."""
    expires: Expires | None = None
    """Not after: seconds or timedelta from each enqueue, or from the eta if that is ahead; or a datetime."""
    timeout: float | None = None
    """Seconds that a run may take."""
    retry_backoff: float = 0.0
    """Factor by which the wait grows with each failed try; 0: it does not."""
    retry_jitter: float = 0.0
    """Up to such a share is added to a wait, so that what failed together does not come back together."""
    max_retry_delay: float | None = None
    """Seconds up to which the backoff grows."""
    retry_on: ExceptionFilter | None = None
    """Only after these it is tried again."""
    no_retry_on: ExceptionFilter | None = None
    """After these it is not."""
    aliases: tuple[str, ...] = ()
    """Names under which it was known before."""
    queue: str | None = None
    """Another queue of the same store that its calls go to."""
    constraints: ConstraintSpec | None = None
    """Constraints of its calls, such as ``unique=``."""
    attributes: tuple[tuple[str, Any], ...] = ()
    """Further attributes of the class of its tasks."""

    def may_retry(self, error: BaseException) -> bool:
        """Whether a run that raised *error* is worth another try."""
        if self.no_retry_on is not None and _is_meant(self.no_retry_on, error):
            return False
        return self.retry_on is None or _is_meant(self.retry_on, error)


def _is_meant(which: ExceptionFilter, error: BaseException) -> bool:
    try:
        return isinstance(error, which) if isinstance(which, tuple | type) else bool(which(error))
    except BaseException as raised:  # The user's function, or metaclass: one that raises must not hide what it was asked about.
        if is_ctrl_c(raised):
            raise
        log.exception("retry_on or no_retry_on raised when it was asked about an error of type %s; that counts as no", type(error).__name__)
        return False


def parse_options(**given: Any) -> TaskOptions:
    """Options of a decorator. ValueError: one that cannot work; it says what would."""
    options = TaskOptions(**given)
    if callable(options.retries):
        hint = "write @huey.task() with brackets" if hasattr(options.retries, "__name__") else "did you mean periodic_task?"
        raise ValueError(f"retries={options.retries!r}: give the number of further runs; {hint}")
    parse_number("retries", options.retries, whole=True)
    parse_number("priority", options.priority, low=-LARGEST, whole=True)
    for name in ("retry_delay", "retry_backoff", "max_retry_delay"):
        if getattr(options, name) is not None:
            parse_number(name, getattr(options, name))
    if parse_number("retry_jitter", options.retry_jitter) > 1:
        raise ValueError(f"retry_jitter={options.retry_jitter!r}: give a share from 0 to 1; 0.1 adds up to a tenth")
    for name in ("retry_on", "no_retry_on"):
        _check_which(name, getattr(options, name))
    if isinstance(given["aliases"], str) or not all(isinstance(name, str) and name for name in options.aliases):
        raise ValueError(f"aliases={options.aliases!r}: give a list of names")
    for name in options.aliases:
        parse_text("aliases", name, LONGEST_NAME)
    if options.queue is not None:
        parse_text("queue", options.queue)
    _check_attributes(name for name, _ in options.attributes)
    limit = None if options.timeout is None else parse_limit(options.timeout)
    return options._replace(timeout=limit, aliases=tuple(options.aliases))


def _check_attributes(attributes: Iterable[str]) -> None:
    for name in attributes:
        if not name.isidentifier() or name.startswith("_") or hasattr(Task, name):
            raise ValueError(f"task_attributes={{{name!r}: ...}}: a task has an attribute of that name, or can have none; give another")


def _check_which(name: str, which: Any) -> None:
    classes = which if isinstance(which, tuple) else (which,)
    if which is None or all(isinstance(it, type) and issubclass(it, BaseException) for it in classes):
        return
    if isinstance(which, tuple | type) or not callable(which):
        raise ValueError(f"{name}={which!r}: give an exception class, a tuple of them, or a function of the exception")
    refuse_what_does_not_run(which, f"{name}=")

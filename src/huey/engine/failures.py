"""Turn an exception into the outcome of its run, and describe it in plain values."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from huey.exceptions import ERROR_TYPE, CancelExecution, RateLimitExceeded, RetryTask, TaskException, TaskLockedException, TaskTimeout
from huey.runtime.clock import SECOND, Micros
from huey.runtime.times import resolve_eta, to_seconds
from huey.task import reasons
from huey.task.lifecycle import Cancelled, Outcome, Raised, RateLimited, RetryRequested
from huey.task.options import TaskOptions

_RUN_COROUTINES = frozenset({"huey.runtime.event_loops", "huey.runtime.masking"})
"""The modules between the executor and a coroutine that runs in a thread."""
ERROR_CHARS = 2_000
TRACEBACK_CHARS = 20_000
"""How many characters are kept of an error's text, and of its traceback: the end, which names the error."""


def outcome_of_exception(
    error: BaseException, description: dict[str, Any], options: TaskOptions, now: Micros, was_revoked: bool
) -> Outcome:
    """Return the outcome of a body that raised *error*. *description*: the error in plain values. *was_revoked*: the task was revoked while
    it ran and asked to stop."""
    if was_revoked:
        return Cancelled(reasons.REVOKED, description)
    if isinstance(error, RetryTask):
        return _retry_requested(error, description, now)
    if isinstance(error, CancelExecution):
        return Cancelled(reasons.CANCELED, description, error.retry)
    if isinstance(error, RateLimitExceeded):
        return _rate_limited(error, description)
    return Raised(description, options.may_retry(error), _reason_of(error))


def _reason_of(error: BaseException) -> str:
    if isinstance(error, TaskTimeout):
        return reasons.TIMEOUT
    return reasons.LOCKED if isinstance(error, TaskLockedException) else reasons.ERROR


def _retry_requested(error: RetryTask, description: dict[str, Any], now: Micros) -> Outcome:
    if error.eta is None and error.delay is None:
        return RetryRequested(description)
    try:
        due, delay, _ = resolve_eta(error.eta, error.delay, now=now)
        if delay is None and due is not None:
            return RetryRequested(description, max(due, 0))
        return RetryRequested(description, delay=(delay or 0) / SECOND)
    except ValueError as wrong:
        return Raised(describe_exception(wrong))


def _rate_limited(error: RateLimitExceeded, description: dict[str, Any]) -> Outcome:
    try:
        return RateLimited(description, to_seconds(error.delay), error.retry)
    except ValueError as wrong:
        # The application's class may have set it to any value.
        return Raised(describe_exception(wrong))


def describe_exception(error: BaseException, skip: int = 0) -> dict[str, Any]:
    """Return an exception as plain values, without the first *skip* frames of its traceback, which are huey's, as are those that run a
    coroutine."""
    trace: Any = error.__traceback__
    for _ in range(skip):
        trace = trace.tb_next if trace is not None and trace.tb_next is not None else trace
    while skip and trace is not None and trace.tb_next is not None and trace.tb_frame.f_globals.get("__name__") in _RUN_COROUTINES:
        trace = trace.tb_next
    return {
        ERROR_TYPE: qualified_name(type(error)),
        "error": _safe(_text_of, error)[:ERROR_CHARS],
        "traceback": _safe(lambda e: "".join(traceback.format_exception(type(e), e, trace)), error)[-TRACEBACK_CHARS:],
    }


def _text_of(error: BaseException) -> str:
    """Return its repr; for a TaskException that a ``get()`` raised, the text of the other task's own error."""
    inner = error.metadata.get("error") if isinstance(error, TaskException) and isinstance(error.metadata, dict) else None
    return inner if isinstance(inner, str) else repr(error)


def qualified_name(kind: type) -> str:
    """Return the name of a class with its module, unless that is builtins."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _safe(text_of: Callable[[BaseException], str], error: BaseException) -> str:
    try:
        return text_of(error)
    except BaseException as broken:  # The user's __repr__ or __str__ may raise any exception too.
        return f"{type(error).__name__} (its text raised {type(broken).__name__})"

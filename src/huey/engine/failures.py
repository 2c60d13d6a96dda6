"""What an exception means for its run, and how it is told in plain values."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from huey.exceptions import ERROR_TYPE, CancelExecution, RateLimitExceeded, RetryTask, TaskException, TaskLockedException, TaskTimeout
from huey.runtime.clock import SECOND, Micros
from huey.runtime.times import resolve_eta, to_seconds
from huey.task.lifecycle import Cancelled, Outcome, Raised, RateLimited, RetryRequested
from huey.task.options import TaskOptions

ERROR_CHARS = 2_000
TRACEBACK_CHARS = 20_000
"""At most so much of an error's text is kept, and of its traceback: the end, where the error stands."""

CANCELED, REVOKED, TIMEOUT, LOCKED = "canceled", "revoked", "timeout", "locked"


def outcome_of(error: BaseException, said: dict[str, Any], options: TaskOptions, now: Micros, was_asked: bool) -> Outcome:
    """What a body that raised *error* comes to. *said*: the error in plain values. *was_asked*: it was revoked and asked to stop."""
    if was_asked:
        return Cancelled(REVOKED, said)
    if isinstance(error, RetryTask):
        return _asked_again(error, said, now)
    if isinstance(error, CancelExecution):
        return Cancelled(CANCELED, said, error.retry)
    if isinstance(error, RateLimitExceeded):
        return _limited(error, said)
    return Raised(said, options.may_retry(error), _reason_of(error))


def _reason_of(error: BaseException) -> str:
    if isinstance(error, TaskTimeout):
        return TIMEOUT
    return LOCKED if isinstance(error, TaskLockedException) else "error"


def _asked_again(error: RetryTask, said: dict[str, Any], now: Micros) -> Outcome:
    if error.eta is None and error.delay is None:
        return RetryRequested(said)
    try:
        due, delay, _ = resolve_eta(error.eta, error.delay, now=now)
        return RetryRequested(said, max(due, 0)) if delay is None and due is not None else RetryRequested(said, delay=(delay or 0) / SECOND)
    except ValueError as wrong:
        return Raised(described(wrong))


def _limited(error: RateLimitExceeded, said: dict[str, Any]) -> Outcome:
    try:
        return RateLimited(said, to_seconds(error.delay), error.retry)
    except ValueError as wrong:
        # A class of the application may have set it to anything.
        return Raised(described(wrong))


def described(error: BaseException, skip: int = 0) -> dict[str, Any]:
    """An exception as plain values. *skip*: our own frames at its top."""
    trace: Any = error.__traceback__
    for _ in range(skip):
        trace = trace.tb_next if trace is not None and trace.tb_next is not None else trace
    return {
        ERROR_TYPE: name_of(type(error)),
        "error": _safe(_text_of, error)[:ERROR_CHARS],
        "traceback": _safe(lambda e: "".join(traceback.format_exception(type(e), e, trace)), error)[-TRACEBACK_CHARS:],
    }


def _text_of(error: BaseException) -> str:
    """Its repr. Of the error of another task, which a ``get()`` raised: the text of that task's own error."""
    inner = error.metadata.get("error") if isinstance(error, TaskException) and isinstance(error.metadata, dict) else None
    return inner if isinstance(inner, str) else repr(error)


def name_of(kind: type) -> str:
    """A class as one says it: with its module, unless that is builtins."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _safe(text_of: Callable[[BaseException], str], error: BaseException) -> str:
    try:
        return text_of(error)
    except BaseException as broken:  # The user's __repr__ or __str__ may raise too, whatever it likes.
        return f"{type(error).__name__} (its text raised {type(broken).__name__})"

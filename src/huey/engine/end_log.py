"""Log tasks that ended: one line each or, from ``MOST`` per second on, one line per second with their counts.

The engine reports what a turn has written, so no code here runs per task. The executor has already logged failures with their errors
(`log_failure`); here they are only counted.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from huey.runtime.clock import SECOND, Clock, Micros
from huey.runtime.logs import Lines, SafeLogger
from huey.task import reasons
from huey.task.lifecycle import CancelledAtClaim, Finish, State

log = SafeLogger("huey.consumer")

MOST = 20
"""Maximum number of lines per second."""
MOST_NAMES = 10
"""Maximum number of names in one line."""
SHORT = 200
"""Maximum number of characters of an error in one line."""


class EndLog:
    """The log of one engine. Only the thread that turns the engine may use it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: Micros = 0
        self._lines = 0
        self._good: Counter[str] = Counter()
        """The number of tasks that succeeded, by name."""
        self._counts: Counter[tuple[str, str]] = Counter()
        """The number of all other tasks, by name and outcome."""
        self._is_busy = False
        """Whether the previous second had too many for a line each."""

    def on_turn(self, finishes: Sequence[Finish], stale: Sequence[str], cancelled: Sequence[CancelledAtClaim]) -> None:
        """Log or count the *finishes* that a turn has written, except for *stale* ids, and the tasks that it cancelled."""
        if not (finishes or cancelled) or not log.isEnabledFor(logging.INFO):
            return
        self.flush_if_due()
        if not self._since:
            self._since = self._clock.monotonic()
        if stale:
            finishes = [finish for finish in finishes if finish.lease.id not in stale]
        if self._is_busy or self._lines + len(finishes) + len(cancelled) > MOST:
            self._count(finishes, cancelled)
            return
        self._lines += len(finishes) + len(cancelled)
        for finish in finishes:
            if finish.state == State.SUCCEEDED:
                log.info("%s succeeded in %s [%s]", finish.lease.name, format_duration(finish.duration), finish.lease.id)
        for it in cancelled:
            log.info("%s %s before it ran [%s]", it.name, it.reason, it.id)

    def _count(self, finishes: Sequence[Finish], cancelled: Sequence[CancelledAtClaim]) -> None:
        # Most tasks succeed, so successes are counted in the cheapest way.
        good = [finish.lease.name for finish in finishes if finish.state == State.SUCCEEDED]
        self._good.update(good)
        if len(good) < len(finishes):
            others = [finish for finish in finishes if finish.state != State.SUCCEEDED]
            self._counts.update([(finish.lease.name, outcome) for finish in others if (outcome := _outcome(finish))])
        if cancelled:
            self._counts.update([(it.name, it.reason) for it in cancelled])

    def flush_if_due(self) -> None:
        """Log the counts, if their second is over."""
        if self._since and self._clock.monotonic() - self._since >= SECOND:
            self.flush()

    def flush(self) -> None:
        """Log the counts."""
        elapsed = (self._clock.monotonic() - self._since) / SECOND
        counts = Counter({(name, State.SUCCEEDED): count for name, count in self._good.items()}) + self._counts
        self._good.clear()
        self._counts.clear()
        self._is_busy = self._lines + counts.total() > MOST
        self._since = self._lines = 0
        if counts:
            log.info("%d tasks ended in %s: %s", counts.total(), format_duration(elapsed), _listed(counts))


def _outcome(finish: Finish) -> str:
    """Return the outcome in one word, or an empty string if it is not logged."""
    if finish.state == State.QUEUED:
        return "" if finish.reason in reasons.NO_RUN else "to be retried"
    return finish.reason or finish.state if finish.state == State.CANCELLED else finish.state


def _listed(counts: Counter[tuple[str, str]]) -> str:
    by_name: dict[str, list[str]] = {}
    for (name, outcome), count in counts.most_common():
        by_name.setdefault(name, []).append(f"{count} {outcome}")
    texts = [f"{name} {', '.join(text)}" for name, text in list(by_name.items())[:MOST_NAMES]]
    others = len(by_name) - MOST_NAMES
    return "; ".join(texts) + (f"; and {others} other names" if others > 0 else "")


def log_failure(finish: Finish, error: dict[str, Any], raised: BaseException | None = None) -> None:
    """Log a run that did not succeed as soon as it has ended: in one line if it will run again, with the traceback if it was the last run.
    *raised*: the error itself, if an instrumentation has seen it, so that it does not report this line as another error."""
    lease, text, is_final = finish.lease, short_text(error), finish.state == State.FAILED
    if finish.reason == reasons.UNKNOWN_TASK:
        log.error("QueueException: %s [task %s; given up]", error.get("error"), lease.id)
    elif finish.reason in reasons.ON_PURPOSE:
        asked = "asked to be retried" if finish.reason == reasons.RETRY_ASKED else finish.reason
        log.info("%s %s (%s)%s [%s]", lease.name, asked, text, _what_next(finish), lease.id)
    elif is_final and raised is not None:
        log.error("%s failed (%s)%s [%s]", lease.name, _with_reason(finish, text), _what_next(finish), lease.id, exc_info=raised)
    elif is_final:
        trace = Lines((error.get("traceback") or error.get("error") or "").rstrip())
        log.error("%s failed (%s)%s [%s]\n%s", lease.name, _with_reason(finish, text), _what_next(finish), lease.id, trace)
    else:
        log.warning("%s failed (%s)%s [%s]", lease.name, _with_reason(finish, text), _what_next(finish), lease.id)


def _with_reason(finish: Finish, text: str) -> str:
    """Return the error, prefixed with the kind of failure unless the body itself raised it."""
    return text if finish.reason in (reasons.ERROR, None) else f"{finish.reason}: {text}"


def _what_next(finish: Finish) -> str:
    left = finish.retries_left
    if finish.state == State.QUEUED:
        when = f"in {format_duration(finish.delay / SECOND)}" if finish.delay else "later" if finish.due else "at once"
        return f", will be retried {when} ({left} {'retry' if left == 1 else 'retries'} left)"
    return ", no retries left" if finish.state == State.FAILED and finish.lease.attempt else ""


def short_text(error: dict[str, Any]) -> str:
    """Return an error as one line: ``ValueError: boom``."""
    lines = str(error.get("traceback") or "").rstrip().split("\n")
    last = max((number for number, line in enumerate(lines) if line.startswith("  ")), default=-1)
    found = lines[last + 1] if 0 <= last < len(lines) - 1 else ""
    is_error = found and found.partition(":")[0].replace(".", "").isidentifier()
    return (found if is_error else str(error.get("error") or "no text"))[:SHORT]


def format_duration(seconds: float) -> str:
    """Return *seconds* as text, such as ``0.4 ms``, ``12 ms``, ``1.5 s`` or ``2 min 5 s``."""
    if seconds < 0.00095:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if rest else f"{minutes} min"

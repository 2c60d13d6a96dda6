"""Events about tasks, as JSON strings. Pure: these functions turn what happened into the events that a storage publishes to followers."""

from __future__ import annotations

import json
from typing import Any

from huey.runtime.clock import SECOND, Micros
from huey.task.lifecycle import CancelledAtClaim, Finish, Promotion, State
from huey.task.record import Lease, Record
from huey.task.workflow import Opened

ENQUEUED = "enqueued"
SCHEDULED = "scheduled"
REVOKED = "revoked"
EXPIRED = "expired"
STARTED = "started"
FINISHED = "finished"
ERROR = "error"
RETRYING = "retrying"

EVENTS = (ENQUEUED, SCHEDULED, REVOKED, EXPIRED, STARTED, FINISHED, ERROR, RETRYING)


def friendly_name(name: str) -> str:
    """Return the name of the task in events: its class, ``queuecmd_<function>``."""
    return "queuecmd_" + name.rpartition(".")[2]


def text(
    status: str, id: str, name: str, retries: int, retry_delay: float, due: Micros | None = None, error: dict[str, Any] | None = None
) -> str:
    """Return one event as JSON: status, id, task, retries (left), retry_delay (s), execute_time (unix seconds), error, traceback."""
    event: dict[str, Any] = {
        "status": status,
        "id": id,
        "task": friendly_name(name),
        "retries": retries,
        "retry_delay": int(retry_delay) if retry_delay == int(retry_delay) else retry_delay,
        "execute_time": None if due is None else due / SECOND,
        "error": error is not None,
    }
    if error is not None:
        event["traceback"] = error.get("traceback") or error.get("error", "")
    return json.dumps(event)


def of_enqueue(record: Record, now: Micros) -> str:
    """Return the event for a task that was enqueued."""
    is_ahead = record.eta is not None and record.eta > now
    return text(SCHEDULED if is_ahead else ENQUEUED, record.id, record.name, record.retries, record.retry_delay, record.eta)


def of_promotion(promotion: Promotion) -> str:
    """Return the event for a scheduled task that became ready."""
    return text(ENQUEUED, promotion.id, promotion.name, promotion.retries, promotion.retry_delay)


def of_opened(opened: Opened) -> str:
    """Return the event for a task that was queued when those that it waited for had ended."""
    return text(SCHEDULED if opened.is_scheduled else ENQUEUED, opened.id, opened.name, opened.retries, opened.retry_delay)


def of_cancelled(cancelled: CancelledAtClaim) -> str:
    """Return the event for a due task that was revoked or had expired."""
    return text(cancelled.reason, cancelled.id, cancelled.name, cancelled.retries, cancelled.retry_delay)


def of_start(lease: Lease) -> str:
    """Return the event for a body that is about to run."""
    return text(STARTED, lease.id, lease.name, lease.retries_left, lease.retry_delay)


def of_finish(finish: Finish) -> list[str]:
    """Return the events for a run that ended. A failure that is retried has three: error, retrying (with the retries left before this one)
    and the task's new state."""
    lease = finish.lease
    before = (lease.id, lease.name, lease.retries_left, lease.retry_delay)
    if finish.state == State.SUCCEEDED:
        return [text(FINISHED, *before)]
    if finish.state == State.CANCELLED:
        return [text(EXPIRED if finish.reason == EXPIRED else REVOKED, *before)]
    found = [] if finish.error is None else [text(ERROR, *before, error=finish.error)]
    if finish.follow_ups is not None:
        handler = finish.follow_ups.tasks[0].record
        found.append(text(ENQUEUED, handler.id, handler.name, handler.retries, handler.retry_delay))
    if finish.state == State.QUEUED:
        if finish.attempt > lease.attempt:
            found.append(text(RETRYING, *before))
        found.append(text(SCHEDULED if finish.due else ENQUEUED, lease.id, lease.name, finish.retries_left, lease.retry_delay, finish.due))
    return found

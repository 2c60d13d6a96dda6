"""What can be told about a task: a listed status, one record, its JSON (S119-S133).

Pure: given what happened, these functions return the texts that a storage keeps for followers.
"""

from __future__ import annotations

import json
from typing import Any

from huey.runtime.clock import SECOND, Micros
from huey.task.lifecycle import CancelledAtClaim, Finish, Promotion, State
from huey.task.record import Lease, Record

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
    """What an event calls the task: its class, ``queuecmd_<function>`` (S122)."""
    return "queuecmd_" + name.rpartition(".")[2]


def text(
    status: str, id: str, name: str, retries: int, retry_delay: float, due: Micros | None = None, error: dict[str, Any] | None = None
) -> str:
    """One event as JSON: status, id, task, retries (left), retry_delay (s), execute_time (unix seconds), error, traceback."""
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
    """A task was put in."""
    is_ahead = record.eta is not None and record.eta > now
    return text(SCHEDULED if is_ahead else ENQUEUED, record.id, record.name, record.retries, record.retry_delay, record.eta)


def of_promotion(promotion: Promotion) -> str:
    """A scheduled task became ready."""
    return text(ENQUEUED, promotion.id, promotion.name, promotion.retries, promotion.retry_delay)


def of_refusal(refusal: CancelledAtClaim) -> str:
    """A due task was revoked or expired."""
    return text(refusal.reason, refusal.id, refusal.name, refusal.retries, refusal.retry_delay)


def of_start(lease: Lease) -> str:
    """A body is about to run."""
    return text(STARTED, lease.id, lease.name, lease.retries_left, lease.retry_delay)


def of_finish(finish: Finish) -> list[str]:
    """A run ended. A failure that is tried again tells error, retrying (with the tries before this one is charged) and where it went."""
    lease = finish.lease
    before = (lease.id, lease.name, lease.retries_left, lease.retry_delay)
    if finish.state == State.SUCCEEDED:
        return [text(FINISHED, *before)]
    if finish.state == State.CANCELLED:
        return [text(EXPIRED if finish.reason == EXPIRED else REVOKED, *before)]
    told = [] if finish.error is None else [text(ERROR, *before, error=finish.error)]
    if finish.state == State.QUEUED:
        if finish.attempt > lease.attempt:
            told.append(text(RETRYING, *before))
        told.append(text(SCHEDULED if finish.due else ENQUEUED, lease.id, lease.name, finish.retries_left, lease.retry_delay, finish.due))
    return told

"""What a task is doing, in one word, and how far it is: for handles and ids."""

from __future__ import annotations

from huey.client.waits import Host
from huey.exceptions import DecodeError
from huey.task.lifecycle import State, label
from huey.task.progress import PROGRESS, Progress, decode

UNKNOWN, ENDED = "unknown", "ended"


def find_status(huey: Host, id: str, data: bytes | None = None) -> str:
    """Return the status of a task, see ``Huey.status``. *data*: its result in stored form, if the caller has taken it."""
    context = huey.client.context
    row = context.storage.get(id) if data is None and context.storage.features.sees_all else None
    if row is not None:
        return label(row.state, row.attempt, row.due is not None and row.due > context.clock.now())
    if data is None:
        data = context.storage.take("result", [id]).get(id)
    if data is None:
        return UNKNOWN
    try:
        is_error, _ = context.codec.decode_result(id, data)
    except DecodeError:
        # An error can always be read here, so this is a value of a class that cannot.
        return State.SUCCEEDED
    return State.FAILED if is_error else State.SUCCEEDED


def find_progress(huey: Host, id: str) -> Progress | None:
    """Return what the latest run of a task has reported last."""
    storage = huey.client.context.storage
    data = storage.take(PROGRESS, [id]).get(id)
    row = storage.get(id) if data is not None and storage.features.sees_all else None
    # That of a success that was killed before it could remove it may still be there.
    return None if row is None or row.state == State.SUCCEEDED else decode(data, row.token)

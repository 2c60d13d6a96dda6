"""What the end of a run enqueues: the handler of a failure and, on queue parts of 0.4.9, the next stage of a pipeline.

A handler has no row of its own until its task fails: its record travels in the options of its task, as a *template*. So does the rest of a
pipeline where a storage cannot keep tasks that wait.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from huey.engine.task_decoder import declaration
from huey.exceptions import ERROR_TYPE, DecodeError, EncodeError, HueyException, TaskException
from huey.runtime.logs import SafeLogger
from huey.serializer import Codec
from huey.task import reasons
from huey.task.composition import with_value
from huey.task.lifecycle import Finish, State
from huey.task.record import Lease, Record
from huey.task.record_options import read_policy, with_edges, with_members
from huey.task.workflow import THEN, Edge, QueuedRecord, Workflow

log = SafeLogger("huey.consumer")

ON_ERROR, ON_SUCCESS = "on_error", "on_success"
"""Members of a record's options: templates of its handler with that one's pipeline, and of the stages that follow it."""
HANDLER = "handler_id"
"""Member of the options of a handler's run: the id that the handler was made with."""
Codecs = Callable[[str], Codec]
"""The codec of a queue of the store."""
Arguments = tuple[tuple[Any, ...], dict[str, Any]]
_NO_FAILURES = (reasons.LOCKED, reasons.RATE_LIMITED, reasons.RETRY_ASKED)
"""Reasons for another run for which no handler is called."""


def template(task: QueuedRecord) -> dict[str, Any]:
    """Return *task* as a JSON object."""
    fields = {name: value for name, value in task.record._asdict().items() if value is not None}
    return {**fields, "queue": task.queue, "payload": b64encode(task.record.payload).decode()}


def has_templates(lease: Lease, of: str) -> bool:
    """Return whether *lease* has templates of that kind; cheap."""
    return lease.options is not None and f'"{of}"' in lease.options and bool(read_policy(lease.options).get(of))


class FollowUps:
    """Makes the tasks that the end of a run enqueues. *put_result*: stores a result by the id of its task. *handles_tries*: a try that
    failed is handled although others follow."""

    def __init__(self, codecs: Codecs, put_result: Callable[[str, bytes], Any], *, handles_tries: bool = True) -> None:
        self._codecs = codecs
        self._put_result = put_result
        self._handles_tries = handles_tries

    def of_failure(self, finish: Finish, error: BaseException | None) -> Finish:
        """Return *finish* with the run of the handler, if this is a failure that it handles. *error*: what the body raised."""
        if not (self._is_handled(finish) and has_templates(finish.lease, ON_ERROR)):
            return finish
        try:
            return finish._replace(follow_ups=self._handling(finish, error))
        except (HueyException, TypeError, ValueError, KeyError):  # Its arguments cannot be read here, or were damaged.
            log.exception("task %s %s failed, and the handler of its failure cannot be run", finish.lease.name, finish.lease.id)
            return finish

    def of_success(self, lease: Lease, value: Any) -> Workflow | None:
        """Return the next stage, with the *value* of the one that has ended; None if there is none, or it travels by edges."""
        if not has_templates(lease, ON_SUCCESS):
            return None
        first, *rest = read_policy(lease.options)[ON_SUCCESS]
        options = with_members(first.get("options"), {ON_SUCCESS: rest})
        return Workflow([self._made({**first, "options": options}, "", lambda args, kwargs: with_value(args, kwargs, value))])

    def share_result(self, finish: Finish, codec: Codec) -> None:
        """Store the result of a handler's run also under the id that the handler was made with: that of its last run is there. Store a
        failure also as the result of the stages that do not run because of it, if they travel as templates."""
        lease, value = finish.lease, finish.value
        handler = read_policy(lease.options).get(HANDLER) if lease.options is not None and f'"{HANDLER}"' in lease.options else None
        is_failure = finish.state != State.SUCCEEDED and has_templates(lease, ON_SUCCESS)
        later = [stage["id"] for stage in read_policy(lease.options)[ON_SUCCESS]] if is_failure else []
        if value is None or (handler is None and not later):
            return
        try:
            is_error, found = codec.decode_result(lease.id, value)
            for id in [*later, *([handler] if handler is not None else [])]:
                self._put_result(id, codec.encode("error" if is_error else "result", id, found))
        except HueyException as error:
            log.warning("the result of task %s is kept under its own id only, not under %s: %s", lease.id, handler or later, error)

    def _is_handled(self, finish: Finish) -> bool:
        if finish.state == State.QUEUED:
            return self._handles_tries and finish.attempt > finish.lease.attempt and finish.reason not in _NO_FAILURES
        return finish.state == State.FAILED or (
            finish.state == State.CANCELLED and finish.reason == reasons.CANCELED and finish.error is not None
        )

    def _handling(self, finish: Finish, error: BaseException | None) -> Workflow:
        lease = finish.lease
        templates, suffix = read_policy(lease.options)[ON_ERROR], f".{lease.token}"
        metadata = {name: value for name, value in (finish.error or {}).items() if name != ERROR_TYPE}
        failure = TaskException({**metadata, "retries": finish.retries_left, "task_id": lease.id})
        handler: QueuedRecord | None = None
        for candidate in (error, failure, failure.metadata):
            try:
                handler = self._handler(templates, suffix, candidate) if candidate is not None else None
            except (EncodeError, DecodeError):
                continue
            if handler is not None:
                break
        if handler is None:
            raise EncodeError("neither the exception nor its description can be passed to the handler")
        stages = [handler]
        for count, fields in enumerate(templates[1:], 2):
            options = with_edges(fields.get("options"), 1, count < len(templates))
            stages.append(self._made({**fields, "options": options}, suffix))
        return Workflow(stages, [Edge(stages[at].ref, after.ref, THEN) for at, after in enumerate(stages[1:])])

    def _handler(self, templates: Sequence[Mapping[str, Any]], suffix: str, passed: Any) -> QueuedRecord:
        """Return the handler with *passed* behind its arguments. EncodeError, DecodeError: that cannot be stored, or not be read again."""
        options = with_members(templates[0].get("options"), {HANDLER: templates[0]["id"]})
        options = with_edges(options, 0, len(templates) > 1)
        made = self._made({**templates[0], "options": options}, suffix, lambda args, kwargs: ((*args, passed), kwargs))
        self._codecs(made.queue).decode("task", made.record.id, made.record.payload)
        return made

    def _made(
        self, fields: Mapping[str, Any], suffix: str, change: Callable[[tuple[Any, ...], dict[str, Any]], Arguments] | None = None
    ) -> QueuedRecord:
        """Return the task of a template, its id with *suffix*, and its arguments as *change* returns them."""
        queue, codec = fields["queue"], self._codecs(fields["queue"])
        fields = {name: value for name, value in fields.items() if name != "queue"}
        record = Record(**{**fields, "payload": b64decode(fields["payload"])})
        if change is None and not codec.signs:
            return QueuedRecord(queue, record._replace(id=record.id + suffix))
        args, kwargs = codec.decode("task", record.id, record.payload)
        if change is not None:
            args, kwargs = change(args, kwargs)
        record = record._replace(id=record.id + suffix)
        declared = declaration(record) if codec.signs else None
        return QueuedRecord(queue, record._replace(payload=codec.encode("task", record.id, (args, kwargs or None), declared)))

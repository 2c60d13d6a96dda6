"""From a task to the record that is stored: arguments encoded, constraints resolved, signed where messages are signed."""

from __future__ import annotations

from huey.client.call_state import CallState
from huey.client.context import QueueContext
from huey.engine.declared import declaration
from huey.storage.locks import unsupported
from huey.task.record import Record
from huey.task.record_options import NONE, Constraints, with_constraints
from huey.task.task import HEADERS, Task, plain_headers


class RecordBuilder:
    """Builds the records of one queue."""

    def __init__(self, context: QueueContext, state: CallState) -> None:
        self._context = context
        self._state = state
        self._encode = context.codec.encode
        self._signs = context.codec.signs

    def build(self, task: Task) -> Record:
        """Return the record of *task*. EncodeError: its arguments cannot be stored. ConfigurationError: the storage cannot keep its
        constraints. ValueError: an argument of which no key can be made."""
        if task.expires_in is not None:
            task.resolve_expires(self._context.clock.now())
        if HEADERS in task.kwargs:
            task.headers = plain_headers(task.kwargs.pop(HEADERS))
        if self._signs:
            return self._build_signed(task)
        record = task.record(self._encode("task", task.id, (task.args, task.kwargs or None)))
        return self._constrained(record, task) if task.may_come_again or task.has_constraints else record

    def _build_signed(self, task: Task) -> Record:
        record = task.record(b"")
        if task.may_come_again or task.has_constraints:
            record = self._constrained(record, task)
        return record._replace(payload=self._encode("task", task.id, (task.args, task.kwargs or None), declaration(record)))

    def _constrained(self, record: Record, task: Task) -> Record:
        """Return *record* with the constraints of its function, or of an id that the caller chose."""
        storage, of_id = self._context.storage, NONE
        if task.may_come_again:
            # Two enqueues of one id never have the same instant, however coarse the clock is.
            self._state.last_enqueue = task.enqueued_as = max(self._context.clock.now(), self._state.last_enqueue + 1)
            of_id = Constraints(
                own=task.enqueued_as, id_ttl=self._context.policy.keep_ids if storage.features.supports_constraints else None
            )
        if not task.has_constraints:
            return record._replace(options=with_constraints(record.options, of_id))
        if not storage.features.supports_constraints:
            raise unsupported(storage)
        return record._replace(options=self._context.registry.find(task.name).options_of(task, record.options, of_id))

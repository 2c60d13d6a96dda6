"""Methods of ``Huey`` that exist for programs of 0.4.9 and 3.x: single steps of a consumer, messages, and aliases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any

from huey.client.calls import CallFacade
from huey.client.facade import follow_events
from huey.client.inline import due_of
from huey.exceptions import ERROR_TYPE, DecodeError
from huey.hooks import POST, PRE, SHUTDOWN, STARTUP
from huey.storage.admin import message, read_message
from huey.task.task import Task
from huey.utils import EmptyData


class LegacyFacade(CallFacade):
    """The methods of ``Huey`` that programs of 0.4.9 and 3.x call."""

    # -- single steps of a consumer -----------------------------------------------------------------------------------------------------

    def dequeue(self) -> Task | None:
        """Claim the next due task for ``execute``; return None if nothing is ready. Revoked and expired tasks are dropped on the way."""
        return self.client.inline_worker().claim()

    def execute(self, task: Task, timestamp: datetime | None = None) -> Any:
        """Process *task* as of *timestamp* (None: now). Return the value that its body returned, or None if it did not run or raised.

        A task that is not due is scheduled; one that is revoked or has expired is dropped. Any other task runs, and its finish is written
        to the storage if the task came from ``dequeue`` or ``read_schedule``. Raise TypeError if *task* is not a task.
        """
        if not isinstance(task, Task):
            raise TypeError(f"{task!r}: give a task, such as huey.dequeue() returns")
        return self.client.inline_worker().execute(task, self.client.context.at(timestamp))

    def _execute(self, task: Task, timestamp: datetime | None = None) -> Any:
        """Run the body of *task* and return its value, or None if it raised; the exception is recorded as its outcome.

        A subclass or an instrumentation may replace this method. A consumer that starts afterwards calls it for every run, with *timestamp*
        None. The original method is never called.
        """
        passage = task.passage
        if passage is not None:
            # A replacement may run the body again: the last run counts.
            passage.error = None
        try:
            return task.execute()
        except BaseException as error:  # User code: the exception is the outcome, and the code that started the run decides what it means.
            if passage is None:
                raise
            passage.fail(error)
            return None

    def ready_to_run(self, task: Task, timestamp: datetime | None = None) -> bool:
        """Return whether *task* is due at *timestamp* (None: now)."""
        due = due_of(task, not self.utc)
        return due is None or due <= self.client.context.at(timestamp)

    def read_schedule(self, timestamp: datetime | None = None) -> list[Task]:
        """Claim and return the scheduled tasks that are due at *timestamp* (None: now), for ``execute`` or ``enqueue``."""
        return self.client.inline_worker().claim_scheduled(self.client.context.at(timestamp))

    def read_periodic(self, timestamp: datetime) -> list[Task]:
        """Return one task for each periodic function that is due in the minute of *timestamp* (None: now); they are not enqueued."""
        return [wrapper.task_class() for wrapper in self.registry.periodic if wrapper.validate_datetime(timestamp)]

    def add_schedule(self, task: Task) -> None:
        """Schedule *task* for its eta; without an eta it is ready at once."""
        if not self.client.inline_worker().release(task):
            self.client.producer.put([self.client.producer.build(task)])

    def build_error_result(self, task: Task, exception: BaseException) -> dict[str, Any]:
        """Return the contents of ``TaskException.metadata`` for a failure. Override it to add more, as plain values."""
        from huey.engine.failures import describe_exception

        described_error = {name: value for name, value in describe_exception(exception).items() if name != ERROR_TYPE}
        return {**described_error, "retries": task.retries, "task_id": task.id}

    def notify_interrupted_tasks(self) -> None:
        """Send the signal ``interrupted`` for every task that runs in this process, as a consumer does when it interrupts them."""
        for send in list(self.client.router.state.interrupt_callbacks):
            send()

    # -- messages and values ------------------------------------------------------------------------------------------------------------

    def serialize_task(self, task: Task) -> bytes:
        """Return *task* as one message."""
        return message(self.client.producer.build(task))

    def deserialize_task(self, data: bytes) -> Task:
        """Return the task of a message. Raise DecodeError if *data* is not a message, UnknownTask if no function has its name."""
        try:
            record = read_message(data)
        except (ValueError, TypeError) as error:
            raise DecodeError(f"not a message of serialize_task: {error}") from error
        self.registry.find(record.name)
        return self.client.context.decoder.decode(record, record.eta)

    def put_result(self, key: str, value: Any) -> None:
        """Store *value* as the result of the task with the id *key*."""
        self.storage.put("result", key, self.codec.encode("result", key, value))

    def get_raw(self, key: str, peek: bool = False) -> Any:
        """Return the bytes stored under *key*: a value, or else the result of the task with that id; ``EmptyData`` if there is neither."""
        kind, data = self._stored(key, peek)
        return EmptyData if kind is None else data

    def all_results(self) -> dict[str, bytes]:
        """Return the stored results, by the id of the task, as bytes."""
        return self.storage.items("result")

    def events(self, timeout: float | None = None) -> Iterator[str]:
        """Yield the events of this queue from now on, as JSON strings; end when none arrives for *timeout* seconds."""
        return follow_events(self.client.context, self.storage.follow(None)[0], timeout)

    async def aevents(self, timeout: float | None = None) -> AsyncIterator[str]:
        """Yield the events of this queue for a coroutine, from the first step on, without blocking its event loop; as ``events``."""
        awaitable = self.client.awaitable
        async for event in awaitable.stepwise(await awaitable.aside(self.events, timeout)):
            yield event

    # -- aliases -----------------------------------------------------------------------------------------------------------------------

    def revoke_by_id(self, id: str, revoke_until: datetime | None = None, revoke_once: bool = False) -> None:
        """Keep the task of that id from running."""
        self.client.revoker.revoke(id, revoke_until, revoke_once)

    def restore_by_id(self, id: str) -> bool:
        """Take the revocation of one task back; return whether there was one."""
        return self.client.revoker.restore(id)

    def unregister_pre_execute(self, name_or_fn: Any) -> bool:
        """Remove that hook; return whether there was one."""
        return self.hooks.remove(PRE, name_or_fn)

    def unregister_post_execute(self, name_or_fn: Any) -> bool:
        """Remove that hook; return whether there was one."""
        return self.hooks.remove(POST, name_or_fn)

    def unregister_on_startup(self, name_or_fn: Any) -> bool:
        """Remove that hook; return whether there was one."""
        return self.hooks.remove(STARTUP, name_or_fn)

    def unregister_on_shutdown(self, name_or_fn: Any) -> bool:
        """Remove that hook; return whether there was one."""
        return self.hooks.remove(SHUTDOWN, name_or_fn)

    def disconnect_signal(self, receiver: Any, *signals: str) -> None:
        """Stop calling a handler for *signals*, or for all if none are given."""
        self.signals.disconnect(receiver, signals)

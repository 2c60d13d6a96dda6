"""Route calls to queues, and build the parts that work on each queue.

A ``QueueClient`` is one queue with its parts: producer, revoker, and so on. The ``QueueRouter`` of a ``Huey`` has one for the queue that
the application named, and makes one for each other queue of the same store when it is first used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TypeVar

from huey.client.bulk import BulkProducer
from huey.client.call_state import CallState
from huey.client.context import Overrides, QueueContext
from huey.client.inline import InlineWorker
from huey.client.locks import LockKeepalive
from huey.client.producer import Producer
from huey.client.revocation import Revoker
from huey.client.workflows import WorkflowProducer
from huey.exceptions import ConfigurationError
from huey.runtime.clock import Clock
from huey.storage.base import Storage
from huey.task.wrapper import TaskWrapper

Originals = Mapping[str, Callable[..., Any]]
K = TypeVar("K")
V = TypeVar("V")


class QueueClient:
    """One queue and the parts that work on it. *huey*: the ``Huey`` that exposes it. A new context means new parts."""

    def __init__(self, router: QueueRouter, huey: Any, context: QueueContext, originals: Originals) -> None:
        self.router = router
        self.huey = huey
        self.overrides = Overrides(huey, originals)
        self.use(context)

    def use(self, context: QueueContext) -> None:
        """Switch to *context* and rebuild the parts."""
        state = self.router.state
        self.producer = Producer(context, state, self, self.huey)
        self.bulk = BulkProducer(context, state, self.overrides, self.producer, self, self.huey)
        self.workflows = WorkflowProducer(context, state, self)
        self.revoker = Revoker(context, self.overrides, self.workflows)
        self.context = context

    def route(self, target: Any) -> QueueClient:
        """Return the client of the queue that a task, handle or function belongs to, as its function declares. An id belongs here, and so
        does everything if this client is not that of the application's own queue."""
        router = self.router
        if self is not router.primary:
            return self
        queue = target.options.queue if isinstance(target, TaskWrapper) else getattr(getattr(target, "task", target), "queue", None)
        return self if queue is None else router.for_queue(queue)

    def producer_of(self, target: Any) -> Producer:
        return self.route(target).producer

    def producer_on(self, queue: str) -> Producer:
        return self.router.for_queue(queue).producer

    def map(self, wrapper: TaskWrapper[Any, Any], calls: Iterable[Any]) -> Any:
        """See ``TaskWrapper.map``."""
        return self.route(wrapper).bulk.map(wrapper, calls)

    @property
    def awaitable(self) -> Any:
        """The module of calls for coroutines. Programs without coroutines never load it."""
        from huey.client import awaitable

        return awaitable

    def inline_worker(self) -> InlineWorker:
        """Return this process's inline worker on the storage."""
        context, router = self.context, self.router
        router.state.runs_inline = True
        return once(router.inline_workers, _here(context), lambda: InlineWorker(context, self.overrides, self.producer.build))

    def inline_worker_on(self, queue: str) -> InlineWorker:
        return self.router.for_queue(queue).inline_worker()

    @property
    def lock_keepalive(self) -> LockKeepalive:
        """This process as a holder of locks in the storage. A forked child holds no lock of its parent's."""
        context = self.context
        return once(self.router.lock_keepalives, _here(context), lambda: LockKeepalive(context.storage, context.rng))

    def owns(self, wrapper: TaskWrapper[Any, Any]) -> bool:
        """Return whether calls of that function go to this queue."""
        return (wrapper.options.queue or self.router.primary.context.name) == self.context.name

    def using(self, connection: Any) -> AbstractContextManager[None]:
        """See ``Huey.using``."""
        storage = self.context.storage
        using: Callable[[Any], AbstractContextManager[None]] | None = getattr(storage, "using", None)
        if using is None:
            raise ConfigurationError(f"using(connection) needs a queue in the same SQLite file, but this one is in {storage!r}")
        return using(connection)


class QueueRouter:
    """The queues of one ``Huey``, and the switch to immediate mode. *show*: creates the ``Huey`` that exposes another queue."""

    primary: QueueClient
    """The queue that the application named."""

    def __init__(self, huey: Any, context: QueueContext, originals: Originals, show: Callable[[], Any]) -> None:
        self.state = CallState()
        self._originals = originals
        self._show = show
        self._others: dict[tuple[str, int], QueueClient] = {}
        """Keyed by queue and primary storage: in immediate mode another storage replaces the real one."""
        self._durable_storage = context.storage
        self._immediate_storage: dict[str, Storage] = {}
        self.inline_workers: dict[tuple[int, int], InlineWorker] = {}
        """By process and storage."""
        self.lock_keepalives: dict[tuple[int, int], LockKeepalive] = {}
        """By process and storage."""
        huey.client = self.primary = QueueClient(self, huey, context, originals)

    def for_queue(self, name: str | None) -> QueueClient:
        """Return the client of a queue; None is the primary one. Raise ConfigurationError if the storage supports only one queue."""
        primary = self.primary
        if name is None or name == primary.context.name:
            return primary
        return once(self._others, (name, id(primary.context.storage)), lambda: self._client_on(name))

    def _client_on(self, name: str) -> QueueClient:
        huey = self._show()
        huey.client = QueueClient(self, huey, self.primary.context.for_queue(name), self._originals)
        return huey.client  # type: ignore[no-any-return]

    def change(self, client: QueueClient, fields: Mapping[str, Any]) -> None:
        """Replace fields of a client's context. Changes to the primary one apply to all queues, except for name, storage and codec."""
        if client is self.primary:
            if "storage" in fields and not self.state.is_immediate:
                self._durable_storage = fields["storage"]
            shared = {name: value for name, value in fields.items() if name not in ("name", "storage", "codec")}
            for other in list(self._others.values()) if shared else ():
                other.use(_changed(other.context, shared))
        client.use(_changed(client.context, fields))

    def set_immediate(self, is_immediate: bool, make_storage: Callable[[], Storage] | None) -> None:
        """Turn immediate mode on or off. *make_storage*: creates the storage used meanwhile, once; None: keep the real one."""
        context = self.primary.context
        if is_immediate and context.policy.always_eager:
            raise ConfigurationError("immediate and always_eager both run tasks without a consumer: choose one of them")
        storage = self._durable_storage
        if is_immediate and make_storage is not None:
            storage = once(self._immediate_storage, "", make_storage)
        self.state.is_immediate = is_immediate
        if storage is not context.storage:
            self.primary.use(context._replace(storage=storage))
        context.codec.reset()

    @contextmanager
    def replaced(self, storage: Storage, clock: Clock) -> Iterator[None]:
        """Inside the block, keep all queues in *storage* and go by *clock*; calls enqueue, also if they run at once outside. Afterwards
        everything is as it was, and objects of other queues that were made inside belong to the real storage."""
        before, state_before = dict(vars(self)), dict(vars(self.state))
        context, contexts = self.primary.context, [(client, client.context) for client in self._clients()]
        policy = context.policy._replace(always_eager=False)
        self._durable_storage, self._immediate_storage = storage, {"": storage}
        self._others, self.inline_workers, self.lock_keepalives = {}, {}, {}
        self.state.runs_inline, self.state.is_immediate, self.state.last_enqueue = False, False, 0
        self.primary.use(context._replace(storage=storage, clock=clock, policy=policy))
        context.codec.reset()
        for client, own in contexts[1:]:
            # Its codec asks the storage that it was made for.
            its = self.primary.context.for_queue(own.name)
            client.use(own._replace(storage=its.storage, codec=its.codec, clock=clock, policy=policy))
            self._others[own.name, id(storage)] = client
        try:
            yield
        finally:
            known = [client for client, _ in contexts]
            made = [client for client in self._clients() if client not in known]
            vars(self).update(before)
            vars(self.state).update(state_before)
            for client, own in contexts:
                client.use(own)
            context.codec.reset()
            for client in made:
                # A real storage of one queue has none for it.
                with suppress(ConfigurationError):
                    name = client.context.name
                    client.use(context.for_queue(name))
                    self._others[name, id(context.storage)] = client

    def _clients(self) -> list[QueueClient]:
        return [self.primary, *self._others.values()]

    def close(self) -> None:
        """Close the files and connections of all queues; the next call opens them again."""
        for client in self._clients():
            client.context.storage.close()


def _changed(context: QueueContext, fields: Mapping[str, Any]) -> QueueContext:
    policy = {name: value for name, value in fields.items() if name in context.policy._fields}
    others = {name: value for name, value in fields.items() if name not in policy}
    return context._replace(policy=context.policy._replace(**policy), **others)


def _here(context: QueueContext) -> tuple[int, int]:
    """Return a key for this process and the storage."""
    return os.getpid(), id(context.storage)


def once(made: dict[K, V], key: K, make: Callable[[], V]) -> V:
    """Return what *made* has for *key*; create it with *make* if there is none yet.

    Several threads may each create one at the same time, but all get the same. There is no lock that a fork could leave held, or that a
    signal handler could wait for in its own thread.
    """
    found = made.get(key)
    return made.setdefault(key, make()) if found is None else found

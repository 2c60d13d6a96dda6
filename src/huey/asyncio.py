"""huey in web applications with an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Unpack

from huey.api import Huey

if TYPE_CHECKING:
    from huey.client.typed import ConsumerOptionArgs


def lifespan(huey: Huey, worker: bool = False, **options: Unpack[ConsumerOptionArgs]) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Return the ``lifespan=`` of a Starlette or FastAPI application: at its end the files and connections of *huey* are closed.

    *worker*: also run a consumer inside the application, for development; *options*: its options, such as ``workers=4``. In production
    start the consumer as a process of its own, so that each can be stopped, scaled and killed without the other. Raise ConfigurationError
    for an option that a consumer inside a program cannot have.
    """

    @asynccontextmanager
    async def run(app: Any) -> AsyncIterator[None]:
        aside = huey.client.awaitable.aside
        consumer = huey.create_consumer(**options) if worker else None
        if consumer is not None:
            await aside(consumer.start)
        try:
            yield
        finally:
            if consumer is not None:
                await aside(consumer.stop)
            await aside(huey.close)
            huey.client.awaitable.stop_threads()

    return run

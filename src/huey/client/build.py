"""Build the engine parts that run the tasks of one queue, for a consumer and for ``InlineWorker``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from huey.client.context import Overrides, QueueContext
from huey.runtime.current_run import Run
from huey.serializer import Codec
from huey.storage.rows import TaskRow

if TYPE_CHECKING:
    from huey.engine.executor import Executor
    from huey.engine.run_hooks import RunHooks
    from huey.engine.time_limits import TimeLimits


def build_run_hooks(context: QueueContext) -> RunHooks:
    """Return the object that calls hooks and signal handlers around runs; each consumer has its own."""
    from huey.engine.run_hooks import RunHooks  # Programs that only enqueue never load the engine.

    def find_in(queue: str, id: str) -> TaskRow | None:
        return (context if queue == context.name else context.for_queue(queue)).storage.get(id)

    return RunHooks(context.signals, context.hooks, context.decoder, context.storage.get, find_in)


def _codec_of(context: QueueContext, others: dict[str, Codec], queue: str) -> Codec:
    """Return the codec of a queue of the store."""
    if queue == context.name:
        return context.codec
    if queue not in others:
        others[queue] = context.make_codec(queue, is_trusted=lambda: context.storage.is_trusted)
    return others[queue]


def build_executor(
    context: QueueContext,
    overrides: Overrides,
    time_limits: TimeLimits | None = None,
    run_hooks: RunHooks | None = None,
    is_local: bool | None = None,
    note: Callable[[Run, float, str | None], None] | None = None,
    *,
    in_loop: bool = False,
) -> Executor:
    """Return the executor for the tasks of that queue. *is_local*: read wall times as local time; None: as ``utc`` says. *note*: takes the
    progress that bodies report. *in_loop*: it also runs coroutines in an event loop."""
    # Programs that only enqueue never load the engine.
    from huey.engine.executor import Executor
    from huey.engine.follow_ups import FollowUps
    from huey.engine.parent_values import ParentValues

    make = Executor
    if in_loop:
        from huey.engine.coroutines import CoroutineExecutor

        make = CoroutineExecutor
    codecs = partial(_codec_of, context, {})
    return make(
        context.registry,
        context.codec,
        context.clock,
        time_limits,
        results=context.policy.results,
        store_none=context.policy.store_none,
        run_hooks=run_hooks,
        is_local=not context.policy.utc if is_local is None else is_local,
        report=overrides.custom_error_result,
        gate=overrides.custom_execute,
        parent_values=ParentValues(context.storage.parent_ends, codecs),
        follow_ups=FollowUps(codecs, partial(context.storage.put, "result"), handles_tries=context.policy.store_intermediate_errors),
        note=note,
    )

"""Build the engine parts that run the tasks of one queue, for a consumer and for ``InlineWorker``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from huey.client.context import Overrides, QueueContext

if TYPE_CHECKING:
    from huey.engine.executor import Executor
    from huey.engine.run_hooks import RunHooks
    from huey.engine.time_limits import TimeLimits


def build_run_hooks(context: QueueContext) -> RunHooks:
    """Return the object that calls hooks and signal handlers around runs; each consumer has its own."""
    from huey.engine.run_hooks import RunHooks  # Programs that only enqueue never load the engine.

    return RunHooks(context.signals, context.hooks, context.decoder, context.storage.get)


def build_executor(
    context: QueueContext,
    overrides: Overrides,
    time_limits: TimeLimits | None = None,
    run_hooks: RunHooks | None = None,
    is_local: bool | None = None,
) -> Executor:
    """Return the executor for the tasks of that queue. *is_local*: read wall times as local time; None: as ``utc`` says."""
    from huey.engine.executor import Executor  # Programs that only enqueue never load the engine.

    return Executor(
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
    )

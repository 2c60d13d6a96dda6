"""A context of its own for each run: what a body sets in context variables, or for its decimals, the next one does not see.

What was set before, such as by ``on_startup`` in its thread, each run sees. What belongs to the whole process (locale, folder, environment,
filters of warnings) or to the thread (``threading.local``) stays as a body leaves it.
"""

from __future__ import annotations

from contextvars import Context, copy_context


def fresh() -> Context:
    """A copy of the context of this thread, for one run with its hooks and handlers."""
    context = copy_context()
    if len(context) and any(variable.name == "decimal_context" for variable in context):
        # The copy would share one object that may be changed.
        context.run(_part_decimals)
    return context


def _part_decimals() -> None:
    import decimal

    decimal.setcontext(decimal.getcontext().copy())

"""Each run has a copy of the context of its thread: what a body sets in context variables, or for decimals, does not reach the next run.

What was set before, such as by ``on_startup`` in the thread, reaches every run. What belongs to the process (locale, working directory,
environment, warning filters) or to the thread (``threading.local``) stays as a body leaves it.
"""

from __future__ import annotations

from contextvars import Context


def separate_decimals(context: Context) -> None:
    """Give *context*, a copy of another one, a decimal context of its own: the copy shares that object, which may be changed."""
    if any(variable.name == "decimal_context" for variable in context):
        context.run(_copy_decimal_context)


def _copy_decimal_context() -> None:
    import decimal

    decimal.setcontext(decimal.getcontext().copy())

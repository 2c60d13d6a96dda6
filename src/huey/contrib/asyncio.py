"""Await results, by the names of huey 3.x. New programs write ``await result`` and ``await result.aget(timeout=5)``."""

from __future__ import annotations

from typing import Any

from huey.client.result import Result
from huey.client.result_groups import ResultGroup


async def aget_result(
    res: Result[Any], backoff: float = 1.15, max_delay: float = 1.0, preserve: bool = False, timeout: float | None = None
) -> Any:
    """Return the value of a task; see ``Result.aget``. *backoff* and *max_delay* have no effect: the coroutine is woken."""
    return await res.aget(timeout, preserve)


async def aget_result_group(rg: ResultGroup, *args: Any, **kwargs: Any) -> list[Any]:
    """Return the values of tasks in order; arguments as for ``aget_result``, for each."""
    preserve, timeout = _named(*args, **kwargs)
    return await rg.aget(timeout, preserve)


def _named(
    backoff: float = 1.15, max_delay: float = 1.0, preserve: bool = False, timeout: float | None = None
) -> tuple[bool, float | None]:
    return preserve, timeout

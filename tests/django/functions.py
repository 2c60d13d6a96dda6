"""Functions that tests make tasks of: Django wants them in a module."""

from __future__ import annotations

from typing import Any

ran: list[Any] = []
"""What they leave; a test empties it."""
failures: list[Exception] = []
"""What ``fails`` raises next."""


class Nope(Exception):
    """An exception of an application."""


def add(a: int, b: int = 0) -> int:
    ran.append((a, b))
    return a + b


def fails() -> str:
    if failures:
        raise failures.pop()
    return "at last"


def looks(context: Any, word: str) -> list[Any]:
    ran.append(context.task_result)
    return [word, context.attempt, context.task_result.id]


def named_like_ours(number: int, task: str = "none") -> list[object]:
    return [number, task]


def keyword_only(*, task: str) -> str:
    return task


def strange() -> object:
    return object()


async def later(number: int) -> int:
    from asyncio import sleep

    await sleep(0)
    return 2 * number


def endless() -> None:
    from threading import Event

    never = Event()
    while not never.wait(0.01):
        pass


nameless = lambda: None  # noqa: E731

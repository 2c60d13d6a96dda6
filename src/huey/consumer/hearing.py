"""Signals: those of the supervisor are noted and seen by a poll on a descriptor; those of who runs tasks are not its children's."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import Any

HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


@contextmanager
def hearing(note: Callable[[int, FrameType | None], None]) -> Iterator[int]:
    """*note* is called with each signal that comes; the descriptor in the block becomes readable then."""
    ear, mouth = _pipe()
    before = {number: signal.signal(number, note) for number in HEARD}
    signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
    try:
        yield ear
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(ear)
        os.close(mouth)


def _pipe() -> tuple[int, int]:
    # Not os.pipe2, which macOS lacks. Python's descriptors are closed on exec without it.
    ear, mouth = os.pipe()
    os.set_blocking(ear, False)
    os.set_blocking(mouth, False)
    return ear, mouth


def listen(number: int, handler: Callable[[int, FrameType | None], None]) -> Any:
    """``signal.signal`` for a process that runs tasks: the handler before. A copy of it that a task forks has Python's own
    handlers, as in any program: to end it must not mean to stop this consumer."""
    _mind_forks()
    _listening.add(number)
    return signal.signal(number, handler)


def pass_over(*numbers: int) -> None:
    """Let these signals do nothing in this process. Programs that it starts get them as usual, which they would not after SIG_IGN: what is
    ignored stays so across an exec."""
    for number in numbers:
        listen(number, _nothing)
        # Calls of C libraries in other threads must not break off for it.
        signal.siginterrupt(number, False)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Do nothing."""


_listening: set[int] = set()
_masks = threading.local()


@cache
def _mind_forks() -> None:
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_listen_no_more)


def _hold() -> None:
    """Before a fork: what comes for the child before it has its own handlers waits."""
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _listening)


def _let_go() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _listen_no_more() -> None:
    for number in _listening:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _listening.clear()
    _let_go()


def no_more(before: Mapping[Any, Any]) -> None:
    """Give signals back the handlers that they had *before*."""
    for number, handler in before.items():
        signal.signal(number, handler)
        _listening.discard(number)

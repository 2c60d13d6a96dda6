"""Handle signals: the supervisor records them and polls a descriptor; a process that runs tasks resets them in children that tasks fork."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import Any

SUPERVISOR_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


# -- in the supervisor ------------------------------------------------------------------------------------------------------------------


@contextmanager
def catch_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[int]:
    """Call *handler* with each of ``SUPERVISOR_SIGNALS`` inside the block, which gets a descriptor that becomes readable then."""
    # Not os.pipe2, which macOS lacks. Python closes its descriptors on exec anyway.
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, False)
    before = {number: signal.signal(number, handler) for number in SUPERVISOR_SIGNALS}
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SUPERVISOR_SIGNALS)
    try:
        yield read_fd
    finally:
        signal.set_wakeup_fd(-1)
        restore_handlers(before)
        os.close(read_fd)
        os.close(write_fd)


def wait_for_signal(read_fd: int, seconds: float, pending: Collection[int] = ()) -> bool:
    """Wait until *read_fd* is readable, at most *seconds*; return True if one of the *pending* signals asks to stop."""
    poll = select.poll()
    poll.register(read_fd, select.POLLIN)
    if poll.poll(max(0.0, seconds * 1000)):
        os.read(read_fd, 65536)
    return signal.SIGTERM in pending or signal.SIGINT in pending


# -- in processes that run tasks --------------------------------------------------------------------------------------------------------


def set_handler(number: int, handler: Callable[[int, FrameType | None], None]) -> Any:
    """Set a signal handler and return the previous one. A process that a task forks gets Python's default handlers instead, so that
    terminating it does not stop this consumer."""
    _register_fork_hooks()
    _handled.add(number)
    return signal.signal(number, handler)


def ignore_signals(*numbers: int) -> None:
    """Ignore the supervisor's signals in this process. Programs that it starts still receive them, unlike with SIG_IGN, which exec
    inherits."""
    for number in numbers:
        set_handler(number, _ignore)
        # Do not interrupt system calls of C libraries in other threads.
        signal.siginterrupt(number, False)


def restore_handlers(before: Mapping[Any, Any]) -> None:
    """Restore the signal handlers in *before*."""
    for number, handler in before.items():
        signal.signal(number, handler)
        _handled.discard(number)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing."""


_handled: set[int] = set()
_masks = threading.local()


@cache
def _register_fork_hooks() -> None:
    os.register_at_fork(before=_block_signals, after_in_parent=_unblock_signals, after_in_child=_reset_handlers_in_child)


def _block_signals() -> None:
    """Block signals before a fork, so that a signal for the child waits until the child has its own handlers."""
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _handled)


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _reset_handlers_in_child() -> None:
    for number in _handled:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _handled.clear()
    _unblock_signals()

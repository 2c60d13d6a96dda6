"""Signals of the supervisor: noted by a handler, and seen by a poll on a descriptor."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

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


def pass_over(*numbers: int) -> None:
    """Let these signals do nothing in this process. Programs that it starts get them as usual, which they would not after SIG_IGN: what is
    ignored stays so across an exec."""
    for number in numbers:
        signal.signal(number, _nothing)
        # Calls of C libraries in other threads must not break off for it.
        signal.siginterrupt(number, False)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Do nothing."""

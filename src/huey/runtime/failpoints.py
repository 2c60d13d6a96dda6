"""Failpoints: named points in the code at which a test can kill the process.

``failpoint("finish:before-commit")`` does nothing. When HUEY_CRASH_AT names a point (``name``, or ``name#n`` for the n-th time), the
process that reaches it dies as under ``kill -9``. The names are in ``FAILPOINTS``; a test kills a process at each.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

FAILPOINTS = frozenset(
    {
        "enqueue:before-commit",
        "enqueue:after-commit",
        "turn:before-commit",
        "turn:after-commit",
        "run:before-body",
        "run:after-body",
        "reclaim:before-commit",
        "reclaim:after-commit",
        "tick:before-commit",
        "tick:after-commit",
        "stop:before-deregister",
    }
)


class _Trap:
    """A counter of how often one point is reached, which kills the process at the n-th time."""

    def __init__(self, spec: str) -> None:
        name, _, count = spec.partition("#")
        if name not in FAILPOINTS:
            raise ValueError(f"HUEY_CRASH_AT={spec!r}: no such crash point; there are {', '.join(sorted(FAILPOINTS))}")
        self.name = name
        self.left = int(count or 1)

    def reach(self, name: str) -> None:
        if name == self.name:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


_trap = os.environ.get("HUEY_CRASH_AT")
failpoint: Callable[[str], object] = _Trap(_trap).reach if _trap else bool
"""Called with the name of each point that is passed. Without a trap it is a cheap builtin, since it is called in hot paths."""

"""The application under test, the same for both sides. Imported by child processes only.

BENCH_SIDE says which huey this is, BENCH_FILE where its SQLite file lies, or with BENCH_URL, a Redis server, how its queue is named. In
SQLite the peer runs with fsync=True, since the product's default is synchronous=FULL: both sides flush every commit. In Redis it runs as
RedisHuey with its blocking pop, and tells waiters of results (notify_result), which is its quickest way.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
import time

import huey as package

SIDE = os.environ["BENCH_SIDE"]
FILE = os.environ["BENCH_FILE"]


def make() -> package.Huey:
    if "BENCH_URL" in os.environ:
        return package.RedisHuey(f"bench-{os.path.basename(FILE)}", url=os.environ["BENCH_URL"], notify_result=True)
    return package.SqliteHuey("bench", filename=FILE, **({"fsync": True} if SIDE == "peer" else {}))


huey = make()

_runs = itertools.count(1)
watched: dict[int, threading.Event] = {}
"""Which runs to note: the 1,000th, the last. Set by the consumer's process before it starts."""
seen: dict[int, tuple[int, int]] = {}
"""Run -> (when, argument)."""


@huey.task()
def noop(n: int) -> int:
    run = next(_runs)
    if run in watched:
        seen[run] = time.monotonic_ns(), n
        watched[run].set()
    return n


@huey.task()
def started_at() -> int:
    return time.monotonic_ns()


@huey.task()
def hog(seconds: float) -> tuple[int, int]:
    """Keep the GIL in one C call: PyDLL does not let go of it."""
    start = time.monotonic_ns()
    ctypes.PyDLL(None).usleep(ctypes.c_uint(int(seconds * 1e6)))
    return start, time.monotonic_ns()

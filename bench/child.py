"""What runs in a process of its own: `python bench/child.py COMMAND '{"option": ...}'`. The last line it prints is its answer, as JSON.

Only public names of huey 3.x are used, and the same code runs for both sides; the one difference is in `fill` (bulk).
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apps

GIVE_UP = 120.0


def who() -> dict[str, Any]:
    """Which huey is this?"""
    import importlib.metadata

    import huey

    return {"version": getattr(huey, "__version__", None) or importlib.metadata.version("huey"), "file": huey.__file__}


def fill(count: int, ids: str) -> dict[str, Any]:
    """Enqueue *count* tasks the fastest way there is, and one before to open the file."""
    first = apps.noop(-1)
    begin = time.perf_counter()
    handles = [apps.noop(n) for n in range(count)] if apps.SIDE == "peer" else apps.noop.map(range(count))
    took = time.perf_counter() - begin
    Path(ids).write_text(json.dumps([first.id, *(handle.id for handle in handles)]))
    return {"rate": count / took}


def single(count: int) -> dict[str, Any]:
    """Enqueue one by one: when the call returns, the task is on the disk."""
    for n in range(20):
        apps.noop(n)
    begin, cpu, pages = time.perf_counter(), time.process_time(), written()
    for n in range(count):
        apps.noop(n)
    took = time.perf_counter() - begin
    return {"rate": count / took, "cpu": (time.process_time() - cpu) / count * 1e6, "pages": (written() - pages) / count}


def written() -> float:
    """Pages of 4 KiB that this process has written, into files and sockets."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"]) / 4096


def threads(count: int, workers: int) -> dict[str, Any]:
    """Enqueue from some threads at once."""
    apps.noop(-1)
    gate = threading.Barrier(workers + 1)

    def work() -> None:
        gate.wait()
        for n in range(count // workers):
            apps.noop(n)

    them = [threading.Thread(target=work) for _ in range(workers)]
    for thread in them:
        thread.start()
    gate.wait()
    begin = time.perf_counter()
    for thread in them:
        thread.join()
    return {"rate": count / (time.perf_counter() - begin)}


def drain(workers: int, first: int, last: int, ids: str) -> dict[str, Any]:
    """Run a consumer on a filled file; the rate is that of the runs from *first* to *last*.

    When *last* is the number of tasks, the clock stops only when the result of the last run can be read, and then all are read.
    """
    names = json.loads(Path(ids).read_text())
    is_whole = last == len(names)
    apps.watched.update({first: threading.Event(), last: threading.Event()})
    end: list[int] = []

    def watch() -> None:
        if apps.watched[last].wait(GIVE_UP):
            when, n = apps.seen[last]
            if is_whole:
                until(lambda: peek(names[n + 1]) is not None)
                when = time.monotonic_ns()
            end.append(when)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch).start()
    run_consumer(workers)
    if not end:
        raise SystemExit(f"only a part of {last} tasks ran in {GIVE_UP} s")
    if is_whole:
        wrong = [n for n, name in enumerate(names, -1) if peek(name) != n]
        if wrong:
            raise SystemExit(f"{len(wrong)} of {last} tasks have no result or a wrong one; the first is number {wrong[0]}")
    return {"rate": (last - first) / (end[0] - apps.seen[first][0]) * 1e9}


def consume(workers: int) -> dict[str, Any]:
    """A consumer until SIGINT."""
    run_consumer(workers)
    return {}


def latency(samples: int, get: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds from before the call to the start of its body in another process, and to its result here.

    The consumer is idle before each call: a pause of 5 to 30 ms, at random, so that no polling rhythm is met by luck.
    """
    rng = random.Random(7)
    apps.started_at().get(blocking=True, timeout=GIVE_UP)
    starts, trips = [], []
    for _ in range(samples):
        time.sleep(rng.uniform(0.005, 0.030))
        begin = time.monotonic_ns()
        started = apps.started_at().get(blocking=True, timeout=GIVE_UP, **get)
        trips.append((time.monotonic_ns() - begin) / 1e6)
        starts.append((started - begin) / 1e6)
    return {"starts": starts, "trips": trips}


def beside_a_hog(seconds: float) -> dict[str, Any]:
    """Enqueue while a task of the consumer keeps the GIL; the worst wait in milliseconds. Tasks flow before, so that the hog cuts in."""
    handles = [apps.noop(n) for n in range(500)]
    hog = apps.hog(seconds)
    waits = []
    stop = time.monotonic() + seconds + 2
    while time.monotonic() < stop:
        begin = time.monotonic_ns()
        handles.append(apps.noop(len(handles)))
        waits.append((begin, (time.monotonic_ns() - begin) / 1e6))
        time.sleep(0.005)
    start, end = hog.get(blocking=True, timeout=GIVE_UP)
    during = [wait for begin, wait in waits if start <= begin <= end]
    if end - start < seconds * 0.95e9 or not during:
        raise SystemExit(f"the hog held for {(end - start) / 1e9:.1f} s of {seconds}, with {len(during)} calls beside it")
    wrong = [n for n, handle in enumerate(handles) if handle.get(blocking=True, timeout=GIVE_UP) != n]
    if wrong:
        raise SystemExit(f"{len(wrong)} of {len(handles)} tasks beside the hog have no result or a wrong one")
    return {"worst": max(during), "calls": len(during)}


def run_consumer(workers: int) -> None:
    try:
        apps.huey.create_consumer(workers=workers, periodic=False).run()
    except (KeyboardInterrupt, SystemExit):
        return


def peek(name: str) -> Any:
    return apps.huey.result(name, preserve=True)


def until(fact: Callable[[], bool]) -> None:
    stop = time.monotonic() + GIVE_UP
    while not fact():
        if time.monotonic() > stop:
            raise TimeoutError(f"not within {GIVE_UP} s")
        time.sleep(0.0005)


COMMANDS = {f.__name__: f for f in (who, fill, single, threads, drain, consume, latency, beside_a_hog)}

if __name__ == "__main__":
    answer = COMMANDS[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps(answer), flush=True)

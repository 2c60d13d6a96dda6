"""Calls to the storage that fail, and calls that succeed while their answer is lost, one at a time, in one process.

An error means that nothing was written, or that nobody knows. Either way: everything runs, what was finished is finished, and the same
process goes on by itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from huey import Huey, crontab
from huey.exceptions import StorageUnavailable
from huey.runtime.host import pid_namespace, process_start_time
from huey.storage.rows import Worker
from tests.support.helpers import wait_until

BEFORE, AFTER = "the call fails", "the answer is lost"
both_kinds = pytest.mark.parametrize("kind", [BEFORE, AFTER])


class Faulty:
    """A storage whose *visit*-th *op* by the thread named *by* goes wrong."""

    def __init__(self, storage: Any, op: Any, by: Any, kind: Any, visit: Any = 1) -> None:
        self._storage = storage
        self._op, self._by, self._kind, self._left = op, by, kind, visit
        self.has_failed = threading.Event()

    def __getattr__(self, name: Any) -> Any:
        call = getattr(self._storage, name)
        return self._guarded(call) if name == self._op else call

    def _guarded(self, call: Any) -> Any:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread().name != self._by:
                return call(*args, **kwargs)
            self._left -= 1
            if self._left != 0:
                return call(*args, **kwargs)
            if self._kind == AFTER:
                call(*args, **kwargs)
            self.has_failed.set()
            raise self._kind if isinstance(self._kind, Exception) else StorageUnavailable(f"{self._op}: {self._kind}")

        return guarded


class Mortal:
    """A worker whose process lives until it is killed."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.worker = Worker("mortal", os.uname().nodename, self.process.pid, pid_namespace(), process_start_time(self.process.pid))  # type: ignore[arg-type]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def mortal() -> Iterator[Any]:
    mortal = Mortal()
    yield mortal
    mortal.kill()


@pytest.fixture
def runs() -> Any:
    return Counter()


@pytest.fixture
def consume(huey: Huey, runs: Any) -> Iterator[Any]:
    """Puts a fault into the storage, starts a consumer on it; all is well at the end."""
    consumers = []

    def start(op: Any, by: Any, kind: Any, visit: Any = 1) -> Any:
        huey.storage = faulty = Faulty(huey.storage, op, by, kind, visit)  # type: ignore[assignment]
        consumers.append(huey.create_consumer(workers=2, periodic_task_interval=0.2))
        consumers[-1].start()
        return faulty

    yield start
    for consumer in consumers:
        consumer.stop(graceful=False)


def square(huey: Any, runs: Any, **options: Any) -> Any:
    @huey.task(name="square", **options)
    def square(n: Any) -> Any:
        runs[n] += 1
        return n * n

    return square


def is_quiet(huey: Any) -> Any:
    counts = huey.storage.counts()
    return counts.ready == counts.scheduled == counts.running == 0


@both_kinds
@pytest.mark.parametrize("visit", [1, 2, 3, 5])
def test_a_turn_that_goes_wrong_loses_nothing(huey: Huey, runs: Any, consume: Any, kind: Any, visit: Any) -> None:
    """What was claimed runs, what ended is written, whichever of the two the turn carried."""
    task = square(huey, runs)
    results = [task(n) for n in range(3)]
    faulty = consume("turn", "Engine", kind, visit)

    def one_more() -> Any:
        results.append(task(len(results)))
        return faulty.has_failed.is_set()

    wait_until(one_more, "the call goes wrong")
    wait_until(lambda: is_quiet(huey), "everything is done", timeout=8)

    assert [result.get(blocking=True, timeout=5) for result in results] == [n * n for n in range(len(results))]
    assert runs == dict.fromkeys(range(len(results)), 1)


@both_kinds
def test_a_retry_whose_turn_goes_wrong_is_one_try(huey: Huey, runs: Any, consume: Any, kind: Any) -> None:
    @huey.task(retries=1, name="once-more")
    def once_more() -> Any:
        runs["tries"] += 1
        if runs["tries"] == 1:
            raise ValueError("the first try fails")
        return runs["tries"]

    result = once_more()
    # The first turn claims, the second carries the end of the first try.
    faulty = consume("turn", "Engine", kind, 2)

    assert faulty.has_failed.wait(10)
    assert result.get(blocking=True, timeout=8) == 2
    assert runs["tries"] == 2


@both_kinds
@pytest.mark.parametrize("op", ["reclaim", "turn"])
def test_a_takeover_that_goes_wrong_is_done_again(huey: Huey, runs: Any, consume: Any, mortal: Any, op: Any, kind: Any) -> None:
    """Nothing that proves ownership goes before what it owned: neither the dead one's leases nor the heir's are forgotten."""
    result = square(huey, runs)(7)
    assert len(huey.storage.turn(mortal.worker, [], 1).leases) == 1
    faulty = consume(op, "Janitor", kind)

    mortal.kill()

    assert faulty.has_failed.wait(10)
    wait_until(lambda: is_quiet(huey), "everything is done", timeout=8)
    assert result.get(blocking=True, timeout=5) == 49
    assert runs == {7: 1}


@both_kinds
def test_a_tick_that_goes_wrong_fires_once(huey: Huey, runs: Any, consume: Any, kind: Any) -> None:
    @huey.periodic_task(crontab(), name="tick")
    def tick() -> None:
        runs[datetime.now().minute] += 1

    faulty = consume("tick", "Scheduler", kind)

    assert faulty.has_failed.wait(10)
    wait_until(lambda: runs and is_quiet(huey), "it ran", timeout=8)
    assert set(runs.values()) == {1}


@both_kinds
def test_a_beat_that_goes_wrong_costs_nothing(huey: Huey, runs: Any, consume: Any, kind: Any) -> None:
    task = square(huey, runs)
    faulty = consume("heartbeat", "Heartbeat", kind)

    assert faulty.has_failed.wait(10)
    assert task(3).get(blocking=True, timeout=8) == 9
    assert runs == {3: 1}


def test_an_error_that_is_not_the_storages_strands_no_task(huey: Huey, runs: Any, consume: Any) -> None:
    """Whatever a turn raises (here: no descriptors left), the tasks of this worker run, by it or by the next one in this process."""
    task = square(huey, runs)
    results = [task(n) for n in range(3)]
    consume("turn", "Engine", OSError(24, "Too many open files"), 2)
    wait_until(lambda: runs, "it is at work")
    next_one = huey.create_consumer(workers=2)
    next_one.start()

    try:
        assert [result.get(blocking=True, timeout=8) for result in results] == [0, 1, 4]
    finally:
        next_one.stop()


@both_kinds
def test_a_failed_enqueue_may_be_made_again_with_its_id(huey: Huey, runs: Any, consume: Any, kind: Any) -> None:
    """C1: nobody knows whether it is there; the same id again is harmless while it is held, with ``keep_ids`` also when it has ended."""
    huey.keep_ids = 3600.0
    task = square(huey, runs)
    consume("enqueue", "MainThread", kind)

    with pytest.raises(StorageUnavailable):
        task.schedule(args=(5,), id="five")
    wait_until(lambda: is_quiet(huey), "what was put in has ended")
    result = task.schedule(args=(5,), id="five")

    assert result.get(blocking=True, timeout=8) == 25
    wait_until(lambda: is_quiet(huey), "nothing is left")
    assert runs == {5: 1}

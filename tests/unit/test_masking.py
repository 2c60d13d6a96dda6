"""What is raised in a thread from outside never strikes inside huey's own code, and always comes once that has returned."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import huey as package
from huey import Huey, MemoryHuey, SqliteHuey
from huey.exceptions import CancelExecution, TaskTimeout
from huey.runtime import masking
from huey.runtime.method_masking import Masked
from tests.support.helpers import running, wait_until

OURS = str(Path(package.__file__).parent)


class Asked:
    """A thread that runs *body* with a mask, and is asked to stop again and again, until it has been struck *times* times."""

    def __init__(self, body: Callable[[], Any], times: int) -> None:
        self.struck: list[BaseException] = []
        self._is_over = False
        self._body = body
        self._times = times
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        masking.add_mask()
        while len(self.struck) < self._times:
            try:
                while True:
                    self._body()
            except TaskTimeout as error:
                self.struck.append(error)
        self._is_over = True
        masking.remove_mask()

    def through(self) -> list[BaseException]:
        self.thread.start()
        wait_until(lambda: self.thread.ident in masking.masks)
        assert self.thread.ident is not None
        while not self._is_over:
            before = len(self.struck)
            if not masking.raise_in(self.thread.ident, TaskTimeout):
                wait_until(lambda before=before: len(self.struck) > before or masking.raise_deferred(self.thread.ident or 0))  # type: ignore[misc]
            wait_until(lambda before=before: len(self.struck) > before or self._is_over)  # type: ignore[misc]
        self.thread.join(20)
        return self.struck


def where(error: BaseException) -> str:
    """The file in which it struck."""
    return traceback.extract_tb(error.__traceback__)[-1].filename


class Ledger(Masked):
    """Something with two steps that belong together."""

    __module__ = "huey.ledger"

    def __init__(self) -> None:
        self.begun = self.done = 0
        self.is_entered = 0

    def write(self) -> None:
        self.begun += 1
        for _ in range(20):
            _nothing()
        self.done += 1

    @contextmanager
    def block(self) -> Iterator[None]:
        self.is_entered += 1
        _nothing()
        try:
            yield
        finally:
            _nothing()
            self.is_entered -= 1

    def steps(self) -> Iterator[int]:
        for number in range(3):
            self.begun += 1
            _nothing()
            self.done += 1
            yield number


def _nothing() -> None:
    """A call, at which something could strike."""


def test_an_exception_from_outside_does_not_part_a_unit() -> None:
    ledger = Ledger()

    Asked(ledger.write, 60).through()

    assert ledger.begun == ledger.done > 0


def test_a_block_that_was_entered_is_left() -> None:
    ledger = Ledger()

    def body() -> None:
        with ledger.block():
            _nothing()

    Asked(body, 60).through()

    assert ledger.is_entered == 0


def test_a_generator_is_struck_between_its_steps_only() -> None:
    ledger = Ledger()

    Asked(lambda: list(ledger.steps()), 60).through()

    assert ledger.begun == ledger.done > 0


def test_what_was_deferred_is_raised_when_the_call_returns() -> None:
    entered, asked = threading.Event(), threading.Event()

    class Slow(Masked):
        __module__ = "huey.slow"

        def wait(self) -> str:
            entered.set()
            asked.wait(20)
            for _ in range(1000):
                _nothing()
            returned.append(1)
            return "done"

    returned: list[int] = []
    told: list[str] = []

    def run() -> None:
        masking.add_mask()
        try:
            told.append(Slow().wait())
        except TaskTimeout:
            told.append("asked")
        masking.remove_mask()

    thread = threading.Thread(target=run)
    thread.start()
    assert entered.wait(20)
    assert thread.ident is not None
    assert masking.raise_in(thread.ident, TaskTimeout) is False
    asked.set()
    thread.join(20)

    assert (returned, told) == ([1], ["asked"])


def test_what_is_taken_back_does_not_come() -> None:
    ledger, told = Ledger(), []

    def run() -> None:
        mask = masking.add_mask()
        mask.depth = 1
        masking.raise_in(mask.thread, TaskTimeout)
        masking.cancel(mask.thread)
        mask.depth = 0
        try:
            ledger.write()
        except TaskTimeout:
            told.append("asked")
        masking.remove_mask()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)

    assert told == []


def test_a_trace_function_works_after_something_was_taken_back() -> None:
    """Coverage tools and debuggers have one. What is set for a thread and only unset keeps Python busy with it for ever."""
    traced = []

    def run() -> None:
        mask = masking.add_mask()
        mask.depth = 1
        masking.raise_in(mask.thread, TaskTimeout)
        masking.cancel(mask.thread)
        masking.remove_mask()
        sys.settrace(lambda frame, event, _: traced.append(event))
        _nothing()
        sys.settrace(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)

    assert not thread.is_alive()
    assert "call" in traced


def test_nothing_strikes_inside_logging() -> None:
    class Odd(logging.Handler):
        """Taken and left in two steps, as the standard library's."""

        taken = left = 0

        def handle(self, record: logging.LogRecord) -> bool:
            self.taken += 1
            for _ in range(50):
                _nothing()
            self.left += 1
            return True

    logger, handler = logging.Logger("body"), Odd()
    logger.addHandler(handler)

    def body() -> None:
        logger.info("a line")
        for _ in range(200):
            _nothing()

    Asked(body, 20).through()

    assert handler.taken == handler.left


def test_a_fork_hook_is_not_struck() -> None:
    mask = masking.add_mask()
    try:
        masking.close_for_fork()
        assert masking.raise_in(mask.thread, TaskTimeout) is False
        masking.cancel(mask.thread)
    finally:
        masking.reopen_after_fork()
        masking.remove_mask()


def test_threads_that_run_no_task_have_no_mask() -> None:
    huey = MemoryHuey()
    huey.task()(lambda: None)()

    assert threading.get_ident() not in masking.masks


# All calls of huey that a body may make


def calls(huey: Huey) -> dict[str, Callable[[], Any]]:
    leaf = huey.task(name="leaf", priority=-5)(lambda n=0: n)
    lock, rate = huey.lock_task("mine"), huey.rate_limit("often", 10**6, 60)

    def locked() -> None:
        with lock:
            _nothing()

    def rated() -> None:
        with rate:
            _nothing()

    def batch() -> None:
        with huey.batch():
            leaf(1)
            leaf(2)

    def waits() -> None:
        leaf.schedule((1,), delay=3600).get(blocking=True, timeout=0.01)

    def revokes() -> None:
        result = leaf.schedule((1,), delay=3600)
        result.revoke()
        result.is_revoked()
        result.restore()

    def events() -> None:
        for _ in huey.events(timeout=0):
            _nothing()

    return {
        "enqueue": lambda: leaf(1),
        "schedule": lambda: leaf.schedule((1,), delay=3600),
        "map": lambda: leaf.map(range(3)),
        "batch": batch,
        "put and get": lambda: (huey.put("key", 1), huey.get("key")),
        "lock": locked,
        "rate": rated,
        "wait": waits,
        "revoke": revokes,
        "events": events,
        "inspect": lambda: huey.inspector.counts(),
        "storage": lambda: huey.storage.counts(),
    }


KINDS = ("enqueue", "schedule", "map", "batch", "put and get", "lock", "rate", "revoke", "inspect", "storage", "events")


def stores(tmp_path: Path) -> dict[str, Callable[[], Huey]]:
    return {"memory": MemoryHuey, "sqlite": lambda: SqliteHuey(filename=str(tmp_path / "huey.db"), fsync=False)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_no_call_of_huey_is_struck_inside(tmp_path: Path, store: str, kind: str) -> None:
    huey = stores(tmp_path)[store]()
    act = calls(huey)[kind]

    struck = Asked(act, 6).through()

    inside = [where(error) for error in struck if where(error).startswith(OURS) and not where(error).endswith("masking.py")]
    assert inside == []
    before = huey.pending_count()
    huey.registry.find("leaf")(1)
    assert huey.pending_count() == before + 1
    huey.close()


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_body_that_waits_for_a_result_is_asked_all_the_same(tmp_path: Path, store: str) -> None:
    huey = stores(tmp_path)[store]()
    never = huey.task()(lambda: None)

    @huey.task(timeout=0.1)
    def waits() -> None:
        never.schedule(delay=3600).get(blocking=True, allow_wait=True)

    with running(huey):
        result = waits()
        wait_until(lambda: [row.reason for row in huey.storage.find("failed")] == ["timeout"])
    result.reset()
    huey.close()


def test_a_body_that_only_enqueues_is_asked_all_the_same() -> None:
    huey = MemoryHuey()
    leaf = huey.task(priority=-5)(lambda: None)

    @huey.task(timeout=0.05)
    def endless() -> None:
        while True:
            leaf()

    with running(huey):
        endless()
        wait_until(lambda: [row.reason for row in huey.storage.find("failed")] == ["timeout"])


def test_a_revoked_body_inside_a_block_leaves_it() -> None:
    huey, is_inside = MemoryHuey(), threading.Event()
    lock = huey.lock_task("mine")

    @huey.task()
    def holds() -> None:
        with lock:
            is_inside.set()
            while True:
                _nothing()

    with running(huey):
        result = holds()
        assert is_inside.wait(20)
        result.revoke()
        wait_until(lambda: huey.storage.counts().cancelled == 1)
        assert not huey.is_locked("mine")


def test_an_eager_task_inside_a_body_is_asked_as_the_body_is() -> None:
    huey, eager = MemoryHuey(), MemoryHuey("eager", always_eager=True)

    @eager.task()
    def spins() -> None:
        while True:
            _nothing()

    @huey.task(timeout=0.05)
    def calls_it() -> None:
        spins()

    with running(huey):
        calls_it()
        wait_until(lambda: [row.reason for row in huey.storage.find("failed")] == ["timeout"])


def test_what_a_body_catches_is_not_raised_again() -> None:
    huey, asked = MemoryHuey(), []

    @huey.task(timeout=0.05)
    def catches() -> int:
        try:
            while True:
                huey.storage.counts()
        except (TaskTimeout, CancelExecution):
            asked.append(1)
        for _ in range(100):
            huey.storage.counts()
        return len(asked)

    with running(huey):
        assert catches().get(blocking=True, timeout=20) == 1

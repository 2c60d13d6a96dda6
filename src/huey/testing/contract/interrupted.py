"""A call that interrupts another one of its own thread: a signal handler, a destructor, a trace function that uses the queue.

The inner call is done, or refused with StorageUnavailable before it changed anything; the outer one never notices.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from huey.exceptions import StorageUnavailable
from huey.runtime.clock import SECOND
from huey.storage.base import Storage
from huey.testing.contract.constraints import wishing
from huey.testing.contract.tools import OTHER, claim, claim_ids, task

STEP = 5
"""Lines between two places at which a call is interrupted, where not every line is tried."""


class Interruption:
    """A block in which *act* is called once, before its line number *at*."""

    def __init__(self, at: int, act: Callable[[], Any]) -> None:
        self.at = self.left = at
        self.answer: Any = None
        self.was_rejected = False
        self._act = act

    def __enter__(self) -> Interruption:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code is Interruption.__exit__.__code__:
            return None
        if event == "line":
            self.left -= 1
            if self.left == -1:
                self._interrupt()
        return self._trace

    def _interrupt(self) -> None:
        try:
            self.answer = self._act()
        except StorageUnavailable:
            self.was_rejected = True

    @property
    def is_over(self) -> bool:
        """There was no such line."""
        return self.left >= 0


def at_lines(
    call: Callable[[str], Any],
    inner: Callable[[str], Any],
    check: Callable[[str, Any, Interruption], None],
    *,
    before: Callable[[str], object] = str,
    step: int = 1,
) -> None:
    """Make *call* again and again, with *inner* at each *step*-th of its lines, and *check* what both answered. All are given a text that
    differs each time; *before* is called before."""
    line = 0
    while True:
        n = str(line)
        before(n)
        with Interruption(line, lambda n=n: inner(n)) as interruption:  # type: ignore[misc]
            answer = call(n)
        if interruption.is_over:
            assert line > 0
            return
        check(n, answer, interruption)
        line += step


class InterruptedRules:
    """Verbs that every storage has."""

    def test_an_enqueue_that_interrupts_an_enqueue_is_stored(self, storage: Storage) -> None:
        def check(n: str, _: None, inner: Interruption) -> None:
            assert not inner.was_rejected, f"at line {n}"
            assert {"outer" + n, "inner" + n} <= set(held(storage)), f"at line {n}"

        at_lines(lambda n: storage.enqueue([task("outer" + n)]), lambda n: storage.enqueue([task("inner" + n)]), check)

    def test_an_enqueue_that_interrupts_a_turn_is_stored(self, storage: Storage) -> None:
        def check(n: str, leased: list[str], inner: Interruption) -> None:
            assert not inner.was_rejected, f"at line {n}"
            assert {*leased, *claim_ids(storage, 9, OTHER)} == {"outer" + n, "inner" + n}, f"at line {n}"

        at_lines(
            lambda n: claim_ids(storage),
            lambda n: storage.enqueue([task("inner" + n)]),
            check,
            before=lambda n: storage.enqueue([task("outer" + n)]),
            step=STEP,
        )

    def test_a_turn_that_interrupts_a_turn_claims_other_tasks(self, storage: Storage) -> None:
        def check(n: str, leased: list[str], inner: Interruption) -> None:
            left = claim_ids(storage, 9, OTHER)
            assert sorted([*leased, *(inner.answer or []), *left]) == ["a" + n, "b" + n], f"at line {n}"

        at_lines(
            lambda n: claim_ids(storage),
            lambda n: claim_ids(storage, by=OTHER),
            check,
            before=lambda n: storage.enqueue([task("a" + n), task("b" + n)]),
            step=STEP,
        )

    def test_who_takes_results_while_others_are_taken_gets_his_own(self, storage: Storage) -> None:
        def check(n: str, found: dict[str, bytes], inner: Interruption) -> None:
            assert found == {"outer" + n: b"outer"}, f"at line {n}"
            assert (inner.answer or storage.take("result", ["inner" + n], remove=True)) == {"inner" + n: b"inner"}, f"at line {n}"

        def put(n: str) -> None:
            for which in ("outer", "inner"):
                storage.put("result", which + n, which.encode())

        at_lines(
            lambda n: storage.take("result", ["outer" + n, "none"], remove=True),
            lambda n: storage.take("result", ["inner" + n, "none"], remove=True),
            check,
            before=put,
            step=STEP,
        )

    def test_a_tick_that_interrupts_a_tick_is_another_tick(self, storage: Storage) -> None:
        def check(n: str, fired: bool, inner: Interruption) -> None:
            again = storage.tick("inner" + n, SECOND, task("late" + n))
            assert (fired, inner.answer is True, again) == (True, not inner.was_rejected, inner.was_rejected), f"at line {n}"
            assert len(claim(storage, 9)) == 2, f"at line {n}"

        at_lines(
            lambda n: storage.tick("outer" + n, SECOND, task("outer" + n)),
            lambda n: storage.tick("inner" + n, SECOND, task("inner" + n)),
            check,
            step=STEP,
        )

    def test_who_looks_while_a_task_is_put_in_sees_all_of_it_or_nothing(self, storage: Storage) -> None:
        def check(n: str, _: None, inner: Interruption) -> None:
            assert inner.was_rejected or len(inner.answer) in (0, 2), f"at line {n}"
            assert len(claim(storage, 9)) == 2, f"at line {n}"

        at_lines(lambda n: storage.enqueue([task("a" + n), task("b" + n)]), lambda n: storage.find("ready"), check, step=STEP)


class InterruptedTermRules:
    """For storages that keep terms."""

    def test_what_is_unique_and_interrupts_what_is_unique_is_stored_beside_it(self, storage: Storage) -> None:
        def check(n: str, duplicates: dict[str, str], inner: Interruption) -> None:
            assert duplicates == {}, f"at line {n}"
            there = set(held(storage))
            assert "outer" + n in there, f"at line {n}"
            assert ("inner" + n in there) == (inner.answer == {}) == (not inner.was_rejected), f"at line {n}"

        at_lines(
            lambda n: storage.enqueue([wishing("outer" + n, unique="outer" + n)]),
            lambda n: storage.enqueue([wishing("inner" + n, unique="inner" + n)]),
            check,
        )

    def test_of_two_with_one_unique_key_one_is_stored_when_the_second_interrupts_the_first(self, storage: Storage) -> None:
        def check(n: str, duplicates: dict[str, str], inner: Interruption) -> None:
            there = [id for id in held(storage) if id in ("outer" + n, "inner" + n)]
            assert len(there) == 1, f"at line {n}"
            assert duplicates == ({} if there == ["outer" + n] else {"outer" + n: "inner" + n}), f"at line {n}"

        at_lines(
            lambda n: storage.enqueue([wishing("outer" + n, unique=n)]), lambda n: storage.enqueue([wishing("inner" + n, unique=n)]), check
        )


def held(storage: Storage) -> list[str]:
    return [row.id for row in storage.find(limit=10**6)]

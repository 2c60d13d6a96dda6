"""Tasks past their time limit: when their worker is ended, and what its neighbours get."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from huey.consumer.enforcer import NEIGHBOUR_GRACE_S, Enforcer
from huey.consumer.process_table import Child
from huey.consumer.recovery import ExitCause
from huey.engine.scoreboard import GRACE, TO_END, Scoreboard
from huey.runtime.clock import SECOND
from huey.storage.base import Storage
from huey.storage.memory import MemoryStorage
from huey.storage.rows import Worker
from huey.testing.clock import FakeClock

LIMIT = 60.0


class OnPaper(Child):
    """A worker without a process: what would be sent to it is noted."""

    def signal(self, number: int) -> None:
        """It has none."""


class ProcessTree:
    """Workers of a supervisor."""

    def __init__(self, patience: float | None = 20.0) -> None:
        self.clock = FakeClock()
        self.children: list[Child] = []
        self.enforcer = Enforcer(self, self.clock, patience)

    def all(self) -> list[Child]:
        return self.children

    def storage_of(self, child: Child) -> Storage:
        return MemoryStorage("app", clock=self.clock)

    def try_storage(self, part: str, act: Callable[[], object]) -> bool:
        act()
        return True

    # -- the test's side ----------------------------------------------------------------------------------------------------------------

    def worker(self, id: str, runners: int = 3, queue: str = "app") -> Child:
        child = OnPaper(Worker(id, "here", 1, "boot", 1, "thread", ""), Scoreboard(runners), 0, queue)
        self.children.append(child)
        return child

    def begin(self, child: Child, slot: int, limit: float = LIMIT) -> None:
        child.scoreboard.set_running(slot, f"task-{slot}", 1, self.clock.monotonic(), round(limit * SECOND))

    def after(self, seconds: float) -> None:
        self.clock.forward(seconds)
        self.enforcer.enforce_time_limits(self.clock.monotonic())

    def left(self, child: Child) -> float | None:
        """Seconds until it is killed as late."""
        if child.deadline is None or child.deadline[1] is not ExitCause.LATE:
            return None
        return (child.deadline[0] - self.clock.monotonic()) / SECOND


@pytest.fixture
def tree() -> Iterator[ProcessTree]:
    tree = ProcessTree()
    yield tree
    for child in tree.children:
        child.scoreboard.close()


def test_a_body_has_five_seconds_after_it_was_asked(tree: ProcessTree) -> None:
    alone = tree.worker("a", 1)
    tree.begin(alone, 0)

    tree.after(LIMIT + TO_END)
    assert tree.left(alone) is None
    tree.after(0.1)
    assert tree.left(alone) == 0
    assert TO_END == 5.0


def test_a_body_that_looks_by_itself_has_a_grace_of_ten(tree: ProcessTree) -> None:
    alone = tree.worker("a", 1)
    tree.begin(alone, 0)
    alone.scoreboard.set_cooperative(0)

    tree.after(LIMIT + GRACE)
    assert tree.left(alone) is None
    tree.after(0.1)
    assert tree.left(alone) == 0
    assert GRACE == 10.0


def test_the_next_task_of_a_runner_has_to_look_again(tree: ProcessTree) -> None:
    alone = tree.worker("a", 1)
    tree.begin(alone, 0)
    alone.scoreboard.set_cooperative(0)
    tree.begin(alone, 0)

    tree.after(LIMIT + TO_END + 0.1)
    assert tree.left(alone) == 0


@pytest.mark.parametrize(("patience", "wait"), [(20.0, 20.0), (300.0, NEIGHBOUR_GRACE_S), (None, NEIGHBOUR_GRACE_S), (1.0, 1.0)])
def test_neighbours_have_the_shutdown_timeout_up_to_30_seconds(patience: float | None, wait: float) -> None:
    """Also where it is unlimited."""
    tree = ProcessTree(patience)
    child = tree.worker("a")
    tree.begin(child, 0)
    tree.begin(child, 1, 0)

    tree.after(LIMIT + TO_END + 0.1)

    assert tree.left(child) == wait
    assert child.is_stopping
    assert child.scoreboard.is_stop_requested
    child.scoreboard.close()


def test_once_only_late_tasks_are_left_the_kill_comes_at_once(tree: ProcessTree) -> None:
    """When the ends of the others are written, which the worker says itself."""
    child = tree.worker("a")
    tree.begin(child, 0)
    tree.begin(child, 1, 0)
    tree.after(LIMIT + TO_END + 0.1)
    child.scoreboard.set_held(2)
    child.scoreboard.set_ended(1)
    tree.after(1)
    assert (tree.left(child) or 0) > 0

    child.scoreboard.set_held(1)
    tree.after(0.1)

    assert tree.left(child) == 0


def test_neighbours_of_a_held_interpreter_are_not_waited_for(tree: ProcessTree) -> None:
    """They could not end: the late task holds the GIL."""
    child = tree.worker("a")
    tree.begin(child, 0)
    tree.begin(child, 1, 0)
    child.standstill.still = 3

    tree.after(LIMIT + TO_END + 0.1)

    assert tree.left(child) == 0


def test_one_worker_of_a_place_leaves_at_a_time(tree: ProcessTree) -> None:
    first, second, other = tree.worker("a"), tree.worker("b"), tree.worker("c", queue="other")
    tree.begin(first, 0)
    tree.begin(second, 0)
    tree.begin(other, 0)
    tree.after(LIMIT + TO_END + 0.1)
    assert (tree.left(first), tree.left(second), tree.left(other)) == (20, None, 20)
    tree.after(10)
    assert not second.is_stopping

    tree.children.remove(first)
    tree.after(0.1)

    assert tree.left(second) == 20
    first.scoreboard.close()


def test_one_that_leaves_anyway_needs_no_place(tree: ProcessTree) -> None:
    first, second = tree.worker("a"), tree.worker("b")
    tree.begin(first, 0)
    tree.begin(second, 0)
    second.is_stopping = True

    tree.after(LIMIT + TO_END + 0.1)

    assert (tree.left(first), tree.left(second)) == (20, 20)


def test_a_stop_that_is_nearer_stays_nearer(tree: ProcessTree) -> None:
    child = tree.worker("a")
    tree.begin(child, 0)
    tree.begin(child, 1, 0)
    tree.clock.forward(LIMIT + TO_END)
    child.deadline = tree.clock.monotonic() + 2 * SECOND, ExitCause.STOP

    tree.after(0.5)

    assert tree.left(child) == 1.5

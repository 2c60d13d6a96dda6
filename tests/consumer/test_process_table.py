"""The worker processes of a supervisor as values: no process is started here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from huey.consumer.process_table import Child, ProcessTable
from huey.consumer.recovery import ExitCause, describe_exit, exit_reason
from huey.engine.scoreboard import Scoreboard
from huey.storage.rows import Worker


class House:
    """A process table, and the boards of its workers."""

    def __init__(self) -> None:
        self.table = ProcessTable()
        self.boards: list[Scoreboard] = []

    def child(self, pid: int, queue: str = "app", kind: str = "thread", *, is_previous: bool = False) -> Child:
        child = Child(Worker(f"w{pid}", "here", pid, "boot", 1, kind, ""), Scoreboard(2), 0, queue)
        (self.table.previous if is_previous else self.table.current).append(child)
        self.boards.append(child.scoreboard)
        return child


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    for child in house.table.all():
        child.scoreboard.close()


def test_workers_of_previous_code_count_among_all(house: House) -> None:
    now, before = house.child(7), house.child(8, is_previous=True)
    house.child(9, "mail").is_stopping = True

    assert (house.table.find(7), house.table.find(8), house.table.find(1)) == (now, before, None)
    assert house.table.count_by_queue("thread") == {"app": 1}


def test_a_deadline_comes_once_and_an_earlier_one_stays(house: House) -> None:
    child = house.child(7)
    child.kill_by(100, ExitCause.STOP)
    child.kill_by(200, ExitCause.LATE)

    assert (house.table.next_deadline([300]), house.table.next_deadline([50])) == (100, 50)
    assert house.table.overdue(99) == []
    assert house.table.overdue(100) == [child]
    assert child.expire() is ExitCause.LATE
    assert house.table.overdue(1000) == []


def test_a_reaped_worker_is_to_be_recovered(house: House) -> None:
    child = house.child(7)
    child.scoreboard.set_running(0, "runs", 1, 0, 0)
    child.scoreboard.set_running(1, "ended", 1, 0, 0)
    child.scoreboard.set_ended(1)

    dead = house.table.reap(child, 9)

    assert (house.table.all(), house.table.unrecovered) == ([], [dead])
    assert (dead.is_clean, dead.running, describe_exit(dead.status)) == (False, 1, "was killed by signal 9 (SIGKILL)")
    assert [task.id for task in dead.ran] == ["runs", "ended"]


def test_an_ended_task_is_no_suspect_after_a_wanted_kill(house: House) -> None:
    child = house.child(7)
    child.cause = ExitCause.STOP
    child.scoreboard.set_running(0, "ended", 1, 0, 0)
    child.scoreboard.set_ended(0)

    assert house.table.reap(child, 9).ran == []


def test_an_exit_with_nothing_running_is_clean(house: House) -> None:
    dead = house.table.reap(house.child(7), 0)

    assert (dead.is_clean, dead.was_ready, exit_reason(dead.status)) == (True, False, "exit code 0")

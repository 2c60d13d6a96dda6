"""Section I: how the consumer behaves while it runs, when it stops, and after a restart.

Tests with a ``kind`` run the command as users do, once with threads and once with processes; the others a consumer in this process.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from huey import Huey, crontab
from huey.exceptions import TaskException
from huey.runtime.clock import system_clock
from huey.testing.clock import FakeClock
from tests.support.helpers import Project, for_queue, never, noting, read_until, running, statuses, wait_until

MakeHuey = Callable[..., Huey]

APP = """
import os
import threading

@huey.task()
def add(a, b):
    return a + b

@huey.task()
def slow():
    '''Ends when the test says so.'''
    open('started', 'w').close()
    while not os.path.exists('may-end'):
        threading.Event().wait(0.01)
    open('ended', 'w').close()
    return 'done'
"""


PLACES = """
import os
import threading

@huey.task()
def meet(name, count):
    '''Ends when so many are here.'''
    open('here-' + name, 'w').close()
    while sum(entry.startswith('here-') for entry in os.listdir()) < count:
        threading.Event().wait(0.005)
    return 'met'

@huey.task()
def crowd(name):
    '''How many are here.'''
    open('inside-' + name, 'w').close()
    threading.Event().wait(0.05)
    count = sum(entry.startswith('inside-') for entry in os.listdir())
    os.unlink('inside-' + name)
    return count
"""

STAMP = """
import time

@huey.task()
def stamp():
    return time.time()
"""

TICKING = """
from huey.runtime.clock import SystemClock

class Fast(SystemClock):
    '''A minute passes in a second.'''
    def now(self):
        return {wall} + 60 * (self.monotonic() - {monotonic})

huey = SqliteHuey('app', filename={file!r}, clock=Fast())

def every_minute(minute):
    with open('asked', 'a') as file:
        file.write(f'{{minute}}\\n')
    return True

@huey.periodic_task(every_minute)
def tick():
    with open('ticks', 'a') as file:
        file.write('tick\\n')
"""


@pytest.fixture(params=["thread", "process"])
def kind(request: pytest.FixtureRequest) -> str:
    """What `-k` may be."""
    return str(request.param)


def add(a: int, b: int) -> int:
    return a + b


def lines_of(file: Path) -> list[str]:
    return file.read_text("utf-8").splitlines() if file.exists() else []


# Threads and processes


@pytest.mark.parametrize("workers", [1, 3])
def test_S108_the_command_runs_as_many_tasks_as_workers(project: Project, kind: str, workers: int) -> None:
    project.write(PLACES)
    meet, crowd = project.task("main.meet"), project.task("main.crowd")
    consumer = project.start("main.huey", "-k", kind, "-w", str(workers))

    met = [meet(str(n), workers) for n in range(workers)]
    assert [handle.get(blocking=True, timeout=10) for handle in met] == ["met"] * workers

    counts = [crowd(str(n)).get for n in range(4 * workers)]
    assert max(get(blocking=True, timeout=10) for get in counts) <= workers
    assert consumer.stop() == 0


def test_S108_a_blocking_task_stops_nothing_else_of_the_command(project: Project, kind: str) -> None:
    project.write(APP)
    task = project.task("main.add")
    consumer = project.start("main.huey", "-k", kind, "-w", "2")
    slow = project.task("main.slow")()
    wait_until((project.home / "started").exists, told=lambda: consumer.log)

    assert task(1, 2).get(blocking=True, timeout=10) == 3
    assert task.schedule(args=(3, 4), delay=0.1).get(blocking=True, timeout=10) == 7
    (project.home / "may-end").touch()

    assert slow.get(blocking=True, timeout=10) == "done"
    assert consumer.stop() == 0


@pytest.mark.slow_machine
def test_S109_a_queue_that_wakes_is_read_without_polling(project: Project, kind: str) -> None:
    """However long the delays of polling. (Queues that have to be polled come with the parts of 0.4.9.)"""
    project.write(STAMP)
    stamp = project.task("main.stamp")
    consumer = project.start("main.huey", "-k", kind, "-d", "5", "-m", "60", "-b", "10")
    assert stamp().get(blocking=True, timeout=10)

    def latency() -> float:
        assert never(lambda: not consumer.is_running, within=0.2)
        called = time.time()
        started: float = stamp().get(blocking=True, timeout=10)
        return started - called

    # The best of three: the machine may be busy with something else.
    assert min(latency() for _ in range(3)) < 0.3
    assert consumer.stop() == 0


def test_S110_the_command_tells_how_a_message_for_later_goes(project: Project, kind: str) -> None:
    project.write(APP)
    events = project.huey.events(timeout=10)
    consumer = project.start("main.huey", "-k", kind)

    handle = project.task("main.add").schedule(args=(1, 2), delay=0.5)
    told = read_until(events, "finished", handle.id)

    assert statuses(told, handle.id) == ["scheduled", "enqueued", "started", "finished"]
    assert handle.get() == 3
    assert consumer.stop() == 0


def test_S110_the_command_runs_the_earlier_time_first(project: Project, kind: str) -> None:
    project.write(STAMP)
    stamp = project.task("main.stamp")
    late, early = stamp.schedule(delay=0.6), stamp.schedule(delay=0.3)

    consumer = project.start("main.huey", "-k", kind)

    assert early.get(blocking=True, timeout=10) < late.get(blocking=True, timeout=10)
    assert consumer.stop() == 0


def test_S111_the_command_publishes_results_with_a_store(project: Project, kind: str) -> None:
    project.write(APP + "\n\n@huey.task()\ndef bad():\n    raise ValueError('nope')\n")
    consumer = project.start("main.huey", "-k", kind)

    assert project.task("main.add")(1, 2).get(blocking=True, timeout=10) == 3
    with pytest.raises(TaskException, match="nope"):
        project.task("main.bad")().get(blocking=True, timeout=10)
    assert consumer.stop() == 0


def test_S111_the_command_publishes_none_without_one(project: Project, kind: str) -> None:
    project.write(f"huey = SqliteHuey('app', filename={str(project.folder / 'queue.db')!r}, results=False)\n" + APP)
    project.task("main.slow")()
    consumer = project.start("main.huey", "-k", kind)
    wait_until((project.home / "started").exists, told=lambda: consumer.log)
    (project.home / "may-end").touch()

    wait_until(lambda: len(project.huey) == 0)

    assert consumer.stop() == 0
    assert project.huey.storage.items("result") == {}


# Threads of a consumer in this process


@pytest.mark.parametrize("workers", [2, 5])
def test_S108_as_many_tasks_run_at_once_as_there_are_workers(huey: Huey, workers: int) -> None:
    together = threading.Barrier(workers)

    @huey.task()
    def meet() -> str:
        together.wait(10)
        return "met"

    handles = [meet() for _ in range(workers)]

    with running(huey, workers=workers):
        assert [handle.get(blocking=True, timeout=10) for handle in handles] == ["met"] * workers


def test_S108_no_more_tasks_run_at_once_than_there_are_workers(huey: Huey) -> None:
    inside, most = [], []

    @huey.task()
    def crowd() -> None:
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.02)
        inside.pop()

    for _ in range(8):
        crowd()

    with running(huey, workers=2):
        wait_until(lambda: len(most) == 8)
    assert max(most) <= 2


def test_S108_a_blocking_task_stops_nothing_else(huey: Huey) -> None:
    started, may_end = threading.Event(), threading.Event()

    @huey.task()
    def slow() -> str:
        started.set()
        may_end.wait(20)
        return "done"

    task = huey.task()(add)
    with running(huey, workers=2):
        handle = slow()
        assert started.wait(10)
        assert task(1, 2).get(blocking=True, timeout=10) == 3
        assert task.schedule(args=(3, 4), delay=0.1).get(blocking=True, timeout=10) == 7
        may_end.set()
        assert handle.get(blocking=True, timeout=10) == "done"


def test_S110_a_message_for_later_goes_by_the_schedule(huey: Huey) -> None:
    task = huey.task()(add)
    events = huey.events(timeout=10)

    with running(huey):
        handle = task.schedule(args=(1, 2), delay=0.2)
        told = read_until(events, "finished", handle.id)

    assert statuses(told, handle.id) == ["scheduled", "enqueued", "started", "finished"]
    assert handle.get() == 3


def test_S110_the_earlier_time_runs_first(huey: Huey) -> None:
    ran: list[str] = []
    note = noting(huey, ran)
    handles = [note.schedule(args=(word,), delay=delay) for word, delay in (("c", 0.3), ("a", 0.1), ("b", 0.2))]

    with running(huey):
        assert [handle.get(blocking=True, timeout=10) for handle in handles] == ["c", "a", "b"]
    assert ran == ["a", "b", "c"]


def test_S111_results_are_published_when_there_is_a_store(huey: Huey) -> None:
    handle = huey.task()(add)(1, 2)

    with running(huey):
        wait_until(lambda: huey.storage.peek("result", handle.id) is not None)
    assert handle.get() == 3


def test_S111_results_are_not_published_without_one(make_huey: MakeHuey) -> None:
    huey = make_huey(results=False)
    ran: list[str] = []
    note = noting(huey, ran)
    note("a")
    note("b")

    with running(huey):
        wait_until(lambda: ran == ["a", "b"])

    assert len(huey) == 0
    assert huey.storage.items("result") == {}


# Stopping and starting


def test_S112_a_stop_saves_the_schedule(project: Project, kind: str) -> None:
    project.write(APP)
    task = project.task("main.add")
    consumer = project.start("main.huey", "-k", kind)
    assert task(1, 2).get(blocking=True, timeout=10) == 3

    handle = task.schedule(args=(3, 4), delay=1.0)
    assert consumer.stop(signal.SIGTERM) == 0
    assert handle.get() is None
    assert project.huey.storage.get(handle.id) is not None

    project.start("main.huey", "-k", kind)
    assert handle.get(blocking=True, timeout=10) == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_S113_a_stop_lets_running_tasks_end(project: Project, kind: str, number: signal.Signals) -> None:
    """C17: SIGINT as SIGTERM."""
    project.write(APP)
    handle = project.task("main.slow")()
    consumer = project.start("main.huey", "-k", kind)
    wait_until((project.home / "started").exists, told=lambda: consumer.log)

    consumer.send(number)
    assert never(lambda: not consumer.is_running, within=0.3)
    (project.home / "may-end").touch()

    assert consumer.ended() == 0
    assert (project.home / "ended").exists()
    assert handle.get() == "done"


def test_S113_a_stop_claims_nothing_more(project: Project, kind: str) -> None:
    project.write(APP)
    slow, waits = project.task("main.slow")(), project.task("main.add")(1, 2)
    consumer = project.start("main.huey", "-k", kind)
    wait_until((project.home / "started").exists, told=lambda: consumer.log)

    consumer.send(signal.SIGTERM)
    assert never(lambda: not consumer.is_running, within=0.1)
    (project.home / "may-end").touch()
    assert consumer.ended() == 0

    assert (slow.get(), waits.get()) == ("done", None)
    assert len(project.huey) == 1
    project.start("main.huey", "-k", kind)
    assert waits.get(blocking=True, timeout=10) == 3


def test_S113_stop_of_a_consumer_in_this_process_waits_too(huey: Huey) -> None:
    started, may_end = threading.Event(), threading.Event()

    @huey.task()
    def slow() -> str:
        started.set()
        may_end.wait(20)
        return "done"

    handle = slow()
    with running(huey) as consumer:
        assert started.wait(10)
        threading.Timer(0.2, may_end.set).start()
        assert consumer.stop() is True

    assert handle.get() == "done"


def test_S114_queued_work_stays_over_a_restart(project: Project, kind: str) -> None:
    project.write(APP)
    task = project.task("main.add")
    before = task(1, 2)

    consumer = project.start("main.huey", "-k", kind)
    assert before.get(blocking=True, timeout=10) == 3
    assert consumer.stop() == 0

    between = [task(n, n) for n in range(10)]
    assert len(project.huey) == 10
    project.start("main.huey", "-k", kind)
    assert [handle.get(blocking=True, timeout=10) for handle in between] == [2 * n for n in range(10)]


def test_S114_queued_work_waits_for_a_consumer(huey: Huey) -> None:
    ran: list[str] = []
    note = noting(huey, ran)
    handle = note("a")
    assert never(lambda: ran, within=0.1)

    with running(huey):
        assert handle.get(blocking=True, timeout=10) == "a"
    second = note("b")
    assert never(lambda: len(ran) > 1, within=0.1)
    with running(huey):
        assert second.get(blocking=True, timeout=10) == "b"

    assert ran == ["a", "b"]


def test_S115_scheduled_tasks_survive_a_restart(huey: Huey) -> None:
    task = huey.task()(add)

    with running(huey):
        handle = task.schedule(args=(1, 2), delay=0.5)
    assert handle.get() is None
    assert huey.scheduled_count() == 1

    with running(huey):
        assert handle.get(blocking=True, timeout=10) == 3


def test_S115_a_task_that_fell_due_runs_after_the_restart(project: Project, kind: str) -> None:
    project.write(APP)
    task = project.task("main.add")
    handle = task.schedule(args=(1, 2), delay=0.2)
    assert never(lambda: handle.get() is not None, within=0.3)

    project.start("main.huey", "-k", kind)

    assert handle.get(blocking=True, timeout=10) == 3


def test_S116_interrupting_stops_the_consumer(project: Project, kind: str) -> None:
    project.write(APP)
    consumer = project.start("main.huey", "-k", kind)
    assert project.task("main.add")(1, 2).get(blocking=True, timeout=10) == 3

    assert consumer.stop(signal.SIGINT) == 0
    assert "Traceback" not in consumer.log


# Several consumers


def test_S117_one_command_with_periodic_is_enough(project: Project, kind: str) -> None:
    """The tick runs once a minute, whichever of them runs it."""
    now, monotonic, file = system_clock.now(), system_clock.monotonic(), str(project.folder / "queue.db")
    project.write(TICKING.format(wall=now, monotonic=monotonic, file=file))
    flags = ("-k", kind, "-P", "0.05")

    consumers = [project.start("main.huey", *flags), project.start("main.huey", *flags, "--no-periodic")]
    wait_until(lambda: len(lines_of(project.home / "ticks")) >= 3, told=lambda: consumers[0].log)

    assert [consumer.stop() for consumer in consumers] == [0, 0]
    minutes = {*lines_of(project.home / "asked")}
    assert 3 <= len(lines_of(project.home / "ticks")) <= len(minutes)


def test_S118_local_times_run_in_utc_by_the_command(project: Project, kind: str, set_zone: Callable[[str], None]) -> None:
    project.write(STAMP + "\n\n@huey.periodic_task(lambda dt: open('seen', 'w').write(dt.isoformat()) and False)\ndef tick():\n    pass\n")
    set_zone("EST5")
    consumer = project.start("main.huey", "-k", kind, "-P", "0.05", TZ="EST5")
    stamp = project.task("main.stamp")
    assert stamp().get(blocking=True, timeout=10)
    eta = datetime.now().replace(microsecond=0) + timedelta(seconds=2)

    handle = stamp.schedule(eta=eta)

    assert 0 <= handle.get(blocking=True, timeout=10) - eta.timestamp() < 60
    wait_until(lambda: lines_of(project.home / "seen"), told=lambda: consumer.log)
    (seen,) = lines_of(project.home / "seen")
    assert abs(datetime.fromisoformat(seen).replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(hours=1)
    assert consumer.stop() == 0


def test_S117_one_consumer_with_periodic_is_enough(make_huey: MakeHuey, clock: FakeClock) -> None:
    one = make_huey(clock=clock)
    other = for_queue(one)
    ran = []

    def tick() -> None:
        ran.append(datetime.fromtimestamp(clock.now() // 1_000_000, UTC).minute)

    # Both processes would import the same module.
    one.periodic_task(crontab())(tick)
    other.periodic_task(crontab())(tick)

    with running(one, periodic=True, periodic_task_interval=0.01), running(other, periodic=False, periodic_task_interval=0.01):
        for minute in range(3):
            wait_until(lambda minute=minute: ran[minute:] == [minute], told=lambda: f"ran: {ran}")  # type: ignore[misc]
            assert never(lambda minute=minute: ran[minute:] != [minute], within=0.05)  # type: ignore[misc]
            clock.forward(60)

    assert ran[:3] == [0, 1, 2]


def test_S117_one_without_periodic_runs_what_another_enqueues(make_huey: MakeHuey, clock: FakeClock) -> None:
    huey = make_huey(clock=clock)
    ran = []

    @huey.periodic_task(crontab())
    def tick() -> None:
        ran.append("tick")

    with running(huey, periodic=False, periodic_task_interval=0.01):
        assert never(lambda: ran)
        tick.schedule()
        wait_until(lambda: ran == ["tick"])


def test_S118_times_are_converted_and_the_consumer_runs_in_utc(huey: Huey, set_zone: Callable[[str], None]) -> None:
    set_zone("EST5")
    ran = []

    @huey.periodic_task(lambda dt: ran.append(dt))  # type: ignore[return-value]
    def tick() -> None:
        """Never."""

    handle = huey.task()(add).schedule(args=(1, 2), eta=datetime(2199, 1, 1, 7, 0))

    with running(huey, periodic=True):
        wait_until(lambda: ran)
    due = huey.storage.get(handle.id)
    assert due is not None
    assert due.due == datetime(2199, 1, 1, 12, 0, tzinfo=UTC).timestamp() * 1_000_000
    assert abs(ran[0].replace(tzinfo=UTC).timestamp() - datetime.now(UTC).timestamp()) < 3600

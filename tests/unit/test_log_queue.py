"""A log that nobody reads holds up nobody who logs; what is dropped is counted, and said when it is read again."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from huey.runtime.log_queue import LogQueue
from tests.support.helpers import Project, wait_until


class Sink(logging.Handler):
    """A handler that blocks until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.may_go_on = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.may_go_on.wait(20)
        self.lines.append(record.getMessage())


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.may_go_on.set()


@pytest.fixture
def logger(sink: Sink, request: pytest.FixtureRequest) -> logging.Logger:
    logger = logging.getLogger(f"log-queue.{request.node.name}")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(sink)
    return logger


def over(logger: logging.Logger, capacity: int = 1000) -> LogQueue:
    queue = LogQueue(capacity)
    queue.take_over(logger.name)
    return queue


def test_whoever_logs_does_not_wait_for_a_handler_that_blocks(logger: logging.Logger, sink: Sink) -> None:
    queue = over(logger)

    for number in range(100):
        logger.info("line %d", number)

    assert sink.lines == []
    sink.may_go_on.set()
    assert queue.drain(20)
    assert sink.lines == [f"line {number}" for number in range(100)]


def test_what_does_not_fit_is_counted_and_said(logger: logging.Logger, sink: Sink) -> None:
    queue = over(logger, 10)

    for number in range(100):
        logger.info("line %d", number)
    sink.may_go_on.set()

    assert queue.drain(20)
    kept = [line for line in sink.lines if line.startswith("line")]
    (said,) = [line for line in sink.lines if line.startswith("dropped")]
    assert said.split()[1] == str(100 - len(kept))
    assert 10 <= len(kept) <= 12


def test_a_second_loss_is_said_too(logger: logging.Logger, sink: Sink) -> None:
    queue = over(logger, 5)
    for _ in range(2):
        sink.may_go_on.clear()
        for _ in range(20):
            logger.info("line")
        sink.may_go_on.set()
        assert queue.drain(20)

    assert len([line for line in sink.lines if line.startswith("dropped")]) == 2


def test_a_handler_that_raises_does_not_rob_the_others(logger: logging.Logger, sink: Sink) -> None:
    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise SystemExit

    logger.handlers.insert(0, Failing())
    queue = over(logger)
    sink.may_go_on.set()

    logger.info("line")

    assert queue.drain(20)
    assert sink.lines == ["line"]


def test_handlers_above_and_those_that_come_later_are_served(logger: logging.Logger, sink: Sink) -> None:
    queue = over(logger)
    child = logging.getLogger(f"{logger.name}.child")
    queue.take_over(child.name)
    late = Sink()
    child.addHandler(late)
    sink.may_go_on.set()
    late.may_go_on.set()

    child.warning("line")

    assert queue.drain(20)
    assert (sink.lines, late.lines) == (["line"], ["line"])


def test_the_thread_ends_when_it_is_asked_to_and_begins_again(logger: logging.Logger, sink: Sink) -> None:
    queue = over(logger)
    sink.may_go_on.set()
    logger.info("one")
    assert queue.drain(20)
    assert not any(thread.name == "Log" for thread in threading.enumerate())

    logger.info("two")

    assert queue.drain(20)
    assert sink.lines == ["one", "two"]


def test_a_drain_of_a_stuck_log_gives_up_in_time(logger: logging.Logger) -> None:
    queue = over(logger)
    logger.info("line")

    assert queue.drain(0.05) is False


def test_two_threads_that_fork_at_once_leave_the_log_as_it_was(logger: logging.Logger, sink: Sink) -> None:
    queue = over(logger)
    sink.may_go_on.set()
    other = threading.Thread(target=queue._before_fork)

    queue._before_fork()
    other.start()
    other.join(20)
    queue._after_fork()

    logger.info("line")
    assert queue.drain(20)
    assert sink.lines == ["line"]


def test_a_forked_process_writes_only_its_own_lines(logger: logging.Logger, sink: Sink) -> None:
    queue = over(logger)
    logger.info("the parent's")
    wait_until(lambda: queue._lines.empty())
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            sink.may_go_on = threading.Event()
            sink.may_go_on.set()
            sink.createLock()
            logger.info("the child's")
            queue.drain(10)
            os.write(theirs, ",".join(sink.lines).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)

    assert os.read(ours, 1000) == b"the child's"
    os.close(ours)
    os.close(theirs)


APP = """
@huey.task(name="fails")
def fails(n):
    raise ValueError("x" * 500)


@huey.task(name="fine")
def fine(n):
    return n
"""


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_console_nobody_reads_does_not_hold_up_the_consumer(project: Project, tmp_path: Path, kind: str) -> None:
    project.write(APP)
    fails, fine = project.task("fails"), project.task("fine")
    command = [sys.executable, "-m", "huey.cli.consumer", "main.huey", "-k", kind, "-w", "2", "-v"]
    consumer = subprocess.Popen(command, cwd=project.home, stderr=subprocess.PIPE)
    assert consumer.stderr is not None
    try:
        fails.map(range(300))
        assert fine(1).get(blocking=True, timeout=60) == 1
        wait_until(lambda: project.huey.storage.counts().failed == 300, timeout=60)
        consumer.send_signal(signal.SIGTERM)
        assert consumer.wait(30) == 0
    finally:
        consumer.kill()
        consumer.wait()
        consumer.stderr.close()


def test_a_console_that_is_read_again_says_what_it_lacks(project: Project) -> None:
    project.write("from huey.runtime.log_queue import LogQueue\n\nLogQueue.__init__.__defaults__ = (20,)\n" + APP)
    fails = project.task("fails")
    command = [sys.executable, "-m", "huey.cli.consumer", "main.huey", "-w", "2"]
    consumer = subprocess.Popen(command, cwd=project.home, stderr=subprocess.PIPE)
    assert consumer.stderr is not None
    read: list[bytes] = []
    try:
        fails.map(range(300))
        wait_until(lambda: project.huey.storage.counts().failed == 300, timeout=60)
        reader = threading.Thread(target=lambda: read.extend(consumer.stderr), daemon=True)  # type: ignore[arg-type]
        reader.start()
        wait_until(lambda: any(b"dropped" in line for line in read), timeout=30)
        consumer.send_signal(signal.SIGTERM)
        assert consumer.wait(30) == 0
        reader.join(10)
    finally:
        consumer.kill()
        consumer.wait()
        consumer.stderr.close()

    assert any(b"stopped" in line for line in read)

"""`make demo` shows what it says, counts right, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from huey.runtime.host import process_start_time
from tests.support.helpers import SOURCE, wait_until
from tests.support.mortals import mortal

ROOT = Path(__file__).resolve().parents[2]


class Demo:
    """The demo as a child process, with a folder of its own for temporary files."""

    def __init__(self, folder: Path) -> None:
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self._shown = folder / "shown.txt"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HUEY_"))}
        environment |= {"PYTHONPATH": str(SOURCE), "TMPDIR": str(self.temporary)}
        with self._shown.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "examples" / "demo.py")], cwd=folder, env=environment, stdout=out, stderr=out
            )
        mortal(self.process)

    @property
    def shown(self) -> str:
        return self._shown.read_text("utf-8")

    @property
    def consumers(self) -> list[tuple[int, int]]:
        """The pids of the consumers it has told about: supervisor and worker."""
        told = re.findall(r"A consumer runs: process (\d+) watches, process (\d+) runs the tasks", self.shown)
        return [(int(supervisor), int(worker)) for supervisor, worker in told]

    def waits_until(self, fact: Callable[[], object]) -> None:
        wait_until(lambda: fact() or self.process.poll() is not None, timeout=50, told=lambda: self.shown)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path)
    yield demo
    if demo.process.poll() is None:
        demo.process.kill()
    demo.process.wait()


def is_alive(pid: int) -> bool:
    return process_start_time(pid) is not None


def left_behind(demo: Demo) -> list[object]:
    # A worker that the kernel kills with its supervisor may need a moment.
    wait_until(lambda: not any(is_alive(worker) for _, worker in demo.consumers))
    return [*demo.temporary.iterdir(), *(pid for pid, _ in demo.consumers if is_alive(pid))]


@pytest.mark.timeout(90)
def test_the_demo_shows_its_six_scenes_and_counts_right(demo: Demo) -> None:
    before = {path for path in (ROOT / "examples").rglob("*")}

    assert demo.process.wait(80) == 0, demo.shown

    assert [f"\n{number}. " in demo.shown for number in range(1, 7)] == [True] * 6
    (first, _), (_, worker) = demo.consumers
    assert f"kill -9 {first}" in demo.shown
    assert f"process {worker} wrote pages 1 to 10" in demo.shown
    enqueued, done = re.findall(r"^enqueued ([\d,]+), done ([\d,]+), lost 0$", demo.shown, re.MULTILINE)[0]
    # More when a minute begins meanwhile.
    assert int(enqueued.replace(",", "")) >= 1007
    assert done == enqueued
    assert left_behind(demo) == []
    assert {path for path in (ROOT / "examples").rglob("*")} == before
    assert "\033" not in demo.shown


@pytest.mark.timeout(90)
@pytest.mark.parametrize(("scene", "number", "code"), [(6, signal.SIGINT, 130), (2, signal.SIGTERM, 143)])
def test_a_demo_that_is_interrupted_leaves_nothing_behind(demo: Demo, scene: int, number: signal.Signals, code: int) -> None:
    demo.waits_until(lambda: f"\n{scene}. " in demo.shown)

    demo.process.send_signal(number)

    assert demo.process.wait(50) == code, demo.shown
    assert "lost" not in demo.shown
    assert left_behind(demo) == []


@pytest.mark.timeout(90)
def test_a_demo_whose_consumer_dies_leaves_nothing_behind(demo: Demo) -> None:
    demo.waits_until(lambda: "\n2. " in demo.shown)

    os.kill(demo.consumers[0][0], signal.SIGKILL)

    assert demo.process.wait(50) == 1, demo.shown
    assert "The demo failed: waited for a result, but the consumer ended with code -9" in demo.shown
    assert left_behind(demo) == []

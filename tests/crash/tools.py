"""A place where processes are started, killed and judged.

A test tells a ``Place`` to start children of ``tests.crash.app``, kills them, lets a last consumer finish everything, and asks for the
verdict: the laws of ``tests.support.history`` and what this programme adds, which tasks may run again, and that every result is there.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from huey.exceptions import TaskException
from huey.runtime.clock import SECOND, system_clock
from huey.task.lifecycle import FINAL
from tests.crash import app as application
from tests.support import history
from tests.support.helpers import PATIENCE, wait_until
from tests.support.mortals import mortal

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("HUEY_STORM_KILLS", "60"))
"""How many kills a long storm has."""
FAILS = object()
"""What a task brings that ends as failed."""


def storm_seed(show: Callable[[object], None]) -> int:
    """The seed of a storm: ``HUEY_STORM_SEED``, or a new one. It is shown, and stands in the junit report."""
    seed = int(os.environ.get("HUEY_STORM_SEED") or random.randrange(10**6))
    show(f"seed {seed} (HUEY_STORM_SEED={seed} draws the same lives)")
    return seed


@contextmanager
def locked(path: Path, how: str) -> Iterator[None]:
    """Somebody else keeps the file."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=10)
    connection.execute(f"BEGIN {how}")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


def fill(disk: Path, *, leave: int = 0) -> Path:
    """Take all the room of a disk but *leave* bytes; the file that takes it."""
    ballast = disk / "ballast"
    room = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, room - leave))
    return ballast


class Run(NamedTuple):
    """One run of a body, from the journal."""

    id: str
    name: str
    attempt: int
    token: int
    node: str
    start: int
    end: int | None


class Child:
    """A process of the application."""

    def __init__(self, place: Place, role: str, options: dict[str, Any], environment: dict[str, str]) -> None:
        self._place = place
        with open(place.folder / "children.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.app", role, str(place.folder), json.dumps(options)],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        mortal(self.process)
        self.node = str(self.process.pid)

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    @property
    def is_known(self) -> bool:
        """It has started: the storage knows it as a worker."""
        return any(row.worker.pid == self.process.pid for row in self._place.storage.workers())

    def cpu_share(self, seconds: float) -> float:
        """Share of a core that it takes, over so many seconds."""
        begun, before = time.monotonic(), self._cpu_time()
        while time.monotonic() < begun + seconds:
            time.sleep(0.05)
        return (self._cpu_time() - before) / (time.monotonic() - begun)

    def _cpu_time(self) -> float:
        facts = Path(f"/proc/{self.process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(facts[11]) + int(facts[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """kill -9, and wait until nothing of it is left."""
        at = system_clock.monotonic()
        self.process.kill()
        self._buried(at)

    def dies(self, timeout: float = PATIENCE) -> None:
        """Wait for it to be killed by a crash point."""
        wait_until(lambda: not self.is_alive, f"{self.node} meets its crash point", timeout)
        self._buried(system_clock.monotonic())

    def _buried(self, at: int) -> None:
        code = self.process.wait(PATIENCE)
        assert code == -signal.SIGKILL, f"ended by itself with {code} before it was killed:\n{self._place.log()}"
        self._place.deaths[self.node] = at

    def ask_to_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.ask_to_stop()
        return self.process.wait(PATIENCE)

    def ends(self) -> int:
        return self.process.wait(PATIENCE)


class Place:
    """A folder with a queue, the processes that use it, and what became of them."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.options = options
        self.app = application.make(folder, **options)
        self.storage = self.app.huey.storage
        self.journal = folder / "history.jsonl"
        self.deaths: dict[str, int] = {}
        self.expected: dict[str, Any] = {}
        """What each task that was put in must bring."""
        self.children: list[Child] = []

    # -- doing ---------------------------------------------------------------------------------------------------------------------------

    def start(self, role: str = "consumer", crash_at: str = "", **options: Any) -> Child:
        environment = {"HUEY_CRASH_AT": crash_at} if crash_at else {}
        child = Child(self, role, {**options, "app": self.options}, environment)
        self.children.append(child)
        return child

    def work(self, n: int, seconds: float = 0.0, delay: float | None = None) -> str:
        task = self.app.work.schedule(args=(n, seconds), delay=delay)
        return self._expect(task.id, n * n)

    def flaky(self, n: int, failures: int) -> str:
        return self._expect(self.app.flaky(n, failures).id, n * n)

    def doomed(self, n: int) -> str:
        return self._expect(self.app.doomed(n).id, FAILS)

    def large(self, n: int, size: int) -> str:
        return self._expect(self.app.large(n, size).id, bytes([n % 256]) * size)

    def gated(self, n: int) -> str:
        return self._expect(self.app.gated(n).id, n * n)

    def held(self, n: int, size: int) -> str:
        return self._expect(self.app.held(n, size).id, bytes([n % 256]) * size)

    def bulk(self, numbers: range, seconds: float = 0) -> list[str]:
        results = self.app.work.map((n, seconds) for n in numbers)
        return [self._expect(result.id, n * n) for n, result in zip(numbers, results, strict=True)]

    def _expect(self, id: str, value: Any) -> str:
        self.expected[id] = value
        return id

    def open_gate(self) -> None:
        (self.folder / "gate").touch()

    def finish(self, timeout: float = PATIENCE, and_then: Callable[[], bool] = lambda: True, **options: Any) -> None:
        """Start a consumer that nobody kills, let it finish everything, stop it. A tick may fire as it stops: another one runs that."""
        last = self.start(**options)
        wait_until(lambda: (last.is_known and self.is_done() and and_then()) or not last.is_alive, "everything is done", timeout)
        assert last.stop() == 0, self.log()
        if not self.is_done():
            self.finish(timeout, periodic=False)

    def is_done(self) -> bool:
        counts = self.storage.counts()
        return counts.ready == counts.scheduled == counts.running == counts.blocked == 0

    def clean_up(self) -> None:
        for child in self.children:
            if child.is_alive:
                child.process.kill()
                child.process.wait(PATIENCE)
        self.app.huey.close()

    # -- looking -------------------------------------------------------------------------------------------------------------------------

    def log(self) -> str:
        """The end of what the children said."""
        return (self.folder / "children.log").read_text("utf-8", "replace")[-60_000:]

    def runs(self) -> list[Run]:
        """All runs of bodies, in order of their starts."""
        lines = history.lines(self.journal)
        ends = {(line["id"], line["token"], line["node"]): line["t_call"] for line in lines if line["op"] == "end"}
        runs = [
            Run(it["id"], it["name"], it["attempt"], it["token"], it["node"], it["t_call"], ends.get((it["id"], it["token"], it["node"])))
            for it in lines
            if it["op"] == "start"
        ]
        return sorted(runs, key=lambda run: run.start)

    def started(self, id: str) -> list[Run]:
        return [run for run in self.runs() if run.id == id]

    def started_of(self, name: str) -> list[Run]:
        return [run for run in self.runs() if run.name == name]

    # -- judging -------------------------------------------------------------------------------------------------------------------------

    def verdict(self) -> Verdict:
        """Read what happened and judge it. Everything must be done by then."""
        runs = self.runs()
        events = history.read(self.journal)
        # What was cut short and put back has a finish too; only what had ended must not run again.
        whole = {(run.id, run.token) for run in runs if run.end is not None}
        accepted = {
            (event.id, event.token)
            for event in events
            if event.op == "finish" and event.end == history.OK and (event.state in FINAL or (event.id, event.token) in whole)
        }
        reruns, unexcused, slack = judge_reruns(runs, self.deaths, accepted)
        problems = [str(problem) for problem in history.check(events, deaths=self.deaths, ended=self._ended(events))]
        problems += unexcused + self._wrong_results() + self._left_over() + judge_ticks(runs, history.lines(self.journal))
        return Verdict(problems, len(self.deaths), len(self.expected), len(runs), reruns, slack, len(ticks_of(runs)))

    def _ended(self, events: Iterable[history.Event]) -> set[str]:
        """Tasks of which the storage says that they ended."""
        ended = {*self.storage.items("result"), *(row.id for row in self.storage.find("failed", limit=10**6))}
        # A periodic task leaves no result: that it is gone is all there is to see.
        return ended | {event.id for event in events if event.id not in self.expected and self.storage.get(event.id) is None}

    def _wrong_results(self) -> list[str]:
        problems = []
        for id, expected in self.expected.items():
            found = self._result(id)
            if found is not expected and found != expected:
                problems.append(f"no result is lost: {id}: expected {'a failure' if expected is FAILS else expected}, found {found}")
        return problems

    def _result(self, id: str) -> Any:
        try:
            return self.app.huey.result(id, preserve=True)
        except TaskException as error:
            return FAILS if "doomed" in str(error) else error.metadata

    def _left_over(self) -> list[str]:
        """Quiescence: nobody holds anything, nobody dead is known."""
        problems = [f"nothing is left over: worker {row.worker.pid}, holding {row.holds}" for row in self.storage.workers()]
        counts = self.storage.counts()
        failures = sum(expected is FAILS for expected in self.expected.values())
        if (counts.ready, counts.scheduled, counts.running, counts.failed, counts.cancelled) != (0, 0, 0, failures, 0):
            problems.append(f"nothing is left over: {counts}, {failures} failures expected")
        return problems


class Verdict(NamedTuple):
    """What a place came to."""

    problems: list[str]
    kills: int
    tasks: int
    runs: int
    reruns: int
    slack: float
    """Longest time between the end of a body and the kill that made it run again, seconds."""
    ticks: int

    def __str__(self) -> str:
        lost = sum("lost" in problem for problem in self.problems)
        return (
            f"{self.kills} kills, {self.tasks} tasks and {self.ticks} ticks in {self.runs} runs, {self.reruns} of them again "
            f"(ended at most {self.slack * 1000:.1f} ms before the kill), lost {lost}, other problems {len(self.problems) - lost}"
        )


def judge_reruns(runs: list[Run], deaths: dict[str, int], accepted: set[tuple[str, int]]) -> tuple[int, list[str], float]:
    """How many runs were done again, those that should not have been, and the longest excuse. A retry is not a rerun: it is another try."""
    problems: list[str] = []
    reruns, slack = 0, 0.0
    tries: dict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in runs:
        tries[run.id, run.attempt].append(run)
    for same in tries.values():
        for run in same[:-1]:
            reruns += 1
            death = deaths.get(run.node)
            if death is None:
                problems.append(f"only a death makes a task run again: {run}")
            elif (run.id, run.token) in accepted:
                problems.append(f"a finish that was stored is final: {run} ran again")
            elif run.end is not None:
                slack = max(slack, (death - run.end) / SECOND)
    return reruns, problems, slack


def ticks_of(runs: list[Run]) -> dict[tuple[str, int], set[str]]:
    """Ids by periodic task and minute. The id of a task holds the time when it was made."""
    ticks: dict[tuple[str, int], set[str]] = defaultdict(set)
    for run in runs:
        if run.name in application.PERIODIC:
            ticks[run.name, int(run.id[:12], 16) // 60_000].add(run.id)
    return ticks


def judge_ticks(runs: list[Run], lines: list[dict[str, Any]]) -> list[str]:
    """No tick ran as two tasks. Which tick a task is for, its line tells; a tick may fire in the minute after its own."""
    minutes = {id: line["tick"] for line in lines if line["op"] == "tick" for id in line["ids"]}
    ticks: dict[tuple[str, int], set[str]] = defaultdict(set)
    for run in runs:
        if run.id in minutes:
            ticks[run.name, minutes[run.id]].add(run.id)
    return [f"a tick fires once: {tick} as {ids}" for tick, ids in ticks.items() if len(ids) > 1]


def most_common_problems(problems: list[str]) -> str:
    """The broken rules with their number, and the first examples."""
    rules = Counter(problem.partition(":")[0] for problem in problems)
    return "\n".join([*(f"{count} x {rule}" for rule, count in rules.items()), *problems[:20]])

"""The real consumer command in a ``Place``: its processes are counted, killed and buried one by one, or all together.

A ``Commanded`` place knows the tree of its processes from the journal: who died because the supervisor above it did, and when.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from huey.runtime.clock import SECOND, system_clock
from huey.storage.rows import TaskRow
from tests.crash.tools import FAILS, ROOT, Child, Place, Verdict
from tests.support import history
from tests.support.helpers import PATIENCE, wait_until
from tests.support.mortals import mortal

KINDS = {"thread": 4, "process": 3}
"""Workers by kind."""
ORPHAN_LIFE = 5.0
"""Seconds after which no worker of a killed supervisor may live; a busy machine is slow to bury them."""
LAST_WORDS = SECOND
"""How long after a kill a line of the dead may be dated."""
CRASHES_ALONE = 3
SHUTDOWN = 1.0
"""The shutdown timeout of these commands, seconds."""
PROMISE = re.compile(r"([wd])(\d+)$")


def promised(id: str) -> Any:
    """What a task of ``app.stream`` must bring; None: not one of them."""
    match = PROMISE.match(id)
    if not match:
        return None
    return FAILS if match[1] == "d" else int(match[2]) ** 2


# -- processes ----------------------------------------------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    """Living children of a process: started by any of its threads."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text("ascii").split())
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [child for child in found if not is_gone(child)]


def is_gone(pid: int) -> bool:
    """No such process, or nobody has asked yet how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] in "ZXx"
    except (FileNotFoundError, ProcessLookupError):
        return True


def pss(pid: int) -> int:
    """Bytes of memory of a process, shared pages in proportion; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(size) for size in re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)) * 1024


class Command:
    """One consumer command: a supervisor and its workers, in a process group of its own."""

    def __init__(self, place: Commanded, kind: str, flags: tuple[str, ...], environment: dict[str, str], cwd: Path) -> None:
        self._place = place
        self.kind = kind
        words = [sys.executable, "-m", "huey.cli.consumer", "tests.crash.commanded.huey", *flags]
        self._log = place.folder / f"command-{len(place.children)}.log"
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                words,
                cwd=cwd,
                env={**os.environ, "CHAOS_PLACE": str(place.folder), "CHAOS_APP": json.dumps(place.options), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        mortal(self.process)
        self.pid = self.process.pid
        self.node = str(self.pid)

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    @property
    def is_known(self) -> bool:
        """The storage knows its workers."""
        pids = {self.pid, *self.workers()}
        return any(row.worker.pid in pids for row in self._place.storage.workers())

    def workers(self) -> list[int]:
        """The processes that run tasks."""
        return children(self.pid)

    def memory(self) -> int:
        """Bytes of the supervisor and its workers together."""
        return pss(self.pid) + sum(map(pss, self.workers()))

    # -- killing -------------------------------------------------------------------------------------------------------------------------

    def kill_worker(self, choose: Callable[[list[int]], int]) -> bool:
        """kill -9 for one worker. False: there is none, or it had died by itself."""
        workers = self.workers()
        if not workers:
            return False
        pid, at = choose(workers), system_clock.monotonic()
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        self._place.deaths[str(pid)] = at
        return True

    def kill(self) -> None:
        """kill -9 for the supervisor only. Its workers have to follow it."""
        before = self.workers()
        self._kill(lambda: self.process.kill())
        wait_until(lambda: all(map(is_gone, before)), f"workers {before} of the killed supervisor {self.pid} die too", ORPHAN_LIFE)

    def kill_group(self) -> None:
        """kill -9 for all its processes at once."""
        self._kill(lambda: os.killpg(self.pid, signal.SIGKILL))

    def _kill(self, strike: Callable[[], None]) -> None:
        at = system_clock.monotonic()
        strike()
        code = self.process.wait(PATIENCE)
        assert code == -signal.SIGKILL, f"{self.pid} ended by itself with {code} before it was killed:\n{self.log[-6000:]}"
        self._place.deaths[self.node] = at

    # -- asking --------------------------------------------------------------------------------------------------------------------------

    def send(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def ended(self, timeout: float = PATIENCE) -> int:
        """Wait for its end; the exit code. No process of it may be left."""
        before = self.workers()
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"command {self.pid} still runs after {timeout} s:\n{self.log[-6000:]}") from None
        wait_until(lambda: all(map(is_gone, before)), f"workers {before} of command {self.pid}, which has ended, are gone", ORPHAN_LIFE)
        return code

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop; the exit code."""
        self.send(number)
        return self.ended()

    def bury(self) -> None:
        """Leave nothing behind."""
        for pid in self.workers():
            _strike(pid)
        if self.is_alive:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)


def _strike(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


# -- places -------------------------------------------------------------------------------------------------------------------------------


class Commanded(Place):
    """A place whose consumers are commands. Its producers may be processes too, and die."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.excused: list[str] = []
        """Tasks that ended as poison because these kills met them again and again while they ran alone."""
        self.lives_by_rule = True
        """Whoever dies here dies by a kill of the test."""

    def command(self, kind: str, *flags: str, workers: int | None = None, cwd: Path = ROOT, **environment: str) -> Command:
        """Start one. The periodic tasks are looked at often, since the clock may be a fast one."""
        words = ["-w", str(workers or KINDS[kind]), "-P", "0.2", "--shutdown-timeout", str(SHUTDOWN), *flags]
        environment = {"PYTHONPATH": str(ROOT), **environment}
        command = Command(self, kind, ("-k", kind, *words), environment, cwd)
        self.children.append(command)  # type: ignore[arg-type]
        return command

    def streaming(self, seed: int, first: int, crowd: int = 150, is_shared: bool = False, **environment: str) -> Child:
        """A producer of all kinds of tasks, in a process of its own."""
        options = {"seed": seed, "first": first, "crowd": crowd, "is_shared": is_shared, "app": self.options}
        child = Child(self, "stream", options, environment)
        self.children.append(child)
        return child

    def finish_by_command(self, kind: str, timeout: float = 30) -> None:
        """Let a command that nobody kills do everything that is left. A tick may fire as it stops: another one runs that."""
        last = self.command(kind)
        wait_until(lambda: self._is_over(last) or not last.is_alive, "everything is done", timeout, told=self.unfinished)
        assert last.stop() == 0, last.log[-6000:]
        if not self.is_done():
            last = self.command(kind, "-n")
            wait_until(lambda: self._is_over(last) or not last.is_alive, "everything is done", timeout)
            assert last.stop() == 0, last.log[-6000:]

    def _is_over(self, last: Command) -> bool:
        if not (last.is_known and self.is_done()):
            return False
        living = {last.pid, *last.workers()}
        return all(row.worker.pid in living for row in self.storage.workers())

    def unfinished(self) -> str:
        """What a failure says about tasks that are not done."""
        return ""

    def log(self) -> str:
        """The end of what all said."""
        texts = [path.read_text("utf-8", "replace") for path in sorted(self.folder.glob("*.log"), key=lambda path: path.stat().st_mtime)]
        return "".join(texts)[-6000:]

    def clean_up(self) -> None:
        for child in self.children:
            if isinstance(child, Command):
                child.bury()
        for pid in self._strangers():
            _strike(pid)
        super().clean_up()

    def _strangers(self) -> list[int]:
        """Living processes of this place whose parents are gone."""
        mark = f"CHAOS_PLACE={self.folder}".encode()
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if mark in Path(f"/proc/{name}/environ").read_bytes().split(b"\0") and not is_gone(int(name)):
                    found.append(int(name))
            except OSError:
                continue
        return found

    # -- judging -------------------------------------------------------------------------------------------------------------------------

    def verdict(self) -> Verdict:
        """As every place, after a look at who died with whom and at what the producers promised."""
        lines = history.lines(self.journal)
        killed = len(self.deaths) + sum(line["op"] == "killed by line" for line in lines)
        complaints = self._bury_families(lines)
        self._expect_promises(lines)
        self._excuse(lines)
        verdict = super().verdict()
        if left := self._strangers():
            complaints.append(f"no process is left over: {left}")
        return verdict._replace(problems=verdict.problems + complaints, kills=killed)

    def _bury_families(self, lines: Iterable[dict[str, Any]]) -> list[str]:
        """Who was born by a process that was killed is dead since then, or since it was last heard of. Who died otherwise did so when it
        was last heard of."""
        last: dict[str, int] = defaultdict(int)
        parents: dict[str, str] = {}
        for line in lines:
            last[line["node"]] = max(last[line["node"]], line["t_return"])
            if line["op"] == "born":
                parents[line["node"]] = line["parent"]
            elif line["op"] == "killed by line":
                self.deaths[line["node"]] = line["t_call"]
        complaints = []
        killed = dict(self.deaths)
        for node, parent in parents.items():
            fall = killed.get(node, killed.get(parent))
            if fall is None:
                if not self.lives_by_rule and is_gone(int(node)):
                    self.deaths[node] = last[node]
                continue
            if last[node] > fall + LAST_WORDS:
                complaints.append(f"who is killed is dead: {node} was heard of {(last[node] - fall) / SECOND:.1f} s after its death")
            self.deaths[node] = max(fall, last[node])
        return complaints

    def _expect_promises(self, lines: Iterable[dict[str, Any]]) -> None:
        for line in lines:
            if line["op"] == "enqueue" and line.get("end") == history.OK:
                self.expected.update({id: promised(id) for id in line["ids"] if promised(id) is not None})

    def _excuse(self, lines: Iterable[dict[str, Any]]) -> None:
        """Kills at random may meet one task three times while it runs alone: then it has to fail as poison, and only then. A task whose
        body ended and whose end nobody wrote is as much a suspect as one that was in its body."""
        broken: dict[str, int] = defaultdict(int)
        written = {(id, token) for line in lines for id, token, _, end in line.get("finish", ()) if end == history.OK}
        for line in lines:
            if line["op"] == "start" and line["node"] in self.deaths and (line["id"], line["token"]) not in written:
                broken[line["id"]] += 1
        for row in self._failed():
            if row.reason == "poison" and broken[row.id] >= CRASHES_ALONE:
                self.excused.append(row.id)
                self.expected.pop(row.id, None)

    def _failed(self) -> list[TaskRow]:
        return self.storage.find("failed", limit=10**6)

    def _left_over(self) -> list[str]:
        problems = [f"nothing is left over: worker {row.worker.pid}, holding {row.holds}" for row in self.storage.workers()]
        counts = self.storage.counts()
        if (counts.ready, counts.scheduled, counts.running, counts.cancelled) != (0, 0, 0, 0):
            problems.append(f"nothing is left over: {counts}")
        allowed = {id for id, value in self.expected.items() if value is FAILS} | {*self.excused}
        for row in self._failed():
            if row.id not in allowed and promised(row.id) is not FAILS:
                problems.append(f"no good task fails: {row.name} {row.id}: {row.reason}")
        return problems


def wait(seconds: float) -> None:
    """Let a process live for a while: how long it lives is part of the test."""
    time.sleep(seconds)

"""Starting worker processes: by fork while this process has one thread, else by exec, where the child imports the application itself."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial

from huey.consumer import command, exits
from huey.consumer.recovery import ExitCause
from huey.consumer.worker_spec import SEAT, WorkerSpec, make_worker
from huey.engine.scoreboard import Scoreboard
from huey.engine.stamps import Standstill
from huey.engine.time_limits import BROKEN
from huey.runtime.clock import Micros
from huey.runtime.log_queue import drain
from huey.runtime.logs import SafeLogger, flush, leave
from huey.storage.rows import Worker

log = SafeLogger("huey.consumer")

HANDOVER = "HUEY_HANDOVER"
"""Environment variable: the workers that a supervisor has when it replaces itself by new code."""
TRIAL = "HUEY_TRIAL"
"""Environment variable: come as far as a supervisor that is ready to start, then exit with 0."""
QUIET = 1.0
"""Seconds that a start waits for the log to be written, to be the only thread that is copied; then the worker is started by exec."""
FORK_IS_SAFE = sys.platform == "linux"


@dataclass(slots=True)
class Child:
    """A worker process that this supervisor started, or took over from the one before it."""

    worker: Worker
    page: Scoreboard
    started: Micros
    """On the clock that never steps."""
    queue: str
    """The queue that it takes tasks from."""
    cause: ExitCause = ExitCause.CRASH
    """Why it ended, if it ends now."""
    is_leaving: bool = False
    """It was told to stop."""
    due: tuple[Micros, ExitCause] | None = None
    """When it is killed if it has not ended by then, and why."""
    idle_since: Micros | None = None
    """Of a quarantine worker: since when there is nothing for it."""
    asked_since: Micros | None = None
    """Since when what it runs is asked to stop, for it is revoked."""
    stopped_since: Micros | None = None
    """Since when it is held by SIGSTOP."""
    standstill: Standstill = field(default_factory=partial(Standstill, 0))
    """What the watchdog saw of it."""
    sleepers: set[tuple[str, str]] = field(default_factory=set)
    """Its threads that were asleep in the kernel at the watchdog's last look."""

    @property
    def pid(self) -> int:
        return self.worker.pid

    def signal(self, number: int) -> None:
        """Send a signal. The process is ours and not buried yet, so its pid is nobody else's."""
        os.kill(self.pid, number)

    def tell_to_stop(self) -> None:
        """Take nothing more, let end what runs, then exit."""
        self.is_leaving = True
        self.page.tell_to_stop()
        self.signal(signal.SIGTERM)

    def cut_short(self) -> None:
        """Tell of what runs that it will be cut short; the kill comes in a moment."""
        self.page.cut_short()
        self.tell_to_stop()

    def kill(self, cause: ExitCause) -> None:
        self.cause = cause
        self.signal(signal.SIGKILL)

    def to_plain(self) -> list[object]:
        return [*self.worker, self.page.fd, self.page.count, self.started, self.queue]

    @classmethod
    def from_plain(cls, plain: list[object]) -> Child:
        *who, fd, count, started, queue = plain
        return cls(Worker(*who), Scoreboard(int(str(count)), int(str(fd))), int(str(started)), str(queue))  # type: ignore[arg-type]


def is_single_threaded() -> bool:
    """No thread but this one, C libraries included: a fork copies only one, and what the others hold stays locked for ever."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def start(
    seat_of: Callable[[int], WorkerSpec], runners: int, work: Callable[[WorkerSpec], int], now: Micros, *, may_fork: bool = True
) -> Child:
    """Start a worker process. *work* is what a forked one does; a process started by exec finds its seat in its environment. Not
    *may_fork*: what this process has open must not be used by another one. OSError: the system has no room for another process, or the
    command is not where it was."""
    page = Scoreboard(runners)
    try:
        seat = seat_of(page.fd)
        if may_fork and FORK_IS_SAFE and drain(QUIET) and is_single_threaded():
            pid = _fork(seat, work)
        else:
            if may_fork:
                _tell_once()
            pid = _exec(seat)
    except OSError:
        page.close()
        raise
    return Child(make_worker(seat.id, seat.kind, seat.keeper, pid), page, now, seat.queue)


def _fork(seat: WorkerSpec, work: Callable[[WorkerSpec], int]) -> int:
    # What is there now is shared by parent and child as long as neither writes on its pages; the collector would.
    gc.freeze()
    try:
        pid = os.fork()
    except OSError:
        gc.unfreeze()
        raise
    if pid:
        gc.unfreeze()
        return pid
    code = BROKEN
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        exits.forget()
        code = work(seat)
    except BaseException:  # The top of a process: whatever it was, it is told, and nothing of the parent's may run on here.
        log.critical("worker %s failed", seat.id, exc_info=True)
    finally:
        leave(code)


@cache
def _tell_once() -> None:
    log.info("this process has several threads, or its system does not fork well: each worker imports the application by itself")


def _exec(seat: WorkerSpec) -> int:
    # What lies there now is the code that the others run, whatever a link leads to by now.
    return spawn({SEAT: seat.to_text()}, seat.page_fd, folder=command.REAL if os.path.isdir(command.REAL) else "")


def spawn(more: Mapping[str, str], *fds: int, folder: str = command.NAMED) -> int:
    """Run this process's command once more beside it, with *more* in its environment and these descriptors, in that folder: the pid.
    OSError: it cannot be run, or there is no such folder."""
    words = command.own_command()
    for fd in fds:
        os.set_inheritable(fd, True)
    try:
        with command.in_folder(folder):
            return os.posix_spawn(words[0], words, {**os.environ, **command.kept, **more}, setsigmask=())
    finally:
        for fd in fds:
            os.set_inheritable(fd, False)


def replace_this_process(children: list[Child]) -> None:
    """Run this command anew in the same process, with whatever code is there now. *children* stay ours. OSError: it cannot be run, and all
    is as before."""
    for child in children:
        os.set_inheritable(child.page.fd, True)
    environment = {**os.environ, **command.kept, HANDOVER: json.dumps([child.to_plain() for child in children])}
    # Until the new one is ready to hear them, signals wait.
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    flush()
    words = command.own_command()
    try:
        with command.in_folder(command.NAMED):
            os.execve(words[0], words, environment)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for child in children:
            os.set_inheritable(child.page.fd, False)


def taken_over() -> list[Child]:
    """The workers of the supervisor that this process was before."""
    # Taken out of the environment, as programs that tasks start would take it for theirs.
    children = [Child.from_plain(plain) for plain in json.loads(os.environ.pop(HANDOVER, "[]"))]
    for child in children:
        os.set_inheritable(child.page.fd, False)
    return children


def memory_of(pid: int) -> int:
    """Resident bytes of a process; 0 when the system does not tell."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0

"""Start worker processes: by fork while this process has a single thread, else by exec, where the child imports the application itself.

On SIGHUP a trial process imports the application; only if that works, the supervisor replaces itself with the new code.

This module also ends a forked worker like a Python program: exit handlers, non-daemon threads, multiprocessing. A worker must not run
handlers that its supervisor registered, since they would delete the supervisor's folders and end its processes. So they are dropped at the
fork, as ``multiprocessing`` does in its children; handlers registered later run at a graceful end.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from huey.consumer import command
from huey.consumer.process_table import WORKER_SPEC, Child, WorkerSpec, make_worker
from huey.consumer.signal_handling import SUPERVISOR_SIGNALS
from huey.engine.scoreboard import Scoreboard
from huey.engine.time_limits import BROKEN
from huey.runtime.clock import Micros
from huey.runtime.log_queue import drain
from huey.runtime.logs import SafeLogger, flush, leave

if TYPE_CHECKING:
    from huey.api import Huey

log = SafeLogger("huey.consumer")

HANDOVER = "HUEY_HANDOVER"
"""Environment variable: the workers that a supervisor hands over when it replaces itself with new code."""
TRIAL = "HUEY_TRIAL"
"""Environment variable: get ready like a supervisor, then exit with 0."""
LOG_DRAIN_TIMEOUT_S = 1.0
"""How long a start waits for the log to be written, so that this process has a single thread; then the worker is started by exec."""
EXIT_TIMEOUT_S = 10.0
"""How long the exit handlers of a worker may take together."""
FORK_IS_SAFE = sys.platform == "linux"


# -- start ------------------------------------------------------------------------------------------------------------------------------


def start(
    make_spec: Callable[[int], WorkerSpec],
    slots: int,
    run_worker: Callable[[WorkerSpec], int],
    now: Micros,
    *,
    may_fork: bool = True,
) -> Child:
    """Start a worker process, with a scoreboard of *slots* slots.

    *make_spec* gets the descriptor of the scoreboard. A forked process calls *run_worker*; one started by exec finds its spec in its
    environment. *may_fork* False: this process has something open that another one must not use. Raise OSError if the system cannot create
    another process, or the command no longer exists.
    """
    scoreboard = Scoreboard(slots)
    try:
        spec = make_spec(scoreboard.fd)
        if may_fork and FORK_IS_SAFE and drain(LOG_DRAIN_TIMEOUT_S) and is_single_threaded():
            pid = _fork(spec, run_worker)
        else:
            if may_fork:
                _log_exec_once()
            # The real folder has the code that the other workers run, even if a symbolic link leads elsewhere by now.
            folder = command.REAL if os.path.isdir(command.REAL) else ""
            pid = spawn({WORKER_SPEC: json.dumps(spec)}, spec.scoreboard_fd, folder=folder)
    except OSError:
        scoreboard.close()
        raise
    return Child(make_worker(spec.id, spec.kind, spec.supervisor, pid), scoreboard, now, spec.queue)


def is_single_threaded() -> bool:
    """Return True if there is no other thread, those of C libraries included: a fork copies only one, and locks of the others stay
    locked."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def _fork(spec: WorkerSpec, run_worker: Callable[[WorkerSpec], int]) -> int:
    # Parent and child share memory pages until one of them writes to them, which the garbage collector would do.
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
        forget_parent()
        code = run_worker(spec)
    except BaseException:  # The top of a process: log any error, and never continue with code of the parent.
        log.critical("worker %s failed", spec.id, exc_info=True)
    finally:
        leave(code)


@cache
def _log_exec_once() -> None:
    log.info("this process has several threads, or forking is not safe on this system: each worker imports the application itself")


def spawn(environment: Mapping[str, str], *fds: int, folder: str = command.NAMED) -> int:
    """Run this process's command once more beside it, in *folder*, and return the pid.

    The new process inherits the descriptors *fds* and has *environment* in addition. Raise OSError if the command cannot be run, or there
    is no such folder.
    """
    words = command.own_command()
    for fd in fds:
        os.set_inheritable(fd, True)
    try:
        with command.in_folder(folder):
            return os.posix_spawn(words[0], words, {**os.environ, **command.hidden_environment, **environment}, setsigmask=())
    finally:
        for fd in fds:
            os.set_inheritable(fd, False)


# -- new code ---------------------------------------------------------------------------------------------------------------------------


def replace_this_process(children: list[Child]) -> None:
    """Run this command again in the same process, with the current code. *children* stay its children. Raise OSError, with nothing changed,
    if the command cannot be run."""
    for child in children:
        os.set_inheritable(child.scoreboard.fd, True)
    environment = {**os.environ, **command.hidden_environment, HANDOVER: json.dumps([child.to_list() for child in children])}
    # Signals stay pending until the new code is ready to handle them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SUPERVISOR_SIGNALS)
    flush()
    words = command.own_command()
    try:
        with command.in_folder(command.NAMED):
            os.execve(words[0], words, environment)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for child in children:
            os.set_inheritable(child.scoreboard.fd, False)


def inherited_children() -> list[Child]:
    """Return the workers of the supervisor that this process was before it replaced itself."""
    # Removed from the environment, so that programs that tasks start do not use it as their own.
    children = [Child.from_list(fields) for fields in json.loads(os.environ.pop(HANDOVER, "[]"))]
    for child in children:
        os.set_inheritable(child.scoreboard.fd, False)
    return children


OLD = "the workers continue with the old code"


class CodeReload:
    """The trial of new code and the switch to it. *children* returns the workers, which are handed over to the new code."""

    def __init__(self, huey: Huey, children: Callable[[], list[Child]]) -> None:
        self._huey = huey
        self._children = children
        self._trial: int | None = None
        self._is_outdated = False
        """Whether there was another SIGHUP after the trial began."""

    def start_trial(self) -> None:
        """Start a trial; if one is running, start another one after it."""
        self._is_outdated = self._trial is not None
        if self._is_outdated:
            return
        log.info("SIGHUP: testing the new code")
        try:
            self._trial = spawn({TRIAL: "1"})
        except OSError as error:
            log.error("SIGHUP: cannot start %s (%s); %s", command.own_command()[0], error, OLD)

    def on_exit(self, pid: int, status: int, is_stopping: bool) -> None:
        """Act on the exit code of a child process if it was the trial."""
        if pid != self._trial:
            return
        self._trial, code = None, os.waitstatus_to_exitcode(status)
        if self._is_outdated and not is_stopping:
            # The code may have changed since the trial began.
            self.start_trial()
        elif code:
            log.error("SIGHUP: the new code does not start (exit code %d); %s", code, OLD)
        elif not is_stopping:
            self._replace()

    def _replace(self) -> None:
        log.info("SIGHUP: restarting with the new code")
        self._huey.close()
        try:
            replace_this_process(self._children())
        except OSError as error:
            log.error("SIGHUP: cannot run %s (%s); %s", command.own_command()[0], error, OLD)


# -- the end of a forked worker ---------------------------------------------------------------------------------------------------------


def forget_parent() -> None:
    """Drop what belongs to the parent process: its exit handlers, finalizers and threads. Call it right after the fork."""
    atexit._clear()
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False
    # Otherwise the first finalizer of this process would not be registered.
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    getattr(threading, "_threading_atexits", []).clear()
    util, process = sys.modules.get("multiprocessing.util"), sys.modules.get("multiprocessing.process")
    if util is not None and process is not None:
        util._finalizer_registry.clear()
        process._children = set()  # type: ignore[attr-defined]
        # It was registered when the module was imported.
        atexit.register(util._exit_function)
    for name, threads in (("thread", "_threads_queues"), ("process", "_threads_wakeups")):
        futures = sys.modules.get(f"concurrent.futures.{name}")
        if futures is not None:
            # Threads of the parent, which do not exist here.
            getattr(futures, threads).clear()
            threading._register_atexit(futures._python_exit)  # type: ignore[attr-defined]


def run_exit_handlers(code: int) -> None:
    """Run the exit handlers of a Python program, for at most ``EXIT_TIMEOUT_S``; then the process exits with *code*."""
    over = threading.Event()
    threading.Thread(target=_exit_after_timeout, args=(over, code), name="Exit", daemon=True).start()
    for act in (threading._shutdown, atexit._run_exitfuncs):  # type: ignore[attr-defined]
        _call(act)
    over.set()


def _call(act: Callable[[], Any]) -> None:
    try:
        act()
    except BaseException:  # Functions of the application: the process ends even if they raise.
        log.exception("an exit handler failed")


def _exit_after_timeout(over: threading.Event, code: int) -> None:
    if not over.wait(EXIT_TIMEOUT_S):
        log.warning("exit handlers of this worker (pid %d) took longer than %g s; exiting without them", os.getpid(), EXIT_TIMEOUT_S)
        leave(code)

"""A worker process: a consumer that leaves heartbeats, recovery and the decisions after its own death to its supervisor."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

from huey.consumer.consumer import ThreadedConsumer
from huey.consumer.memory import OomScore
from huey.consumer.process_table import WorkerSpec, make_worker, slots_of
from huey.consumer.processes import run_exit_handlers
from huey.consumer.service import PULSE_STALL_CHECKS, Guard, Service, StallCounter, ThreadRestarter, ThreadsUnrecoverable
from huey.consumer.signal_handling import ignore_signals, set_handler
from huey.engine.runners.threads import ThreadRunners
from huey.engine.scoreboard import Scoreboard
from huey.engine.stamps import CHECK_INTERVAL, MAIN
from huey.engine.time_limits import BROKEN
from huey.runtime import host
from huey.runtime.display import counted
from huey.runtime.logs import SafeLogger, leave
from huey.storage.rows import Worker

if TYPE_CHECKING:
    from huey.api import Huey

log = SafeLogger("huey.consumer")

FAILURE_PAUSE_S = 0.1
"""Pause after a wait that failed, for example because a signal handler of the application raised in it."""


class WorkerProcess(ThreadedConsumer):
    """The worker that *spec* describes. Call ``run`` in the main thread of its process."""

    is_supervised = True

    def __init__(self, huey: Huey, spec: WorkerSpec, **options: Any) -> None:
        self._spec = spec
        self._scoreboard = Scoreboard(slots_of(spec.kind, spec.runners), spec.scoreboard_fd)
        self._has_notified = False
        self._stop_requested = False
        self._syncs: set[int] = set()
        self._pulse = Service("Pulse", self._send_pulse, CHECK_INTERVAL)
        self._pulse_stall = StallCounter(PULSE_STALL_CHECKS)
        self._oom_score = OomScore(huey.clock)
        super().__init__(huey, **options)
        self._supervisor_stall = StallCounter(self.watchdog)

    def _build(self, worker: Worker, scoreboard: Scoreboard | None = None) -> None:
        self.workers = self._spec.runners
        super()._build(make_worker(self._spec.id, self._spec.kind, self._spec.supervisor), self._scoreboard)
        # Without a pulse this process looks dead; without an engine it is.
        self._thread_restarter = ThreadRestarter(self.huey.clock, [self._runners.revive, self._restart_services, self._pulse.revive])

    def run(self) -> int:
        """Run until asked to stop, then finish the running tasks. There is no time limit for that: the supervisor enforces it."""
        # A terminal sends these to the whole group; the supervisor decides what they mean.
        ignore_signals(signal.SIGINT, signal.SIGHUP)
        set_handler(signal.SIGTERM, self._on_signal)
        self._oom_score.raise_score()
        if self._scoreboard.is_stop_requested:
            # The signal came before its handler was set.
            return 0
        self.start()
        self._pulse.start()
        self._scoreboard.set_ready()
        guard = Guard()
        while not self._stop_requested:
            if not guard.call("Main thread", self._wait):
                self._stopped.wait(FAILURE_PAUSE_S)
            if not self._stop_requested:
                guard.call("Process check", self._check_process)
        if self._enter_stopping():
            # From here on this thread only drains the engine. The supervisor keeps watching the engine, not this thread.
            self._stamps[MAIN].leave()
            self._drain(None)
            self._deregister()
            self._pulse.stop()
        return 0

    def _wait(self) -> None:
        self._stamps[MAIN].show(CHECK_INTERVAL)
        self._stop_requested = self._stop_waker.wait(CHECK_INTERVAL) or self._scoreboard.is_stop_requested

    def _check_process(self) -> None:
        """Check the threads of this process, and whether the supervisor is alive and watching."""
        if os.getppid() != self._spec.supervisor_pid:
            # Only where the kernel does not kill a worker together with its supervisor.
            log.critical("the supervisor is gone; this worker exits at once, its tasks will run again elsewhere")
            os._exit(BROKEN)
        self._oom_score.raise_again()
        try:
            self._thread_restarter.check()
        except ThreadsUnrecoverable as error:
            log.critical("this worker exits and will be replaced: %s", error)
            self._scoreboard.set_blameless()
            leave(BROKEN)
        if self._pulse_stall.check(self._scoreboard.pulse):
            log.critical("the pulse thread of this worker has stalled; restarting it")
            self._pulse.replace()
        if self._supervisor_stall.check(self._scoreboard.checks):
            log.critical(
                "the supervisor (pid %d) has not checked its workers for %g s; tasks continue, but dead workers are not replaced",
                *(self._spec.supervisor_pid, self.watchdog),
            )

    def _send_pulse(self) -> None:
        before, self._syncs = self._syncs, host.syncs()
        self._scoreboard.set_pulse(bool(before & self._syncs))

    def _report_held(self, count: int) -> None:
        self._scoreboard.set_held(count)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop_waker.wake()
        if self._scoreboard.is_requeue_requested and not self._has_notified:
            # In a thread of its own: the code that this handler has interrupted may hold any lock.
            self._has_notified = True
            threading.Thread(target=self._on_requeue, name="Interrupted", daemon=True).start()

    def _on_requeue(self) -> None:
        """Let running tasks clean up, as far as they can: this process will be killed in a moment."""
        self.huey.notify_interrupted_tasks()
        if not isinstance(self._runners, ThreadRunners):
            self._runners.cancel_all()

    def _log_start(self) -> None:
        log.debug("worker %s: %s, %s, pid %d", self.worker.id, self.worker.kind, counted(self.workers, "runner"), os.getpid())


def die_with_parent(supervisor_pid: int) -> None:
    """Let the kernel kill this process when its supervisor dies (Linux); exit at once if it is dead already."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != supervisor_pid:
        os._exit(BROKEN)


def run_worker(huey: Huey, spec: WorkerSpec, **options: Any) -> int:
    """Run the worker of *spec* until the supervisor stops it, and return the exit code of this process."""
    die_with_parent(spec.supervisor_pid)
    code = WorkerProcess(huey, spec, **options).run()
    run_exit_handlers(code)
    return code

"""A worker process under a supervisor: a consumer that leaves its heartbeat, the janitor's work and all verdicts to its keeper."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

from huey.consumer import exits
from huey.consumer.consumer import Consumer
from huey.consumer.guard import Guard
from huey.consumer.hearing import listen, pass_over
from huey.consumer.lives import PULSE_STILL, Lives, NotMended, StandingStill
from huey.consumer.oom import Likelihood
from huey.consumer.service import Service
from huey.consumer.worker_spec import WorkerSpec, make_worker
from huey.engine.scoreboard import Scoreboard
from huey.engine.stamps import LOOK, MAIN
from huey.engine.time_limits import BROKEN
from huey.runtime import host
from huey.runtime.logs import SafeLogger, leave
from huey.storage.rows import Worker

if TYPE_CHECKING:
    from huey.api import Huey

log = SafeLogger("huey.consumer")

MOMENT = 0.1
"""Seconds until the next wait, when one failed: a signal handler of the application may raise in it."""


class WorkerProcess(Consumer):
    """The worker of *seat*. ``run`` it in the main thread of its process."""

    has_keeper = True

    def __init__(self, huey: Huey, seat: WorkerSpec, **options: Any) -> None:
        self._seat = seat
        self._page = Scoreboard(seat.runners, seat.page_fd)
        self._said_last_words = False
        self._is_told_to_stop = False
        self._syncs: set[int] = set()
        self._pulse = Service("Pulse", self._beat_pulse, LOOK)
        self._pulse_stands = StandingStill(PULSE_STILL)
        self._likelihood = Likelihood(huey.clock)
        super().__init__(huey, **options)
        self._supervisor_stands = StandingStill(self.watchdog)

    def _build(self, worker: Worker, page: Scoreboard | None = None) -> None:
        self.workers = self._seat.runners
        super()._build(make_worker(self._seat.id, self._seat.kind, self._seat.keeper), self._page)
        # With a pulse that stands still this process looks dead; without an engine it is.
        self._lives = Lives(self.huey.clock, [self._runners.revive, self._revive_services, self._pulse.revive])

    def run(self) -> int:
        """Run until told to stop, then let end what runs, without limit: how long that may take is the keeper's business."""
        # Of a terminal, say, they come to the whole group; the keeper says what they mean.
        pass_over(signal.SIGINT, signal.SIGHUP)
        listen(signal.SIGTERM, self._asked)
        self._likelihood.raise_it()
        if self._page.is_told_to_stop:
            # The signal came before there was anybody to hear it.
            return 0
        self.start()
        self._pulse.start()
        self._page.say_ready()
        guard = Guard()
        while not self._is_told_to_stop:
            if not guard.call("Main thread", self._wait):
                self._gone.wait(MOMENT)
            if not self._is_told_to_stop:
                guard.call("Look", self._look)
        if self._begins_to_stop():
            # It hears nothing more; the engine, which this thread drains now, is watched on.
            self._stamps[MAIN].leave()
            self._halt(None)
            self._say_goodbye()
            self._pulse.stop()
        return 0

    def _wait(self) -> None:
        self._stamps[MAIN].show(LOOK)
        self._is_told_to_stop = self._alarm.wait(LOOK) or self._page.is_told_to_stop

    def _look(self) -> None:
        """Look after the threads of this process, and whether the supervisor still does."""
        if os.getppid() != self._seat.keeper_pid:
            # Where the kernel does not end us with our keeper.
            log.critical("the supervisor is gone; this worker ends at once, its tasks run again elsewhere")
            os._exit(BROKEN)
        self._likelihood.look()
        try:
            self._lives.look()
        except NotMended as error:
            log.critical("this worker ends, another one takes its place: %s", error)
            self._page.say_blameless()
            leave(BROKEN)
        if self._pulse_stands.look(self._page.pulse):
            log.critical("the pulse of this worker stands still: it is started again")
            self._pulse.replace()
        if self._supervisor_stands.look(self._page.looked):
            log.critical(
                "the supervisor (pid %d) has not looked after its workers for %g s; tasks go on, but nothing that dies is replaced",
                *(self._seat.keeper_pid, self.watchdog),
            )

    def _beat_pulse(self) -> None:
        before, self._syncs = self._syncs, host.syncs()
        self._page.heartbeat(bool(before & self._syncs))

    def _say_held(self, count: int) -> None:
        self._page.say_held(count)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self._alarm.wake()
        if self._page.is_cut_short and not self._said_last_words:
            # In a thread of its own: here, anything may be held by the code that was interrupted.
            self._said_last_words = True
            threading.Thread(target=self.huey.notify_interrupted_tasks, name="Interrupted", daemon=True).start()

    def _tell_start(self) -> None:
        log.debug("worker %s: %s, %d at once, pid %d", self.worker.id, self.worker.kind, self.workers, os.getpid())


def die_with(keeper_pid: int) -> None:
    """Let the kernel end this process when its supervisor ends (Linux); at once if it has ended already."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != keeper_pid:
        os._exit(BROKEN)


def work(huey: Huey, seat: WorkerSpec, **options: Any) -> int:
    """Be the worker of *seat* until the supervisor wants no more: the exit code of this process."""
    die_with(seat.keeper_pid)
    code = WorkerProcess(huey, seat, **options).run()
    exits.run(code)
    return code

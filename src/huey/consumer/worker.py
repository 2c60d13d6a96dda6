"""A worker process under a supervisor: a consumer that leaves its heartbeat, the janitor's work and all verdicts to its keeper."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

from huey.consumer.consumer import Consumer
from huey.consumer.seat import Seat, identify
from huey.engine.page import Page
from huey.engine.timekeeper import BROKEN
from huey.logs import SafeLogger
from huey.storage.base import Worker

if TYPE_CHECKING:
    from huey.api import Huey

log = SafeLogger("huey.consumer")

LOOK = 1.0
"""Seconds between two looks at the page, should the signal be lost: user code may replace signal handlers."""
MORE_LIKELY = 200
"""Of a thousand points: how much sooner than its supervisor a worker is ended when memory runs out."""


class WorkerProcess(Consumer):
    """The worker of *seat*. ``run`` it in the main thread of its process."""

    has_keeper = True

    def __init__(self, huey: Huey, seat: Seat, **options: Any) -> None:
        self._seat = seat
        self._page = Page(seat.runners, seat.page_fd)
        self._said_last_words = False
        super().__init__(huey, **options)

    def _build(self, worker: Worker, page: Page | None = None) -> None:
        self.workers = self._seat.runners
        super()._build(identify(self._seat.id, self._seat.kind, self._seat.keeper), self._page)

    def run(self) -> int:
        """Run until told to stop, then let end what runs, without limit: how long that may take is the keeper's business."""
        for number in (signal.SIGINT, signal.SIGHUP):
            # Of a terminal, say, they come to the whole group; the keeper says what they mean.
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._asked)
        if self._page.is_told_to_stop:
            # The signal came before there was anybody to hear it.
            return 0
        self.start()
        self._page.say_ready()
        while not (self._alarm.wait(LOOK) or self._page.is_told_to_stop):
            if os.getppid() != self._seat.keeper_pid:
                # Where the kernel does not end us with our keeper.
                log.critical("the supervisor is gone; this worker ends at once, its tasks run again elsewhere")
                os._exit(BROKEN)
        if self._begins_to_stop():
            self._halt(None)
            self._say_goodbye()
        return 0

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self._alarm.ring()
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


def go_first() -> None:
    """When memory runs out, let the kernel choose this process rather than the supervisor (S7)."""
    try:
        with open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
            own = int(file.read())
            file.seek(0)
            file.write(str(min(1000, own + MORE_LIKELY)))
    except OSError:
        # Not a system that has it, or one that forbids it: the kernel chooses by size.
        return


def work(huey: Huey, seat: Seat, **options: Any) -> int:
    """Be the worker of *seat* until the supervisor wants no more: the exit code of this process."""
    die_with(seat.keeper_pid)
    go_first()
    return WorkerProcess(huey, seat, **options).run()

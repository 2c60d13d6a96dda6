"""The consumer command's first process: it runs no task, so nothing that a task does can stop it.

Starts worker processes, and starts again what died; beats for all of them; deals with each death at once; kills what passed its time
limit and did not end when asked; takes over from consumers that are gone. One thread, one loop: it must be able to fork.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from huey.consumer import processes
from huey.consumer.banner import tell_queues, tell_start, tell_stop
from huey.consumer.entrance import rest, wait_for
from huey.consumer.guard import Guard
from huey.consumer.hearing import hearing
from huey.consumer.locks import free_locks
from huey.consumer.memory import MIB, MemoryLimit
from huey.consumer.new_code import NewCode
from huey.consumer.overdue import ASKED, NEIGHBOURS, Overdue
from huey.consumer.processes import Child
from huey.consumer.quarantine import Quarantine
from huey.consumer.recovery import ExitCause, how_it_ended
from huey.consumer.service import RETRY
from huey.consumer.settings import checked, shares, shows_local_time
from huey.consumer.watchdog import Watchdog
from huey.consumer.worker import work
from huey.consumer.worker_pool import WorkerPool, heartbeat, pools_for
from huey.consumer.worker_spec import WorkerSpec, make_worker
from huey.engine.outage import Outage
from huey.engine.scoreboard import LOOKS, REACHES, TELLS, Running
from huey.engine.stamps import GAP
from huey.exceptions import ConfigurationError, StorageError
from huey.runtime import host
from huey.runtime.clock import SECOND, Micros, micros
from huey.runtime.host import alive_here
from huey.runtime.logs import SafeLogger
from huey.signals import SIGNAL_INTERRUPTED
from huey.storage.base import HEARTBEAT_S, LEASE, Storage

if TYPE_CHECKING:
    from huey.api import Huey

log = SafeLogger("huey.consumer")

LOOK = 1.0
"""Seconds between two looks at what has no signal: suspects, dead consumers, memory, stopped workers."""
LIMIT_LOOK = 0.1
"""The same while a task with a time limit runs."""
MOMENT = 0.1
"""Seconds until the next step, when a part of one failed."""
LAST_WORDS = 0.5
"""Seconds that handlers of ``interrupted`` get before the kill."""
FIRST_GAP, LONGEST_GAP = 0.2, 10.0
"""Seconds before a worker that could not even start, or could not be started, is started again; doubles each time."""


class Supervisor:
    """The consumer of one Huey as a tree of processes. Options as ``huey.consumer.settings``; ConfigurationError when they cannot work."""

    def __init__(self, huey: Huey, **options: Any) -> None:
        settings = checked(options)
        settings["localtime"] = shows_local_time(settings, huey)
        if huey.always_eager:
            raise ConfigurationError("this Huey is always_eager: its tasks run where they are called, a consumer would find none")
        self._huey = huey
        self._options = {**settings, "queues": ()}
        self._clock = huey.clock
        self._kind: str = settings["worker_type"]
        self._patience: float | None = settings["shutdown_timeout"] or None
        self._graceful = {getattr(signal, f"SIG{name}") for name in settings["graceful_signal"]}
        self._replaces: bool = settings["check_worker_health"]
        self._is_manned = False
        self._memory_limit = MemoryLimit((settings["max_memory"] or 0) * MIB, huey.clock)
        me = make_worker("", "supervisor")
        self._keeper = f"{me.pid}:{me.start_time}"
        if huey.immediate:
            raise ConfigurationError("this Huey is in immediate mode: its tasks run where they are called, a consumer would find none")
        self._posts = pools_for(huey, self._kind, shares(settings, huey.name))
        self._children: list[Child] = []
        self._former: list[Child] = []
        """Workers of the supervisor that this process was before a SIGHUP."""
        self._unburied: list[tuple[Child, list[Running], str]] = []
        """Dead workers, what they ran, and how they ended."""
        self._heard: list[int] = []
        self._new_code = NewCode(huey, self.all)
        self._is_stopping = False
        self._exit_code = 0
        self._outage = Outage(huey.clock)
        self._guard = Guard()
        self._quarantine = Quarantine(self._posts, lambda: self._children, self._start_alone)
        self._overdue = Overdue(self, huey.clock, self._patience)
        self._watchdog = Watchdog(self, huey.clock, settings["watchdog"] if self._replaces else 0)
        self._next_try: Micros = 0
        self._next_beat: Micros = 0
        self._next_look: Micros = 0
        self._next_start: Micros = 0
        self._gap = FIRST_GAP
        self._cannot_start = False
        """The last worker could not be started, and that was told."""
        self._last_look: Micros = 0

    def _new_id(self) -> str:
        return f"{self._huey.rng.getrandbits(128):032x}"

    # -- life ---------------------------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run until SIGTERM or SIGINT, gracefully (C12): the exit code. A second signal ends at once, nothing is lost. SIGHUP starts anew
        with the code that is there then, if it can be imported. StorageError: the storage cannot be used at all."""
        seat = WorkerSpec.of_this_process()
        if seat is not None:
            return work(self._huey.on(seat.queue), seat, **self._options)
        if os.environ.pop(processes.TRIAL, None):
            self._open()
            return 0
        with hearing(self._note) as ear:
            if not wait_for(self._open, lambda seconds: rest(ear, seconds, self._heard), self._clock):
                log.info("stopped")
                return 0
            self._tell_start()
            self._take_over()
            for post in self._posts.values():
                post.janitor.enter()
            while not (self._is_stopping and not self.all()):
                # Whatever fails, nothing may end this process but a stop: its workers would end with it.
                if not (self._step() and self._guard.call("Waiting", self._wait, ear)):
                    self._guard.call("Waiting", self._clock.sleep, MOMENT)
        for post in self._posts.values():
            post.janitor.leave()
        log.info("stopped")
        return self._exit_code

    def _open(self) -> None:
        for post in self._posts.values():
            post.huey.storage.open()

    def _take_over(self) -> None:
        """Go on with the workers of the supervisor that this process was before, if it was one."""
        self._former = processes.taken_over()
        if not self._former:
            for post in self._posts.values():
                free_locks(post.huey.storage, self._options)
        alive_here.update(child.worker.id for child in self._former)
        for child in self._former:
            self._watchdog.begin(child)

    def _tell_start(self) -> None:
        told = {name: self._options[name] for name in ("workers", "worker_type", "periodic", "localtime")}
        tell_start(self._huey, **told)
        tell_queues(self._huey, {name: post.workers for name, post in self._posts.items()})

    def _step(self) -> bool:
        """All that is due now, each part for itself. False: a part failed."""
        now, call = self._clock.monotonic(), self._guard.call
        went_well = [
            call("Signals", self._hear),
            call("Deaths", self._bury),
            call("Time limits", self._overdue.mind_limits, now),
            call("Deadlines", self._keep_deadlines, now),
            call("Heartbeat", self._beat, now),
            self._is_stopping or call("Starting workers", self._man, now),
            call("Revocations", self._overdue.mind_revoked, now),
        ]
        if now >= self._next_look:
            self._next_look = now + micros(LOOK)
            went_well.append(call("Looking after workers", self._look, now))
        return all(went_well)

    def _beat(self, now: Micros) -> None:
        if now >= self._next_beat:
            self._next_beat = now + micros(RETRY)
            is_well = self.try_storage("heartbeat", lambda: heartbeat(self._posts, self.all()))
            # After a failure the others come first.
            self._next_beat = now + micros(HEARTBEAT_S) if is_well else self._next_try + micros(RETRY)

    def all(self) -> list[Child]:
        """All workers: those of now, and those that are left of the code before."""
        return self._children + self._former

    def try_storage(self, part: str, act: Callable[[], object]) -> bool:
        """Do something that needs the storage. False: it is away; it is told once, and done again later. A try may take seconds then, so
        nothing else is tried for a while: signals and limits must not wait for all that fails."""
        if self._clock.monotonic() < self._next_try:
            return False
        try:
            act()
        except StorageError as error:
            self._outage.begins(part, error)
            self._next_try = self._clock.monotonic() + micros(RETRY)
            return False
        self._outage.ends(part)
        return True

    # -- workers ------------------------------------------------------------------------------------------------------------------------

    def _man(self, now: Micros) -> None:
        """Start what is missing."""
        there = [child.queue for child in self._children if child.worker.kind == self._kind and not child.is_leaving]
        if self._replaces or not self._is_manned:
            for queue, post in self._posts.items():
                for _ in range(post.processes - there.count(queue)):
                    if now < self._next_start or not self._start(queue, self._kind, post.runners):
                        return
            self._is_manned = True
        elif not there:
            self._give_up(now)
        if self._former and all(child.page.is_ready for child in self._children):
            for child in self._former:
                if not child.is_leaving:
                    self._dismiss(child, now)

    def _give_up(self, now: Micros) -> None:
        log.error("no worker is left, and none is started again (--disable-health-check)")
        self._exit_code = 1
        self._is_stopping = True
        for child in self.all():
            self._dismiss(child, now)

    def _start(self, queue: str, kind: str, runners: int) -> bool:
        """Start a worker; False: the system cannot, it is tried again after the gap."""
        id = self._new_id()
        # Before it can claim: no look of ours may take it for a stranger.
        alive_here.add(id)
        try:
            child = processes.start(
                lambda fd: WorkerSpec(id, kind, self._keeper, runners, fd, queue),
                runners,
                lambda seat: work(self._huey.on(queue), seat, **self._options),
                self._clock.monotonic(),
                may_fork=self._huey.storage.survives_fork,
            )
        except OSError as error:
            alive_here.discard(id)
            self._put_off_start()
            if not self._cannot_start:
                self._cannot_start = True
                log.error("a worker cannot be started: %s; it is tried again, what runs goes on", error)
            return False
        self._cannot_start = False
        self._watchdog.begin(child)
        self._children.append(child)
        log.debug("worker %s started: %s of queue %s, pid %d", id, kind, queue, child.pid)
        return True

    def _start_alone(self, queue: str) -> bool:
        return self._clock.monotonic() >= self._next_start and self._start(queue, "quarantine", 1)

    def _put_off_start(self) -> None:
        self._next_start = self._clock.monotonic() + micros(self._gap)
        self._gap = min(2 * self._gap, LONGEST_GAP)

    def _dismiss(self, child: Child, now: Micros) -> None:
        """Let a worker end what it runs within the shutdown timeout."""
        child.tell_to_stop()
        if self._patience is not None:
            deadline = now + micros(self._patience)
            child.due = (min(deadline, child.due[0]), child.due[1]) if child.due else (deadline, ExitCause.STOP)

    def _look(self, now: Micros) -> None:
        for post in self._posts.values():
            self.try_storage("janitor", post.janitor.look)
        if now - self._last_look > micros(GAP):
            # We stood still too, such as with all of them: we do not know since when they do.
            for child in self._children:
                child.stopped_since = None
        self._last_look = now
        self._watchdog.look(self.all(), self._outage.is_on)
        for child in self.all():
            child.page.give_answer((REACHES if self.reaches_storage(child) else TELLS) if child.page.is_away else LOOKS)
        for child in self._children:
            self._mind_stopped(child, now)
        self._memory_limit.look(self._children)
        if not self._is_stopping:
            self.try_storage("quarantine", lambda: self._quarantine.look(now))

    def places(self, child: Child) -> int:
        """How many workers there are of the queue and the kind of this one."""
        post = self._post_of(child)
        return post.processes if child.worker.kind == self._kind else post.workers

    def replace(self, child: Child, at_once: bool) -> None:
        """End a worker that stands still. What it runs may end first if its engine goes on."""
        if at_once or child.is_leaving:
            child.kill(ExitCause.STUCK)
            return
        child.tell_to_stop()
        child.due = self._clock.monotonic() + micros(min(self._patience or NEIGHBOURS, NEIGHBOURS)), ExitCause.STOP

    def name_of(self, child: Child, id: str) -> str:
        found: list[str] = []
        self.try_storage("names", lambda: found.extend(row.name for row in [self.storage_of(child).get(id)] if row is not None))
        return found[0] if found else "task"

    def reaches_storage(self, child: Child) -> bool:
        """We can write into the storage of its queue now."""
        return self.try_storage("heartbeat", lambda: self.storage_of(child).heartbeat([child.worker]))

    def storage_of(self, child: Child) -> Storage:
        """That of its queue."""
        return self._post_of(child).huey.storage

    def _mind_stopped(self, child: Child, now: Micros) -> None:
        """A worker that stands still longer than a lease is ended: its tasks can run elsewhere."""
        if not host.is_stopped(child.pid) or host.is_traced(child.pid):
            # By a debugger it may be held as long as its user likes.
            child.stopped_since = None
        elif child.stopped_since is None:
            child.stopped_since = now
        elif now - child.stopped_since > LEASE:
            log.warning("worker %s (pid %d) was stopped for longer than its lease: it is killed", child.worker.id, child.pid)
            child.kill(ExitCause.STOP)

    # -- deadlines ----------------------------------------------------------------------------------------------------------------------

    def _keep_deadlines(self, now: Micros) -> None:
        for child in self.all():
            if child.due is None or now < child.due[0]:
                continue
            cause, child.due = child.due[1], None
            if cause is ExitCause.STOP and not child.page.is_cut_short:
                if count := len(child.page.running()):
                    log.warning("%d tasks of worker %s did not end in time; they are put back and run again", count, child.worker.id)
                self._cut_short(child, now)
                continue
            if cause is ExitCause.LATE and not any(it.is_late(now) for it in child.page.running()):
                # It ended after all; the worker leaves by itself, or within the time of a stop.
                if self._is_stopping:
                    self._dismiss(child, now)
                continue
            child.kill(cause)

    def _cut_short(self, child: Child, now: Micros) -> None:
        """End a worker whose running tasks are put back; if the application wants to hear of that, it has a moment."""
        if not self._huey.signals.wants(SIGNAL_INTERRUPTED) or not child.page.running() or child.page.is_cut_short:
            child.kill(ExitCause.STOP)
            return
        child.cut_short()
        child.due = now + micros(LAST_WORDS), ExitCause.STOP

    # -- deaths -------------------------------------------------------------------------------------------------------------------------

    def _bury(self) -> None:
        """Take note of processes that ended, and deal with what they held."""
        while (ended := _ended()) is not None:
            pid, status = ended
            self._new_code.has_ended(pid, status, self._is_stopping)
            for child in self.all():
                if child.pid == pid:
                    self._note_death(child, status)
        for child, ran, how in list(self._unburied):
            if self.try_storage("deaths", partial(self._post_of(child).deaths.deal_with, child.worker, ran, child.cause, how)):
                self._unburied.remove((child, ran, how))
                alive_here.discard(child.worker.id)
                # There may be a suspect now.
                self._next_look = 0

    def _post_of(self, child: Child) -> WorkerPool:
        """That of its queue; after a SIGHUP with other settings that may be one that has no workers any more."""
        if child.queue not in self._posts:
            return WorkerPool(self._huey.on(child.queue), self._kind, 0)
        return self._posts[child.queue]

    def _note_death(self, child: Child, status: int) -> None:
        (self._children if child in self._children else self._former).remove(child)
        ran, how = child.page.running(), how_it_ended(status)
        if status == 0 and not ran:
            log.debug("worker %s ended", child.worker.id)
        else:
            log.warning("worker %s (pid %d) ended by %s; %d tasks were running", child.worker.id, child.pid, how, len(ran))
        if not child.page.is_ready and not child.is_leaving:
            self._put_off_start()
        else:
            self._gap = FIRST_GAP
        if child.page.is_blameless:
            child.cause = ExitCause.STUCK
        if child.cause is ExitCause.CRASH:
            # What had ended and is still held may have done it too: a body that closes all files kills its process a moment later.
            ran += child.page.ended()
        child.page.close()
        self._unburied.append((child, ran, how))

    # -- signals ------------------------------------------------------------------------------------------------------------------------

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._heard.append(number)

    def _wait(self, ear: int) -> None:
        """Until a signal comes or something is due."""
        now = self._clock.monotonic()
        times = [self._next_beat, self._next_look, *(child.due[0] for child in self.all() if child.due)]
        times += [child.asked_since + micros(ASKED) for child in self.all() if child.asked_since is not None]
        if any(it.limit for child in self.all() for it in child.page.running()):
            times.append(now + micros(LIMIT_LOOK))
        rest(ear, (min(times) - now) / SECOND, self._heard)

    def _hear(self) -> None:
        while self._heard:
            number = self._heard.pop(0)
            if number in (signal.SIGTERM, signal.SIGINT):
                self._asked_to_stop(number)
            elif number == signal.SIGHUP and not self._is_stopping:
                self._new_code.try_it()

    def _asked_to_stop(self, number: int) -> None:
        if self._is_stopping:
            # What runs is put back: nothing is lost, no try is counted.
            log.warning("asked again: running tasks are cut short")
            self._exit_code = 128 + number
            for child in self.all():
                child.kill(ExitCause.STOP)
            return
        self._is_stopping = True
        if number not in self._graceful:
            log.info("stopping at once: running tasks are put back")
            for child in self.all():
                self._cut_short(child, self._clock.monotonic())
            return
        tell_stop(sum(len(child.page.running()) for child in self.all()), self._patience, number)
        for child in self.all():
            self._dismiss(child, self._clock.monotonic())


def _ended() -> tuple[int, int] | None:
    """Pid and status of a child that ended."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None

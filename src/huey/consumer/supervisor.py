"""The supervisor, the first process of the consumer command. It runs no tasks, so no task can stop it.

It starts worker processes and replaces those that exit, renews their leases, recovers their tasks when they die, kills those whose task
passed its time limit, and takes over from consumers that are gone. One thread, one loop: it must be able to fork.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from huey.consumer import processes
from huey.consumer.enforcer import NEIGHBOUR_GRACE_S, REVOKED_GRACE_S, Enforcer
from huey.consumer.memory import MIB, MemoryLimit
from huey.consumer.process_table import Child, DeadChild, ProcessTable, WorkerSpec, make_worker, slots_of
from huey.consumer.recovery import ExitCause, describe_exit, exit_reason
from huey.consumer.service import RETRY_INTERVAL_S, Guard
from huey.consumer.settings import allocate_workers, uses_local_time, validate_settings
from huey.consumer.signal_handling import catch_signals, wait_for_signal
from huey.consumer.startup import free_locks, log_banner, log_queues, log_requeued, log_stop, wait_for_storage
from huey.consumer.watchdog import Watchdog
from huey.consumer.worker import run_worker
from huey.consumer.worker_pool import Quarantine, WorkerPool
from huey.engine.outage import Outage
from huey.engine.scoreboard import REACHES, REPORTS, UNCHECKED
from huey.engine.stamps import GAP
from huey.exceptions import ConfigurationError, StorageError
from huey.runtime import host
from huey.runtime.clock import SECOND, Micros, micros
from huey.runtime.display import counted
from huey.runtime.host import LOCAL_WORKER_IDS
from huey.runtime.logs import SafeLogger
from huey.signals import SIGNAL_INTERRUPTED
from huey.storage.base import HEARTBEAT_S, LEASE, Storage

if TYPE_CHECKING:
    from huey.api import Huey

log = SafeLogger("huey.consumer")

MAINTENANCE_INTERVAL_S = 1.0
"""Interval of checks that no signal triggers: suspects, dead consumers, memory, suspended workers."""
TIME_LIMIT_INTERVAL_S = 0.1
"""Interval of the loop while a task with a time limit runs."""
FAILURE_PAUSE_S = 0.1
"""Pause after a step in which a part failed."""
INTERRUPTED_GRACE_S = 0.5
"""How long handlers of ``interrupted`` may take before the kill."""
MIN_START_DELAY_S, MAX_START_DELAY_S = 0.2, 10.0
"""Delay before another start after a worker that did not get ready, or could not be started; doubles each time."""


class Supervisor:
    """The consumer of one Huey as a tree of processes. For the options see ``huey.consumer.settings``; raise ConfigurationError for invalid
    ones."""

    def __init__(self, huey: Huey, **options: Any) -> None:
        settings = validate_settings(options)
        settings["localtime"] = uses_local_time(settings, huey)
        if huey.always_eager:
            raise ConfigurationError("this Huey is always_eager: its tasks run where they are called and never reach a consumer")
        if huey.immediate:
            raise ConfigurationError("this Huey is in immediate mode: its tasks run where they are called and never reach a consumer")
        self._huey = huey
        self._options = {**settings, "queues": ()}
        self._clock = huey.clock
        self._worker_type: str = settings["worker_type"]
        self._shutdown_timeout: float | None = settings["shutdown_timeout"] or None
        self._graceful = {getattr(signal, f"SIG{name}") for name in settings["graceful_signal"]}
        self._replaces: bool = settings["check_worker_health"]
        self._has_started_all = False
        self._memory_limit = MemoryLimit((settings["max_memory"] or 0) * MIB, huey.clock)
        me = make_worker("", "supervisor")
        self._supervisor_id = f"{me.pid}:{me.start_time}"
        allocation = allocate_workers(settings, huey.name)
        self._pools = {queue: WorkerPool(huey.on(queue), self._worker_type, workers) for queue, workers in allocation.items()}
        self._table = ProcessTable()
        self._pending_signals: list[int] = []
        self._code_reload = processes.CodeReload(huey, self.all)
        self._is_stopping = False
        self._exit_code = 0
        self._outage = Outage(huey.clock)
        self._guard = Guard()
        self._quarantine = Quarantine(self._pools, lambda: self._table.current, self._start_quarantine_worker)
        self._enforcer = Enforcer(self, huey.clock, self._shutdown_timeout)
        self._watchdog = Watchdog(self, huey.clock, settings["watchdog"] if self._replaces else 0)
        self._next_storage_try: Micros = 0
        self._next_heartbeat: Micros = 0
        self._next_maintenance: Micros = 0
        self._last_maintenance: Micros = 0
        self._next_start: Micros = 0
        self._start_delay = MIN_START_DELAY_S
        self._start_has_failed = False
        """Whether the last attempt to start a worker failed, which was logged."""

    # -- life ---------------------------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run until SIGTERM or SIGINT, stop gracefully, and return the exit code.

        A second signal stops at once; no task is lost. SIGHUP restarts with new code if it can be imported. Raise StorageError if the
        storage cannot be used at all.
        """
        spec = WorkerSpec.from_environment()
        if spec is not None:
            return run_worker(self._huey.on(spec.queue), spec, **self._options)
        if os.environ.pop(processes.TRIAL, None):
            self._open_storages()
            return 0
        with catch_signals(self._on_signal) as read_fd:
            pause = partial(wait_for_signal, read_fd, pending=self._pending_signals)
            if not wait_for_storage(self._open_storages, pause, self._clock):
                log.info("stopped")
                return 0
            self._log_start()
            self._adopt_children()
            for pool in self._pools.values():
                pool.janitor.enter()
            while not (self._is_stopping and not self.all()):
                # Only a stop may end this process, no error: its workers would end with it.
                if not (self._step() and self._guard.call("Waiting", self._wait, read_fd)):
                    self._guard.call("Waiting", self._clock.sleep, FAILURE_PAUSE_S)
        for pool in self._pools.values():
            pool.janitor.leave()
        log.info("stopped")
        return self._exit_code

    def _open_storages(self) -> None:
        for pool in self._pools.values():
            pool.huey.storage.open()

    def _log_start(self) -> None:
        shown = {name: self._options[name] for name in ("workers", "worker_type", "periodic", "localtime")}
        log_banner(self._huey, **shown)
        log_queues(self._huey, {name: pool.workers for name, pool in self._pools.items()})

    def _adopt_children(self) -> None:
        """Continue with the workers of the supervisor that ran in this process before a reload, if any."""
        self._table.previous = processes.inherited_children()
        if not self._table.previous:
            for pool in self._pools.values():
                free_locks(pool.huey.storage, self._options)
        LOCAL_WORKER_IDS.update(child.worker.id for child in self._table.previous)
        for child in self._table.previous:
            self._watchdog.watch(child)

    def _step(self) -> bool:
        """Do everything that is due now, each part independently. Return False if a part failed."""
        now, call = self._clock.monotonic(), self._guard.call
        results = [
            call("Signals", self._handle_signals),
            call("Recovery", self._reap),
            call("Time limits", self._enforcer.enforce_time_limits, now),
            call("Deadlines", self._kill_overdue, now),
            call("Heartbeat", self._send_heartbeats, now),
            self._is_stopping or call("Starting workers", self._start_missing_workers, now),
            call("Revocations", self._enforcer.enforce_revocations, now),
        ]
        if now >= self._next_maintenance:
            self._next_maintenance = now + micros(MAINTENANCE_INTERVAL_S)
            results.append(call("Maintenance", self._maintain, now))
        return all(results)

    def _wait(self, read_fd: int) -> None:
        """Wait until a signal arrives or something is due."""
        now, children = self._clock.monotonic(), self.all()
        times = [self._next_heartbeat, self._next_maintenance]
        times += [child.asked_since + micros(REVOKED_GRACE_S) for child in children if child.asked_since is not None]
        if any(child.scoreboard.has_limits for child in children):
            times.append(now + micros(TIME_LIMIT_INTERVAL_S))
        wait_for_signal(read_fd, (self._table.next_deadline(times) - now) / SECOND, self._pending_signals)

    def _send_heartbeats(self, now: Micros) -> None:
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + micros(RETRY_INTERVAL_S)
            is_sent = self.try_storage("heartbeat", self._heartbeat)
            # After a failure the other parts run first.
            self._next_heartbeat = now + micros(HEARTBEAT_S) if is_sent else self._next_storage_try + micros(RETRY_INTERVAL_S)

    def _heartbeat(self) -> None:
        for queue, pool in self._pools.items():
            pool.huey.storage.heartbeat([child.worker for child in self.all() if child.queue == queue])

    # -- what the enforcer, the watchdog and the others need ------------------------------------------------------------------------------

    def all(self) -> list[Child]:
        """Return all workers, including those with previous code."""
        return self._table.all()

    def try_storage(self, part: str, act: Callable[[], object]) -> bool:
        """Call *act*, which needs the storage. Return False if the storage is unavailable, which is logged once; *part* is tried again
        later.

        A failed attempt may take seconds. So the next attempt is delayed: signals and time limits must not wait for each part to fail.
        """
        if self._clock.monotonic() < self._next_storage_try:
            return False
        try:
            act()
        except StorageError as error:
            self._outage.begins(part, error)
            self._next_storage_try = self._clock.monotonic() + micros(RETRY_INTERVAL_S)
            return False
        self._outage.ends(part)
        return True

    def worker_count(self, child: Child) -> int:
        """Return how many workers of the same queue and kind as *child* there should be."""
        pool = self._pool_of(child)
        return pool.processes if child.worker.kind == self._worker_type else pool.quarantine_workers

    def replace(self, child: Child, at_once: bool) -> None:
        """Stop a worker that has stalled. Unless *at_once*, let its tasks end first, because its engine still works."""
        if at_once or child.is_stopping:
            child.kill(ExitCause.STUCK)
            return
        child.request_stop()
        child.deadline = (
            self._clock.monotonic() + micros(min(self._shutdown_timeout or NEIGHBOUR_GRACE_S, NEIGHBOUR_GRACE_S)),
            ExitCause.STOP,
        )

    def task_name(self, child: Child, id: str) -> str:
        """Return the name of a task that *child* runs, or "task" if it cannot be found out."""
        found: list[str] = []
        self.try_storage("names", lambda: found.extend(row.name for row in [self.storage_of(child).get(id)] if row is not None))
        return found[0] if found else "task"

    def reaches_storage(self, child: Child) -> bool:
        """Return True if this process can write to the storage of the queue of *child* now."""
        return self.try_storage("heartbeat", lambda: self.storage_of(child).heartbeat([child.worker]))

    def storage_of(self, child: Child) -> Storage:
        """Return the storage of the queue of *child*."""
        return self._pool_of(child).huey.storage

    def _pool_of(self, child: Child) -> WorkerPool:
        if child.queue not in self._pools:
            # After a SIGHUP with other settings, a queue may get no new workers.
            return WorkerPool(self._huey.on(child.queue), self._worker_type, 0)
        return self._pools[child.queue]

    # -- starting and stopping workers ----------------------------------------------------------------------------------------------------

    def _start_missing_workers(self, now: Micros) -> None:
        there = self._table.count_by_queue(self._worker_type)
        if self._replaces or not self._has_started_all:
            for queue, pool in self._pools.items():
                for _ in range(pool.processes - there[queue]):
                    if now < self._next_start or not self._start(queue, self._worker_type, pool.runners):
                        return
            self._has_started_all = True
        elif not there:
            self._stop_without_workers(now)
        if self._table.previous and all(child.scoreboard.is_ready for child in self._table.current):
            for child in self._table.previous:
                if not child.is_stopping:
                    self._stop_worker(child, now)

    def _stop_without_workers(self, now: Micros) -> None:
        log.error("no worker is left and none will be started (--disable-health-check); stopping")
        self._exit_code = 1
        self._is_stopping = True
        for child in self.all():
            self._stop_worker(child, now)

    def _start(self, queue: str, kind: str, runners: int) -> bool:
        """Start a worker. Return False if the system cannot; the next attempt follows after the start delay."""
        id = f"{self._huey.rng.getrandbits(128):032x}"
        # Before it can claim: this process's janitor must not treat it as an unknown worker.
        LOCAL_WORKER_IDS.add(id)
        try:
            child = processes.start(
                lambda fd: WorkerSpec(id, kind, self._supervisor_id, runners, fd, queue),
                slots_of(kind, runners),
                lambda spec: run_worker(self._huey.on(queue), spec, **self._options),
                self._clock.monotonic(),
                may_fork=self._huey.storage.features.may_fork,
            )
        except OSError as error:
            LOCAL_WORKER_IDS.discard(id)
            self._delay_next_start()
            if not self._start_has_failed:
                self._start_has_failed = True
                log.error("cannot start a worker: %s; retrying, running tasks continue", error)
            return False
        self._start_has_failed = False
        self._watchdog.watch(child)
        self._table.current.append(child)
        log.debug("worker %s started: %s of queue %s, pid %d", id, kind, queue, child.pid)
        return True

    def _start_quarantine_worker(self, queue: str) -> bool:
        return self._clock.monotonic() >= self._next_start and self._start(queue, "quarantine", 1)

    def _delay_next_start(self) -> None:
        self._next_start = self._clock.monotonic() + micros(self._start_delay)
        self._start_delay = min(2 * self._start_delay, MAX_START_DELAY_S)

    def _stop_worker(self, child: Child, now: Micros) -> None:
        """Ask a worker to stop; its running tasks have the shutdown timeout to end."""
        child.request_stop()
        if self._shutdown_timeout is not None:
            cause = ExitCause.STOP if child.deadline is None else child.deadline[1]
            child.kill_by(now + micros(self._shutdown_timeout), cause)

    def _kill_overdue(self, now: Micros) -> None:
        """Kill the workers whose deadline has passed."""
        for child in self._table.overdue(now):
            cause = child.expire()
            if cause is ExitCause.STOP and not child.scoreboard.is_requeue_requested:
                if count := len(child.scoreboard.running()):
                    log_requeued(count, child.worker.id)
                self._interrupt(child, now)
                continue
            if cause is ExitCause.LATE and not any(task.is_late(now) for task in child.scoreboard.running()):
                # The late task has ended after all. The worker exits by itself, or within the shutdown timeout.
                if self._is_stopping:
                    self._stop_worker(child, now)
                continue
            child.kill(cause)

    def _interrupt(self, child: Child, now: Micros) -> None:
        """Kill a worker whose running tasks are requeued; if the application handles ``interrupted``, give its handlers a moment first."""
        may_clean_up = child.worker.kind == "async" or self._huey.signals.wants(SIGNAL_INTERRUPTED)
        if not may_clean_up or not child.scoreboard.running() or child.scoreboard.is_requeue_requested:
            child.kill(ExitCause.STOP)
            return
        child.interrupt()
        child.deadline = now + micros(INTERRUPTED_GRACE_S), ExitCause.STOP

    # -- maintenance ----------------------------------------------------------------------------------------------------------------------

    def _maintain(self, now: Micros) -> None:
        for pool in self._pools.values():
            self.try_storage("janitor", pool.janitor.run_once)
        if now - self._last_maintenance > micros(GAP):
            # This process was suspended too, perhaps together with all workers, so it is unknown since when they have been suspended.
            for child in self._table.current:
                child.stopped_since = None
        self._last_maintenance = now
        self._watchdog.check(self.all(), self._outage.is_on)
        for child in self.all():
            state = UNCHECKED
            if child.scoreboard.is_in_outage:
                state = REACHES if self.reaches_storage(child) else REPORTS
            child.scoreboard.set_supervisor_state(state)
        for child in self._table.current:
            self._kill_suspended(child, now)
        self._memory_limit.check(self._table.current)
        if not self._is_stopping:
            self.try_storage("quarantine", lambda: self._quarantine.run_once(now))

    def _kill_suspended(self, child: Child, now: Micros) -> None:
        """Kill a worker that has been suspended for longer than a lease, so that its tasks can run elsewhere."""
        if not host.is_stopped(child.pid) or host.is_traced(child.pid):
            # A debugger may hold it for any length of time.
            child.stopped_since = None
        elif child.stopped_since is None:
            child.stopped_since = now
        elif now - child.stopped_since > LEASE:
            log.warning("worker %s (pid %d) was suspended for longer than its lease; killing it", child.worker.id, child.pid)
            child.kill(ExitCause.STOP)

    # -- exits ----------------------------------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Reap the processes that have exited, and recover the tasks of workers among them."""
        while (exited := _next_exit()) is not None:
            pid, status = exited
            self._code_reload.on_exit(pid, status, self._is_stopping)
            if (child := self._table.find(pid)) is not None:
                self._on_exit(self._table.reap(child, status))
        for dead in list(self._table.unrecovered):
            worker = dead.child.worker
            recover, how = self._pool_of(dead.child).recovery.recover_child, exit_reason(dead.status)
            if self.try_storage("recovery", partial(recover, worker, dead.ran, dead.child.cause, how)):
                self._table.unrecovered.remove(dead)
                LOCAL_WORKER_IDS.discard(worker.id)
                # There may be a suspect now.
                self._next_maintenance = 0

    def _on_exit(self, dead: DeadChild) -> None:
        worker = dead.child.worker
        if dead.is_clean:
            log.debug("worker %s has exited", worker.id)
        else:
            running = counted(dead.running, "task")
            log.warning("worker %s (pid %d) %s while running %s", worker.id, worker.pid, describe_exit(dead.status), running)
        if dead.was_ready or dead.child.is_stopping:
            self._start_delay = MIN_START_DELAY_S
        else:
            self._delay_next_start()

    # -- signals --------------------------------------------------------------------------------------------------------------------------

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._pending_signals.append(number)

    def _handle_signals(self) -> None:
        while self._pending_signals:
            number = self._pending_signals.pop(0)
            if number in (signal.SIGTERM, signal.SIGINT):
                self._begin_stop(number)
            elif number == signal.SIGHUP and not self._is_stopping:
                self._code_reload.start_trial()

    def _begin_stop(self, number: int) -> None:
        now = self._clock.monotonic()
        if self._is_stopping:
            # Running tasks are requeued: nothing is lost, no try is counted.
            log.warning("stopping now: requeueing running tasks")
            self._exit_code = 128 + number
            for child in self.all():
                child.kill(ExitCause.STOP)
            return
        self._is_stopping = True
        if number not in self._graceful:
            log.info("stopping now: requeueing running tasks")
            for child in self.all():
                self._interrupt(child, now)
            return
        log_stop(self._table.running(), self._shutdown_timeout, number)
        for child in self.all():
            self._stop_worker(child, now)


def _next_exit() -> tuple[int, int] | None:
    """Return pid and status of a child process that has exited and reap it; None if there is none."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None

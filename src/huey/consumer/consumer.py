"""One worker: build, start and stop its parts. It runs inside any program; ``worker.py`` runs it in a process under a supervisor.

engine            claims tasks and writes finishes
runners           call the functions
time limits       ask tasks that pass their time limit to end
scheduler         fires periodic tasks
heartbeat         renews the lease, every 5 s                  } the supervisor's work,
janitor           takes over from dead workers                 } if there is one
watchdog          checks that the other threads make progress  }
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC
from types import FrameType
from typing import TYPE_CHECKING, Any

from huey.client.build import build_executor, build_run_hooks
from huey.consumer.janitor import JANITOR_INTERVAL_S, Janitor
from huey.consumer.process_table import PLAIN_THREADS, make_worker
from huey.consumer.scheduler import CLOCK_CHECK_INTERVAL_S, Scheduler, WallClock
from huey.consumer.service import OwnWatchdog, Service, ThreadRestarter
from huey.consumer.settings import process_only_reason, uses_local_time, validate_settings
from huey.consumer.signal_handling import restore_handlers, set_handler
from huey.consumer.startup import free_locks, log_banner, log_requeued, log_stop, wait_for_storage
from huey.engine.engine import OUTAGE_GAP, Engine
from huey.engine.outage import Outage
from huey.engine.prefetch import Search
from huey.engine.progress_notes import ProgressNotes
from huey.engine.runners.threads import ThreadRunners
from huey.engine.scoreboard import Scoreboard
from huey.engine.stamps import CHECK_INTERVAL, ENGINE, HEARTBEAT, JANITOR, OWN_THREADS, SCHEDULER, TIME_LIMITS, Board, LocalBoard, Stamp
from huey.engine.time_limits import LONGEST_WAIT, TimeLimits
from huey.exceptions import ConfigurationError, StorageError
from huey.runtime import current_run as current
from huey.runtime.failpoints import failpoint
from huey.runtime.logs import SafeLogger, enable, flush
from huey.runtime.waker import Waker
from huey.storage.base import HEARTBEAT_S
from huey.storage.rows import Polling, Worker
from huey.task.record import Lease

if TYPE_CHECKING:
    from huey.api import Huey
    from huey.engine.executor import Executor
    from huey.engine.runners.asyncio_loop import LoopRunners

log = SafeLogger("huey.consumer")

NEW, RUNNING, STOPPING = "new", "running", "stopping"


class ThreadedConsumer:
    """Runs the tasks of one Huey in this process, in threads.

    *workers*: how many tasks run at the same time. *periodic*: run periodic tasks. *localtime*: crontabs and naive times are local time
    (default: unless this Huey has ``utc``). *shutdown_timeout*: seconds that running tasks get at ``stop()``; 0: no limit. *watchdog*:
    seconds after which the consumer stops itself if one of its own threads (not a task) stalls; 0: never. For other options see
    ``huey.consumer.settings``. Raise ConfigurationError for an unknown or invalid option. Storage errors are raised by ``start()``.
    """

    is_supervised = False
    """Whether a supervisor renews the lease of this worker and recovers its tasks when it dies."""

    def __init__(self, huey: Huey, **options: Any) -> None:
        settings = self._settings = validate_settings(options)
        self._process_only_reason = None if self.is_supervised else process_only_reason(settings)
        for queue, _ in settings["queues"] if self._process_only_reason is None else ():
            huey = huey.on(queue)
        if huey.always_eager:
            raise ConfigurationError("this Huey is always_eager: its tasks run where they are called and never reach a consumer")
        self.huey = huey
        self.workers: int = settings["workers"]
        self.worker_type: str = settings["worker_type"]
        self.default_delay, self.max_delay, self.backoff = (float(settings[name]) for name in ("delay", "max_delay", "backoff"))
        self.scheduler_interval = float(settings["scheduler_interval"])
        self.periodic = bool(settings["periodic"])
        self.localtime = uses_local_time(settings, huey)
        self.shutdown_timeout: float | None = settings["shutdown_timeout"] or None
        self.watchdog = float(settings["watchdog"])
        self._max_tasks: int | None = settings["max_tasks"]
        self._graceful = {getattr(signal, f"SIG{name}") for name in settings["graceful_signal"]}
        self._interval = float(settings["periodic_task_interval"])
        self._state = NEW
        self._state_lock = threading.Lock()
        self._stopped = threading.Event()
        self._exit_code = 0
        self._stop_signal = 0
        """The signal that asked for a stop; 0 if none has."""
        self._is_graceful = True
        # Not a threading.Event: setting one in a signal handler can block forever on a lock that the same thread holds.
        self._stop_waker = Waker()
        if self._process_only_reason is None:
            self._build(make_worker(f"{huey.rng.getrandbits(128):032x}"))

    def _build(self, worker: Worker, scoreboard: Scoreboard | None = None) -> None:
        huey, clock = self.huey, self.huey.clock
        self.worker = worker
        self._waker = Waker()
        board: Board = scoreboard or LocalBoard()
        self._stamps = [Stamp(board, thread, clock) for thread in range(len(OWN_THREADS))]
        self._time_limits = TimeLimits(clock, scoreboard)
        self._wall_clock = WallClock(huey.storage, clock, self.localtime)
        client = huey.client
        self._run_hooks = build_run_hooks(client.context)
        notes = ProgressNotes(huey.storage, clock)
        parts = (client.context, client.overrides, self._time_limits, self._run_hooks, self.localtime, notes.note)
        execution = build_executor(*parts, in_loop=worker.kind == "async")
        self._runners = self._make_runners(execution)
        outage = Outage(clock, scoreboard)
        self._engine = Engine(
            huey.storage,
            self.worker,
            self._runners,
            clock,
            self._waker,
            outage,
            quota=self._max_tasks,
            on_quota_used=self._stop_waker.wake,
            run_hooks=self._run_hooks,
            ask_to_stop=self._time_limits.stop,
            replace=execution.unstorable,
            stamp=self._stamps[ENGINE],
            search=Search(huey.storage, worker, clock, execution.can_run) if worker.takes_others else None,
            notes=notes,
        )
        self._serving = current.Serving(huey.storage, worker.id, self.workers, self._time_limits.lease_of_thread)
        self._janitor = Janitor(huey.storage, self.worker, clock, execution.finalize, execution.declared)
        self._engine_service = Service("Engine", self._run_engine, OUTAGE_GAP)
        self._essential_services = [Service("Timekeeper", self._time_limits.run_once, LONGEST_WAIT, stamp=self._stamps[TIME_LIMITS])]
        self._services: list[Service] = []
        if not self.is_supervised:
            self._watchdog = OwnWatchdog(clock, self.watchdog, board, outage, self._stop_stalled)
            self._essential_services.append(Service("Heartbeat", self._send_heartbeat, HEARTBEAT_S, outage, self._stamps[HEARTBEAT]))
            self._services.append(Service("Janitor", self._janitor.run_once, JANITOR_INTERVAL_S, outage, self._stamps[JANITOR]))
            self._watchdog_service = Service("Watchdog", self._check_threads, CHECK_INTERVAL)
        if self.periodic and worker.takes_others:
            scheduler = Scheduler(
                huey.storage,
                huey.registry,
                huey.codec,
                clock,
                zone=None if self.localtime else UTC,
                interval=self._interval,
                owns=client.owns,
                announcing=client.producer.announcing,
                ticket=client.bulk.tick_builder,
            )
            self._services.append(Service("Scheduler", scheduler.run_once, self._interval, outage, self._stamps[SCHEDULER]))
        if self.localtime:
            # The offset changes twice a year, or when the time zone of the machine is set.
            self._services.append(Service("Wall clock", self._wall_clock.run_once, CLOCK_CHECK_INTERVAL_S, outage))
        self._thread_restarter = ThreadRestarter(clock, [self._runners.revive, self._restart_services])

    def _make_runners(self, execution: Executor) -> ThreadRunners | LoopRunners:
        if self.worker.kind != "async":
            return ThreadRunners(self.workers, execution.execute, self._waker.wake, run_hooks=self._run_hooks, finalize=execution.finalize)
        # Both load asyncio.
        from huey.engine.coroutines import CoroutineExecutor
        from huey.engine.runners.asyncio_loop import LoopRunners

        assert isinstance(execution, CoroutineExecutor)
        clock = self.huey.clock
        return LoopRunners(self.workers, PLAIN_THREADS, execution, self._waker.wake, self._time_limits, self._run_hooks, clock)

    def _send_heartbeat(self) -> None:
        for name in self._watchdog_service.revive():
            log.critical("thread %r ended unexpectedly and was restarted", name)
        self.huey.storage.heartbeat([self.worker])

    def _check_threads(self) -> None:
        self._watchdog.check(self._thread_restarter)

    def _stop_stalled(self, why: str) -> None:
        """Stop this consumer, whose engine may have stalled: let running tasks end while another thread writes their finishes. The program
        continues."""
        log.critical("this consumer is stopping itself: %s. The program continues without it; start a new consumer", why)
        self._exit_code = 1
        if not self._enter_stopping():
            return
        self._engine.stop()
        self._engine_service.stop(timeout=0)
        self._engine = self._engine.successor()
        self._engine_service = Service("Engine", self._finish_in_background, OUTAGE_GAP)
        self._engine_service.start()
        self._stop_waker.wake()
        for service in self._services:
            service.stop()

    def _restart_services(self) -> list[str]:
        return [name for service in (self._engine_service, *self._essential_services, *self._services) for name in service.revive()]

    # -- life ---------------------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all threads and return. The janitor runs at once, so that tasks of workers that died before are recovered.

        A consumer can be started once. Raise ConfigurationError if it cannot run in threads of this process; see ``run``.
        """
        if self._process_only_reason is not None:
            raise ConfigurationError(self._process_only_reason)
        with self._state_lock:
            if self._state != NEW:
                raise ConfigurationError("this consumer has already been started; make a new one with huey.create_consumer()")
            if self.huey.immediate:
                raise ConfigurationError("this Huey is in immediate mode: its tasks run where they are called and never reach a consumer")
            # An application that configured logging after importing huey may have disabled huey's loggers without meaning to.
            enable()
            storage = self.huey.storage
            storage.open(Polling(self.default_delay, self.max_delay, self.backoff, self.scheduler_interval))
            self.huey.codec.reset()
            if not self.is_supervised:
                free_locks(storage, self._settings)
            self._wall_clock.store_offset()
            storage.heartbeat([self.worker])
            self._log_start()
            self._state = RUNNING
            self._janitor.enter()
            self.huey.client.router.state.interrupt_callbacks.append(self._interrupt)
            current.servings.append(self._serving)
            self._runners.open()
            self._stamps[ENGINE].show()
            for service in (self._engine_service, *self._essential_services, *self._services):
                service.start()
            if not self.is_supervised:
                self._watchdog_service.start()

    def _interrupt(self) -> None:
        """Send the signal ``interrupted`` for all running tasks."""
        self._run_hooks.emit_interrupted(self._time_limits.running())

    def _run_engine(self) -> None:
        try:
            self._engine.run()
        except BaseException:  # Nothing may end the engine while its process lives: its tasks would be held forever. The service logs it.
            self._engine.assume_outage()
            raise

    def stop(self, graceful: bool = True, timeout: float | None = None) -> bool:
        """Stop claiming, wait for running tasks, write their finishes, and release the tasks that have not started.

        *timeout*: seconds to wait for running tasks; default: the shutdown timeout. *graceful* False: do not wait. Return False if some are
        still running. They stay leased, their finishes are written when they end, and another ``stop()`` waits for that.
        """
        limit = (self.shutdown_timeout if timeout is None else timeout) if graceful else 0.0
        if self._enter_stopping():
            if self._drain(limit):
                self._engine_service = Service("Engine", self._finish_in_background, OUTAGE_GAP)
                self._engine_service.start()
            else:
                self._deregister()
            return self._stopped.is_set()
        return self._stopped.wait(limit)

    def _enter_stopping(self) -> bool:
        """Return True to the first caller, which has to perform the stop."""
        with self._state_lock:
            before, self._state = self._state, STOPPING
            if before == NEW:
                self._stopped.set()
            return before == RUNNING

    def _drain(self, limit: float | None) -> list[Lease]:
        """Stop claiming, wait up to *limit* seconds for running tasks, and return those that still run."""
        self._stop_waker.wake()
        self._engine.stop()
        if not self._engine_service.stop(timeout=self.watchdog or None):
            log.critical("the engine of this consumer has stalled; stopping without it")
            self._exit_code = 1
            self._engine = self._engine.successor()
        still = self._engine.drain(limit, self._report_held)
        for service in self._services:
            service.stop()
        return still

    def _report_held(self, count: int) -> None:
        """Report that *count* tasks are still held while this consumer stops; a subclass overrides this."""

    def _finish_in_background(self) -> None:
        """Write the finishes of tasks that outlive a stop, when they end."""
        self._engine.drain(None)
        self._deregister()
        self._engine_service.stop()

    def _deregister(self) -> None:
        failpoint("stop:before-deregister")
        self._runners.close(5.0)
        self._run_hooks.close()
        with suppress(ValueError):
            self.huey.client.router.state.interrupt_callbacks.remove(self._interrupt)
            current.servings.remove(self._serving)
        self._time_limits.wake()
        self._stamps[ENGINE].leave()
        for service in self._essential_services:
            service.stop()
        if not self.is_supervised:
            self._watchdog_service.stop()
        if not self._exit_code:
            # A stalled engine may still continue, and would clear a descriptor that has been reused by then.
            self._waker.close()
        try:
            self.huey.storage.deregister(self.worker)
        except StorageError as error:
            log.warning("could not deregister this worker (%s); another consumer will notice that it is gone", error)
        self._janitor.leave()
        self._stopped.set()

    def run(self) -> int:
        """Run until SIGTERM, SIGINT or ``stop()``, stop gracefully, and return the exit code of the process. A second signal exits at once;
        no task is lost."""
        with self._signals():
            if wait_for_storage(self.huey.storage.open, self._stop_waker.wait, self.huey.clock):
                self.start()
            self._stop_waker.wait()
            if self._enter_stopping():
                limit = self.shutdown_timeout if self._is_graceful else 0.0
                log_stop(len(self._time_limits.running()), limit, self._stop_signal)
                still = self._drain(limit)
                if still:
                    self._requeue_and_exit(len(still))
                self._deregister()
            self._stopped.wait(self.shutdown_timeout if self._exit_code else None)
        self._stop_waker.close()
        log.info("stopped")
        return self._exit_code

    def _requeue_and_exit(self, count: int) -> None:
        """Requeue running tasks and exit before another worker can run them."""
        log_requeued(count)
        try:
            self.huey.notify_interrupted_tasks()
            flush()
            self._engine.requeue_running()
        finally:
            os._exit(0)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Handle SIGTERM and SIGINT inside the block: the first asks for a stop, a second one exits at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: set_handler(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            restore_handlers(before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop_signal:
            # This process holds the leases of running tasks: the next consumer on this host notices that it is gone and runs them again.
            os._exit(128 + number)
        self._stop_signal = number
        self._is_graceful = number in self._graceful
        self._stop_waker.wake()

    def _log_start(self) -> None:
        log_banner(self.huey, workers=self.workers, worker_type="thread", periodic=self.periodic, localtime=self.localtime)

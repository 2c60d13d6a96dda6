"""One worker: builds the parts, starts and stops them. Runs inside any program; ``worker.py`` gives it a process under a supervisor.

engine thread     turns the crank
runner threads    call the functions
timekeeper        asks tasks that pass their time limit to stop
scheduler         periodic ticks
heartbeat         renews the lease, every 5 s         } the supervisor's work,
janitor           takes over from dead workers        } if there is one
watchdog          looks whether the others go on      }
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

from huey.consumer.banner import tell_start, tell_stop
from huey.consumer.entrance import wait_for
from huey.consumer.hearing import listen, no_more
from huey.consumer.janitor import EVERY, Janitor
from huey.consumer.lives import Lives
from huey.consumer.locks import free_locks
from huey.consumer.own_watchdog import OwnWatchdog
from huey.consumer.scheduler import Scheduler
from huey.consumer.service import Service
from huey.consumer.settings import checked, shows_local_time, why_not_here
from huey.consumer.wall_clock import GLANCE, WallClock
from huey.consumer.worker_spec import make_worker
from huey.engine.engine import OUTAGE_GAP, Engine
from huey.engine.outage import Outage
from huey.engine.runners.threads import ThreadRunners
from huey.engine.scoreboard import Scoreboard
from huey.engine.search import Search
from huey.engine.stamps import ENGINE, HEARTBEAT, JANITOR, LOOK, OWN_THREADS, SCHEDULER, TIME_LIMITS, Board, LocalBoard, Stamp
from huey.engine.time_limits import LONGEST_LOOK, TimeLimits
from huey.exceptions import ConfigurationError, StorageError
from huey.runtime import current_run as current
from huey.runtime.failpoints import failpoint
from huey.runtime.logs import SafeLogger, enable, flush
from huey.runtime.waker import Waker
from huey.storage.base import HEARTBEAT_S
from huey.storage.rows import Worker
from huey.task.record import Lease

if TYPE_CHECKING:
    from huey.api import Huey

log = SafeLogger("huey.consumer")

NEW, RUNNING, STOPPING = "new", "running", "stopping"


class Consumer:
    """Runs the tasks of one Huey in this process, in threads.

    *workers*: tasks at the same time. *periodic*: run periodic tasks. *localtime*: its clock, for crontabs and wall times, shows local time
    (default: unless this Huey has ``utc``). *shutdown_timeout*: seconds that running tasks get at ``stop()``; 0: no limit. *watchdog*:
    seconds after which it stops itself if a thread of its own (not a task) stands still; 0: never. Others: see ``huey.consumer.settings``.
    ConfigurationError: an option that does not exist or cannot work; storage errors show at ``start()``.
    """

    has_keeper = False
    """A supervisor beats for this worker, and takes over from the dead."""

    def __init__(self, huey: Huey, **options: Any) -> None:
        settings = self._settings = checked(options)
        self._why_not_here = None if self.has_keeper else why_not_here(settings)
        for queue, _ in settings["queues"] if self._why_not_here is None else ():
            huey = huey.on(queue)
        if huey.always_eager:
            raise ConfigurationError("this Huey is always_eager: its tasks run where they are called, a consumer would find none")
        self.huey = huey
        self.workers: int = settings["workers"]
        self.worker_type: str = settings["worker_type"]
        self.default_delay, self.max_delay, self.backoff = (
            float(settings["delay"]),
            float(settings["max_delay"]),
            float(settings["backoff"]),
        )
        self.scheduler_interval = float(settings["scheduler_interval"])
        self.periodic = bool(settings["periodic"])
        self.localtime = shows_local_time(settings, huey)
        self.shutdown_timeout: float | None = settings["shutdown_timeout"] or None
        self.watchdog = float(settings["watchdog"])
        self._locks = {name: settings[name] for name in ("flush_locks", "extra_locks")}
        self._max_tasks: int | None = settings["max_tasks"]
        self._graceful = {getattr(signal, f"SIG{name}") for name in settings["graceful_signal"]}
        self._interval = float(settings["periodic_task_interval"])
        self._state = NEW
        self._life = threading.Lock()
        self._gone = threading.Event()
        self._exit_code = 0
        self._is_asked = 0
        """The signal that asked for a stop."""
        self._has_time = True
        # Not a threading.Event: setting one in a signal handler can wait for ever for a lock that the same thread holds.
        self._alarm = Waker()
        if self._why_not_here is None:
            self._build(make_worker(f"{huey.rng.getrandbits(128):032x}"))

    def _build(self, worker: Worker, page: Scoreboard | None = None) -> None:
        huey, clock = self.huey, self.huey.clock
        self.worker = worker
        self._waker = Waker()
        board: Board = page or LocalBoard()
        self._stamps = [Stamp(board, thread, clock) for thread in range(len(OWN_THREADS))]
        self._timekeeper = TimeLimits(clock, page)
        self._wall_clock = WallClock(huey.storage, clock, self.localtime)
        self._attendance = huey.attendance()
        execution = huey.execution(self._timekeeper, self._attendance, self.localtime)
        self._runners = ThreadRunners(
            self.workers, execution.complete, self._waker.wake, attendance=self._attendance, settle=execution.settle
        )
        outage = Outage(clock, page)
        self._engine = Engine(
            huey.storage,
            self.worker,
            self._runners,
            clock,
            self._waker,
            outage,
            quota=self._max_tasks,
            used_up=self._alarm.wake,
            attendance=self._attendance,
            ask_to_stop=self._timekeeper.stop,
            replace=execution.unstorable,
            stamp=self._stamps[ENGINE],
            search=Search(huey.storage, worker, clock, execution.can_run) if worker.takes_others else None,
        )
        self._serving = current.Serving(huey.storage, worker.id, self.workers, self._timekeeper.run_by)
        self._janitor = Janitor(huey.storage, self.worker, clock, execution.settle, execution.declared)
        self._cranking = Service("Engine", self._crank, OUTAGE_GAP)
        self._lasting = [Service("Timekeeper", self._timekeeper.look, LONGEST_LOOK, stamp=self._stamps[TIME_LIMITS])]
        self._services: list[Service] = []
        if not self.has_keeper:
            self._watchdog = OwnWatchdog(clock, self.watchdog, board, outage, self._give_up)
            self._lasting.append(Service("Heartbeat", self._beat, HEARTBEAT_S, outage, self._stamps[HEARTBEAT]))
            self._services.append(Service("Janitor", self._janitor.look, EVERY, outage, self._stamps[JANITOR]))
            self._watching = Service("Watchdog", self._watch, LOOK)
        if self.periodic and worker.takes_others:
            scheduler = Scheduler(
                huey.storage,
                huey.registry,
                huey.codec,
                clock,
                huey.new_id,
                zone=None if self.localtime else UTC,
                interval=self._interval,
                serves=huey.serves,
                announcing=huey.announcing,
                ticket=huey.ticket,
            )
            self._services.append(Service("Scheduler", scheduler.look, self._interval, outage, self._stamps[SCHEDULER]))
        if self.localtime:
            # An offset changes twice a year, or when somebody sets the machine's zone.
            self._services.append(Service("Wall clock", self._wall_clock.look, GLANCE, outage))
        self._lives = Lives(clock, [self._runners.revive, self._revive_services])

    def _beat(self) -> None:
        for name in self._watching.revive():
            log.critical("thread %r has ended; it is started again", name)
        self.huey.storage.heartbeat([self.worker])

    def _watch(self) -> None:
        self._watchdog.look(self._lives)

    def _give_up(self, why: str) -> None:
        """Stop this consumer, whose engine may stand still: what runs may end, and another thread writes that. The program goes on."""
        log.critical("this consumer stops itself: %s. The program goes on: start it, or another consumer, again", why)
        self._exit_code = 1
        if not self._begins_to_stop():
            return
        self._engine.stop()
        self._engine = self._engine.successor()
        self._cranking = Service("Engine", self._end_later, OUTAGE_GAP)
        self._cranking.start()
        self._alarm.wake()
        for service in self._services:
            service.stop()

    def _revive_services(self) -> list[str]:
        return [name for service in (self._cranking, *self._lasting, *self._services) for name in service.revive()]

    # -- life ---------------------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all threads and return. The janitor looks at once, so the tasks of workers that died before go on. A consumer starts
        once. ConfigurationError: it cannot, in threads of this process; see ``run``."""
        if self._why_not_here is not None:
            raise ConfigurationError(self._why_not_here)
        with self._life:
            if self._state != NEW:
                raise ConfigurationError("this consumer was started before; make another one with huey.create_consumer()")
            if self.huey.immediate:
                raise ConfigurationError("this Huey is in immediate mode: its tasks run where they are called, a consumer would find none")
            # An application that configured logging after it imported huey may have switched it off unawares.
            enable()
            storage = self.huey.storage
            storage.open()
            storage.pace(self.default_delay, self.max_delay, self.backoff, self.scheduler_interval)
            self.huey.codec.reset()
            if not self.has_keeper:
                free_locks(storage, self._locks)
            self._wall_clock.note()
            storage.heartbeat([self.worker])
            self._tell_start()
            self._state = RUNNING
            self._janitor.enter()
            self.huey.in_flight.append(self._interrupt)
            current.servings.append(self._serving)
            self._runners.open()
            self._stamps[ENGINE].show()
            for service in (self._cranking, *self._lasting, *self._services):
                service.start()
            if not self.has_keeper:
                self._watching.start()

    def _interrupt(self) -> None:
        """Tell that what runs here is cut short."""
        self._attendance.interrupt(self._timekeeper.running())

    def _crank(self) -> None:
        try:
            self._engine.run()
        except BaseException:  # Nothing may end the engine while its process lives: its tasks would be held for ever. The service tells it.
            self._engine.mistrust()
            raise

    def stop(self, graceful: bool = True, timeout: float | None = None) -> bool:
        """Claim nothing more, let running tasks end, write what they brought, give the rest back.

        *timeout*: seconds to wait for running tasks, default the shutdown timeout; *graceful* False: do not wait. False: some still run.
        They stay leased, their ends are written when they come, and a further ``stop()`` waits for that.
        """
        limit = (self.shutdown_timeout if timeout is None else timeout) if graceful else 0.0
        if self._begins_to_stop():
            if self._halt(limit):
                self._cranking = Service("Engine", self._end_later, OUTAGE_GAP)
                self._cranking.start()
            else:
                self._say_goodbye()
            return self._gone.is_set()
        return self._gone.wait(limit)

    def _begins_to_stop(self) -> bool:
        """True for the one call that has to do it."""
        with self._life:
            before, self._state = self._state, STOPPING
            if before == NEW:
                self._gone.set()
            return before == RUNNING

    def _halt(self, limit: float | None) -> list[Lease]:
        """Stop claiming and wait for what runs; what still does after *limit* seconds."""
        self._alarm.wake()
        self._engine.stop()
        self._cranking.stop(timeout=None)
        still = self._engine.drain(limit, self._say_held)
        for service in self._services:
            service.stop()
        return still

    def _say_held(self, count: int) -> None:
        """So many tasks are still in hand, while this consumer stops."""

    def _end_later(self) -> None:
        """Write the ends of tasks that outlived a stop, whenever they come."""
        self._engine.drain(None)
        self._say_goodbye()
        self._cranking.stop()

    def _say_goodbye(self) -> None:
        failpoint("stop:before-goodbye")
        self._runners.close(5.0)
        self._attendance.close()
        with suppress(ValueError):
            self.huey.in_flight.remove(self._interrupt)
            current.servings.remove(self._serving)
        self._timekeeper.wake()
        self._stamps[ENGINE].leave()
        for service in self._lasting:
            service.stop()
        if not self.has_keeper:
            self._watching.stop()
        self._waker.close()
        try:
            self.huey.storage.deregister(self.worker)
        except StorageError as error:
            log.warning("this worker could not take its leave; the next consumer sees that it is gone: %s", error)
        self._janitor.leave()
        self._gone.set()

    def run(self) -> int:
        """Run until SIGTERM, SIGINT or ``stop()``, gracefully (C17): the process's exit code. A second signal ends at once, nothing is
        lost."""
        with self._signals():
            if wait_for(self.huey.storage.open, self._alarm.wait, self.huey.clock):
                self.start()
            self._alarm.wait()
            if self._begins_to_stop():
                limit = self.shutdown_timeout if self._has_time else 0.0
                tell_stop(len(self._timekeeper.running()), limit, self._is_asked)
                still = self._halt(limit)
                if still:
                    self._leave_running(len(still))
                self._say_goodbye()
            self._gone.wait(self.shutdown_timeout if self._exit_code else None)
        self._alarm.close()
        log.info("stopped")
        return self._exit_code

    def _leave_running(self, count: int) -> None:
        """Put running tasks back and end this process before anybody else can run them."""
        log.warning("%d tasks did not end in time; they are put back and run again", count)
        try:
            self.huey.notify_interrupted_tasks()
            flush()
            self._engine.cut_short()
        finally:
            os._exit(0)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT ask for a stop; again: at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: listen(number, self._asked) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            no_more(before)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self._is_asked:
            # What runs is leased by this process: the next consumer on this host sees that it is gone and runs it again.
            os._exit(128 + number)
        self._is_asked = number
        self._has_time = number in self._graceful
        self._alarm.wake()

    def _tell_start(self) -> None:
        tell_start(self.huey, workers=self.workers, worker_type="thread", periodic=self.periodic, localtime=self.localtime)

"""Threads that run tasks. They share one deque; only a few are woken, one at a time, because waking a thread costs more than a short task.

A thread that dies unexpectedly is restarted, and the task that it was running gets a finish.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from huey.engine.run_hooks import RunHooks
from huey.hooks import SHUTDOWN, STARTUP, Hooks
from huey.runtime.clock import SECOND, Clock, micros, system_clock
from huey.runtime.event_loops import close_loop, keep_loop
from huey.runtime.logs import SafeLogger
from huey.runtime.masking import remove_mask
from huey.signals import Signals
from huey.task.lifecycle import Finish, Outcome, Raised, WorkerDied, decide
from huey.task.record import Lease

log = SafeLogger("huey.consumer")


class ThreadRunners:
    """Runners that are *count* threads. A runner calls *notify* when few or no tasks are left to start, so that the engine makes a turn."""

    def __init__(
        self,
        count: int,
        execute: Execute,
        notify: Callable[[], None],
        name: str = "Worker",
        clock: Clock = system_clock,
        run_hooks: RunHooks | None = None,
        finalize: Callable[[Finish], Finish] = lambda finish: finish,
    ) -> None:
        """Create the runners. *finalize*: adds the error that the caller gets to the finish of a task that failed outside its body."""
        self.count = count
        self.low_water = 0
        self._execute = execute
        self._clock = clock
        self._notify = notify
        self._run_hooks = run_hooks or RunHooks(Signals(), Hooks())
        self._ready: deque[Lease] = deque()
        self._done: deque[Finish] = deque()
        self._idle: deque[threading.Lock] = deque()
        """The locks on which idle runners sleep."""
        self._current: list[Lease | None] = [None] * count
        """The task of each runner whose finish it has not passed on yet."""
        self._is_closing = False
        self._name = name
        self._finalize = finalize
        self._sleep_locks: list[threading.Lock | None] = [None] * count
        self._threads = [self._new_thread(slot) for slot in range(count)]

    def _new_thread(self, slot: int) -> threading.Thread:
        return threading.Thread(target=self._run, args=(slot,), name=f"{self._name} {slot + 1}", daemon=True)

    def open(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def revive(self) -> list[str]:
        """Restart dead threads and return their names. The tasks that they were running are requeued, as if their worker had died."""
        if self._is_closing:
            return []
        dead = [slot for slot, thread in enumerate(self._threads) if not thread.is_alive()]
        for slot in dead:
            self._abandon(slot, WorkerDied(is_suspect=False))
            self._threads[slot] = self._new_thread(slot)
            self._threads[slot].start()
        return [self._threads[slot].name for slot in dead]

    def _abandon(self, slot: int, outcome: Outcome) -> None:
        """Pass on a finish for the task of a runner that could not do so itself."""
        lease, self._current[slot] = self._current[slot], None
        if lease is not None:
            finish = decide(lease, outcome, self._clock.now())
            self._done.append(self._finalize(finish) if finish.error else finish)
            self._notify()

    def close(self, timeout: float | None) -> bool:
        """Let the threads end; return False if some still run a task after *timeout* seconds (None: no limit)."""
        self._is_closing = True
        self._wake_idle(self.count)
        deadline = None if timeout is None else self._clock.monotonic() + micros(timeout)
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, (deadline - self._clock.monotonic()) / SECOND))
        return not any(thread.is_alive() for thread in self._threads)

    # -- the engine's side --------------------------------------------------------------------------------------------------------------

    def submit(self, leases: Sequence[Lease]) -> None:
        self._ready.extend(leases)

    def wake(self, count: int) -> None:
        self._wake_idle(count - (self.count - len(self._idle)))

    def collect(self) -> list[Finish]:
        done = self._done
        return [done.popleft() for _ in range(len(done))]

    def ended(self) -> int:
        return len(self._done)

    def take_back(self) -> list[Lease]:
        taken: list[Lease] = []
        while self._ready:
            try:
                taken.append(self._ready.popleft())
            except IndexError:  # A runner took it first.
                break
        return taken

    def waiting(self) -> int:
        return len(self._ready)

    def idle(self) -> int:
        return len(self._idle)

    def _wake_idle(self, count: int) -> None:
        for _ in range(count):
            try:
                self._idle.popleft().release()
            except IndexError:  # All are awake.
                return

    # -- the runners' side --------------------------------------------------------------------------------------------------------------

    def _run(self, slot: int) -> None:
        keep_loop()
        try:
            self._call_hooks(STARTUP)
            self._run_tasks(slot)
            self._call_hooks(SHUTDOWN)
        finally:
            close_loop()
            # New threads may get the numbers of threads that have ended.
            remove_mask()

    def _call_hooks(self, kind: str) -> None:
        try:
            self._run_hooks.hooks.call(kind)
        except BaseException:  # User code. The functions are guarded one by one, and nothing else may end this thread.
            log.critical("%s hooks failed", kind, exc_info=True)

    def _run_tasks(self, slot: int) -> None:
        while True:
            try:
                return self._serve(slot, self._new_sleep_lock(slot))
            except BaseException as error:  # The top of a runner: its task has a finish or gets one here, and the next tasks run.
                log.critical("%s failed; it continues", threading.current_thread().name, exc_info=True)
                self._abandon(slot, Raised({"error": f"{type(error).__name__} outside the task, in huey", "traceback": ""}))

    def _new_sleep_lock(self, slot: int) -> threading.Lock:
        """Return a new lock for this runner to sleep on. The old one must not be mistaken for a sleeping runner."""
        if (old := self._sleep_locks[slot]) is not None and old in self._idle:
            self._idle.remove(old)
        lock = self._sleep_locks[slot] = threading.Lock()
        lock.acquire()
        return lock

    def _serve(self, slot: int, sleep_lock: threading.Lock) -> None:
        """Run tasks until the runners are closed."""
        ready, done, execute, notify, current = self._ready, self._done, self._execute, self._notify, self._current
        tracked = self._run_hooks.tracked
        while True:
            try:
                lease = ready.popleft()
            except IndexError:
                if self._is_closing:
                    return
                self._sleep(sleep_lock)
                continue
            current[slot] = lease
            done.append(execute(lease, slot))
            current[slot] = None
            if slot in tracked:
                notify()
                self._run_hooks.after_commit(slot)
            elif not ready or len(ready) == self.low_water:
                notify()

    def _sleep(self, lock: threading.Lock) -> None:
        """Wait until woken. Check once more after registering, so that a task submitted in between does not wait for the next one."""
        self._idle.append(lock)
        if self._ready or self._is_closing:
            try:
                self._idle.remove(lock)
            except ValueError:  # It was just woken: the lock is released, or is about to be.
                lock.acquire()
            return
        lock.acquire()


Execute = Callable[[Lease, int], Finish]
"""Runs a task in the runner of the given number, and returns its finish."""


class Runners(Protocol):
    """The runners of one worker, which call the functions: threads, coroutines, greenlets or, in the simulator, just a clock."""

    count: int
    """How many tasks can run at the same time."""
    low_water: int
    """The number of waiting tasks at which the runners wake the engine, so that it claims more in time."""

    def submit(self, leases: Sequence[Lease]) -> None:
        """Accept tasks to run, in this order, without waking a runner."""

    def wake(self, count: int) -> None:
        """Ensure that at least *count* runners are awake, or all if there are fewer."""

    def collect(self) -> list[Finish]:
        """Return the finishes since the last call."""

    def ended(self) -> int:
        """Return how many finishes `collect` would return."""

    def take_back(self) -> list[Lease]:
        """Remove and return the tasks that have not started; they will not run."""

    def waiting(self) -> int:
        """Return the number of submitted tasks that have not started."""

    def idle(self) -> int:
        """Return the number of runners with nothing to do."""

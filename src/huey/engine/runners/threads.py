"""Threads that run tasks. They share one deque; few are woken, one at a time, since waking a thread costs more than a short task.

A thread that dies unexpectedly is started again, and the task that it was running gets a finish.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from huey.engine.run_hooks import RunHooks
from huey.hooks import SHUTDOWN, STARTUP, Hooks
from huey.runtime.clock import SECOND, Clock, micros, system_clock
from huey.runtime.logs import SafeLogger
from huey.runtime.masking import remove_mask
from huey.signals import Signals
from huey.task.lifecycle import Finish, Outcome, Raised, WorkerDied, decide
from huey.task.record import Lease

log = SafeLogger("huey.consumer")


class ThreadRunners:
    """*count* threads. A runner calls *notify* when the engine should turn: little or nothing is left to start."""

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
        """*finalize*: gives the finish of a task that failed outside its body the error that its caller gets."""
        self.count = count
        self.low_water = 0
        self._execute = execute
        self._clock = clock
        self._notify = notify
        self._run_hooks = run_hooks or RunHooks(Signals(), Hooks())
        self._ready: deque[Lease] = deque()
        self._done: deque[Finish] = deque()
        self._idle: deque[threading.Lock] = deque()
        """The locks at which idle runners sleep."""
        self._current: list[Lease | None] = [None] * count
        """By runner: a task whose finish it has not handed over yet."""
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
        """Start dead threads again and return their names. What they were running is requeued, like a task whose worker died."""
        if self._is_closing:
            return []
        dead = [slot for slot, thread in enumerate(self._threads) if not thread.is_alive()]
        for slot in dead:
            self._abandon(slot, WorkerDied(is_suspect=False))
            self._threads[slot] = self._new_thread(slot)
            self._threads[slot].start()
        return [self._threads[slot].name for slot in dead]

    def _abandon(self, slot: int, outcome: Outcome) -> None:
        """Hand over a finish for the task of a runner that could not do so."""
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
            except IndexError:  # A runner was faster.
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
        try:
            self._call_hooks(STARTUP)
            self._run_tasks(slot)
            self._call_hooks(SHUTDOWN)
        finally:
            # Threads get the numbers of threads that have ended.
            remove_mask()

    def _call_hooks(self, kind: str) -> None:
        try:
            self._run_hooks.hooks.call(kind)
        except BaseException:  # The user's functions; they are guarded one by one, and this thread must not end for anything else.
            log.critical("%s hooks failed", kind, exc_info=True)

    def _run_tasks(self, slot: int) -> None:
        while True:
            try:
                return self._serve(slot, self._new_sleep_lock(slot))
            except BaseException as error:  # The top of a runner: its task has a finish by now, or gets one, and the next ones are run.
                log.critical("%s failed; it continues", threading.current_thread().name, exc_info=True)
                self._abandon(slot, Raised({"error": f"{type(error).__name__} outside the task, in huey", "traceback": ""}))

    def _new_sleep_lock(self, slot: int) -> threading.Lock:
        """Return the lock at which this runner sleeps. The former one must not be taken for a runner that is asleep."""
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
        """Wait until woken. Checks once more after registering, so that a task that was submitted in between does not wait for the next."""
        self._idle.append(lock)
        if self._ready or self._is_closing:
            try:
                self._idle.remove(lock)
            except ValueError:  # Just woken: the lock is released or about to be.
                lock.acquire()
            return
        lock.acquire()


Execute = Callable[[Lease, int], Finish]
"""Runs a task in the runner of the given number, and decides what its outcome means."""


class Runners(Protocol):
    """Whatever calls the functions: threads, coroutines, greenlets; in the simulator, nothing but a clock."""

    count: int
    """Tasks that can run at the same time."""
    low_water: int
    """Number of waiting tasks at which the engine is to be woken, so that it claims more in time."""

    def submit(self, leases: Sequence[Lease]) -> None:
        """Accept tasks to run, in this order. Wakes no runner."""

    def wake(self, count: int) -> None:
        """Have at least *count* runners awake, or all if there are fewer."""

    def collect(self) -> list[Finish]:
        """Return the finishes since the last call."""

    def ended(self) -> int:
        """Return how many finishes `collect` would return."""

    def take_back(self) -> list[Lease]:
        """Return the tasks that have not started; they are not run any more."""

    def waiting(self) -> int:
        """Return the number of submitted tasks that have not started."""

    def idle(self) -> int:
        """Return the number of runners with nothing to do."""

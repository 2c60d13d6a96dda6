"""Threads that run tasks. They share one deque; few are woken, one at a time, since waking a thread costs more than a short task.

A thread that ends all the same is started again, and the task that it had in hand comes to an end.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from huey.engine.run_hooks import RunHooks
from huey.engine.runners.base import Complete
from huey.hooks import SHUTDOWN, STARTUP, Hooks
from huey.runtime.clock import SECOND, Clock, micros, system_clock
from huey.runtime.logs import SafeLogger
from huey.signals import Signals
from huey.task.lifecycle import Finish, Outcome, Raised, WorkerDied, decide
from huey.task.record import Lease

log = SafeLogger("huey.consumer")


class ThreadRunners:
    """*count* threads. ``notify`` is called by a runner when the engine should look: little or nothing is left to start."""

    def __init__(
        self,
        count: int,
        complete: Complete,
        notify: Callable[[], None],
        name: str = "Worker",
        clock: Clock = system_clock,
        attendance: RunHooks | None = None,
        settle: Callable[[Finish], Finish] = lambda finish: finish,
    ) -> None:
        """*settle*: gives the end of a task that failed beside its body what its caller gets."""
        self.count = count
        self.low_water = 0
        self._complete = complete
        self._clock = clock
        self._notify = notify
        self._attendance = attendance or RunHooks(Signals(), Hooks())
        self._ready: deque[Lease] = deque()
        self._done: deque[Finish] = deque()
        self._parked: deque[threading.Lock] = deque()
        self._in_hand: list[Lease | None] = [None] * count
        """By runner: a task whose end it has not handed over yet."""
        self._is_closing = False
        self._name = name
        self._settle = settle
        self._gates: list[threading.Lock | None] = [None] * count
        self._threads = [self._thread(slot) for slot in range(count)]

    def _thread(self, slot: int) -> threading.Thread:
        return threading.Thread(target=self._work, args=(slot,), name=f"{self._name} {slot + 1}", daemon=True)

    def open(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def revive(self) -> list[str]:
        """Start threads that have ended again: their names. What they had in hand is put back, as that of a worker that died is."""
        if self._is_closing:
            return []
        ended = [slot for slot, thread in enumerate(self._threads) if not thread.is_alive()]
        for slot in ended:
            self._give_up(slot, WorkerDied(is_suspect=False))
            self._threads[slot] = self._thread(slot)
            self._threads[slot].start()
        return [self._threads[slot].name for slot in ended]

    def _give_up(self, slot: int, outcome: Outcome) -> None:
        """Hand an end over for the task of a runner that could not do it."""
        lease, self._in_hand[slot] = self._in_hand[slot], None
        if lease is not None:
            finish = decide(lease, outcome, self._clock.now())
            self._done.append(self._settle(finish) if finish.error else finish)
            self._notify()

    def close(self, timeout: float | None) -> bool:
        """Let the threads end; False if some still run a task after *timeout* seconds."""
        self._is_closing = True
        self._wake(self.count)
        deadline = None if timeout is None else self._clock.monotonic() + micros(timeout)
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, (deadline - self._clock.monotonic()) / SECOND))
        return not any(thread.is_alive() for thread in self._threads)

    # -- the engine's side --------------------------------------------------------------------------------------------------------------

    def start(self, leases: Sequence[Lease], at_once: int) -> None:
        self._ready.extend(leases)
        self._wake(at_once - (self.count - len(self._parked)))

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
        return len(self._parked)

    def _wake(self, count: int) -> None:
        for _ in range(count):
            try:
                self._parked.popleft().release()
            except IndexError:  # All are awake.
                return

    # -- the runners' side --------------------------------------------------------------------------------------------------------------

    def _work(self, slot: int) -> None:
        self._attend(STARTUP)
        self._work_on(slot)
        self._attend(SHUTDOWN)

    def _attend(self, kind: str) -> None:
        try:
            self._attendance.hooks.call(kind)
        except BaseException:  # The user's functions; they are guarded one by one, and this thread must not end for what comes beside.
            log.critical("hooks of %s failed", kind, exc_info=True)

    def _work_on(self, slot: int) -> None:
        while True:
            try:
                return self._serve(slot, self._new_gate(slot))
            except BaseException as error:  # The top of a runner: a task has its end by now, or gets one; the next ones are run.
                log.critical("%s failed; it goes on", threading.current_thread().name, exc_info=True)
                failed = {"error": f"{type(error).__name__} beside the task, in huey", "traceback": ""}
                self._give_up(slot, Raised(failed))

    def _new_gate(self, slot: int) -> threading.Lock:
        """What this runner waits at. One that is left behind must not be taken for a runner that sleeps."""
        if (old := self._gates[slot]) is not None and old in self._parked:
            self._parked.remove(old)
        gate = self._gates[slot] = threading.Lock()
        gate.acquire()
        return gate

    def _serve(self, slot: int, gate: threading.Lock) -> None:
        """Run tasks until the runners are closed."""
        ready, done, complete, notify, in_hand = self._ready, self._done, self._complete, self._notify, self._in_hand
        visits = self._attendance.visits
        while True:
            try:
                lease = ready.popleft()
            except IndexError:
                if self._is_closing:
                    return
                self._park(gate)
                continue
            in_hand[slot] = lease
            done.append(complete(lease, slot))
            in_hand[slot] = None
            if slot in visits:
                notify()
                self._attendance.see_off(slot)
            elif not ready or len(ready) == self.low_water:
                notify()

    def _park(self, gate: threading.Lock) -> None:
        """Wait until woken. Looks once more after saying so: a task that came in between must not wait for the next one."""
        self._parked.append(gate)
        if self._ready or self._is_closing:
            try:
                self._parked.remove(gate)
            except ValueError:  # Just woken: the gate is open or about to be.
                gate.acquire()
            return
        gate.acquire()

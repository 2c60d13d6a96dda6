"""Threads that run tasks. They share one deque; few are woken, one at a time, since waking a thread costs more than a short task."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from huey.clock import SECOND, Clock, micros, system_clock
from huey.engine.attendance import Attendance
from huey.engine.runners.base import Complete
from huey.hooks import SHUTDOWN, STARTUP, Hooks
from huey.lifecycle import Finish
from huey.signals import Signals
from huey.task import Lease


class ThreadRunners:
    """*count* threads. ``notify`` is called by a runner when the engine should look: little or nothing is left to start."""

    def __init__(
        self,
        count: int,
        complete: Complete,
        notify: Callable[[], None],
        name: str = "Worker",
        clock: Clock = system_clock,
        attendance: Attendance | None = None,
    ) -> None:
        self.count = count
        self.low_water = 0
        self._complete = complete
        self._clock = clock
        self._notify = notify
        self._attendance = attendance or Attendance(Signals(), Hooks())
        self._ready: deque[Lease] = deque()
        self._done: deque[Finish] = deque()
        self._parked: deque[threading.Lock] = deque()
        self._is_closing = False
        self._threads = [threading.Thread(target=self._work, args=(n,), name=f"{name} {n + 1}", daemon=True) for n in range(count)]

    def open(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

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
        self._attendance.hooks.call(STARTUP)
        try:
            self._work_on(slot)
        finally:
            self._attendance.hooks.call(SHUTDOWN)

    def _work_on(self, slot: int) -> None:
        ready, done, complete, notify = self._ready, self._done, self._complete, self._notify
        visits = self._attendance.visits
        gate = threading.Lock()
        gate.acquire()
        while True:
            try:
                lease = ready.popleft()
            except IndexError:
                if self._is_closing:
                    return
                self._park(gate)
                continue
            done.append(complete(lease, slot))
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

"""Runners that are coroutines: one event loop in a thread of its own, with an asyncio task for each run.

The engine puts claimed tasks into a deque and wakes the loop once for all of them. Neither a storage nor a plain function is called in the
loop: plain functions run in a few threads, and so do hooks, signal handlers, and what a workflow reads and writes.

    engine --leases--> deque --one wake-up--> loop --a task each--> finishes --one notification--> engine
                        \\--plain functions--> threads ------------/
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import Any

from huey.engine.coroutines import CoroutineExecutor, CoroutineRun, ShutDown
from huey.engine.executor import exit_forked_child
from huey.engine.run_hooks import RunHooks
from huey.engine.runners.loop_watch import LoopWatch
from huey.engine.runners.threads import ThreadRunners
from huey.engine.time_limits import TimeLimits
from huey.exceptions import TaskTimeout
from huey.hooks import SHUTDOWN, STARTUP
from huey.runtime.clock import SECOND, Clock, micros
from huey.runtime.event_loops import close
from huey.runtime.logs import SafeLogger
from huey.task.lifecycle import Finish
from huey.task.record import Lease

log = SafeLogger("huey.consumer")

STEP_THREADS = 8
"""Most threads for what comes before the bodies of coroutines, and for what comes after them."""
NOTIFY_DELAY_S = 0.002
"""How long after a plain function the engine is notified, if others wait for its thread."""


class LoopRunners:
    """Runners for *count* tasks at a time, of which *plain_threads* may be plain functions.

    The first numbers of runners are those of the threads, the others those of coroutines. *notify*: wakes the engine.
    """

    def __init__(
        self,
        count: int,
        plain_threads: int,
        executor: CoroutineExecutor,
        notify: Callable[[], None],
        time_limits: TimeLimits,
        run_hooks: RunHooks,
        clock: Clock,
    ) -> None:
        self.count = count
        self.low_water = 0
        self._executor = executor
        self._notify = notify
        self._run_hooks = run_hooks
        self._clock = clock
        self._plain = ThreadRunners(plain_threads, self._run_plain, notify, "Plain", clock, run_hooks, executor.finalize)
        self._ready: deque[Lease] = deque()
        self._done: deque[Finish] = deque()
        self._free = [*range(plain_threads + count - 1, plain_threads - 1, -1)]
        """The numbers of runners without a coroutine. Like what follows, only the loop's thread changes it."""
        self._running: dict[int, CoroutineRun] = {}
        self._is_woken = False
        """Whether the loop is about to look at the deque."""
        self._is_notifying = False
        """Whether the loop is about to notify the engine."""
        self._is_closing = False
        self._context = Context()
        """What the functions of ``on_startup`` have set; each run gets a copy."""
        self._pid = os.getpid()
        self._before = ThreadPoolExecutor(STEP_THREADS, "Before")
        self._after = ThreadPoolExecutor(STEP_THREADS, "After")
        """Two pools: what comes before a body may wait for what comes after another one, never the reverse."""
        self._loop = _new_loop()
        self._thread = self._new_thread()
        self._watch = LoopWatch(self._loop, self._running, lambda: self._thread.ident, time_limits.show_loop, clock)

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="Event loop", daemon=True)

    def open(self) -> None:
        """Start the threads."""
        self._plain.open()
        self._thread.start()
        self._watch.open()

    def revive(self) -> list[str]:
        """Restart dead threads and return their names. The coroutines of a dead one go on, since they belong to the loop."""
        if self._is_closing:
            return []
        revived = self._plain.revive() + self._watch.revive()
        if not self._thread.is_alive():
            self._thread = self._new_thread()
            self._thread.start()
            revived.append(self._thread.name)
        return revived

    def close(self, timeout: float | None) -> bool:
        """Let the threads end; return False if some still run after *timeout* seconds (None: no limit)."""
        self._is_closing = True
        self._post(self._loop.stop)
        deadline = None if timeout is None else self._clock.monotonic() + micros(timeout)
        self._thread.join(timeout)
        self._watch.close()
        for pool in (self._before, self._after):
            pool.shutdown(wait=False, cancel_futures=True)
        left = None if deadline is None else max(0.0, (deadline - self._clock.monotonic()) / SECOND)
        return self._plain.close(left) and not self._thread.is_alive()

    def cancel_all(self) -> None:
        """Cancel the running coroutines, because this process is about to be killed; they are requeued. Call it in any thread."""
        for run in list(self._running.values()):
            run.ask(ShutDown)

    # -- the engine's side --------------------------------------------------------------------------------------------------------------

    def submit(self, leases: Sequence[Lease]) -> None:
        runs_in_loop = self._executor.runs_in_loop
        plain: list[Lease] = []
        for lease in leases:
            (self._ready if runs_in_loop(lease) else plain).append(lease)
        if plain:
            self._plain.submit(plain)

    def wake(self, count: int) -> None:
        if waiting := self._plain.waiting():
            self._plain.wake(self._plain.count - self._plain.idle() + waiting)
        if self._ready and not self._is_woken:
            self._is_woken = True
            self._post(self._start_ready)

    def collect(self) -> list[Finish]:
        done = self._done
        return [done.popleft() for _ in range(len(done))] + self._plain.collect()

    def ended(self) -> int:
        return len(self._done) + self._plain.ended()

    def take_back(self) -> list[Lease]:
        taken = self._plain.take_back()
        while self._ready:
            try:
                taken.append(self._ready.popleft())
            except IndexError:  # The loop took it first.
                break
        return taken

    def waiting(self) -> int:
        # Without plain functions that wait for a thread: the engine would claim no coroutine meanwhile.
        return len(self._ready)

    def idle(self) -> int:
        return max(0, self.count - len(self._running))

    # -- the threads' side --------------------------------------------------------------------------------------------------------------

    def _run_plain(self, lease: Lease, slot: int) -> Finish:
        finish = self._executor.execute(lease, slot)
        if self._plain.waiting():
            # This thread notifies the engine only if nothing waits; it passes on the finish in a moment.
            self._post(self._loop.call_later, NOTIFY_DELAY_S, self._notify)
        return finish

    # -- the loop's side ----------------------------------------------------------------------------------------------------------------

    def _post(self, call: Callable[..., Any], *args: Any) -> None:
        """Let the loop call a function; in any thread."""
        try:
            self._loop.call_soon_threadsafe(call, *args, context=self._context)
        except RuntimeError:  # It is closed: this worker has ended.
            log.debug("the event loop of this worker is closed")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._call_hooks(STARTUP)
        self._context = copy_context()
        while not self._is_closing:
            try:
                self._loop.run_forever()
            except BaseException:  # An asyncio task that a body has started may end the loop, with SystemExit.
                log.critical("something in the event loop of this worker has stopped it; it continues", exc_info=True)
        self._call_hooks(SHUTDOWN)
        close(self._loop)

    def _call_hooks(self, kind: str) -> None:
        try:
            self._run_hooks.hooks.call(kind)
        except BaseException:  # User code. The functions are guarded one by one, and nothing else may end this thread.
            log.critical("%s hooks failed", kind, exc_info=True)

    def _start_ready(self) -> None:
        self._is_woken = False
        ready, free = self._ready, self._free
        while ready and free:
            try:
                lease = ready.popleft()
            except IndexError:  # The engine took it back.
                return
            in_threads = self._executor.may_block(lease)
            run = CoroutineRun(lease, free.pop(), self._context.copy(), in_threads, self._clock.monotonic(), self._post)
            self._running[run.slot] = run
            if in_threads:
                self._before.submit(self._begin_in_thread, run)
            else:
                self._start(run)
        self._watch.note_work()

    def _begin_in_thread(self, run: CoroutineRun) -> None:
        run.context.run(self._executor.begin, run)
        # Only now is its context free for the loop.
        self._post(self._start, run)

    def _start(self, run: CoroutineRun) -> None:
        self._loop.create_task(self._drive(run), context=run.context)

    async def _drive(self, run: CoroutineRun) -> None:
        """Run one task; nothing is awaited but its body, so that no cancellation arrives elsewhere."""
        if not run.in_threads:
            self._executor.begin(run)
        value, error = None, None
        if run.coroutine is not None:
            run.task = asyncio.current_task()
            if run.limit:
                run.timer = self._loop.call_later(run.limit, self._on_limit, run)
            try:
                if run.reason is not None:
                    run.coroutine.close()
                    raise run.reason
                value = await run.coroutine
            except BaseException as raised:  # User code: every exception is an outcome, including SystemExit.
                error = raised
            self._leave_body(run)
            if run.reason is not None and isinstance(error, asyncio.CancelledError):
                error = run.reason().with_traceback(error.__traceback__)
        if run.in_threads:
            # After this step, when its context is free for another thread.
            self._loop.call_soon(self._after.submit, self._finish_in_thread, run, value, error)
            return
        self._done.append(self._executor.finish(run, value, error))
        self._release(run)

    def _leave_body(self, run: CoroutineRun) -> None:
        """Let no request to stop reach the run any more."""
        run.task = None
        if run.timer is not None:
            run.timer.cancel()
        if os.getpid() != self._pid:
            exit_forked_child(run.lease)

    def _on_limit(self, run: CoroutineRun) -> None:
        if not run.is_cooperative:
            run.cancel(TaskTimeout)

    def _finish_in_thread(self, run: CoroutineRun, value: Any, error: BaseException | None) -> None:
        self._done.append(run.context.run(self._executor.finish, run, value, error))
        self._notify()
        if run.slot in self._run_hooks.tracked:
            self._run_hooks.after_commit(run.slot)
        self._post(self._release, run)

    def _release(self, run: CoroutineRun) -> None:
        """Free the runner for the next task, and let the engine know, once for all that end in this step of the loop."""
        del self._running[run.slot]
        self._free.append(run.slot)
        if not self._is_notifying:
            self._is_notifying = True
            self._loop.call_soon(self._on_ends)

    def _on_ends(self) -> None:
        self._is_notifying = False
        if self._ready:
            self._start_ready()
        self._notify()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # Faster, if it is installed.
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop

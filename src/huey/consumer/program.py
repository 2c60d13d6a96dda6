"""The consumer inside a program: ``huey.create_consumer()``, ``huey.consumer.Consumer``."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any, Unpack

from huey.consumer.consumer import NEW, RUNNING, STOPPING, ThreadedConsumer
from huey.exceptions import ConfigurationError

if TYPE_CHECKING:
    from huey.api import Huey
    from huey.client.typed import ConsumerOptionArgs

OLD_ORDER = (
    *("workers", "periodic", "initial_delay", "backoff", "max_delay", "scheduler_interval", "worker_type", "check_worker_health"),
    *("health_check_interval", "flush_locks", "extra_locks", "max_tasks", "shutdown_timeout", "graceful_signal"),
)
"""Positional options, in the order of 3.x."""


class Consumer(ThreadedConsumer):
    """Runs the tasks of one Huey. ``start()`` does so in threads of this process. So does ``run()``, until it is stopped; options that need
    worker processes (``worker_type='process'``, ``max_tasks=``, ``max_memory=``, several ``queues=``) get them there, as with the command.

    For the options see ``huey.consumer.settings``. Raise ConfigurationError for an unknown or invalid option. Storage errors are raised by
    ``start()``.
    """

    def __init__(self, huey: Huey, *by_position: Any, **options: Unpack[ConsumerOptionArgs]) -> None:
        if len(by_position) > len(OLD_ORDER):
            raise TypeError(f"Consumer takes a Huey and {len(OLD_ORDER)} positional options, but got {len(by_position)}; pass them by name")
        super().__init__(huey, **dict(zip(OLD_ORDER, by_position, strict=False)), **options)

    def run(self) -> int:
        """Run until SIGTERM, SIGINT or ``stop()``, stop gracefully, and return the exit code of the process. A second signal exits at once;
        no task is lost.

        Raise ConfigurationError if worker processes are needed outside of the main thread, which alone receives signals.
        """
        return super().run() if self._process_only_reason is None else self._run_processes()

    def stop(self, graceful: bool = True, timeout: float | None = None) -> bool:
        """Stop like ``ThreadedConsumer.stop``. Under ``run()`` with worker processes, ask for a stop like SIGTERM, and wait unless called
        in the main thread, which has to perform the stop."""
        if self._process_only_reason is None:
            return super().stop(graceful, timeout)
        if self._state == RUNNING:
            for _ in range(1 if graceful else 2):
                os.kill(os.getpid(), signal.SIGTERM)
        is_main = threading.current_thread() is threading.main_thread()
        return self._state == NEW or self._stopped.wait(0 if is_main else timeout)

    def _run_processes(self) -> int:
        from huey.consumer.supervisor import Supervisor  # Large, and rarely needed.

        if threading.current_thread() is not threading.main_thread():
            raise ConfigurationError("run() with worker processes handles signals: call it in the main thread of its process")
        with self._state_lock:
            if self._state != NEW:
                raise ConfigurationError("this consumer has already been started; make a new one with huey.create_consumer()")
            self._state = RUNNING
        try:
            return Supervisor(self.huey, **self._settings).run()
        finally:
            self._state = STOPPING
            self._stopped.set()

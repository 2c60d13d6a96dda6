"""The end of a forked worker, as far as it is that of a Python program: exit handlers, threads that are not daemons, multiprocessing.

A worker must not run what its supervisor registered: that would delete the supervisor's folders and end its processes. So all that is
forgotten at the fork, as ``multiprocessing`` does in its children, and what is registered afterwards is called at a graceful end.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from huey.runtime.logs import SafeLogger, leave

log = SafeLogger("huey.consumer")

TIME = 10.0
"""Seconds that all of it gets."""


def forget() -> None:
    """Right after a fork: forget what belongs to the process before it."""
    atexit._clear()
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False
    # Else the first finalizer of this process would not be registered.
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    getattr(threading, "_threading_atexits", []).clear()
    util, process = sys.modules.get("multiprocessing.util"), sys.modules.get("multiprocessing.process")
    if util is not None and process is not None:
        util._finalizer_registry.clear()
        process._children = set()  # type: ignore[attr-defined]
        # It was registered when the module was imported.
        atexit.register(util._exit_function)
    for name, threads in (("thread", "_threads_queues"), ("process", "_threads_wakeups")):
        futures = sys.modules.get(f"concurrent.futures.{name}")
        if futures is not None:
            # Threads of the process before, which do not exist here.
            getattr(futures, threads).clear()
            threading._register_atexit(futures._python_exit)  # type: ignore[attr-defined]


def run(code: int) -> None:
    """Do at the end of this process what Python does at the end of a program. Not longer than ``TIME`` seconds: then the process ends with
    *code* where it stands."""
    over = threading.Event()
    threading.Thread(target=_end_in_time, args=(over, code), name="Exit", daemon=True).start()
    for act in (threading._shutdown, atexit._run_exitfuncs):  # type: ignore[attr-defined]
        _call(act)
    over.set()


def _call(act: Callable[[], Any]) -> None:
    try:
        act()
    except BaseException:  # The application's functions: whatever they raise, the process ends.
        log.exception("an exit handler failed")


def _end_in_time(over: threading.Event, code: int) -> None:
    if not over.wait(TIME):
        log.warning("exit handlers of this worker (pid %d) took longer than %d s: it ends without them", os.getpid(), TIME)
        leave(code)

"""SIGHUP: a trial process imports the application; only if that works, the supervisor replaces itself with the new code."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from huey.consumer import processes
from huey.consumer.command import own_command
from huey.consumer.process_table import Child
from huey.runtime.logs import SafeLogger

if TYPE_CHECKING:
    from huey.api import Huey

log = SafeLogger("huey.consumer")

OLD = "the workers continue with the old code"


class CodeReload:
    """The trial of new code and the switch to it. *children* returns the workers, which are handed over to the new code."""

    def __init__(self, huey: Huey, children: Callable[[], list[Child]]) -> None:
        self._huey = huey
        self._children = children
        self._trial: int | None = None
        self._is_outdated = False
        """There was another SIGHUP after the trial began."""

    def start_trial(self) -> None:
        """Start a trial; if one is running, start another one after it."""
        self._is_outdated = self._trial is not None
        if self._is_outdated:
            return
        log.info("SIGHUP: testing the new code")
        try:
            self._trial = processes.spawn({processes.TRIAL: "1"})
        except OSError as error:
            log.error("SIGHUP: cannot start %s (%s); %s", own_command()[0], error, OLD)

    def on_exit(self, pid: int, status: int, is_stopping: bool) -> None:
        """A child process has exited: if it was the trial, act on its exit code."""
        if pid != self._trial:
            return
        self._trial, code = None, os.waitstatus_to_exitcode(status)
        if self._is_outdated and not is_stopping:
            # The code may have changed since the trial began.
            self.start_trial()
        elif code:
            log.error("SIGHUP: the new code does not start (exit code %d); %s", code, OLD)
        elif not is_stopping:
            self._replace()

    def _replace(self) -> None:
        log.info("SIGHUP: restarting with the new code")
        self._huey.close()
        try:
            processes.replace_this_process(self._children())
        except OSError as error:
            log.error("SIGHUP: cannot run %s (%s); %s", own_command()[0], error, OLD)

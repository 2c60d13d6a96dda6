"""SIGHUP: another process tries whether the application can be imported; only then the supervisor replaces itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from huey.consumer import processes
from huey.consumer.command import own_command
from huey.consumer.processes import Child
from huey.runtime.logs import SafeLogger

if TYPE_CHECKING:
    from huey.api import Huey

log = SafeLogger("huey.consumer")

OLD = "the workers go on with the old code"


class NewCode:
    """*children*: the workers, which are handed over to the new code."""

    def __init__(self, huey: Huey, children: Callable[[], list[Child]]) -> None:
        self._huey = huey
        self._children = children
        self._trial: int | None = None
        self._is_newer = False
        """There was a SIGHUP after the trial began."""

    def try_it(self) -> None:
        """Start the trial; after the one that runs, if there is one."""
        self._is_newer = self._trial is not None
        if self._is_newer:
            return
        log.info("SIGHUP: trying the new code")
        try:
            self._trial = processes.spawn({processes.TRIAL: "1"})
        except OSError as error:
            log.error("SIGHUP: %s cannot be started (%s); %s", own_command()[0], error, OLD)

    def has_ended(self, pid: int, status: int, is_stopping: bool) -> None:
        """A child process has ended: if it was the trial, do what it says."""
        if pid != self._trial:
            return
        self._trial, code = None, os.waitstatus_to_exitcode(status)
        if self._is_newer and not is_stopping:
            # What was tried is not what is there now.
            self.try_it()
        elif code:
            log.error("SIGHUP: the new code cannot be used (exit code %d); %s", code, OLD)
        elif not is_stopping:
            self._replace()

    def _replace(self) -> None:
        log.info("SIGHUP: starting with the new code")
        self._huey.close()
        try:
            processes.replace_this_process(self._children())
        except OSError as error:
            log.error("SIGHUP: %s cannot be run (%s); %s", own_command()[0], error, OLD)

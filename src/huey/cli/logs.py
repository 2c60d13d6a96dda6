"""The log of the command: the console, or a file that several processes can write and rotate."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, TextIO

from huey.cli.errors import UsageError
from huey.consumer.command import REAL
from huey.runtime.files import NotOurs, is_safe_folder, open_own, our_own
from huey.runtime.log_queue import LOGGERS
from huey.runtime.logs import enable

LOG_BYTES = 1_000_000
LOG_BACKUPS = 3
LOG_FORMAT = "[%(asctime)s] %(levelname)s:%(name)s:%(message)s"
_STREAMS = ("/dev/stdout", "/dev/stderr", "/dev/null")
_READABLE = stat.S_IWGRP | stat.S_IWOTH
"""Others may write to a log file, if its owner allows it: huey never reads it."""
SIMPLE_FORMAT, SIMPLE_TIME = "%(asctime)s %(message)s", "%H:%M:%S"


def set_up_logging(settings: Mapping[str, Any], level: int | None = None) -> None:
    """Log to the file that *settings* name, else to stderr. On stderr only records appear that no handler of the application accepts, so
    that each line appears once, in the application's own format.

    *level* applies if neither ``verbose`` nor ``quiet`` is set; default: the level that the application has set for "huey", else INFO.
    Raises UsageError if the file cannot be written.
    """
    loggers = [logging.getLogger(name) for name in LOGGERS]
    enable(loggers)
    _set_levels(loggers, settings, level)
    handler: logging.Handler = _log_file(settings["logfile"]) if settings.get("logfile") else Console(loggers[0])
    handler.setFormatter(Simple() if settings.get("simple") else logging.Formatter(LOG_FORMAT))
    for logger in loggers:
        if logger is loggers[0] or not logger.propagate:
            logger.addHandler(handler)


def _set_levels(loggers: list[logging.Logger], settings: Mapping[str, Any], level: int | None) -> None:
    first, *others = loggers
    asked = logging.DEBUG if settings.get("verbose") else logging.ERROR if settings.get("quiet") else level
    if asked is not None:
        first.setLevel(asked)
        for logger in others:
            logger.setLevel(logging.NOTSET)
    elif first.level == logging.NOTSET:
        first.setLevel(logging.INFO)


class Simple(logging.Formatter):
    """A formatter of records as ``H:M:S message``, with the level before the message from WARNING on."""

    def __init__(self) -> None:
        super().__init__(SIMPLE_FORMAT, SIMPLE_TIME)

    def formatMessage(self, record: logging.LogRecord) -> str:
        if record.levelno >= logging.WARNING:
            record.message = f"{record.levelname} {record.message}"
        return super().formatMessage(record)


class Console(logging.StreamHandler[TextIO]):
    """A handler that writes records to stderr that no other handler accepts. So the application may add its own handlers at any time, even
    in a task, and no line appears twice."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self._filtering = _filtering_handlers(logger)

    def handle(self, record: logging.LogRecord) -> bool:
        is_taken = any(self._takes(handler, record.levelno) for handler in handlers_of(logging.getLogger(record.name)))
        return False if is_taken else super().handle(record)

    def _takes(self, handler: logging.Handler, level: int) -> bool:
        if handler is self or isinstance(handler, logging.NullHandler | Console | LogFile) or id(handler) in self._filtering:
            return False
        # A console or file that is limited to warnings is so on purpose; but a handler that mails errors is not a log.
        return level >= handler.level or isinstance(handler, logging.StreamHandler)


def handlers_of(logger: logging.Logger) -> Iterator[logging.Handler]:
    """Yield the handlers that get the records of this logger."""
    at: logging.Logger | None = logger
    while at is not None:
        yield from at.handlers
        at = at.parent if at.propagate else None


def _filtering_handlers(logger: logging.Logger) -> set[int]:
    """Return the ids of handlers whose filters reject huey's records, such as Django's ``require_debug_true``."""
    probe = logger.makeRecord("huey.consumer", logging.CRITICAL, __file__, 0, "", (), None)
    return {id(handler) for handler in handlers_of(logger) if not _lets_pass(handler, probe)}


def _lets_pass(handler: logging.Handler, record: logging.LogRecord) -> bool:
    try:
        return bool(handler.filter(record))
    except Exception:  # The application's filter: a handler whose filter fails does not write either.
        return False


def _log_file(path: str) -> LogFile:
    if os.path.islink(path) and not _is_stream(path):
        raise UsageError(f"--logfile {path}: it is a symbolic link; give the path of its target")
    try:
        # Relative to the directory in which the command was started: importing the application may have changed it.
        return LogFile(os.path.join(REAL, path))
    except OSError as error:
        raise UsageError(
            f"--logfile {path}: {error.strerror}; use a file that belongs to this user, in a directory that does too"
        ) from error


def _is_stream(path: str) -> bool:
    """Return True for open streams such as /dev/stdout, and /dev/null: they are not rotated."""
    return os.path.abspath(path) in _STREAMS or os.path.dirname(os.path.abspath(path)) in ("/dev/fd", "/proc/self/fd")


class LogFile(logging.Handler):
    """A log file of at most 1 MB, with three old ones, ``.1`` to ``.3``.

    Any number of processes may write to the same file: forked ones reopen it, each line is one write, one process rotates the file, and the
    others notice, as they do when something else moves it away. Raises OSError if the file cannot be opened, NotOurs if it is not a regular
    file, or if it or its directory belongs to another user. A later error, such as a full disk, is reported once on stderr, which gets the
    log until the error is over.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        # Absolute: a task may change the current folder.
        self._path = os.path.abspath(path)
        self._is_rotated = not _is_stream(path)
        self._is_failing = False
        # Not open yet: a handler whose file cannot be opened is still closed at exit.
        self._fd = -1
        self._open()

    def _open(self) -> None:
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY
        if self._is_rotated:
            trust = our_own()
            if not is_safe_folder(os.path.dirname(self._path), trust._replace(writable=stat.S_IWGRP)):
                raise NotOurs(errno.EPERM, "its directory, or one above it, belongs to another user or is world-writable", self._path)
            self._fd = open_own(self._path, flags, 0o600, trust._replace(writable=_READABLE))
        else:
            self._fd = os.open(self._path, flags | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
        self._identity = _identity(os.fstat(self._fd))
        self._pid = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        line = ""
        try:
            line = self.format(record)
            self._write(f"{line}\n".encode("utf-8", "backslashreplace"))
            self._is_failing = False
        except OSError as error:
            self._report(error, line)
        except Exception:  # A record that does not fit its format must not end the task that logs it.
            self.handleError(record)

    def _write(self, line: bytes) -> None:
        self._reopen_if_moved()
        if self._is_rotated:
            size = os.fstat(self._fd).st_size
            if size and size + len(line) > LOG_BYTES:
                self._rotate()
        os.write(self._fd, line)

    def _reopen_if_moved(self) -> None:
        """Reopen the file if its path now leads to another one."""
        try:
            is_ours = _identity(os.fstat(self._fd)) == self._identity
        except OSError:
            is_ours = False
        if not is_ours:
            # A task closed the descriptor; it may belong to another file by now, so it is not closed here.
            self._open()
        elif self._pid != os.getpid() or not self._is_at_path():
            # A forked process must not share its parent's lock; a file that was moved away is closed.
            os.close(self._fd)
            self._open()

    def _is_at_path(self) -> bool:
        if not self._is_rotated:
            return True
        with suppress(FileNotFoundError):
            return _identity(os.stat(self._path)) == self._identity
        return False

    def _rotate(self) -> None:
        try:
            # The lock belongs to the old file and ends with it; a process that cannot get it writes to the old file meanwhile.
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if self._is_at_path():
            for number in range(LOG_BACKUPS, 0, -1):
                with suppress(FileNotFoundError):
                    os.rename(f"{self._path}.{number - 1}" if number > 1 else self._path, f"{self._path}.{number}")
        os.close(self._fd)
        self._open()

    def _report(self, error: OSError, line: str) -> None:
        with suppress(OSError, ValueError, AttributeError):
            if not self._is_failing:
                self._is_failing = True
                print(
                    f"huey_consumer: --logfile {self._path}: {error.strerror}; logging to the console until it can be written",
                    file=sys.stderr,
                )
            print(line, file=sys.stderr)

    def close(self) -> None:
        """Close the descriptor; a later record opens the file again."""
        with suppress(OSError):
            os.close(self._fd)
        self._fd = -1
        super().close()


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino

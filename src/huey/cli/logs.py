"""The log of the command: the console, and a file that several processes may write and turn over (S93-S97, C18)."""

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
from huey.runtime.escaping import LOGGERS
from huey.runtime.logs import enable
from huey.runtime.ownership import NotOurs, is_safe_place, open_own, our_own

LOG_BYTES = 1_000_000
LOG_BACKUPS = 3
LOG_FORMAT = "[%(asctime)s] %(levelname)s:%(name)s:%(message)s"
_STREAMS = ("/dev/stdout", "/dev/stderr", "/dev/null")
_READABLE = stat.S_IWGRP | stat.S_IWOTH
"""What others may do to a log file is its owner's business: nothing in it is believed."""
SIMPLE_FORMAT, SIMPLE_TIME = "%(asctime)s %(message)s", "%H:%M:%S"


def set_up_logging(settings: Mapping[str, Any], level: int | None = None) -> None:
    """Log to the file if one is named, else to stderr; there only what no handler of the application takes, so that each line stands there
    once, in the application's own format. *level*: if neither ``verbose`` nor ``quiet`` is set; default: that of the application for
    "huey", else INFO. Mistake: the file cannot be written."""
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
    """``H:M:S message``; with the level before a message that is no mere news."""

    def __init__(self) -> None:
        super().__init__(SIMPLE_FORMAT, SIMPLE_TIME)

    def formatMessage(self, record: logging.LogRecord) -> str:
        if record.levelno >= logging.WARNING:
            record.message = f"{record.levelname} {record.message}"
        return super().formatMessage(record)


class Console(logging.StreamHandler[TextIO]):
    """Writes to stderr what no other handler takes. So the application may bring handlers of its own, also later, such as in a task, and no
    line stands there twice."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self._deaf = _deaf_ones(logger)

    def handle(self, record: logging.LogRecord) -> bool:
        return False if self._is_taken(record) else super().handle(record)

    def _is_taken(self, record: logging.LogRecord) -> bool:
        return any(self._takes(handler, record.levelno) for handler in handlers_of(logging.getLogger(record.name)))

    def _takes(self, handler: logging.Handler, level: int) -> bool:
        if handler is self or isinstance(handler, logging.NullHandler | Console | LogFile) or id(handler) in self._deaf:
            return False
        # A console or a file that is set to warnings is to have no more than these; mails of errors are no log.
        return level >= handler.level or isinstance(handler, logging.StreamHandler)


def handlers_of(logger: logging.Logger) -> Iterator[logging.Handler]:
    """The handlers that a record of this logger comes to."""
    at: logging.Logger | None = logger
    while at is not None:
        yield from at.handlers
        at = at.parent if at.propagate else None


def _deaf_ones(logger: logging.Logger) -> set[int]:
    """Handlers whose filters keep our records out, such as Django's ``require_debug_true``."""
    probe = logger.makeRecord("huey.consumer", logging.CRITICAL, __file__, 0, "", (), None)
    return {id(handler) for handler in handlers_of(logger) if not _lets_pass(handler, probe)}


def _lets_pass(handler: logging.Handler, record: logging.LogRecord) -> bool:
    try:
        return bool(handler.filter(record))
    except Exception:  # The application's filter: a handler that cannot judge will not write either.
        return False


def _log_file(path: str) -> LogFile:
    if os.path.islink(path) and not _is_stream(path):
        raise UsageError(f"--logfile {path}: that is a symbolic link; name the file that it leads to")
    try:
        # Of the folder where this began: the application may have changed it while it was imported.
        return LogFile(os.path.join(REAL, path))
    except OSError as error:
        raise UsageError(f"--logfile {path}: {error.strerror}; give a file that belongs to this user, in a folder of his") from error


def _is_stream(path: str) -> bool:
    """What this process has open, by a name such as /dev/stdout, or /dev/null: nothing to be turned over."""
    return os.path.abspath(path) in _STREAMS or os.path.dirname(os.path.abspath(path)) in ("/dev/fd", "/proc/self/fd")


class LogFile(logging.Handler):
    """Appends to a file of 1 MB at most; then it becomes ``.1``, the former ``.1`` becomes ``.2``, that ``.3``, and the former ``.3`` goes.

    Any number of processes may write the same file: forked ones open it anew, each line is one write, one process turns the file over,
    and the others follow, as they do when somebody else moves it away. OSError: the file cannot be opened; NotOurs: it is no plain file, or
    belongs, as its folder may, to somebody else. Later trouble, such as a full
    disk, is told once on stderr, which gets the log until that ends.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        # Absolute: a task may change the current folder.
        self._path = os.path.abspath(path)
        self._turns_over = not _is_stream(path)
        self._is_failing = False
        self._open()

    def _open(self) -> None:
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY
        if self._turns_over:
            trust = our_own()
            if not is_safe_place(os.path.dirname(self._path), trust._replace(writable=stat.S_IWGRP)):
                raise NotOurs(errno.EPERM, "its folder, or one above it, belongs to another user or may be written by all", self._path)
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
            self._tell(error, line)
        except Exception:  # A record that does not fit its format must not end the task that logs it.
            self.handleError(record)

    def _write(self, line: bytes) -> None:
        self._make_sure()
        if self._turns_over:
            size = os.fstat(self._fd).st_size
            if size and size + len(line) > LOG_BYTES:
                self._turn_over()
        os.write(self._fd, line)

    def _make_sure(self) -> None:
        """Have the file open that is called so now."""
        try:
            is_ours = _identity(os.fstat(self._fd)) == self._identity
        except OSError:
            is_ours = False
        if not is_ours:
            # A task closed the descriptor; by now it may be a file of somebody else, so it is not closed here.
            self._open()
        elif self._pid != os.getpid() or not self._is_in_place():
            # A forked process must not share the lock of its parent; a file that was moved away is left.
            os.close(self._fd)
            self._open()

    def _is_in_place(self) -> bool:
        if not self._turns_over:
            return True
        with suppress(FileNotFoundError):
            return _identity(os.stat(self._path)) == self._identity
        return False

    def _turn_over(self) -> None:
        try:
            # Held by the old file, so it ends with it; who finds it taken writes on meanwhile.
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if self._is_in_place():
            for number in range(LOG_BACKUPS, 0, -1):
                with suppress(FileNotFoundError):
                    os.rename(f"{self._path}.{number - 1}" if number > 1 else self._path, f"{self._path}.{number}")
        os.close(self._fd)
        self._open()

    def _tell(self, error: OSError, line: str) -> None:
        with suppress(OSError, ValueError, AttributeError):
            if not self._is_failing:
                self._is_failing = True
                print(
                    f"huey_consumer: --logfile {self._path}: {error.strerror}; until that ends the log goes to the console",
                    file=sys.stderr,
                )
            print(line, file=sys.stderr)

    def close(self) -> None:
        """Give the descriptor back; a record that comes later opens the file again."""
        with suppress(OSError):
            os.close(self._fd)
        self._fd = -1
        super().close()


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino

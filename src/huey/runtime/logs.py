"""Loggers whose calls never raise: an application's log handler may fail in any way without stopping the code that logs.

Untrusted texts are made safe for logs and terminals: no line break starts a line, and no escape sequence gets through. Ids, names, reasons
and errors come from producers, so each log record of huey is escaped before any handler gets it.

Also the exit of a process that must end even if its last lines are lost.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NoReturn

from huey.runtime import log_queue

LAST_LINES = 2.0
"""Seconds that handlers and streams get to write what they still hold."""


def enable(loggers: Iterable[logging.Logger] | None = None) -> None:
    """Undo what ``dictConfig`` and ``fileConfig`` do by default to existing loggers: ``disabled``. Default: all of huey's loggers."""
    for logger in map(logging.getLogger, log_queue.LOGGERS) if loggers is None else loggers:
        logger.disabled = False


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that writes to the logger *name*. Exceptions of its handlers, filters and formatters are dropped, and so are those of
    formatting.

    Only Ctrl+C propagates, in a program that leaves SIGINT to Python.
    """

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name), {})

    def isEnabledFor(self, level: int) -> bool:
        """Return True if a line of this level would be logged."""
        if self.logger.disabled and log_queue.is_on():
            # For example after a dictConfig in a task, which must not silence the consumer.
            enable()
        return self.logger.isEnabledFor(level)

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        """Log one line. Does not raise."""
        try:
            if self.isEnabledFor(level):
                self.logger.log(level, msg, *args, stacklevel=kwargs.pop("stacklevel", 1) + 1, **kwargs)
        except BaseException as error:  # The user's code, whatever it raises: there is nowhere else to report it.
            if is_ctrl_c(error):
                raise


def is_ctrl_c(error: BaseException) -> bool:
    """Return True if *error*, caught around application code, is Ctrl+C in a program that leaves SIGINT to Python. It must propagate."""
    if not isinstance(error, KeyboardInterrupt) or threading.current_thread() is not threading.main_thread():
        return False
    import signal

    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


def flush() -> None:
    """Flush the log handlers and the standard streams. Never raises and takes at most ``LAST_LINES`` seconds: streams may be closed, full
    or gone, or wait for a reader."""
    last = threading.Thread(target=_flush, name="Flush", daemon=True)
    try:
        last.start()
        last.join(LAST_LINES)
    except RuntimeError:  # No thread can be started.
        _flush()


def _flush() -> None:
    if not log_queue.drain(LAST_LINES):
        # A handler hangs: flushing would wait for it.
        return
    flushes: list[Callable[[], Any]] = [logging.shutdown]
    flushes += [stream.flush for stream in (sys.stdout, sys.stderr) if stream is not None]
    for act in flushes:
        try:
            act()
        except BaseException:  # The application's stream: only what it cannot write is lost.
            continue


def write_by_line() -> None:
    """Make the standard streams line-buffered, even for pipes and files, and flush them now: a fork would copy their buffers, which would
    be written twice."""
    for stream in {sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__}:
        with suppress(BaseException):  # The application may have put anything there; it may be closed, full or gone.
            if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
                reconfigure(line_buffering=True)
            elif stream is not None:
                stream.flush()


def drop_broken_streams() -> None:
    """Drop standard streams that cannot be written before the interpreter exits: it would exit with code 120 because of them."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            setattr(sys, name, None)


def leave(code: int) -> NoReturn:
    """Exit this process with *code* now, even if its log and streams fail."""
    try:
        flush()
    finally:
        os._exit(code)


_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, characters that change the text direction, and characters that cannot be encoded."""
_SAFE = (int, float, type(None))


class Lines(str):
    """A text of several lines, such as a traceback: in the log all but the first are indented."""

    __slots__ = ()


def escaped(text: str) -> str:
    """Return *text* with its control characters as Python escapes them."""
    return _HARMFUL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text) if _HARMFUL.search(text) else text


def escaped_lines(text: str) -> str:
    """Like `escaped`, but keep lines; all but the first are indented."""
    return "\n  ".join("\t".join(map(escaped, line.split("\t"))) for line in text.split("\n"))


class _Shown:
    """An argument that is escaped only when it is formatted."""

    __slots__ = ("_of",)

    def __init__(self, of: object) -> None:
        self._of = of

    def __str__(self) -> str:
        return escaped(str(self._of))

    def __repr__(self) -> str:
        return escaped(repr(self._of))


def _argument(value: Any) -> Any:
    if isinstance(value, Lines):
        return escaped_lines(value)
    if isinstance(value, str):
        return escaped(value)
    return value if isinstance(value, _SAFE) else _Shown(value)


def escape_record(record: logging.LogRecord) -> bool:
    """Escape the message and arguments of a log record. Returns True: as a filter, it lets every record pass."""
    if isinstance(record.msg, str):
        record.msg = "\n".join(map(escaped, record.msg.split("\n")))
    if isinstance(record.args, dict):
        record.args = {name: _argument(value) for name, value in record.args.items()}
    elif record.args:
        record.args = tuple(map(_argument, record.args))
    if record.exc_info and not record.exc_text:
        record.exc_text = escaped_lines(logging.Formatter().formatException(record.exc_info))
    return True


for _name in log_queue.LOGGERS:
    logging.getLogger(_name).addFilter(escape_record)

"""Loggers whose calls never raise: a log handler of the application may fail in any way, and what was to be logged goes on."""

from __future__ import annotations

import logging
import threading
from typing import Any


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs to the logger *name*. Whatever its handlers, filters and formatters raise is dropped; so is what the text of an argument raises.

    Only Ctrl+C passes, in a program that has left it to Python.
    """

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name), {})

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        """Log one line, and do not raise."""
        try:
            if self.logger.isEnabledFor(level):
                self.logger.log(level, msg, *args, stacklevel=kwargs.pop("stacklevel", 1) + 1, **kwargs)
        except BaseException as error:  # The user's code, whatever it raises: there is no other place to tell it.
            if isinstance(error, KeyboardInterrupt) and _is_ctrl_c():
                raise


def _is_ctrl_c() -> bool:
    import signal

    is_main = threading.current_thread() is threading.main_thread()
    return is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler

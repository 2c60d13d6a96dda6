"""Makes untrusted texts safe for logs and terminals: a line break starts no line, and no escape sequence gets through.

Ids, names, reasons and errors come from whoever enqueues. Each log record of huey passes here, whoever handles it.
"""

from __future__ import annotations

import logging
import re
from typing import Any

LOGGERS = ("huey", "huey.consumer", "huey.djhuey")

_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, characters that change the direction of text, and characters that cannot be encoded."""
_SAFE = (int, float, type(None))


class Lines(str):
    """A text of several lines, such as a traceback: in the log all but the first are indented."""

    __slots__ = ()


def escaped(text: str) -> str:
    """Return *text* with its control characters as Python escapes them."""
    return _HARMFUL.sub(_as_python_writes_it, text) if _HARMFUL.search(text) else text


def escaped_lines(text: str) -> str:
    """Like `escaped`, but keep lines; all but the first are indented."""
    return "\n  ".join("\t".join(map(escaped, line.split("\t"))) for line in text.split("\n"))


def _as_python_writes_it(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


class _Shown:
    """An argument that is formatted only when it is written."""

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


for _name in LOGGERS:
    logging.getLogger(_name).addFilter(escape_record)

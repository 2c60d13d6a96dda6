"""Errors that the user of the command can fix. ``main`` prints one line and exits with the code of the error."""

from __future__ import annotations


class UsageError(Exception):
    """The command cannot run; the message says why, and what to do."""

    code = 1


class OptionError(UsageError):
    """The value of an option is not valid."""

    code = 2

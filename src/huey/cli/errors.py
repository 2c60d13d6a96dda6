"""What a user of the command can put right. ``main`` prints it in one line and ends with its code."""

from __future__ import annotations


class UsageError(Exception):
    """Nothing can be run; its text says why, and the way out."""

    code = 1


class OptionError(UsageError):
    """A value that an option cannot have."""

    code = 2

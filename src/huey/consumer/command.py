"""Find out how this process was started, to start it again: its folder, its command line, and the variables kept out of its environment.

A deployment may switch a link ``current`` to another release and send SIGHUP. So the folder is the one that the shell names ($PWD, as in
gunicorn), not the one that the kernel found behind the link, and a script started through its first line is started so again.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

hidden_environment: dict[str, str] = {}
"""Environment variables passed between processes of one command. They are removed from ``os.environ``, because programs that tasks start
would use them as their own."""


def _folder() -> tuple[str, str]:
    """Return the current folder as the shell names it, and as the kernel does; both are empty if it is gone."""
    try:
        real = os.getcwd()
        here = os.stat(real)
    except OSError:
        return "", ""
    named = os.environ.get("PWD", "")
    try:
        there = os.stat(named)
    except (OSError, ValueError):
        return real, real
    is_same = os.path.isabs(named) and (here.st_ino, here.st_dev) == (there.st_ino, there.st_dev)
    return (named if is_same else real), real


def _runs_by_first_line() -> bool:
    """Return whether the command is a script whose first line names the interpreter, such as those that pip installs."""
    script, interpreter = sys.orig_argv[1:2], sys.orig_argv[:1]
    if not script or not os.path.isabs(interpreter[0]) or not os.access(script[0], os.X_OK):
        return False
    try:
        with open(script[0], "rb") as file:
            # If a path is too long for the kernel, pip writes a shell script of two lines.
            head = file.readline(4096) + file.readline(4096)
    except OSError:
        return False
    return head.startswith(b"#!") and os.fsencode(interpreter[0]) in re.split(rb"[\s!\"']+", head)


# From the start of this process; the application may change its folder while it is imported.
NAMED, REAL = _folder()
BY_FIRST_LINE = _runs_by_first_line()


def own_command() -> list[str]:
    """Return the command line of this process, to run it in the folder where it started."""
    first, *rest = sys.orig_argv
    if BY_FIRST_LINE:
        return [os.path.join(NAMED, rest[0]), *rest[1:]]
    if os.sep in first and not os.path.isabs(first):
        # Python makes it absolute behind the link.
        return [os.path.join(NAMED, first), *rest]
    return [sys.executable, *rest]


@contextmanager
def in_folder(path: str) -> Iterator[None]:
    """Run the block in the folder *path*, which all threads of a process share. Raise OSError if it cannot be entered."""
    before = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if path:
            os.chdir(path)
        yield
    finally:
        os.fchdir(before)
        os.close(before)

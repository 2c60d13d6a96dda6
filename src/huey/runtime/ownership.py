"""Checks of who may have written a file: its owner, its permissions, its names, and every directory and link on the path to it.

A file that another user can write must not be read or written: SQLite takes a log beside its file as part of it, whoever created it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

_MOST_LINKS = 40
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Trust(NamedTuple):
    """A rule for whose files are trusted."""

    uids: frozenset[int]
    gid: int | None = None
    """The group whose files are trusted too, whoever created them."""
    writable: int = 0
    """Write permissions that a file may give to its group and to others: bits of its mode."""

    def has(self, found: os.stat_result) -> bool:
        """Return True if the file or directory belongs to a trusted user or group."""
        return found.st_uid in self.uids or found.st_gid == self.gid


def our_own() -> Trust:
    """Return trust in this user and root only."""
    return Trust(frozenset((os.geteuid(), 0)))


def shared_like(main: os.stat_result, mode: int) -> Trust:
    """Return trust for files beside *main*, which is to have *mode*: only users that can write *main* may be able to write them."""
    uids = our_own().uids
    writable = main.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not mode & stat.S_IWGRP:
        return Trust(uids, None, writable)
    return Trust(uids | {main.st_uid}, main.st_gid, writable | stat.S_IWGRP)


def fault_of(found: os.stat_result, trust: Trust) -> str:
    """Return why a file must not be used, as the rest of a sentence that begins with its name; empty if it may be used."""
    if not stat.S_ISREG(found.st_mode):
        return f"is {_KINDS.get(stat.S_IFMT(found.st_mode), 'something else')}, not a plain file"
    if not trust.has(found):
        return f"belongs to another user (uid {found.st_uid})"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) & ~trust.writable:
        return f"may be written by others (mode {stat.S_IMODE(found.st_mode):04o})"
    if found.st_nlink > 1:
        return "has a second name (a hard link)"
    return ""


class NotOurs(OSError):
    """The file belongs to another user, or is not a plain file; ``strerror`` says which."""


def open_own(path: str, flags: int, mode: int, trust: Trust) -> int:
    """Open a plain file that *trust* allows, and return its descriptor. Never follows a link, never blocks on a pipe.

    Raises NotOurs for anything else, which is then neither read nor written, and OSError if it cannot be opened.
    """
    # Checked first, since opening a device may have an effect; checked again, since it may be another file by then.
    try:
        _require(path, os.lstat(path), trust)
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, mode)
    try:
        _require(path, os.fstat(fd), trust)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _require(path: str, found: os.stat_result, trust: Trust) -> None:
    if fault := fault_of(found, trust):
        raise NotOurs(errno.EPERM, f"it {fault}", path)


def is_safe_folder(folder: str, trust: Trust) -> bool:
    """Return True if no other user can replace *folder* or remove our files from it: it and every step on the path to it, links included,
    belong to trusted users, and others cannot write there or (sticky) cannot remove our files."""
    return all(_is_safe(found, trust) for _, found in steps_to(folder))


def _is_safe(found: os.stat_result, trust: Trust) -> bool:
    if not trust.has(found):
        return False
    if stat.S_ISLNK(found.st_mode):
        return True
    return not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) & ~trust.writable or bool(found.st_mode & stat.S_ISVTX)


def steps_to(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the folders and links that decide what *folder* names, from the root down. Raises OSError if there is no such folder."""
    path, left, links = "/", os.path.abspath(folder).split("/")[::-1], 0
    yield path, os.lstat(path)
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            path = os.path.dirname(path)
            continue
        step = os.path.join(path, part)
        found = os.lstat(step)
        yield step, found
        if not stat.S_ISLNK(found.st_mode):
            path = step
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), folder)
        target = os.readlink(step)
        if target.startswith("/"):
            path = "/"
        left += target.split("/")[::-1]

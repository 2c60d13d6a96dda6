"""Who may have written a file: its owner, its rights, its names, and every folder and link on the way to it.

What somebody else may write is not ours to read or to write into: a log that lies beside a SQLite file is part of it, whoever put it there.
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
    """Whose files are believed."""

    uids: frozenset[int]
    gid: int | None = None
    """Files of this group too, whoever made them."""
    writable: int = 0
    """Rights to write that a file may give to its group and to others: bits of its mode."""

    def has(self, found: os.stat_result) -> bool:
        """The file or folder belongs to somebody who is trusted."""
        return found.st_uid in self.uids or found.st_gid == self.gid


def our_own() -> Trust:
    """This user and root, and nobody else."""
    return Trust(frozenset((os.geteuid(), 0)))


def shared_like(main: os.stat_result, mode: int) -> Trust:
    """What may lie beside the file *main*, which is to have *mode*: files that nobody can write who cannot write *main*."""
    uids = our_own().uids
    writable = main.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not mode & stat.S_IWGRP:
        return Trust(uids, None, writable)
    return Trust(uids | {main.st_uid}, main.st_gid, writable | stat.S_IWGRP)


def fault_of(found: os.stat_result, trust: Trust) -> str:
    """Why a file is not to be touched: the rest of a sentence that begins with its name. Empty: it is fine."""
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
    """The file is somebody else's, or no plain file; ``strerror`` is the fact."""


def open_own(path: str, flags: int, mode: int, trust: Trust) -> int:
    """A descriptor of a plain file that *trust* believes; never follows a link, never waits for a pipe.

    NotOurs: it is something else; it was neither read nor written. OSError: it cannot be opened.
    """
    # Looked at first: to open a device may do something. Looked at again, because it may be another file by then.
    try:
        _refuse(path, os.lstat(path), trust)
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, mode)
    try:
        _refuse(path, os.fstat(fd), trust)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _refuse(path: str, found: os.stat_result, trust: Trust) -> None:
    if fault := fault_of(found, trust):
        raise NotOurs(errno.EPERM, f"it {fault}", path)


def is_safe_place(folder: str, trust: Trust) -> bool:
    """Nobody else can put another folder in the place of *folder*, nor files of ours away from it: it and all on the way to it, links
    included, belong to whom *trust* names, and others cannot write into them, or (sticky) not take away what is ours."""
    return all(_is_safe(found, trust) for _, found in steps_to(folder))


def _is_safe(found: os.stat_result, trust: Trust) -> bool:
    if not trust.has(found):
        return False
    if stat.S_ISLNK(found.st_mode):
        return True
    return not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) & ~trust.writable or bool(found.st_mode & stat.S_ISVTX)


def steps_to(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """The folders and links that decide what *folder* names, from the root down. OSError: there is no such folder."""
    place, left, links = "/", os.path.abspath(folder).split("/")[::-1], 0
    yield place, os.lstat(place)
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            place = os.path.dirname(place)
            continue
        step = os.path.join(place, part)
        found = os.lstat(step)
        yield step, found
        if not stat.S_ISLNK(found.st_mode):
            place = step
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), folder)
        target = os.readlink(step)
        if target.startswith("/"):
            place = "/"
        left += target.split("/")[::-1]

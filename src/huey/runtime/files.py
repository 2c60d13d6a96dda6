"""Checks of a queue's file: permissions, owners, file systems. It holds pickles, so a user that can write it can run code in workers.

Below, for any file: who may have written it, by its owner, its permissions, its names, and every directory and link on the path to it. A
file that another user can write must not be read or written: SQLite takes a log beside its file as part of it, even one that another user
created.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from huey.exceptions import ConfigurationError, StorageRefused, StorageUnavailable

BY_SQLITE = ("-wal", "-shm", "-journal")
"""Files beside a database that SQLite reads, even if another user created them."""
BY_US = ("-open", "-checkpoint", "-ballast")
"""Files that huey keeps beside a database."""
_NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "9p", "davfs", "webdav", "coda"),
        *("ceph", "glusterfs", "lustre", "gpfs", "beegfs", "orangefs", "pvfs2", "fuse.davfs2", "fuse.glusterfs"),
        *("fuse.sshfs", "fuse.ceph-fuse", "fuse.juicefs", "fuse.moosefs", "fuse.lizardfs", "fuse.smbnetfs"),
        *("fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.goofys", "fuse.mountpoint-s3", "fuse.blobfuse", "fuse.blobfuse2"),
    }
)
"""Types of file systems that other machines may write to as well, as in /proc/self/mounts."""
_MOUNTS = "/proc/self/mounts"
_ESCAPED = re.compile(r"\\([0-7]{3})")


def check_before_open(path: str, mode: int, *, allow_network: bool = False) -> None:
    """Create the file if it is missing, with *mode* from its first byte; reject files that must not be used.

    Raises StorageRefused if there is no such folder, if the file is a link, not a plain file, another user's, read-only or, unless
    *allow_network*, on a network file system, or if others may have written a file beside it.
    """
    folder = os.path.dirname(path)
    if not allow_network:
        _reject_network(path)
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise StorageRefused(f"{path}: {folder} is not a folder; give another filename=")
        found = os.lstat(path)
    except FileNotFoundError as error:
        if not os.path.isdir(folder):
            raise StorageRefused(f"{path}: the folder {folder} does not exist; make it first, or give another filename=") from error
        _make(path, mode)
        check_neighbours(path, mode)
        return
    except OSError as error:
        raise StorageRefused(f"{path}: {error.strerror}; check the rights of its folder") from error
    if not stat.S_ISREG(found.st_mode):
        raise StorageRefused(f"{path}: this is not a plain file; give the path of the file itself as filename=")
    if found.st_uid not in (os.geteuid(), 0) and not _is_shared(mode):
        raise StorageRefused(
            f"{path}: the file belongs to another user (uid {found.st_uid}); run as that user, or share it with file_mode=0o660"
        )
    if not os.access(path, os.R_OK | os.W_OK):
        raise StorageRefused(f"{path}: this process may not write the file; check its owner and rights")
    if not os.access(folder, os.W_OK):
        raise StorageRefused(f"{path}: this process may not write into {folder}, where SQLite keeps its log; check the folder's rights")
    check_neighbours(path, mode)


def check_neighbours(path: str, mode: int) -> dict[str, tuple[int, int]]:
    """Return the files beside *path* under names that SQLite and huey use: inode and device by suffix.

    Raises StorageRefused if one is not a plain file, is another user's, has a second name, or is writable by more users than *path*.
    """
    trust, found = _trust_for_neighbours(path, mode), {}
    for ending in BY_SQLITE + BY_US:
        try:
            neighbour = os.lstat(path + ending)
        except OSError:
            continue
        if fault := fault_of(neighbour, trust):
            raise StorageRefused(
                f"{path}{ending}: it {fault}, so it is not trusted as part of {path}. Find out who created it; when no process uses "
                "the queue, move it away, or keep the queue in a folder that nobody else may write"
            )
        found[ending] = (neighbour.st_ino, neighbour.st_dev)
    return found


def reserve_names(path: str, mode: int) -> None:
    """Create, where others may write beside *path*, the files that SQLite would look for, empty and ours, so that others cannot; in a
    sticky folder they cannot remove them either."""
    folder = os.stat(os.path.dirname(path))
    if not (folder.st_mode & stat.S_IWOTH and folder.st_mode & stat.S_ISVTX) or sys.platform != "linux":
        return
    for ending in BY_SQLITE:
        try:
            # Not opened: closing it again would drop the locks that SQLite has on it in this process.
            os.mknod(path + ending, stat.S_IFREG | 0o600)
        except FileExistsError:
            continue
        except OSError as error:
            raise StorageUnavailable(f"{path}{ending}: the file cannot be made: {error.strerror}; try again") from error
        if _is_shared(mode):
            os.chmod(path + ending, mode)


def _trust_for_neighbours(path: str, mode: int) -> Trust:
    folder, trust = os.stat(os.path.dirname(path)), shared_like(os.lstat(path), mode)
    if folder.st_mode & stat.S_IWOTH and folder.st_mode & stat.S_ISGID:
        # Whatever another user creates here belongs to the folder's group.
        return trust._replace(gid=None)
    return trust


def _make(path: str, mode: int) -> None:
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    except FileExistsError:
        # Another process was faster. Opening the file here and closing it again would drop SQLite's locks, so nothing more is done.
        return
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise StorageUnavailable(
                f"{path}: this process has too many open files; raise its limit (ulimit -n, LimitNOFILE), or see what it keeps open"
            ) from error
        raise StorageRefused(f"{path}: the file cannot be made: {error.strerror}; check the rights of its folder") from error
    try:
        if _is_shared(mode):
            os.fchmod(fd, mode)
    finally:
        os.close(fd)


def is_private(path: str, mode: int) -> bool:
    """Return True if only this user, root and the group it is shared with can write the file, replace it, or replace its folder."""
    try:
        file = os.stat(path)
        trust = shared_like(file, mode)._replace(writable=stat.S_IWGRP if _is_shared(mode) else 0)
        is_ours = file.st_uid in our_own().uids or _is_shared(mode)
        is_closed = not file.st_mode & (stat.S_IWGRP | stat.S_IWOTH) & ~trust.writable
        return is_ours and is_closed and is_safe_folder(os.path.dirname(path), trust)
    except OSError:
        # It is being moved, or a folder above it is not readable.
        return False


def _is_shared(mode: int) -> bool:
    return bool(mode & stat.S_IWGRP)


def _reject_network(path: str) -> None:
    kind = _file_system(path)
    if kind in _NETWORK:
        raise StorageRefused(
            f"{path}: this is a network file system ({kind}); SQLite's locks and shared memory do not reach other machines, so the file "
            "would be damaged. Use a local disk; if only this machine ever opens the file, set allow_network=True"
        )


def _file_system(path: str) -> str:
    """Return the type of the mount that *path* is on, or will be; empty if this system does not report it."""
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as table:
            mounts = [line.split()[1:3] for line in table]
    except OSError:
        return ""
    real = os.path.realpath(path)
    best = ("", "")
    for escaped, kind in mounts:
        point = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), escaped)
        # If several mounts have the same point, the last one is visible.
        if (real + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


OPENINGS = 20
"""How often opening a file is retried while files beside it change."""


class Replaced(StorageUnavailable):
    """Raised if files beside a database changed while it was opened: most likely another huey process, the last to use it, closed it."""


@contextmanager
def unchanged_neighbours(path: str, mode: int) -> Iterator[None]:
    """Ensure that inside the block SQLite opens for *path* only files that were beside it before, or that it created itself.

    Raises StorageRefused if another user put a file there, Replaced if files were changed meanwhile.
    """
    reserve_names(path, mode)
    before, pins = check_neighbours(path, mode), []
    try:
        if sys.platform == "linux":
            # While it is held, no other file can have its number. A descriptor of this kind does not affect locks.
            pins = [fd for ending in BY_SQLITE[:1] if (fd := _pinned(path + ending)) is not None]
        yield
        after = check_neighbours(path, mode)
    finally:
        for fd in pins:
            os.close(fd)
    if any(before.get(ending, after.get(ending)) != after.get(ending) for ending in BY_SQLITE[:2]):
        raise Replaced(f"{path}: files beside it were replaced while it was opened; try again")


def _pinned(path: str) -> int | None:
    try:
        return os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None


def sqlite_uri(path: str) -> str:
    """Return the URI by which SQLite opens this file without ever creating it."""
    return "file:" + path.replace("%", "%25").replace("?", "%3f").replace("#", "%23") + "?mode=rw"


def absolute(filename: str | os.PathLike[str]) -> str:
    """Return the absolute path of a file. Raises ConfigurationError for the URL of a server."""
    path = os.fsdecode(filename)
    scheme, is_url, _ = path.partition("://")
    if is_url and scheme.isalnum() and scheme != "file":
        what = f"filename={without_password(path)}"
        raise ConfigurationError(f"{what}: give the path of a file; for a server use its class, such as RedisHuey")
    return os.path.abspath(path)


def without_password(value: object) -> str:
    """Return *value* as an error may show it: of a URL, only the scheme."""
    text = repr(value)
    scheme, is_url, _ = text.partition("://")
    return f"{scheme}://...'" if is_url else text


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
    """The group whose files are trusted too, no matter which user owns them."""
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

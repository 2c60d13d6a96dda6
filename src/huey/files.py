"""Whose file it is: rights, owners, file systems. A queue's file holds pickles, so who may write it may run code in workers (S1, S4)."""

from __future__ import annotations

import os
import re
import stat

from huey.exceptions import StorageRefused

_NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "9p", "davfs", "webdav", "coda"),
        *("ceph", "glusterfs", "lustre", "gpfs", "beegfs", "orangefs", "pvfs2"),
        *(
            "fuse.sshfs",
            "fuse.glusterfs",
            "fuse.ceph-fuse",
            "fuse.juicefs",
            "fuse.moosefs",
            "fuse.lizardfs",
            "fuse.smbnetfs",
            "fuse.davfs2",
        ),
        *("fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.goofys", "fuse.mountpoint-s3", "fuse.blobfuse", "fuse.blobfuse2"),
    }
)
"""Types of file systems that other machines write into as well, as /proc/self/mounts names them."""
_MOUNTS = "/proc/self/mounts"
_ESCAPED = re.compile(r"\\([0-7]{3})")


def check_before_open(path: str, mode: int, *, allow_network: bool = False) -> None:
    """Make the file when it is missing, with *mode* from its first byte; refuse what we should not touch.

    StorageRefused: no such folder, a link, not a file, another user's, read-only, or, unless *allow_network*, on a network file system
    (C13).
    """
    folder = os.path.dirname(path)
    if not allow_network:
        _refuse_network(path)
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise StorageRefused(f"{path}: {folder} is not a folder; give another filename=")
        found = os.lstat(path)
    except FileNotFoundError as error:
        if not os.path.isdir(folder):
            raise StorageRefused(f"{path}: the folder {folder} does not exist; make it first, or give another filename=") from error
        _make(path, mode)
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


def _make(path: str, mode: int) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, mode))
    except FileExistsError:
        # Another process was faster. Opening the file here and closing it again would drop SQLite's locks, so nothing more is done.
        return
    except OSError as error:
        raise StorageRefused(f"{path}: the file cannot be made: {error.strerror}; check the rights of its folder") from error
    if _is_shared(mode):
        os.chmod(path, mode)


def is_private(path: str, mode: int) -> bool:
    """Nobody but us, root, and the group it is shared with can write the file or replace it."""
    file, folder = os.stat(path), os.stat(os.path.dirname(path))
    allowed = stat.S_IWGRP if _is_shared(mode) else 0
    is_ours = file.st_uid in (os.geteuid(), 0) or _is_shared(mode)
    is_closed = not file.st_mode & (stat.S_IWGRP | stat.S_IWOTH) & ~allowed
    is_safe_place = not folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH) & ~allowed or bool(folder.st_mode & stat.S_ISVTX)
    return is_ours and is_closed and is_safe_place


def _is_shared(mode: int) -> bool:
    return bool(mode & stat.S_IWGRP)


def _refuse_network(path: str) -> None:
    kind = _file_system(path)
    if kind in _NETWORK:
        raise StorageRefused(
            f"{path}: this is a network file system ({kind}); SQLite's locks and shared memory do not reach other machines, so the file "
            "would be damaged. Use a local disk; if only this machine ever opens the file, say allow_network=True"
        )


def _file_system(path: str) -> str:
    """Type of the mount that *path* is on, or will be; empty when this system does not tell."""
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as table:
            mounts = [line.split()[1:3] for line in table]
    except OSError:
        return ""
    real = os.path.realpath(path)
    best = ("", "")
    for escaped, kind in mounts:
        place = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), escaped)
        # Of mounts on the same place the last one is what can be seen.
        if (real + "/").startswith(place.rstrip("/") + "/") and len(place) >= len(best[0]):
            best = (place, kind)
    return best[1]


def existing(path: str) -> str:
    """For SQLite: open this file, never make it."""
    return "file:" + path.replace("%", "%25").replace("?", "%3f").replace("#", "%23") + "?mode=rw"


def place_of(path: str) -> tuple[int, int] | None:
    """What tells one file from another; None when there is none that can be seen."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_dev

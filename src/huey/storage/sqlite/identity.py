"""Whether the files that this process has open are still those that their names lead to, and its descriptors still its own.

SQLite opens its files by name once and never checks again. If one of them is deleted or replaced while it is in use, by a cleaner of /tmp
or a backup, two groups of processes write without seeing each other. The rules against that:

1. After each commit, and before it is acknowledged, the names are compared with what was opened (`Identity.changed`).
2. A process does not open the files while others have other files open than the names lead to (`OpenFileLock`).
3. A process that finds a change moves the log that it has open into the file, closes, and opens again (`close_all`).
"""

from __future__ import annotations

import os

from huey.exceptions import StorageUnavailable
from huey.runtime.clock import SECOND, Clock, Micros
from huey.runtime.files import file_id
from huey.storage.sqlite.descriptors import none_left

NAMES = ("", "-wal", "-shm")
FOLDER_SETTLED_US: Micros = SECOND // 20
"""Age from which the time stamp of a folder is trusted: it is coarser than what may happen within it."""
FILES_CHECK_INTERVAL_US: Micros = SECOND
"""The folder does not show what is mounted over a file, so the files themselves are checked once in a while."""
FileId = tuple[int, int]
"""Inode and device."""


class Identity:
    """Inode and device of the file *path*, of its log and of its shared memory, as this process has them open."""

    def __init__(self, path: str, clock: Clock) -> None:
        self.path = path
        self._folder = os.path.dirname(path)
        self._clock = clock
        self.known: tuple[FileId | None, ...] = ()
        self._stamp: tuple[int, ...] = ()
        self._since: Micros = 0
        self._looked: Micros = 0

    def note(self) -> None:
        """Take what the names lead to as what was just opened."""
        self.known = files_at(self.path)
        self._stamp = ()

    def check_files_next(self) -> None:
        """Check the files themselves next time."""
        self._stamp = ()

    def forget(self) -> None:
        self.known = ()

    def changed(self) -> str | None:
        """Return the ending of the first name that no longer leads to the file that is open ("" is the file itself), or None if all do.

        Costs one system call as long as nothing in the folder is created, renamed or deleted.
        """
        # Another thread may close the file meanwhile.
        opened = self.known
        if not opened:
            return None
        now = self._clock.monotonic()
        try:
            folder = os.stat(self._folder)
        except OSError:
            return ""
        stamp = (folder.st_mtime_ns, folder.st_ino, folder.st_dev)
        if stamp != self._stamp:
            self._stamp, self._since, self._looked = stamp, now, -FILES_CHECK_INTERVAL_US
        if now - self._since >= FOLDER_SETTLED_US and 0 <= now - self._looked < FILES_CHECK_INTERVAL_US:
            return None
        for name, known in zip(NAMES, opened, strict=True):
            if file_id(self.path + name) != known:
                return name
        # Trusted from here on, unless the stamp was too young to tell two changes apart.
        self._looked = now if now - self._since >= FOLDER_SETTLED_US else -FILES_CHECK_INTERVAL_US
        return None

    def error(self, changed: str) -> StorageUnavailable:
        """Return the error of a name that leads elsewhere."""
        if not changed:
            return StorageUnavailable(
                f"{self.path}: another file was put in the place of the one in use; it is opened now, the same call may be made again"
            )
        called = "log" if changed == "-wal" else "shared memory"
        return StorageUnavailable(
            f"{self.path}: its {called} ({changed}) was deleted or replaced while in use. What was acknowledged is moved into the file, "
            "which is opened anew; the same call may be made again"
        )

    def gone(self) -> StorageUnavailable:
        """Return the error of a file that no name leads to."""
        return StorageUnavailable(
            f"{self.path}: the file is gone: it was moved or deleted while in use. Put it back and all goes on; "
            "a process that is started now makes a new, empty one"
        )

    @property
    def is_held_here(self) -> bool:
        """Whether this process has the files open that the names lead to, as far as the system can tell. Another connection of the process
        may prevent it: SQLite shares what it knows of a file within a process."""
        held = open_files()
        return held is None or all(file in held for file in self.known if file is not None)


class Canary:
    """A descriptor of huey beside those of SQLite: as long as it is what it was, so are they."""

    def __init__(self) -> None:
        self._fd, other = os.pipe2(os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        os.close(other)
        # No two pipes of a machine have the same inode, so another pipe with this number is recognized.
        self._was: tuple[int, int] | None = self._stat()

    def _stat(self) -> tuple[int, int] | None:
        try:
            found = os.fstat(self._fd)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @property
    def is_alive(self) -> bool:
        """Whether the descriptor is still what it was, or was closed by `close`."""
        was = self._was  # A fork or a close may interrupt this call and let go.
        return self._stat() == was or self._was is None

    def close(self) -> None:
        if self._was is not None and self.is_alive:
            self._was = None
            os.close(self._fd)

    def __del__(self) -> None:
        if hasattr(self, "_was"):
            self.close()


def new_canary(path: str) -> Canary:
    """Return a new canary. Raises StorageUnavailable if the process has no descriptors left."""
    try:
        return Canary()
    except OSError as error:
        raise none_left(path) from error


def files_at(path: str) -> tuple[FileId | None, ...]:
    """Return which files the names lead to now."""
    return tuple(file_id(path + name) for name in NAMES)


def open_files(but: int = -1) -> dict[FileId | None, int] | None:
    """Return the descriptors of this process by file, or None where the system does not tell. *but*: a descriptor to leave out."""
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return None
    found: dict[FileId | None, int] = {}
    for number in numbers:
        try:
            it = os.stat(int(number))
            if int(number) == but:
                continue
        except OSError:
            continue
        found[it.st_ino, it.st_dev] = int(number)
    return found

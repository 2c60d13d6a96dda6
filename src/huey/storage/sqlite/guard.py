"""The lock (`PatientLock`) and the two checks around each call on a SQLite file. Before the call: do the descriptors of this process still
belong to it (`Canary`)? After it: are the open files still those that their names lead to (`Identity`)?

A call waits first for other threads of its process, then for a file that another process keeps busy. Both together take no longer than
the timeout of the call, which starts when it first has to wait.

SQLite opens its files by name once and never checks again. If one of them is deleted or replaced while it is in use, by a cleaner of /tmp
or a backup, two groups of processes write without seeing each other. The rules against that:

1. After each commit, and before it is acknowledged, the names are compared with what was opened (`Identity.changed`).
2. A process does not open the files while another has different files open than the names lead to (`OpenFileLock`).
3. A process that finds a change moves its open log into the file, closes both, and opens them again (`close_all`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from huey.exceptions import StorageUnavailable
from huey.runtime.clock import SECOND, Clock, Micros, Rng
from huey.storage.sqlite.descriptors import FileId, none_left, open_files
from huey.storage.sqlite.errors import BusyRetry

NAMES = ("", "-wal", "-shm")
FOLDER_SETTLED_US: Micros = SECOND // 20
"""The age from which the time stamp of a folder is trusted: several changes may share a younger stamp."""
FILES_CHECK_INTERVAL_US: Micros = SECOND
"""How often the files themselves are checked: the folder does not show a mount over a file."""


class PatientLock:
    """The lock around a connection within this process. It is also the `Retrier` of the call that holds it.

    *before_call* is called when a call has taken the lock. A call that enters while its own thread is inside has interrupted that call: it
    comes from a signal handler, a destructor or a trace function. It must neither see the unfinished state of the outer call nor wait for
    it: *set_aside* saves and returns that state, and *take_back* restores it when the inner call has left.
    """

    def __init__(
        self,
        path: str,
        clock: Clock,
        rng: Rng,
        before_call: Callable[[], None],
        set_aside: Callable[[], Any],
        take_back: Callable[[Any], None],
    ) -> None:
        self.lock = threading.RLock()
        self.depth = 0
        self.before_call = before_call
        self._set_aside = set_aside
        self._take_back = take_back
        self._interrupted: list[tuple[Any, tuple[Any, ...]]] = []
        self._path = path
        self._clock = clock
        self._rng = rng
        self._seconds = 0.0
        self._since: Micros | None = None
        self._retry: BusyRetry | None = None

    def scope(self, seconds: float) -> LockScope:
        """Return the context manager for a whole call that waits up to *seconds*."""
        return LockScope(self, seconds, is_call=True, nests=False)

    def nested_scope(self, seconds: float, *, is_call: bool = True) -> LockScope:
        """Return the context manager for a part of a call, which may hold the lock already.

        *is_call* False: it only needs the lock, and skips `before_call`.
        """
        return LockScope(self, seconds, is_call, nests=True)

    def wait(self, seconds: float) -> Micros:
        """Take the lock once other threads have released it. Return the time at which the wait began."""
        since = self._clock.monotonic()
        if not self.lock.acquire(timeout=seconds):
            raise StorageUnavailable(f"{self._path}: other threads of this process kept the connection busy for {seconds} s; try again")
        return since

    def begin(self, seconds: float, since: Micros | None) -> None:
        """Record that a new call holds the lock; it began to wait at *since*."""
        self._seconds, self._since, self._retry = seconds, since, None

    def again(self) -> bool:
        if self._retry is None:
            self._retry = BusyRetry(self._clock, self._rng, self._seconds, self._since)
        return self._retry.again()

    @property
    def is_interrupting(self) -> bool:
        """True if the call that holds the lock interrupted another call of its thread."""
        return bool(self._interrupted)

    def interrupt(self, seconds: float) -> None:
        """Set the state of the interrupted call aside for an inner call."""
        self._interrupted.append((self._set_aside(), (self._seconds, self._since, self._retry)))
        self.begin(seconds, None)

    def resume(self) -> None:
        """Restore the state of the interrupted call when the inner call leaves."""
        aside, (self._seconds, self._since, self._retry) = self._interrupted.pop()
        self._take_back(aside)


class LockScope:
    """The context manager that holds a `PatientLock`, waiting up to its timeout."""

    __slots__ = ("_is_call", "_lock", "_nests", "_seconds")

    def __init__(self, lock: PatientLock, seconds: float, is_call: bool, nests: bool) -> None:
        self._lock = lock
        self._seconds = seconds
        self._is_call = is_call
        self._nests = nests

    def __enter__(self) -> None:
        lock = self._lock
        since = None if lock.lock.acquire(blocking=False) else lock.wait(self._seconds)
        lock.depth += 1
        if lock.depth == 1:
            lock.begin(self._seconds, since)
            if self._is_call:
                try:
                    lock.before_call()
                except BaseException:
                    self.__exit__()
                    raise
        elif not self._nests:
            try:
                lock.interrupt(self._seconds)
            except BaseException:
                lock.depth -= 1
                lock.lock.release()
                raise

    def __exit__(self, *_: object) -> None:
        lock = self._lock
        try:
            if lock.depth > 1 and not self._nests:
                lock.resume()
        finally:
            lock.depth -= 1
            lock.lock.release()


class Canary:
    """A descriptor of huey opened beside those of SQLite: if it is unchanged, so are they. Its constructor raises StorageUnavailable if the
    process has no descriptors left for the file *path*."""

    def __init__(self, path: str) -> None:
        try:
            self._fd, other = os.pipe2(os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        except OSError as error:
            raise none_left(path) from error
        os.close(other)
        # No two pipes on a machine have the same inode, so another pipe with this number is recognized.
        found = os.fstat(self._fd)
        self._was: tuple[int, int] | None = (found.st_dev, found.st_ino)

    @property
    def is_alive(self) -> bool:
        """True if the descriptor is unchanged, or was closed by `close`."""
        was = self._was  # A fork or a close may interrupt this call and close the descriptor.
        try:
            found = os.fstat(self._fd)
        except OSError:
            return self._was is None
        return (found.st_dev, found.st_ino) == was or self._was is None

    def close(self) -> None:
        if self._was is not None and self.is_alive:
            self._was = None
            os.close(self._fd)

    def __del__(self) -> None:
        if hasattr(self, "_was"):
            self.close()


class Identity:
    """The identity (inode and device) of the file *path*, its log and its shared memory, as this process has them open."""

    def __init__(self, path: str, clock: Clock) -> None:
        self.path = path
        self._folder = os.path.dirname(path)
        self._clock = clock
        self.known: tuple[FileId | None, ...] = ()
        self._stamp: tuple[int, ...] = ()
        self._since: Micros = 0
        self._looked: Micros = 0

    def note(self) -> None:
        """Record the files that the names lead to as the ones just opened."""
        self.known = files_at(self.path)
        self._stamp = ()

    def check_files_next(self) -> None:
        """Make the next check look at the files themselves."""
        self._stamp = ()

    def forget(self) -> None:
        self.known = ()

    def changed(self) -> str | None:
        """Return the suffix of the first name that no longer leads to the open file ("" is the file itself), or None if all do.

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
        for name, found, known in zip(NAMES, files_at(self.path), opened, strict=True):
            if found != known:
                return name
        # Trust the stamp from now on, unless it is too recent to tell two changes apart.
        self._looked = now if now - self._since >= FOLDER_SETTLED_US else -FILES_CHECK_INTERVAL_US
        return None

    def error(self, changed: str) -> StorageUnavailable:
        """Return the error for a name that leads to another file."""
        if not changed:
            return StorageUnavailable(
                f"{self.path}: the file in use was replaced by another one, which is opened now; you can safely try again"
            )
        called = "log" if changed == "-wal" else "shared memory"
        return StorageUnavailable(
            f"{self.path}: its {called} ({changed}) was deleted or replaced while in use. Acknowledged writes are moved into the file, "
            "which is opened again; you can safely try again"
        )

    def gone(self) -> StorageUnavailable:
        """Return the error for a file that no name leads to."""
        return StorageUnavailable(
            f"{self.path}: the file is gone: it was moved or deleted while in use. Put it back to continue; "
            "a process that is started now creates a new, empty file"
        )

    @property
    def is_held_here(self) -> bool:
        """True if this process has the files open that the names lead to, as far as the system can tell. Another connection of the process
        may prevent that: SQLite shares its state of a file within a process."""
        held = open_files()
        return held is None or all(file in held for file in self.known if file is not None)


def files_at(path: str) -> tuple[FileId | None, ...]:
    """Return the identities of the files that the names lead to now."""
    return tuple([file_at(path + name) for name in NAMES])


def file_at(path: str) -> FileId | None:
    """Return the identity of the file that a name leads to, or None if it is not accessible."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_dev

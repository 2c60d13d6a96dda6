"""Which files are open under the names of one SQLite file, and whether the names still lead to them.

SQLite takes its files by name once, and never asks again. Somebody who deletes or replaces one of them while it is in use, a cleaner of
/tmp, say, or a backup, so makes two parties that write without seeing each other. The rules against that:

1. After each commit, and before it is acknowledged, the names are compared with what was opened (``Identity.changed``).
2. Nobody comes in beside processes that have other files open than the names say (``Entry``). Whoever has a file open holds SQLite's shared
   lock on it, and a lock on a side file, ``-open``, in which the identities stand.
3. Who finds a change moves the log that he has open into the file, closes, and comes in again.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import struct
import sys
from collections.abc import Sequence
from typing import Protocol

from huey.exceptions import StorageFull, StorageRefused, StorageUnavailable
from huey.runtime import ownership
from huey.runtime.clock import SECOND, Clock, Micros
from huey.runtime.files import file_id, sqlite_uri
from huey.runtime.logs import SafeLogger
from huey.storage.sqlite import descriptors
from huey.storage.sqlite.busy import Retrier
from huey.storage.sqlite.errors import BUSY, FULL, primary_code, translated

log = SafeLogger("huey")
NAMES = ("", "-wal", "-shm")
SETTLED: Micros = SECOND // 20
"""How old a folder's time stamp must be before it is believed: it is coarser than what may happen within it."""
EVERY: Micros = SECOND
"""A look at the folder does not show what is mounted over a file, so once in a while the files themselves are looked at."""
Place = tuple[int, int] | None

LINE = 200
"""Bytes that are written into the side file."""
_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510
"""The bytes of a file that SQLite locks to read it."""


class Identity:
    """Inode and device of the file *path*, of its log and of its shared memory, as this process has them open."""

    def __init__(self, path: str, clock: Clock) -> None:
        self.path = path
        self._folder = os.path.dirname(path)
        self._clock = clock
        self.known: tuple[Place, ...] = ()
        self._stamp: tuple[int, ...] = ()
        self._since: Micros = 0
        self._looked: Micros = 0

    def note(self) -> None:
        """What the names lead to is what was just opened."""
        self.known = _places(self.path)
        self._stamp = ()

    def look_again(self) -> None:
        """Look at the files themselves next time."""
        self._stamp = ()

    def forget(self) -> None:
        self.known = ()

    def changed(self) -> str | None:
        """The ending of the first name that no longer leads to the file that is open: empty for the file itself; None: all is as it was.

        Costs one system call as long as nothing in the folder is made, renamed or deleted.
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
            self._stamp, self._since, self._looked = stamp, now, -EVERY
        if now - self._since >= SETTLED and 0 <= now - self._looked < EVERY:
            return None
        for name, known in zip(NAMES, opened, strict=True):
            if file_id(self.path + name) != known:
                return name
        # Believed from here on, unless the stamp was too young to tell two changes apart.
        self._looked = now if now - self._since >= SETTLED else -EVERY
        return None

    def error(self, changed: str) -> StorageUnavailable:
        """What to say of a name that leads elsewhere."""
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
        """This process has the files open that the names lead to, as far as the system tells. Another connection of the process may keep
        it from that: SQLite shares what it has of a file within a process."""
        held = _held_here()
        return held is None or all(place in held for place in self.known if place is not None)


class Entry:
    """The side file ``-open``: locked by every process that has the file open, with the identities of what they have open."""

    def __init__(self, path: str, mode: int) -> None:
        self._path = path
        self._mode = mode
        self._fd: int | None = None

    def wait(self, retrier: Retrier) -> None:
        """Wait until nobody has other files open than those that the names lead to.

        StorageUnavailable: somebody still has. StorageRefused: the log belongs to a file that was here before.
        """
        while not self._is_free():
            if not retrier.again():
                raise StorageUnavailable(
                    f"{self._path}: its log (-wal, -shm) was deleted or replaced while other processes have it open; they open it anew "
                    "with their next call, and nobody else may until then. Restart those that are idle, or try again"
                )

    def _is_free(self) -> bool:
        main, log, memory = here = _places(self._path)
        noted, is_live = self._noted()
        if noted and noted[0] != main and log is not None and log == noted[1]:
            if is_live:
                return False
            # SQLite throws away the log of a file that is empty.
            if os.stat(self._path).st_size:
                raise StorageRefused(
                    f"{self._path}-wal: this log belongs to a file that was here before, so it is not read. If the file was put back "
                    "from a backup, move -wal and -shm away; if it was copied, put the former one back"
                )
        if log is not None and memory is not None and not (is_live and noted and noted != here):
            return True
        # Nobody has it open, or somebody who is just coming in or leaving, or somebody who has other files.
        return _is_alone(self._path)

    def _noted(self) -> tuple[tuple[Place, ...], bool]:
        """What the last one that came in had open, and whether anybody still has."""
        try:
            fd = ownership.open_own(self._path + "-open", os.O_RDWR, self._mode, self._trust())
        except OSError:
            return (), False
        try:
            words = [int(word) for word in os.pread(fd, LINE, 0).split()]
            is_live = not _is_locked(fd, fcntl.LOCK_EX)
        except (OSError, ValueError):
            return (), False
        finally:
            os.close(fd)
        return tuple((words[at], words[at + 1]) for at in (0, 2, 4)) if len(words) == 6 else (), is_live

    def enter(self, places: tuple[Place, ...], retrier: Retrier) -> None:
        """Note what this process has open, for as long as it has."""
        self.leave()
        try:
            fd = ownership.open_own(self._path + "-open", os.O_RDWR | os.O_CREAT, self._mode, self._trust())
        except OSError as error:
            raise StorageUnavailable(f"{self._path}-open: the file cannot be used: {error.strerror}") from error
        try:
            # Others hold it for themselves for a moment, when they look.
            while not _is_locked(fd, fcntl.LOCK_SH):
                if not retrier.again():
                    raise StorageUnavailable(f"{self._path}-open: another process keeps it locked; try again")
            line = " ".join(str(number) for place in places if place for number in place).encode().ljust(LINE)
            if os.pread(fd, LINE, 0) != line:
                os.pwrite(fd, line, 0)
        except OSError as error:
            os.close(fd)
            kind = StorageFull if error.errno in FULL else StorageUnavailable
            raise kind(f"{self._path}-open: the file cannot be written: {error.strerror}") from error
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def leave(self) -> None:
        """This process has it open no more."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        try:
            if _is_locked(fd, fcntl.LOCK_EX):
                # The last one: what comes now may get the same numbers.
                os.ftruncate(fd, 0)
        finally:
            os.close(fd)

    def abandon(self) -> None:
        """The descriptor is somebody else's by now."""
        self._fd = None

    def _trust(self) -> ownership.Trust:
        return ownership.shared_like(os.stat(self._path), self._mode)


def _is_locked(fd: int, how: int) -> bool:
    """Take the lock; False: others have it."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alone(path: str) -> bool:
    """No connection of any process has *path* open. Moves into it what a log that nobody has open holds."""
    try:
        connection = sqlite3.connect(sqlite_uri(path), uri=True, timeout=0, isolation_level=None)
        try:
            # In this mode SQLite locks the file itself and uses no shared memory.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
        finally:
            connection.close()
    except sqlite3.Error as error:
        if primary_code(error) in BUSY:
            return False
        raise translated(error, path) from error
    return True


class Closing(Protocol):
    """Something with a connection that can be closed."""

    def close(self) -> None: ...


def close_all(identity: Identity, connections: Sequence[Closing], retrier: Retrier) -> None:
    """Close *connections* to the file. If the names no longer lead to what is open, save what the log holds, and leave alone what the names
    lead to now: SQLite would delete it, by name."""
    identity.look_again()
    changed = identity.changed() if connections else None
    if changed is None:
        _close_each(connections)
        return
    main, *ours = identity.known
    here = dict(zip(NAMES, _places(identity.path), strict=True))
    is_saved = _save(identity.path, connections, retrier)
    is_strange = any(here[name] not in (None, known) for name, known in zip(NAMES[1:], ours, strict=True))
    if not changed and not is_strange:
        _close_each(connections)
    elif not _close_quietly(main, connections):
        # This system knows no way to close them that leaves the others' files alone.
        for connection in connections:
            descriptors.abandon(connection)
    if is_saved and changed and here["-wal"] not in (None, ours[0]):
        os.rename(identity.path + "-wal", identity.path + "-wal-replaced")
        log.warning("%s-wal: somebody had put this file there; it is -wal-replaced now, and was not read", identity.path)


def _close_each(connections: Sequence[Closing]) -> None:
    for connection in connections:
        connection.close()


def _save(path: str, connections: Sequence[Closing], retrier: Retrier) -> bool:
    """Move the log that is open into the file that is open."""
    connection = next((it for it in connections if isinstance(it, sqlite3.Connection)), None)
    if connection is None:
        return False
    try:
        while connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()[0]:
            if not retrier.again():
                log.error("%s: what its log held could not be moved into it, others were in the way", path)
                return False
    except sqlite3.Error as error:
        log.error("%s: what its log held could not be moved into it: %s", path, error)
        return False
    # Who deletes a whole folder knows what he does.
    level = logging.WARNING if os.path.isdir(os.path.dirname(path) or ".") else logging.DEBUG
    log.log(level, "%s: it, its log or its shared memory was deleted or replaced while in use; what the log held was moved into it", path)
    return True


def _close_quietly(main: Place, connections: Sequence[Closing]) -> bool:
    """Close *connections* to the file *main* so that SQLite neither moves their log nor deletes anything. False, and nothing was done: this
    system cannot do that."""
    fd = _descriptor_of(main)
    if fd is None:
        return False
    # A lock that belongs to a descriptor meets SQLite's locks, though they are of the same process: so it is not the last that closes.
    guard = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    fcntl.fcntl(guard, fcntl.F_OFD_SETLK, _lock(fcntl.F_RDLCK))
    _close_each(connections)
    if main in (_held_here(but=guard) or {}):
        # Somebody else in this process has the file open, and would lose his locks if this descriptor were closed.
        fcntl.fcntl(guard, fcntl.F_OFD_SETLK, _lock(fcntl.F_UNLCK))
    else:
        os.close(guard)
    return True


def _lock(kind: int) -> bytes:
    return struct.pack("@hhqqi4x", kind, os.SEEK_SET, _SHARED_FIRST, _SHARED_SIZE, 0)


def _places(path: str) -> tuple[Place, ...]:
    return tuple(file_id(path + name) for name in NAMES)


def _descriptor_of(place: Place) -> int | None:
    held = _held_here()
    return None if held is None or not hasattr(fcntl, "F_OFD_SETLK") or sys.maxsize < 2**32 else held.get(place)


def _held_here(but: int = -1) -> dict[Place, int] | None:
    """Descriptors of this process by what they lead to; None: the system does not tell."""
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return None
    found: dict[Place, int] = {}
    for number in numbers:
        try:
            it = os.stat(int(number))
            if int(number) == but:
                continue
        except OSError:
            continue
        found[it.st_ino, it.st_dev] = int(number)
    return found

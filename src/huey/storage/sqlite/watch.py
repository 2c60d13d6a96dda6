"""Detect commits of other processes.

*After* a commit, a process opens the log for reading and closes it again (`syncing.rouse`). On Linux watchers sleep until inotify reports
that; elsewhere they read `PRAGMA data_version` with a growing gap. (Writes into the log come before the commit can be seen, so they would
wake too early.)

All threads of a process share one listener: one inotify instance, of which a user has few, or one connection that polls. One of the waiting
threads listens with it and wakes the others; when it leaves, another one of them listens.
"""

from __future__ import annotations

import errno
import os
import select
import sqlite3
import sys
import threading
import weakref
from typing import Any, Protocol

from huey.runtime.clock import SECOND, Clock
from huey.runtime.files import sqlite_uri
from huey.runtime.logs import SafeLogger
from huey.storage.base import Waker
from huey.storage.sqlite.database import Database
from huey.storage.sqlite.guard import file_at

log = SafeLogger("huey")
_IN_CLOSE_NOWRITE = 0x10
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOSPC)
"""Errors that mean that this user has no inotify instances, descriptors or watches left."""


class Listener(Protocol):
    """The way in which the leading thread waits for changes of files."""

    def listen(self, timeout: float, waker: Waker | None) -> tuple[set[int], bool]:
        """Wait up to *timeout* seconds. Return the numbers of the files that changed, and whether *waker* is set."""

    def close(self) -> None: ...


class WatchGroup:
    """The threads of this process that share one listener. One of them, the leader, listens and wakes the others."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        # A destructor or a signal handler may enter while its own thread is inside.
        self.lock = threading.RLock()
        self.changes: dict[int, int] = {}
        """The number of changes of each file."""
        self._users: dict[int, int] = {}
        self._leader: Watch | None = None
        self._others: set[Watch] = set()

    def join(self, number: int) -> int:
        with self.lock:
            self._users[number] = self._users.get(number, 0) + 1
            return self.changes.setdefault(number, 0)

    def leave(self, number: int) -> bool:
        """Unregister a watch. Return True if no other watch of that file is left."""
        with self.lock:
            self._users[number] = left = self._users.get(number, 1) - 1
            if left <= 0:
                del self._users[number]
                self.changes.pop(number, None)
            return left <= 0

    @property
    def is_empty(self) -> bool:
        return not self._users

    def begin_wait(self, watch: Watch) -> bool:
        """Register a waiting thread. Return True if it is the leader; otherwise the leader will wake it."""
        with self.lock:
            if self._leader is None:
                self._leader = watch
                return True
            self._others.add(watch)
            return False

    def end_wait(self, watch: Watch, *, led: bool) -> None:
        with self.lock:
            if led:
                self._leader = None
            else:
                self._others.discard(watch)
            if self._leader is None and self._others:
                next(iter(self._others)).wake()

    def publish(self, changed: set[int]) -> None:
        with self.lock:
            for number in changed & self.changes.keys():
                self.changes[number] += 1
            for watch in [it for it in self._others if it.number in changed]:
                watch.wake()


class Watch:
    """The object with which one thread waits for the next commit."""

    def __init__(self, group: WatchGroup, number: int, clock: Clock) -> None:
        self._group = group
        self._clock = clock
        self.number = number
        self._seen = group.join(number)
        self._is_closed = False
        self._woken = threading.Semaphore(0)
        self._pipe: tuple[int, int] | None = None
        """The pipe that wakes a thread that also waits for a waker."""

    def wait(self, timeout: float, waker: Waker | None = None) -> bool:
        """Wait for the next commit, for *waker* to be set (True), or for *timeout* seconds. Commits since the last call count."""
        group, deadline = self._group, self._clock.monotonic() + timeout * SECOND
        while True:
            leads = group.begin_wait(self)
            try:
                if self._has_news():
                    return False
                if leads:
                    changed, is_waker_set = group.listener.listen(timeout, waker)
                    group.publish(changed)
                    self._has_news()
                    return is_waker_set
                is_woken, is_waker_set = self._sleep(timeout, waker)
                timeout = (deadline - self._clock.monotonic()) / SECOND
                if is_waker_set or not is_woken or timeout <= 0 or self._has_news():
                    return is_waker_set
                # The previous leader has left: this thread leads now.
            finally:
                group.end_wait(self, led=leads)

    def _has_news(self) -> bool:
        seen, self._seen = self._seen, self._group.changes.get(self.number, -1)
        return seen != self._seen

    def _sleep(self, timeout: float, waker: Waker | None) -> tuple[bool, bool]:
        """Wait for the leader. Return whether it woke this thread, and whether *waker* is set."""
        if waker is None:
            return self._woken.acquire(timeout=max(0.0, timeout)), False
        if self._pipe is None:
            self._pipe = os.pipe()
            for end in self._pipe:
                os.set_blocking(end, False)
            # A wake-up from before the pipe existed is in the semaphore.
            if self._woken.acquire(blocking=False):
                return True, False
        ready = _ready((self._pipe[0], waker.fileno()), timeout)
        if self._pipe[0] in ready:
            os.read(self._pipe[0], 4096)
            self._woken.acquire(blocking=False)
        return self._pipe[0] in ready, waker.fileno() in ready

    def wake(self) -> None:
        self._woken.release()
        if self._pipe is not None:
            try:
                os.write(self._pipe[1], b"w")
            except BlockingIOError:
                return  # The pipe is full of wake-ups.

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        for fd in self._pipe or ():
            os.close(fd)
        self._pipe = None
        _leave(self._group, self.number)

    def __del__(self) -> None:
        self.close()


class Inotify:
    """A listener that sleeps until the kernel reports a change."""

    def __init__(self) -> None:
        import ctypes

        self._libc = ctypes.CDLL(None, use_errno=True)
        self._errno = ctypes.get_errno
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise self._error()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._waker_fd = -1

    def _error(self) -> OSError:
        return OSError(self._errno(), os.strerror(self._errno()))

    def add(self, path: str) -> int:
        number = int(self._libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_CLOSE_NOWRITE))
        if number < 0:
            raise self._error()
        return number

    def remove(self, number: int) -> None:
        # It may have been removed already, together with its file.
        self._libc.inotify_rm_watch(self._fd, number)

    def listen(self, timeout: float, waker: Waker | None) -> tuple[set[int], bool]:
        waker_fd = -1 if waker is None else waker.fileno()
        if waker_fd != self._waker_fd:
            if self._waker_fd >= 0:
                self._poll.unregister(self._waker_fd)
            if waker_fd >= 0:
                self._poll.register(waker_fd, select.POLLIN)
            self._waker_fd = waker_fd
        changed, is_waker_set = set[int](), False
        for fd, _ in self._poll.poll(max(0.0, timeout) * 1000):
            if fd == self._fd:
                changed = self._numbers(os.read(fd, 65536))
            else:
                is_waker_set = True
        return changed, is_waker_set

    def _numbers(self, events: bytes) -> set[int]:
        found, at = set[int](), 0
        while at < len(events):
            found.add(int.from_bytes(events[at : at + 4], sys.byteorder, signed=True))
            at += 16 + int.from_bytes(events[at + 12 : at + 16], sys.byteorder)
        return found

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Polling:
    """A listener that polls one file: every 2 ms at first, every 50 ms after a while."""

    def __init__(self, path: str, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._seen: Any = self._version()

    def _version(self) -> Any:
        if self._connection is None:
            self._connection = sqlite3.connect(sqlite_uri(self._path), uri=True, timeout=0, isolation_level=None, check_same_thread=False)
        return self._connection.execute("PRAGMA data_version").fetchone()[0]

    def listen(self, timeout: float, waker: Waker | None) -> tuple[set[int], bool]:
        deadline, gap = self._clock.monotonic() + timeout * SECOND, 0.002
        while True:
            try:
                version = self._version()
            except sqlite3.Error:
                # The file is gone, or another thread closed all connections: the next read of the caller finds out which.
                self.close()
                return {0}, False
            left = (deadline - self._clock.monotonic()) / SECOND
            if version != self._seen or left <= 0:
                changed = {0} if version != self._seen else set[int]()
                self._seen = version
                return changed, False
            if waker is None:
                self._clock.sleep(min(gap, left))
            elif _ready((waker.fileno(),), min(gap, left)):
                return set(), True
            gap = min(gap * 1.1, 0.05)

    def close(self) -> None:
        """Close the connection; the next poll opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __del__(self) -> None:
        self.close()


_inotify: WatchGroup | None = None
_polling: weakref.WeakValueDictionary[tuple[int, int], WatchGroup] = weakref.WeakValueDictionary()
"""The groups of polled files, by the `id` of the `Database` and its generation."""
_making = threading.RLock()
_is_logged = False


def watch(database: Database, clock: Clock) -> Watch:
    """Return the best watch that this machine supports for commits to the file of *database*."""
    with _making:
        if sys.platform == "linux":
            try:
                return _by_inotify(database.path + "-wal", clock)
            except OSError as error:
                if error.errno in _SCARCE:
                    _log_once(error)
                elif error.errno != errno.ENOENT:
                    raise
                elif file_at(database.path) is None:
                    raise database.state.missing() from error
                # Without its log, another thread has just closed the file.
        group = _polling.get((id(database), database.state.generation))
        if group is None:
            listener = Polling(database.path, clock)
            group = _polling[id(database), database.state.generation] = WatchGroup(listener)
            database.watching.add(listener)
        return Watch(group, 0, clock)


def _by_inotify(path: str, clock: Clock) -> Watch:
    global _inotify
    group = _inotify or WatchGroup(Inotify())
    assert isinstance(group.listener, Inotify)
    try:
        found = Watch(group, group.listener.add(path), clock)
    except OSError:
        if group is not _inotify:
            group.listener.close()
        raise
    _inotify = group
    return found


def _leave(group: WatchGroup, number: int) -> None:
    global _inotify
    with _making:
        if not group.leave(number) or not isinstance(group.listener, Inotify):
            return
        group.listener.remove(number)
        if group.is_empty:
            group.listener.close()
            if _inotify is group:
                _inotify = None


def _log_once(error: OSError) -> None:
    global _is_logged
    if not _is_logged:
        _is_logged = True
        log.warning(
            "no inotify instance is left for this user (%s): polling the file up to 20 times a second instead; raise "
            "fs.inotify.max_user_instances",
            error.strerror,
        )


def _ready(fds: tuple[int, ...], timeout: float) -> list[int]:
    # Not select(), which supports only descriptors below 1,024.
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(max(0.0, timeout) * 1000)]


def _new_process() -> None:
    """Reset the groups in a forked child: the waiting threads do not exist there, and the listener is the parent's."""
    global _inotify, _making
    former, _inotify, _making = _inotify, None, threading.RLock()
    if former is not None:
        former.listener.close()


os.register_at_fork(after_in_child=_new_process)

"""Room kept for bad times: a file beside the queue's that takes some of the disk while there is plenty (C15).

A consumer makes it. When the disk is full and the end of a task cannot be written, the file gives its room back, bit by bit: what ran is
then written down, and nothing new is begun. As long as it is short of its size and the disk has not enough room to make it whole, claims
and enqueues keep away from what is left.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from huey.exceptions import StorageFull
from huey.runtime.clock import SECOND, Clock, Micros
from huey.runtime.ownership import open_own, our_own, shared_like

T = TypeVar("T")

MIB = 1024 * 1024
SIZE = 4 * MIB
STEP = MIB
"""Bytes given back at a time, so that whoever fills the disk does not get all of it."""
PLENTY = 2 * SIZE
"""Free bytes from which on the ballast is made whole: as much again stays free."""
GLANCE: Micros = SECOND // 10
"""How long a producer trusts what it saw."""


class Ballast:
    """The file *path* and what its size says: whole, all is well; short, the disk is full; missing, nobody made one yet."""

    def __init__(self, path: str, mode: int, clock: Clock) -> None:
        self._path = path
        self._mode = mode
        self._clock = clock
        self._seen: tuple[Micros, bool] = (-GLANCE, False)

    def is_short(self) -> bool:
        """The disk is full: what room is left is for the ends of tasks."""
        size = self._size()
        return size is not None and size < SIZE and self._free() < PLENTY

    def glance(self) -> bool:
        """As ``is_short``, but may be a moment old."""
        now = self._clock.monotonic()
        if not 0 <= now - self._seen[0] < GLANCE:
            self._seen = (now, self.is_short())
        return self._seen[1]

    def keep(self) -> None:
        """Make it whole if there is plenty of room. What cannot be done now is done at another time."""
        if self._size() == SIZE or self._free() < PLENTY:
            return
        file = self._open(os.O_CREAT)
        if file is None:
            return
        try:
            _fill(file)
        except OSError:
            os.ftruncate(file, 0)
        finally:
            os.close(file)

    def give(self) -> bool:
        """Give some room back to the disk; False when there is none left."""
        size = self._size()
        file = self._open() if size else None
        if not size or file is None:
            return False
        try:
            os.ftruncate(file, max(0, size - STEP))
        finally:
            os.close(file)
        self._seen = (self._clock.monotonic(), True)
        return True

    def sparing(self, act: Callable[[], T]) -> T:
        """Do *act*; when the disk is full, again with the room that the ballast gives."""
        while True:
            try:
                return act()
            except StorageFull:
                if not self.give():
                    raise

    def no_room(self) -> StorageFull:
        return StorageFull(
            f"{self._path.removesuffix('-ballast')}: the disk is full, what is left of it is kept for the ends of running tasks; nothing "
            "was written. Free some space, then try again"
        )

    def drop(self) -> None:
        """Remove it: nobody works here any more."""
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def _open(self, how: int = 0) -> int | None:
        """A descriptor; None when what stands there is not ours to touch: a link, a folder, another user's."""
        trust = our_own()
        if self._mode & stat.S_IWGRP:
            trust = shared_like(os.stat(os.path.dirname(self._path)), self._mode)
        try:
            file = open_own(self._path, os.O_RDWR | how, self._mode, trust)
        except OSError:
            return None
        if os.fstat(file).st_uid == os.geteuid():
            os.fchmod(file, self._mode)
        return file

    def _size(self) -> int | None:
        """Bytes; None when there is no such file."""
        try:
            return os.lstat(self._path).st_size
        except OSError:
            return None

    def _free(self) -> int:
        try:
            disk = os.statvfs(os.path.dirname(self._path))
        except OSError:
            return 0
        return disk.f_bavail * disk.f_frsize


def _fill(file: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, SIZE)
        return
    # Where files may have holes, only bytes that are written take room.
    for start in range(0, SIZE, STEP):
        os.pwrite(file, b"\xff" * STEP, start)

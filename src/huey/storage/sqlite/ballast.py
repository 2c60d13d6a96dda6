"""The ballast file: disk space reserved beside the queue's file, so that finishes can be written when the disk is full.

A consumer creates it. When the disk is full and a finish cannot be written, the ballast file is truncated step by step: finishes are
written, and nothing new is claimed. While the file is shorter than its full size and the disk has no room to restore it, claims and
enqueues stop and leave the remaining space to finishes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from huey.exceptions import StorageFull
from huey.runtime.clock import SECOND, Clock, Micros
from huey.runtime.files import open_own, our_own, shared_like

T = TypeVar("T")

MIB = 1024 * 1024
SIZE = 4 * MIB
STEP = MIB
"""Bytes released at a time, so that the program that filled the disk does not get all of them."""
PLENTY = 2 * SIZE
"""Free bytes that are needed to restore the file to its full size; half of them stay free."""
DISK_CHECK_TTL_US: Micros = SECOND // 10
"""How long an enqueue relies on the last check."""


class Ballast:
    """The ballast file *path*. Full size: the disk has room. Shorter: the disk is full. Missing: no consumer has created it yet."""

    def __init__(self, path: str, mode: int, clock: Clock) -> None:
        self._path = path
        self._mode = mode
        self._clock = clock
        self.checked_at: Micros = -DISK_CHECK_TTL_US
        self.was_short = False
        """The result of the last `check`: whether the disk is full."""

    def is_short(self) -> bool:
        """Return whether the disk is full, so that the remaining space is for finishes only."""
        size = self._size()
        return size is not None and size < SIZE and self._free() < PLENTY

    def check(self, now: Micros) -> None:
        """Check whether the disk is full; enqueues use the result until `DISK_CHECK_TTL_US` after *now*."""
        self.checked_at, self.was_short = now, self.is_short()

    def keep(self) -> None:
        """Restore the file to its full size if the disk has enough room; otherwise a later call will."""
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

    def release(self) -> bool:
        """Release some of its space. Return False if none is left."""
        size = self._size()
        file = self._open() if size else None
        if not size or file is None:
            return False
        try:
            os.ftruncate(file, max(0, size - STEP))
        finally:
            os.close(file)
        self.checked_at, self.was_short = self._clock.now(), True
        return True

    def sparing(self, act: Callable[[], T]) -> T:
        """Call *act*; while the disk is full, release space and call it again."""
        while True:
            try:
                return act()
            except StorageFull:
                if not self.release():
                    raise

    def no_room(self) -> StorageFull:
        return StorageFull(
            f"{self._path.removesuffix('-ballast')}: the disk is full, and the remaining space is reserved for running tasks; nothing was "
            "written. Free some space, then try again"
        )

    def drop(self) -> None:
        """Delete the file, since no workers are left."""
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def _open(self, how: int = 0) -> int | None:
        """Return a descriptor, or None if the path is a link, a folder or another user's file, which huey must not touch."""
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
        """Return its size in bytes, or None if there is no such file."""
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
    # On file systems with sparse files, only bytes that are written take space.
    for start in range(0, SIZE, STEP):
        os.pwrite(file, b"\xff" * STEP, start)

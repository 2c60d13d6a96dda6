"""The shared page of one worker process: what each of its runners is doing, for the supervisor to read.

Runners write it without a lock or a system call. It lives in anonymous shared memory, so it tells the truth also after a kill: at a
death the supervisor knows exactly which tasks ran. Half-written slots do no harm: the length of the id is written last and cleared first.
"""

from __future__ import annotations

import mmap
import os
import sys
from struct import Struct
from typing import NamedTuple

from huey.clock import SECOND, Micros
from huey.task import LONGEST_ID

_LENGTH = Struct("=H")
_NUMBERS = Struct("=QQQ")
_ID_AT = _LENGTH.size + _NUMBERS.size
_ENDED_AT = _ID_AT + 4 * LONGEST_ID
_ASKED_AT = _ENDED_AT + 1
_SLOT = _ASKED_AT + 1
_HEAD = 64
_IDLE = _LENGTH.pack(0)


class Running(NamedTuple):
    """A task in a runner's hands."""

    slot: int
    id: str
    token: int
    began: Micros
    """On the clock that never steps."""
    limit: Micros
    """How long it may run; 0: no limit."""
    is_asked: bool = False
    """It is revoked and was asked to stop, as far as its worker knows: the storage knows for sure."""

    def is_late(self, now: Micros, by: float = 0.0) -> bool:
        """It ran longer than it may, and *by* seconds more."""
        return bool(self.limit) and now - self.began > self.limit + by * SECOND


class Page:
    """One slot for each of *count* runners. ``fd`` is to be inherited by the worker; None makes a new page."""

    def __init__(self, count: int, fd: int | None = None) -> None:
        self.count = count
        size = _HEAD + count * _SLOT
        self.fd = _shared_memory(size) if fd is None else fd
        self._map = mmap.mmap(self.fd, size)
        self._inode = os.fstat(self.fd).st_ino

    # -- the worker's side --------------------------------------------------------------------------------------------------------------

    def enter(self, slot: int, id: str, token: int, began: Micros, limit: Micros) -> None:
        """A runner begins with a task."""
        at, name = _HEAD + slot * _SLOT, id.encode()
        page = self._map
        page[at : at + 2] = _IDLE
        page[at + 2 : at + _ID_AT + len(name)] = _NUMBERS.pack(token, began, limit) + name
        page[at + _ENDED_AT] = 0
        page[at + _ASKED_AT] = 0
        page[at : at + 2] = _LENGTH.pack(len(name))

    def leave(self, slot: int) -> None:
        """It has come to the task's end. What it ran stays to be read: its finish is not written yet."""
        self._map[_HEAD + slot * _SLOT + _ENDED_AT] = 1

    def ask(self, slot: int) -> None:
        """What this runner runs is revoked."""
        self._map[_HEAD + slot * _SLOT + _ASKED_AT] = 1

    @property
    def is_whole(self) -> bool:
        """The descriptors of this process are what they were: nobody has closed them."""
        try:
            return os.fstat(self.fd).st_ino == self._inode
        except OSError:
            return False

    def say_ready(self) -> None:
        """This worker has started."""
        self._map[1] = 1

    @property
    def is_cut_short(self) -> bool:
        """What runs will be cut short in a moment."""
        return self._map[2] != 0

    @property
    def is_told_to_stop(self) -> bool:
        """The supervisor wants this worker to take nothing more and to end when it is done."""
        return self._map[0] != 0

    # -- the supervisor's side ----------------------------------------------------------------------------------------------------------

    def tell_to_stop(self) -> None:
        self._map[0] = 1

    def cut_short(self) -> None:
        self._map[2] = 1

    @property
    def is_ready(self) -> bool:
        """The worker has started."""
        return self._map[1] != 0

    def running(self) -> list[Running]:
        """What runs now; of a dead worker: what ran when it died."""
        return [found for slot in range(self.count) if (found := self._read(slot, has_ended=0))]

    def ended(self) -> list[Running]:
        """What runs no more: the last of each runner that does nothing now. A finish that is not written yet can be one of these."""
        return [found for slot in range(self.count) if (found := self._read(slot, has_ended=1))]

    def _read(self, slot: int, has_ended: int) -> Running | None:
        at = _HEAD + slot * _SLOT
        data = self._map[at : at + _SLOT]
        (length,) = _LENGTH.unpack_from(data)
        if not length or data[_ENDED_AT] != has_ended:
            return None
        token, began, limit = _NUMBERS.unpack_from(data, _LENGTH.size)
        # A slot that is just being written may hold anything; who acts on it looks twice.
        return Running(slot, data[_ID_AT : _ID_AT + length].decode(errors="replace"), token, began, limit, data[_ASKED_AT] == 1)

    def close(self) -> None:
        """Give the memory back."""
        self._map.close()
        os.close(self.fd)


def _shared_memory(size: int) -> int:
    """A descriptor of *size* zero bytes that processes can map."""
    if sys.platform == "linux":
        fd = os.memfd_create("huey", os.MFD_CLOEXEC)
    else:
        import tempfile

        fd, path = tempfile.mkstemp(prefix="huey-")
        os.unlink(path)
    os.ftruncate(fd, size)
    return fd

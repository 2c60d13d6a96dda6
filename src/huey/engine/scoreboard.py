"""The shared page of one worker process: what each of its runners is doing, and that its own threads go on, for the supervisor to read.

Runners write it without a lock or a system call. It lives in anonymous shared memory, so it tells the truth also after a kill: at a
death the supervisor knows exactly which tasks ran. Half-written slots do no harm: the length of the id is written last and cleared first.
"""

from __future__ import annotations

import mmap
import os
import sys
from struct import Struct
from typing import NamedTuple

from huey.engine.stamps import OWN_THREADS
from huey.runtime.clock import SECOND, Micros
from huey.task.bounds import LONGEST_ID

GRACE = 10.0
"""Seconds after its limit that a task has to end which looks at its time by itself."""
TO_END = 5.0
"""Seconds after its limit that any other has: ``TaskTimeout`` was raised in it."""

LOOKS, TELLS, REACHES = range(3)

_LENGTH = Struct("=H")
_NUMBERS = Struct("=QQQ")
_NUMBER = Struct("=Q")
_ID_AT = _LENGTH.size + _NUMBERS.size
_ENDED_AT = _ID_AT + 4 * LONGEST_ID
_ASKED_AT = _ENDED_AT + 1
_COOPERATES_AT = _ASKED_AT + 1
_SLOT = _COOPERATES_AT + 1
# The head: bytes that say yes or no, then numbers of eight bytes. Each is written by one side only.
_STOP, _READY, _CUT_SHORT, _BLAMELESS, _AT_DISK, _AWAY, _ANSWER = range(7)
_PULSE, _LOOKED, _HELD, _STAMPS = 8, 16, 24, 32
_HEAD = _STAMPS + 8 * len(OWN_THREADS)
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
    is_cooperative: bool = False
    """It looked at its time by itself before its limit: it is only told, and has a grace."""

    def is_late(self, now: Micros, by: float = 0.0) -> bool:
        """It ran longer than it may, and *by* seconds more."""
        return bool(self.limit) and now - self.began > self.limit + by * SECOND

    def is_overdue(self, now: Micros) -> bool:
        """It did not end when asked, or within its grace."""
        return self.is_late(now, GRACE if self.is_cooperative else TO_END)


class Scoreboard:
    """One slot for each of *count* runners. ``fd`` is to be inherited by the worker; None makes a new page."""

    def __init__(self, count: int, fd: int | None = None) -> None:
        self.count = count
        size = _HEAD + count * _SLOT
        self.fd = _shared_memory(size) if fd is None else fd
        # One that came through an exec; programs that tasks start need not have it.
        os.set_inheritable(self.fd, False)
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
        page[at + _ASKED_AT] = page[at + _COOPERATES_AT] = 0
        page[at : at + 2] = _LENGTH.pack(len(name))

    def leave(self, slot: int) -> None:
        """It has come to the task's end. What it ran stays to be read: its finish is not written yet."""
        self._map[_HEAD + slot * _SLOT + _ENDED_AT] = 1

    def ask(self, slot: int) -> None:
        """What this runner runs is revoked."""
        self._map[_HEAD + slot * _SLOT + _ASKED_AT] = 1

    def cooperates(self, slot: int) -> None:
        """What this runner runs looks at its time by itself."""
        self._map[_HEAD + slot * _SLOT + _COOPERATES_AT] = 1

    def stamp(self, thread: int, until: Micros) -> None:
        """A thread of ours goes on (see ``stamps``)."""
        self._write(_STAMPS + 8 * thread, until)

    def heartbeat(self, is_at_disk: bool) -> None:
        """The pulse: Python runs in this process. *is_at_disk*: a thread of it has waited for the disk since the last one."""
        self._map[_AT_DISK] = is_at_disk
        self._write(_PULSE, self.pulse + 1)

    def say_held(self, count: int) -> None:
        """While it drains: this worker holds so many tasks."""
        self._write(_HELD, count + 1)

    def say_blameless(self) -> None:
        """This process is about to end by a fault of ours: no task is to blame."""
        self._map[_BLAMELESS] = 1

    def say_away(self, is_so: bool) -> None:
        """This worker does not reach the storage, or does so again."""
        self._map[_AWAY] = is_so

    @property
    def answer(self) -> int:
        """What the supervisor says to that: ``LOOKS`` it has not looked yet, ``TELLS`` it tells of the outage itself, ``REACHES`` it
        reaches the storage."""
        return self._map[_ANSWER]

    @property
    def looked(self) -> int:
        """Grows with each look of the supervisor."""
        return self._read_number(_LOOKED)

    @property
    def is_whole(self) -> bool:
        """The descriptors of this process are what they were: nobody has closed them."""
        try:
            return os.fstat(self.fd).st_ino == self._inode
        except OSError:
            return False

    def say_ready(self) -> None:
        """This worker has started."""
        self._map[_READY] = 1

    @property
    def is_cut_short(self) -> bool:
        """What runs will be cut short in a moment."""
        return self._map[_CUT_SHORT] != 0

    @property
    def is_told_to_stop(self) -> bool:
        """The supervisor wants this worker to take nothing more and to end when it is done."""
        return self._map[_STOP] != 0

    # -- the supervisor's side ----------------------------------------------------------------------------------------------------------

    def tell_to_stop(self) -> None:
        self._map[_STOP] = 1

    def cut_short(self) -> None:
        self._map[_CUT_SHORT] = 1

    @property
    def is_ready(self) -> bool:
        """The worker has started."""
        return self._map[_READY] != 0

    def look(self) -> None:
        """The supervisor looked at this worker."""
        self._write(_LOOKED, self.looked + 1)

    @property
    def is_away(self) -> bool:
        """The worker does not reach the storage."""
        return self._map[_AWAY] != 0

    def give_answer(self, answer: int) -> None:
        """See ``answer``."""
        self._map[_ANSWER] = answer

    @property
    def pulse(self) -> int:
        """Grows each second in which Python runs in the worker."""
        return self._read_number(_PULSE)

    @property
    def is_at_disk(self) -> bool:
        """At the last pulse a thread of the worker waited for the disk, and had for a second."""
        return self._map[_AT_DISK] != 0

    @property
    def is_blameless(self) -> bool:
        """The worker ended by a fault of ours."""
        return self._map[_BLAMELESS] != 0

    @property
    def held(self) -> int | None:
        """How many tasks a worker that drains still holds; None: it does not drain yet."""
        return self._read_number(_HELD) - 1 if self._read_number(_HELD) else None

    def stamps(self) -> tuple[Micros, ...]:
        """By own thread: until when it shows again that it goes on; 0: it is not there."""
        return Struct(f"={len(OWN_THREADS)}Q").unpack_from(self._map, _STAMPS)

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
        return Running(slot, data[_ID_AT : _ID_AT + length].decode(errors="replace"), token, began, limit, *self._flags(data))

    @staticmethod
    def _flags(data: bytes) -> tuple[bool, bool]:
        return data[_ASKED_AT] == 1, data[_COOPERATES_AT] == 1

    def _write(self, at: int, number: int) -> None:
        self._map[at : at + 8] = _NUMBER.pack(number)

    def _read_number(self, at: int) -> int:
        return int(_NUMBER.unpack_from(self._map, at)[0])

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

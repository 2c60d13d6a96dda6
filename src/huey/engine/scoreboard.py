"""The scoreboard of a worker process, from which its supervisor reads what each runner runs and whether the worker's own threads are alive.

Runners write it without a lock or a system call. It is anonymous shared memory, so it is correct even after a kill: when a worker dies, the
supervisor knows exactly which tasks were running. Half-written slots do no harm: the length of the id is written last and cleared first.
"""

from __future__ import annotations

import mmap
import os
import sys
from struct import Struct
from typing import NamedTuple

from huey.engine.stamps import OWN_THREADS
from huey.runtime.clock import FOREVER, SECOND, Micros
from huey.task.bounds import LONGEST_ID

GRACE = 10.0
"""Seconds after its limit in which a cooperative task, one that checks its time itself, has to end."""
TO_END = 5.0
"""Seconds after its limit in which any other task has to end, after ``TaskTimeout`` was raised in it."""

LOOP_SILENCE = 3.0
"""Seconds without an answer after which no coroutine is expected to make progress."""

UNCHECKED, REPORTS, REACHES = range(3)

_LENGTH = Struct("=H")
_NUMBERS = Struct("=QQQ")
_NUMBER = Struct("=Q")
_ID_AT = _LENGTH.size + _NUMBERS.size
_ENDED_AT = _ID_AT + 4 * LONGEST_ID
_ASKED_AT = _ENDED_AT + 1
_COOPERATES_AT = _ASKED_AT + 1
_SLOT = _COOPERATES_AT + 1
# The header: one-byte flags, then eight-byte numbers. Each has only one writer.
_STOP, _READY, _REQUEUE, _BLAMELESS, _AT_DISK, _OUTAGE, _SUPERVISOR_STATE = range(7)
_PULSE, _CHECKS, _HELD, _FIRST_LIMIT, _LOOP_PULSE, _STAMPS = 8, 16, 24, 32, 40, 48
_HEAD = _STAMPS + 8 * len(OWN_THREADS)
_IDLE = _LENGTH.pack(0)


class RunningTask(NamedTuple):
    """The task that a runner is running, or ran last."""

    slot: int
    id: str
    token: int
    began: Micros
    """When it started, on the monotonic clock."""
    limit: Micros
    """Its time limit; 0: no limit."""
    is_asked: bool = False
    """Whether it was revoked and asked to stop, as far as its worker knows; only the storage knows for certain."""
    is_cooperative: bool = False
    """Whether it checked its time itself before its limit, so that it gets a grace period instead of an exception."""

    def is_late(self, now: Micros, by: float = 0.0) -> bool:
        """Return whether it has exceeded its time limit by more than *by* seconds."""
        return bool(self.limit) and now - self.began > self.limit + by * SECOND

    def is_overdue(self, now: Micros) -> bool:
        """Return whether it has failed to end when asked, or within its grace period."""
        return self.is_late(now, GRACE if self.is_cooperative else TO_END)


class Scoreboard:
    """A board with one slot for each of *count* runners. *fd*: that of an existing one, inherited by the worker; None creates a new one."""

    def __init__(self, count: int, fd: int | None = None) -> None:
        self.count = count
        size = _HEAD + count * _SLOT
        self.fd = _shared_memory(size) if fd is None else fd
        # It may have been inherited through exec; programs that tasks start need not inherit it.
        os.set_inheritable(self.fd, False)
        self._map = mmap.mmap(self.fd, size)
        self._inode = os.fstat(self.fd).st_ino

    # -- written by the worker ---------------------------------------------------------------------------------------------------------

    def set_running(self, slot: int, id: str, token: int, began: Micros, limit: Micros) -> None:
        """Record that a runner starts a task."""
        at, name = _HEAD + slot * _SLOT, id.encode()
        board = self._map
        board[at : at + 2] = _IDLE
        board[at + 2 : at + _ID_AT + len(name)] = _NUMBERS.pack(token, began, limit) + name
        board[at + _ENDED_AT] = 0
        board[at + _ASKED_AT] = board[at + _COOPERATES_AT] = 0
        board[at : at + 2] = _LENGTH.pack(len(name))

    def set_ended(self, slot: int) -> None:
        """Record that a runner's task has ended. The slot stays readable, because the finish is not written yet."""
        self._map[_HEAD + slot * _SLOT + _ENDED_AT] = 1

    def set_revoked(self, slot: int) -> None:
        """Record that the task of this runner was revoked and asked to stop."""
        self._map[_HEAD + slot * _SLOT + _ASKED_AT] = 1

    def set_cooperative(self, slot: int) -> None:
        """Record that the task of this runner checks its time itself."""
        self._map[_HEAD + slot * _SLOT + _COOPERATES_AT] = 1

    def stamp(self, thread: int, until: Micros) -> None:
        """Record that one of the worker's own threads is alive and will stamp again by *until* (see stamps.py)."""
        self._write(_STAMPS + 8 * thread, until)

    def set_pulse(self, is_at_disk: bool) -> None:
        """Count a pulse, which shows that Python code runs in this process. *is_at_disk*: a thread has waited for the disk since the last
        pulse."""
        self._map[_AT_DISK] = is_at_disk
        self._write(_PULSE, self.pulse + 1)

    def set_held(self, count: int) -> None:
        """Record that the worker, which is draining, holds *count* tasks."""
        self._write(_HELD, count + 1)

    def set_first_limit(self, end: Micros) -> None:
        """Record that no task passes its time limit before *end*, so that no slot needs to be read until then."""
        self._write(_FIRST_LIMIT, end)

    def set_loop_pulse(self, now: Micros) -> None:
        """Record that the event loop of this worker has answered."""
        self._write(_LOOP_PULSE, now)

    def set_blameless(self) -> None:
        """Record that this process is about to exit because of a fault in huey, so that no task is blamed."""
        self._map[_BLAMELESS] = 1

    def set_outage(self, is_so: bool) -> None:
        """Record whether this worker is unable to reach the storage."""
        self._map[_OUTAGE] = is_so

    @property
    def supervisor_state(self) -> int:
        """The supervisor's view of an outage: ``UNCHECKED`` not known yet, ``REPORTS`` it cannot reach the storage either and logs the
        outage itself, ``REACHES`` it reaches the storage."""
        return self._map[_SUPERVISOR_STATE]

    @property
    def checks(self) -> int:
        """A counter of the supervisor's checks of this worker."""
        return self._read_number(_CHECKS)

    @property
    def is_whole(self) -> bool:
        """False if a task has closed the descriptors of this process."""
        try:
            return os.fstat(self.fd).st_ino == self._inode
        except OSError:
            return False

    def set_ready(self) -> None:
        """Record that the worker has started."""
        self._map[_READY] = 1

    @property
    def is_requeue_requested(self) -> bool:
        """True if the running tasks are about to be requeued, and the worker killed."""
        return self._map[_REQUEUE] != 0

    @property
    def is_stop_requested(self) -> bool:
        """True if the worker must stop claiming, and exit when its running tasks have ended."""
        return self._map[_STOP] != 0

    # -- read by the supervisor --------------------------------------------------------------------------------------------------------

    def request_stop(self) -> None:
        """Ask the worker to stop claiming, and to exit when its running tasks have ended."""
        self._map[_STOP] = 1

    def request_requeue(self) -> None:
        """Tell the worker that its running tasks are about to be requeued."""
        self._map[_REQUEUE] = 1

    @property
    def is_ready(self) -> bool:
        """True once the worker has started."""
        return self._map[_READY] != 0

    def count_check(self) -> None:
        """Count a check of this worker by the supervisor."""
        self._write(_CHECKS, self.checks + 1)

    @property
    def is_in_outage(self) -> bool:
        """True while the worker cannot reach the storage."""
        return self._map[_OUTAGE] != 0

    def set_supervisor_state(self, state: int) -> None:
        """See ``supervisor_state``."""
        self._map[_SUPERVISOR_STATE] = state

    @property
    def pulse(self) -> int:
        """A counter that grows each second in which Python code runs in the worker."""
        return self._read_number(_PULSE)

    @property
    def is_at_disk(self) -> bool:
        """True if a thread of the worker had waited for the disk for a second at the last pulse."""
        return self._map[_AT_DISK] != 0

    @property
    def is_blameless(self) -> bool:
        """True if the worker exited because of a fault in huey."""
        return self._map[_BLAMELESS] != 0

    @property
    def held(self) -> int | None:
        """The number of tasks that a draining worker still holds; None before it drains."""
        return self._read_number(_HELD) - 1 if self._read_number(_HELD) else None

    def stamps(self) -> tuple[Micros, ...]:
        """Return for each of the worker's own threads the time by which it will stamp again; 0 for a thread that does not exist."""
        return Struct(f"={len(OWN_THREADS)}Q").unpack_from(self._map, _STAMPS)

    def running(self) -> list[RunningTask]:
        """Return the tasks that are running or, for a dead worker, were running when it died."""
        return [found for slot in range(self.count) if (found := self._read(slot, has_ended=0))]

    def overdue(self, now: Micros) -> list[RunningTask]:
        """Return the running tasks that passed their time limit and have not ended in time."""
        # 0: this worker has few slots, and does not record it.
        if self._read_number(_FIRST_LIMIT) > now:
            return []
        return [task for task in self.running() if task.is_overdue(now)]

    def is_loop_held(self, now: Micros) -> bool:
        """Return whether the worker has an event loop that has not answered for some time while tasks ran."""
        last = self._read_number(_LOOP_PULSE)
        return bool(last) and now - last > LOOP_SILENCE * SECOND

    @property
    def has_limits(self) -> bool:
        """Whether a task with a time limit is running."""
        if first := self._read_number(_FIRST_LIMIT):
            return first < FOREVER
        return any(task.limit for task in self.running())

    def ended(self) -> list[RunningTask]:
        """Return the last task of each idle runner. Its finish may not be written yet."""
        return [found for slot in range(self.count) if (found := self._read(slot, has_ended=1))]

    def _read(self, slot: int, has_ended: int) -> RunningTask | None:
        at = _HEAD + slot * _SLOT
        data = self._map[at : at + _SLOT]
        (length,) = _LENGTH.unpack_from(data)
        if not length or data[_ENDED_AT] != has_ended:
            return None
        token, began, limit = _NUMBERS.unpack_from(data, _LENGTH.size)
        # A slot that is being written may hold anything: check twice before acting on it.
        id = data[_ID_AT : _ID_AT + length].decode(errors="replace")
        return RunningTask(slot, id, token, began, limit, data[_ASKED_AT] == 1, data[_COOPERATES_AT] == 1)

    def _write(self, at: int, number: int) -> None:
        self._map[at : at + 8] = _NUMBER.pack(number)

    def _read_number(self, at: int) -> int:
        return int(_NUMBER.unpack_from(self._map, at)[0])

    def close(self) -> None:
        """Free the memory."""
        self._map.close()
        os.close(self.fd)


def _shared_memory(size: int) -> int:
    """Return a descriptor of *size* zero bytes that several processes can map."""
    if sys.platform == "linux":
        fd = os.memfd_create("huey", os.MFD_CLOEXEC)
    else:
        import tempfile

        fd, path = tempfile.mkstemp(prefix="huey-")
        os.unlink(path)
    os.ftruncate(fd, size)
    return fd

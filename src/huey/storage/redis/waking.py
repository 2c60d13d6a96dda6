"""How threads wait on a Redis server: for tasks, for results, for events. Each wait sends its look and a blocking command in one packet.

Who listens for tasks leaves its blocking pop under way when a bell rings; the next turn of the same thread ends it (CLIENT UNBLOCK goes
with the turn, at no trip of its own), and until then it lasts a second at most.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Sequence
from typing import Any

from huey.clock import SECOND, micros
from huey.storage.base import FOLLOWER, Bell, Worker
from huey.storage.redis.connection import EVALSHA, Wire, checked, load
from huey.storage.redis.errors import Unknown
from huey.storage.redis.messages import Arg
from huey.storage.redis.scripts import Script, script
from huey.storage.redis.verbs import PlainVerbs

SAFETY_LOOK = 1.0
"""Seconds after which who waits looks by itself, should a wake-up have been lost."""
LEAST_WAIT = 0.01
"""Seconds. Shorter waits would be a busy loop; 0 means for ever to the server."""


class Ear:
    """A connection on which one thread waits, and what is under way there."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.is_blocked = False
        """A blocking command was sent and has not been answered."""

    def ask(self, look: Script, arguments: Sequence[Arg], block: tuple[Arg, ...]) -> Any:
        """Send a look and a blocking command: what the look says."""
        command = (EVALSHA, look.sha, 1, *arguments)
        self.settle()
        self.is_blocked = True
        self.wire.send(command, block)
        try:
            return checked(self.wire, self.wire.read())
        except Unknown:
            # Its own blocking command waits for nothing that the look noted; it ends in time.
            self.settle()
            load(self.wire, look)
            self.is_blocked = True
            self.wire.send(command, block)
            return checked(self.wire, self.wire.read())

    def settle(self) -> Any:
        """The answer of the blocking command that is under way, if any."""
        if not self.is_blocked:
            return None
        answer = checked(self.wire, self.wire.read())
        self.is_blocked = False
        return answer

    def hears(self, seconds: float, bell: Bell) -> str:
        """What comes first: an ``answer`` of the blocking command, the ``bell``, or nothing in that time."""
        if self.wire.has_reply():
            return "answer"
        poll = select.poll()
        poll.register(self.wire.fileno(), select.POLLIN)
        poll.register(bell.fileno(), select.POLLIN)
        rung = [fd for fd, _ in poll.poll(seconds * 1000)]
        return "answer" if self.wire.fileno() in rung else "bell" if rung else ""


class WakingVerbs(PlainVerbs):
    """``listen``, ``wait`` and ``follow``."""

    _local: threading.local

    @property
    def _longest(self) -> float:
        """Seconds that one blocking command may last: less than a reply may take."""
        return min(SAFETY_LOOK, self._wires.patience / 2)

    def _ear(self) -> Ear:
        """This thread's own, made anew after a fork or an outage."""
        ear: Ear | None = getattr(self._local, "ear", None)
        if ear is None or ear.wire.pid != os.getpid() or ear.wire.is_closed:
            ear = self._local.ear = Ear(self._wires.take())
        return ear

    def _deafen(self) -> None:
        """After an error nobody knows what comes next on this thread's connection."""
        ear: Ear | None = getattr(self._local, "ear", None)
        self._local.ear = None
        if ear is not None:
            self._wires.drop(ear.wire)

    def _unblock(self) -> tuple[Arg, ...] | None:
        """What ends this thread's blocking command, if one is under way."""
        ear: Ear | None = getattr(self._local, "ear", None)
        if ear is None or not ear.is_blocked or ear.wire.pid != os.getpid() or ear.wire.is_closed:
            return None
        return b"CLIENT", b"UNBLOCK", ear.wire.client

    def listen(self, worker: Worker, timeout: float, bell: Bell) -> bool:
        try:
            return self._listen(worker, timeout, bell)
        except BaseException:
            self._deafen()
            raise

    def _listen(self, worker: Worker, timeout: float, bell: Bell) -> bool:
        lanes = lanes_of(worker)
        lists = [f"{self._prefix}wake:{lane}" for lane in lanes]
        deadline = self._clock.monotonic() + micros(timeout)
        if timeout <= 0:
            return bool(self._wires.call("ready", self._prefix, self._now(), lanes, 0, before=self._unblock())[0])
        self._end_old_wait()
        ear = self._ear()
        longest = max(LEAST_WAIT, min(timeout, self._longest))
        while True:
            is_ready, due = ear.ask(script("ready"), (self._prefix, self._now(), lanes, 1), (b"BLPOP", *lists, longest))
            if is_ready:
                ear.settle()
                return True
            if self._clock.monotonic() >= deadline:
                return False
            is_short = due != b"" and int(due) < longest * SECOND
            first = ear.hears(max(LEAST_WAIT, int(due) / SECOND) if is_short else longest + ear.wire.patience, bell)
            if first == "bell":
                return False
            if is_short and not first:
                self._end_old_wait()
            token = ear.settle()
            if token is not None and token[1] == b"r":
                return True

    def _end_old_wait(self) -> None:
        unblock = self._unblock()
        if unblock is not None:
            self._wires.command(*unblock)

    def wait(self, ids: Sequence[str], timeout: float | None) -> bool:
        if timeout is not None and timeout <= 0:
            return bool(self._wires.call("await", self._prefix, self._now(), "", *ids))
        wire = self._wires.take()
        try:
            is_there = self._wait(Ear(wire), ids, timeout)
        except BaseException:
            self._wires.drop(wire)
            raise
        self._wires.give_back(wire)
        return is_there

    def _wait(self, ear: Ear, ids: Sequence[str], timeout: float | None) -> bool:
        deadline = None if timeout is None else self._clock.monotonic() + micros(timeout)
        waiter, left = str(ear.wire.client), SAFETY_LOOK
        while True:
            if deadline is not None:
                left = (deadline - self._clock.monotonic()) / SECOND
            seconds = max(LEAST_WAIT, min(left, self._longest))
            block = (b"BLPOP", f"{self._prefix}wk:{waiter}", seconds)
            is_there = bool(ear.ask(script("await"), (self._prefix, self._now(), waiter, *ids), block))
            if ear.settle() is not None or is_there:
                return True
            if deadline is not None and self._clock.monotonic() >= deadline:
                self._wires.call("unawait", self._prefix, self._now(), waiter, *ids)
                return bool(self._wires.call("await", self._prefix, self._now(), "", *ids))

    def follow(self, after: int | None, timeout: float = 0.0) -> tuple[int, list[str]]:
        deadline = self._clock.monotonic() + micros(timeout)
        while True:
            position, *told = self._wires.call("follow", self._prefix, self._now(), FOLLOWER, "" if after is None else after)
            if after is None or told:
                return position, [text.decode() for text in told]
            left = (deadline - self._clock.monotonic()) / SECOND
            if left <= 0:
                return position, []
            self._wait_for_event(position, max(LEAST_WAIT, min(left, self._longest)))

    def _wait_for_event(self, position: int, seconds: float) -> None:
        """Until one is told after *position*, or *seconds* have passed."""
        self._wires.command(b"XREAD", b"BLOCK", max(1, int(seconds * 1000)), b"STREAMS", self._prefix + "ev", f"{position}-0")

    def is_followed(self) -> bool:
        return bool(self._wires.call("followed", self._prefix, self._now(), self.name))

    def publish(self, events: Sequence[str]) -> None:
        if events:
            self._wires.call("publish", self._prefix, self._now(), self.name, *events)


def lanes_of(worker: Worker) -> str:
    """What a worker takes from: ``o`` of all tasks, ``u`` of suspects, the first first."""
    return "u" * worker.takes_suspects + "o" * worker.takes_others

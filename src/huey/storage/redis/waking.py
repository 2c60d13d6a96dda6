"""How threads wait on a Redis server: for tasks each on a connection of its own, for results and events on one of the process (lookout.py).

Who listens for tasks leaves its blocking pop under way when its waker is set; the next turn of the same thread ends it (CLIENT UNBLOCK goes
with the turn, at no trip of its own), and until then it lasts a second at most. A claim may stand behind that pop: the server makes it in
the moment in which a task comes, so that the wake-up brings the task.
"""

from __future__ import annotations

import math
import os
import select
import threading
from collections.abc import Callable, Sequence
from typing import Any

from huey.runtime.clock import SECOND, micros
from huey.runtime.masking import checkpoint
from huey.storage.base import FOLLOWER, Waker
from huey.storage.helpers import in_chunks
from huey.storage.redis import keys
from huey.storage.redis.connection import EVALSHA, CommandConnection, checked, load
from huey.storage.redis.errors import UnknownScript
from huey.storage.redis.lookout import LEAST_WAIT, SAFETY_LOOK, Events, Results, Wait
from huey.storage.redis.messages import Arg
from huey.storage.redis.scripts import Script, script
from huey.storage.redis.verbs import PlainVerbs
from huey.storage.rows import Worker

CALLED_OFF = 5000
"""Milliseconds after which a claim that was called off is forgotten; it is seen to at once, or was made before."""


Claiming = Callable[["Ear"], "tuple[Arg, ...] | None"]


class Ear:
    """A connection on which one thread waits, and what is under way there."""

    def __init__(self, connection: CommandConnection) -> None:
        self.connection = connection
        self.is_blocked = False
        """A blocking command was sent and has not been answered."""
        self._is_claiming = False
        """And a claim after it, which the server makes as soon as that command ends."""
        self.claimed: Any = None
        """What the last such claim brought."""

    def ask(self, look: Script, arguments: Sequence[Arg], block: tuple[Arg, ...], claim: tuple[Arg, ...] | None = None) -> Any:
        """Send a look, a blocking command and, if given, a claim that follows it: what the look says."""
        commands = ((EVALSHA, look.sha, 1, *arguments), block, *(() if claim is None else (claim,)))
        self.settle()
        self._send(commands)
        try:
            return checked(self.connection, self.connection.read())
        except UnknownScript:
            # Its own blocking command waits for nothing that the look noted; it ends in time.
            self.settle()
            load(self.connection, look)
            if has_brought(self.claimed):
                return [1, b""]
            self._send(commands)
            return checked(self.connection, self.connection.read())

    def _send(self, commands: Sequence[tuple[Arg, ...]]) -> None:
        self.is_blocked, self._is_claiming = True, len(commands) > 2
        self.connection.send(*commands)

    def settle(self) -> Any:
        """The answer of the blocking command that is under way, if any; ``claimed`` is what the claim after it brought."""
        if not self.is_blocked:
            return None
        answer = self.connection.read()
        if self._is_claiming:
            claimed = self.connection.read()
            # A claim that failed has claimed nothing; the next turn tells why.
            self.claimed = None if isinstance(claimed, Exception) else claimed
        self.is_blocked = False
        return checked(self.connection, answer)

    def hears(self, seconds: float, waker: Waker) -> str:
        """What comes first: an ``answer`` of the blocking command, the ``waker``, or nothing in that time."""
        if self.connection.has_reply():
            return "answer"
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLIN)
        poll.register(waker.fileno(), select.POLLIN)
        rung = [fd for fd, _ in poll.poll(seconds * 1000)]
        return "answer" if self.connection.fileno() in rung else "waker" if rung else ""


class WakingVerbs(PlainVerbs):
    """``wait`` and ``follow``, and what ``listen`` is made of."""

    _local: threading.local

    @property
    def _longest(self) -> float:
        """Seconds that one blocking command may last: less than a reply may take."""
        return min(SAFETY_LOOK, self._connections.patience / 2)

    def _ear(self) -> Ear:
        """This thread's own, made anew after a fork or an outage."""
        ear: Ear | None = getattr(self._local, "ear", None)
        if ear is None or ear.connection.pid != os.getpid() or ear.connection.is_closed:
            ear = self._local.ear = Ear(self._connections.keep())
        return ear

    def _deafen(self) -> None:
        """After an error nobody knows what comes next on this thread's connection."""
        ear: Ear | None = getattr(self._local, "ear", None)
        self._local.ear = None
        if ear is not None:
            self._connections.drop(ear.connection)

    def _unblock(self) -> tuple[tuple[Arg, ...], ...]:
        """What ends this thread's blocking command, if one is under way; the claim after it is called off."""
        ear: Ear | None = getattr(self._local, "ear", None)
        return () if ear is None else self._ends(ear)

    def _ends(self, ear: Ear) -> tuple[tuple[Arg, ...], ...]:
        if not ear.is_blocked or ear.connection.pid != os.getpid() or ear.connection.is_closed:
            return ()
        client = ear.connection.client
        return (b"SET", f"{self._prefix}{keys.CALLED_OFF}{client}", 1, b"PX", CALLED_OFF), (b"CLIENT", b"UNBLOCK", client)

    def _hear(self, worker: Worker, timeout: float, waker: Waker, claiming: Claiming) -> bool:
        """Listen. *claiming* makes the command that claims a task as soon as one comes, if one is to be claimed."""
        try:
            return self._listen(worker, timeout, waker, claiming)
        except BaseException:
            self._deafen()
            raise

    def _listen(self, worker: Worker, timeout: float, waker: Waker, claiming: Claiming) -> bool:
        lanes = lanes_of(worker)
        lists = [f"{self._prefix}{keys.WAKE}{lane}" for lane in lanes]
        deadline = self._clock.monotonic() + micros(timeout)
        if timeout <= 0:
            return bool(self._connections.call("check_ready", self._prefix, self._now(), lanes, 0, before=self._unblock())[0])
        self._end_old_wait()
        ear = self._ear()
        ear.settle()
        if has_brought(ear.claimed):
            return True
        longest = max(LEAST_WAIT, min(timeout, self._longest))
        while True:
            look = (self._prefix, self._now(), lanes, 1)
            is_ready, due = ear.ask(script("check_ready"), look, (b"BLPOP", *lists, longest), claiming(ear))
            if is_ready:
                ear.settle()
                return True
            if self._clock.monotonic() >= deadline:
                return False
            is_short = due != b"" and int(due) < longest * SECOND
            first = ear.hears(max(LEAST_WAIT, int(due) / SECOND) if is_short else longest + ear.connection.patience, waker)
            if first == "waker":
                return False
            if is_short and not first:
                self._end_old_wait()
            token = ear.settle()
            if (token is not None and token[1] == b"r") or has_brought(ear.claimed):
                return True

    def _end_old_wait(self) -> None:
        for command in self._unblock():
            self._connections.command(*command)

    def wait(self, ids: Sequence[str], timeout: float | None) -> bool:
        if timeout is None or timeout > 0:
            lookout = self._connections.pool.lookout(Results)
            mine = Wait(self._connections, self._prefix, tuple(ids), self._now)
            if lookout.wait(mine, self._left(timeout)):
                return True
            lookout.forget(mine)
        return any(self._connections.call("watch_results", self._prefix, self._now(), "", *some) for some in in_chunks(ids))

    def _left(self, timeout: float | None) -> Callable[[], float]:
        """What tells the seconds that are left."""
        if timeout is None:
            return lambda: math.inf
        deadline = self._clock.monotonic() + micros(timeout)
        return lambda: (deadline - self._clock.monotonic()) / SECOND

    def follow(self, after: int | None, timeout: float = 0.0) -> tuple[int, list[str]]:
        left = self._left(timeout)
        while True:
            checkpoint()
            position, *told = self._connections.call("follow", self._prefix, self._now(), FOLLOWER, "" if after is None else after)
            if after is None or told:
                return position, [text.decode() for text in told]
            seconds = left()
            if seconds <= 0:
                return position, []
            # Looked at each second: a wake-up may be lost.
            some = self._left(min(seconds, SAFETY_LOOK))
            self._connections.pool.lookout(Events).wait(Wait(self._connections, self._prefix, (position,), self._now), some)

    def is_followed(self) -> bool:
        return bool(self._connections.call("is_followed", self._prefix, self._now(), self.name))

    def publish(self, events: Sequence[str]) -> None:
        if events:
            self._connections.call("publish", self._prefix, self._now(), self.name, *events)


def has_brought(claimed: Any) -> bool:
    """A claim brought more than that there is nothing."""
    return claimed is not None and claimed[0] == 0 and bool(claimed[1] or len(claimed) > 3)


def lanes_of(worker: Worker) -> str:
    """What a worker takes from: ``o`` of all tasks, ``u`` of suspects, the first first."""
    return "u" * worker.takes_suspects + "o" * worker.takes_others

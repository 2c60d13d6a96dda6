"""Wait for tasks in such a way that the wake-up already brings one.

A listener blocks on its own connection. Behind its blocking pop it may send a claim: the server executes that as soon as the pop ends, one
round trip earlier than a turn could. docs/internals/prefetching-wait.md shows the sequence.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from huey.runtime.clock import SECOND, micros
from huey.storage.base import Waker
from huey.storage.redis import keys
from huey.storage.redis.connection import EVALSHA, checked, load
from huey.storage.redis.errors import UnknownScript
from huey.storage.redis.messages import Arg
from huey.storage.redis.queue import RedisQueue
from huey.storage.redis.scripts import script
from huey.storage.redis.shared_listeners import SAFETY_INTERVAL_S, SHORTEST_WAIT_S

Command = tuple[Arg, ...]
MakeClaim = Callable[["PrefetchingListener"], Command | None]
"""Returns the claim that is to follow the blocking pop of a listener, or None for a wait without one."""
CALLED_OFF_MS = 5000
"""Milliseconds for which a claim stays called off: the server reaches it at once, unless it has executed it already."""


class ListenerState(Enum):
    """What a listener's connection is doing."""

    IDLE = "idle"
    """Nothing: the next command gets the next reply."""
    BLOCKED = "blocked"
    """A blocking pop is in flight, and perhaps a claim behind it. The listener may have returned long ago."""
    CLAIMED = "claimed"
    """Nothing, but the claim brought something that no turn has returned yet."""


class PrefetchingListener:
    """Waits for tasks on its own connection, for one thread. After an error it must not be used again."""

    def __init__(self, queue: RedisQueue) -> None:
        self._queue = queue
        self.connection = queue.keep()
        self.state = ListenerState.IDLE
        self._has_claim_in_flight = False
        self._claimed: Any = None

    @property
    def is_usable(self) -> bool:
        """True if neither a fork nor an outage has cost it its connection."""
        return self.connection.pid == os.getpid() and not self.connection.is_closed

    @property
    def has_claimed(self) -> bool:
        """True if it holds the reply of a claim."""
        return self.state is ListenerState.CLAIMED

    def listen(self, lanes: str, timeout: float, waker: Waker, make_claim: MakeClaim) -> bool:
        """Wait until there is something to claim (True), *waker* wakes, or *timeout* seconds have passed. The blocking pop may stay in
        flight for up to a second: the next turn ends it."""
        deadline = self._queue.clock.monotonic() + micros(timeout)
        self.end_wait()
        self.settle()
        if self.has_claimed:
            return True
        longest = max(SHORTEST_WAIT_S, min(timeout, SAFETY_INTERVAL_S, self._queue.reply_timeout / 2))
        pop: Command = (b"BLPOP", *[f"{self._queue.prefix}{keys.WAKE}{lane}" for lane in lanes], longest)
        while True:
            is_ready, due = self._block(lanes, pop, make_claim(self))
            if is_ready:
                self.settle()
                return True
            if self._queue.clock.monotonic() >= deadline:
                return False
            # A task is due before the pop ends.
            is_short = due != b"" and int(due) < longest * SECOND
            event = self._wait(max(SHORTEST_WAIT_S, int(due) / SECOND) if is_short else longest + self.connection.reply_timeout, waker)
            if event == "waker":
                return False
            if event == "timeout" and is_short:
                self.end_wait()
            token = self.settle()
            if (token is not None and token[1] == b"r") or self.has_claimed:
                return True

    def cancellation(self) -> tuple[Command, ...]:
        """Return the commands that end the blocking pop and cancel the claim behind it; another connection sends them. The claim may have
        been executed by then."""
        if self.state is not ListenerState.BLOCKED or not self.is_usable:
            return ()
        client = self.connection.client
        return (b"SET", f"{self._queue.prefix}{keys.CALLED_OFF}{client}", 1, b"PX", CALLED_OFF_MS), (b"CLIENT", b"UNBLOCK", client)

    def end_wait(self) -> None:
        """End the blocking pop now; its reply must still be read."""
        for command in self.cancellation():
            self._queue.command(*command)

    def settle(self) -> Any:
        """Read the replies that are in flight, and return that of the blocking pop. The pop must have ended, or be about to."""
        if self.state is not ListenerState.BLOCKED:
            return None
        answer = self.connection.read()
        if self._has_claim_in_flight:
            claimed = self.connection.read()
            # A claim that failed has claimed nothing; the next turn says why.
            self._claimed = None if isinstance(claimed, Exception) else claimed
        self.state = ListenerState.CLAIMED if has_brought(self._claimed) else ListenerState.IDLE
        return checked(self.connection, answer)

    def take_claimed(self) -> Any:
        """Return the reply of the claim, in the form of a turn's script, or None. A blocking pop must have been ended."""
        self.settle()
        claimed = self._claimed if self.has_claimed else None
        self._claimed, self.state = None, ListenerState.IDLE
        return claimed

    def _block(self, lanes: str, pop: Command, claim: Command | None) -> Any:
        """Send a check whether a task is ready, the blocking pop and the claim, if any, in one packet; return the reply of the check."""
        check = script("check_ready")
        commands = [(EVALSHA, check.sha, 1, self._queue.prefix, self._queue.now(), lanes, 1), pop]
        if claim is not None:
            commands.append(claim)
        self._send(commands)
        try:
            return checked(self.connection, self.connection.read())
        except UnknownScript:
            # The pop was sent without a check, so a wake-up may be missing: it ends after its own time.
            self.settle()
            load(self.connection, check)
            if self.has_claimed:
                return [1, b""]
            self._send(commands)
            return checked(self.connection, self.connection.read())

    def _send(self, commands: Sequence[Command]) -> None:
        self.state, self._has_claim_in_flight = ListenerState.BLOCKED, len(commands) > 2
        self.connection.send(*commands)

    def _wait(self, seconds: float, waker: Waker) -> str:
        """Wait for a "reply" to the blocking pop, the "waker", or a "timeout"; return which came first."""
        ready = self.connection.wait(seconds, waker.fileno())
        if self.connection.fileno() in ready:
            return "reply"
        return "waker" if ready else "timeout"


def has_brought(claimed: Any) -> bool:
    """Return whether the answer of a turn's script contains anything."""
    return claimed is not None and claimed[0] == 0 and bool(claimed[1] or len(claimed) > 3)

"""Bulk enqueues: each call is sent before the previous one is answered, so the server executes one while the next is built.

At most one call is in flight while another is sent, so an error can say which records were not enqueued.

Enqueues have numbers, by which the server recognizes one that is sent again because its reply was lost. Those of a sequence are sent one
after another, with growing numbers, and the server keeps the last number of each sequence. An enqueue with that or a lower number was
executed before, even if its task has ended since. So a sequence must never have two enqueues in flight on different connections: each call,
and each bulk call, has a sequence to itself.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from huey.exceptions import StorageError, StorageUnavailable
from huey.runtime.clock import Clock, Micros, Rng
from huey.storage.redis.connection import EVALSHA, CommandConnection, checked
from huey.storage.redis.errors import UnknownScript
from huey.storage.redis.messages import Arg
from huey.storage.redis.queue import RedisQueue
from huey.storage.redis.scripts import script
from huey.storage.rows import EventFactory


class EnqueueSequence:
    """A source of growing numbers. They are times of its clock, so the server can drop sequences that were not used for long."""

    def __init__(self, id: str, clock: Clock) -> None:
        self.id = id
        self._clock = clock
        self._last: Micros = 0

    def number(self) -> Micros:
        """Return the number of the next enqueue."""
        self._last = max(self._last + 1, self._clock.now())
        return self._last


class EnqueueSequences:
    """The sequences of one storage, each lent for one call. A forked child gets new ones."""

    def __init__(self, clock: Clock, rng: Rng) -> None:
        self._clock = clock
        self._rng = rng
        self._free: deque[EnqueueSequence] = deque()
        self._pid = os.getpid()

    def take(self) -> EnqueueSequence:
        """Lend a sequence that is not in use."""
        if self._pid != os.getpid():
            self._free, self._pid = deque(), os.getpid()
        try:
            return self._free.pop()
        except IndexError:
            return EnqueueSequence(f"{self._pid}-{self._rng.getrandbits(64):x}", self._clock)

    def release(self, sequence: EnqueueSequence) -> None:
        """Take back a sequence whose last enqueue is done or given up."""
        self._free.append(sequence)


class EnqueueCall(NamedTuple):
    """One call of ``enqueue``, ready to be sent."""

    size: int
    now: Arg
    arguments: list[Arg]
    make_events: EventFactory | None
    single: list[Arg] | None = None
    """The arguments of the shorter script, if the call has one simple record."""


class Sent(NamedTuple):
    """A call in flight, and its number."""

    call: EnqueueCall
    number: Micros


class EnqueuePipeline:
    """The calls of one ``bulk_enqueue``. *submit* enqueues a call in the usual way and waits for its reply; *send* repeats an earlier one
    with its number."""

    def __init__(
        self,
        queue: RedisQueue,
        sequences: EnqueueSequences,
        submit: Callable[[EnqueueCall], None],
        send: Callable[[EnqueueCall, str, Micros], None],
    ) -> None:
        self._queue = queue
        self._sequences = sequences
        self._sequence = sequences.take()
        self._submit = submit
        self._send = send
        self._connection: CommandConnection | None = None
        self._under_way: Sent | None = None
        self._is_known = False
        """The server has the script and there is no follower: the first call was sent in the usual way."""

    def submit(self, call: EnqueueCall) -> None:
        """Send *call*, and read the reply of the previous call. An error may be about either: its ``unconfirmed`` says how many records of
        earlier calls were not enqueued."""
        if not self._is_known:
            self._submit(call)
            self._is_known = True
            return
        before, self._under_way = self._under_way, Sent(call, self._sequence.number())
        try:
            if self._connection is None:
                self._connection = self._queue.take()
            queue, has_events = self._queue, int(call.make_events is not None)
            head = (queue.prefix, call.now, has_events, queue.name, self._sequence.id, self._under_way.number, 0)
            self._connection.send((EVALSHA, script("enqueue").sha, 1, *head, *call.arguments))
            is_confirmed = before is None or self._is_confirmed(before.call)
        except StorageUnavailable:
            self._resend(before)
            return
        except StorageError as error:
            self._stop(before, error)
            raise
        if before is not None and not is_confirmed:
            self._resubmit(before.call)

    def drain(self) -> None:
        """Wait until all calls are confirmed."""
        last, self._under_way = self._under_way, None
        try:
            if last is not None and not self._is_confirmed(last.call):
                self._resubmit(last.call)
        except StorageUnavailable:
            if self._connection is None:
                # It was not enqueued, and there is no time left for another attempt.
                raise
            self._resend(last)
        except StorageError as error:
            error.unconfirmed = 0 if last is None else last.call.size
            raise
        finally:
            if self._connection is not None:
                self._queue.pool.release(self._connection)
                self._connection = None
        self._sequences.release(self._sequence)

    def _is_confirmed(self, call: EnqueueCall) -> bool:
        """Read the reply of *call*. Return False if it was not executed and has to be sent in the usual way: that loads the script, or
        sends the events of the call to a new follower."""
        assert self._connection is not None
        try:
            answer: Any = checked(self._connection, self._connection.read())
        except UnknownScript:
            return False
        return not (answer and call.make_events is not None)

    def _resubmit(self, call: EnqueueCall) -> None:
        """Send a call that was not executed, with a new number, since a later one may have been executed."""
        try:
            self._submit(call)
        except StorageError as error:
            self._drop()
            error.unconfirmed = call.size
            raise

    def _resend(self, before: Sent | None) -> None:
        """Repeat the last two calls with their numbers: their replies were lost with the connection."""
        pending = [sent for sent in (before, self._under_way) if sent is not None]
        self._drop()
        for sent in pending:
            try:
                self._send(sent.call, self._sequence.id, sent.number)
            except StorageError as error:
                error.unconfirmed = sent.call.size if sent is before else 0
                raise

    def _drop(self) -> None:
        self._queue.pool.drop(self._connection)
        self._connection, self._under_way, self._is_known = None, None, False

    def _stop(self, before: Sent | None, error: StorageError) -> None:
        """Read the reply of the call in flight after the previous one was rejected."""
        after, self._under_way = self._under_way, None
        error.unconfirmed = 0 if before is None else before.call.size
        try:
            if after is not None:
                if not self._is_confirmed(after.call):
                    self._submit(after.call)
                error.unconfirmed -= after.call.size
        except StorageError:
            # It was rejected too. After a lost connection this is unknown, as the class of the error says.
            self._is_known = False

"""Chunks of a bulk enqueue that are sent before the one before is answered: the server works on one while the next is made.

Never more than one is under way beyond the one that is being sent, so what failed can be told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from huey.exceptions import StorageError, StorageUnavailable
from huey.runtime.clock import Micros
from huey.storage.redis.connection import EVALSHA, CommandConnection, checked
from huey.storage.redis.errors import UnknownScript
from huey.storage.redis.messages import Arg
from huey.storage.redis.pool import ConnectionSet
from huey.storage.redis.scripts import script
from huey.storage.redis.sequences import EnqueueSequences
from huey.storage.rows import EventFactory


class EnqueueCall(NamedTuple):
    """What one call of ``enqueue`` puts in. ``head``: the first arguments, up to the number under which it is sent."""

    size: int
    head: tuple[Arg, ...]
    arguments: list[Arg]
    make_events: EventFactory | None
    single: list[Arg] | None = None
    """Its only record, if that is a simple one."""


class Sent(NamedTuple):
    """A call that is under way, and its number."""

    call: EnqueueCall
    number: Micros


class EnqueuePipeline:
    """The chunks of one bulk call (``bulk_enqueue``). *submit* enqueues one call in the usual way, waiting for its answer; *send* one
    that was sent already, under the number that it had."""

    def __init__(
        self,
        connections: ConnectionSet,
        sequences: EnqueueSequences,
        submit: Callable[[EnqueueCall], None],
        send: Callable[[EnqueueCall, str, Micros], None],
    ) -> None:
        self._connections = connections
        self._sequences = sequences
        self._sequence = sequences.take()
        self._submit = submit
        self._send = send
        self._connection: CommandConnection | None = None
        self._under_way: Sent | None = None
        self._is_known = False
        """The server has the script and nobody follows: the first call went in in the usual way."""

    def submit(self, call: EnqueueCall) -> None:
        """Send *call*, and see to the one before. Raises what became of that one, or of this; ``unconfirmed`` of an error says how many
        records of earlier calls were not put in."""
        if not self._is_known:
            self._submit(call)
            self._is_known = True
            return
        before, self._under_way = self._under_way, Sent(call, self._sequence.number())
        try:
            if self._connection is None:
                self._connection = self._connections.take()
            self._connection.send(
                (EVALSHA, script("enqueue").sha, 1, *call.head, self._sequence.id, self._under_way.number, 0, *call.arguments)
            )
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
        """All that was put is in when this returns."""
        last, self._under_way = self._under_way, None
        try:
            if last is not None and not self._is_confirmed(last.call):
                self._resubmit(last.call)
        except StorageUnavailable:
            if self._connection is None:
                # It was not put in; another try came too late.
                raise
            self._resend(last)
        except StorageError as error:
            error.unconfirmed = 0 if last is None else last.call.size
            raise
        finally:
            if self._connection is not None:
                self._connections.give_back(self._connection)
                self._connection = None
        self._sequences.give_back(self._sequence)

    def _is_confirmed(self, call: EnqueueCall) -> bool:
        """Read the answer of *call*: False when it was not put in, and has to come again in the usual way: that tells the server its
        script, or the events of the call to those who follow since."""
        assert self._connection is not None
        try:
            answer: Any = checked(self._connection, self._connection.read())
        except UnknownScript:
            return False
        return not (answer and call.make_events is not None)

    def _resubmit(self, call: EnqueueCall) -> None:
        """Put in what was not, under another number: one after it may have been put in."""
        try:
            self._submit(call)
        except StorageError as error:
            self._drop()
            error.unconfirmed = call.size
            raise

    def _resend(self, before: Sent | None) -> None:
        """The connection is lost, and what became of the last two is not known: they are sent again, under the numbers that they had."""
        pending = [sent for sent in (before, self._under_way) if sent is not None]
        self._drop()
        for sent in pending:
            try:
                self._send(sent.call, self._sequence.id, sent.number)
            except StorageError as error:
                error.unconfirmed = sent.call.size if sent is before else 0
                raise

    def _drop(self) -> None:
        self._connections.drop(self._connection)
        self._connection, self._under_way, self._is_known = None, None, False

    def _stop(self, before: Sent | None, error: StorageError) -> None:
        """The one before was refused; see what became of the one that was sent after it."""
        after, self._under_way = self._under_way, None
        error.unconfirmed = 0 if before is None else before.call.size
        try:
            if after is not None:
                if not self._is_confirmed(after.call):
                    self._submit(after.call)
                error.unconfirmed -= after.call.size
        except StorageError:
            # Refused alike; a lost connection leaves it unknown, as the error's kind says.
            self._is_known = False

"""Chunks of a bulk enqueue that are sent before the one before is answered: the server works on one while the next is made.

Never more than one is under way beyond the one that is being sent, so what failed can be told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from huey.exceptions import StorageError, StorageUnavailable
from huey.runtime.clock import Micros
from huey.storage.base import Tell
from huey.storage.redis.connection import EVALSHA, CommandConnection, checked
from huey.storage.redis.errors import Unknown
from huey.storage.redis.messages import Arg
from huey.storage.redis.pool import ConnectionSet
from huey.storage.redis.producers import Producers
from huey.storage.redis.scripts import script


class Chunk(NamedTuple):
    """What one call of ``enqueue`` puts in. ``head``: the first arguments, up to the number under which it is sent."""

    size: int
    head: tuple[Arg, ...]
    arguments: list[Arg]
    tell: Tell | None
    single: list[Arg] | None = None
    """Its only record, if that is a simple one."""


class Sent(NamedTuple):
    """A chunk that is under way, and its number."""

    chunk: Chunk
    number: Micros


class Ahead:
    """The chunks of one bulk call (``bulk_enqueue``). *put_in* enqueues one chunk in the usual way, waiting for its answer; *send* one
    that was sent already, under the number that it had."""

    def __init__(
        self, wires: ConnectionSet, producers: Producers, put_in: Callable[[Chunk], None], send: Callable[[Chunk, str, Micros], None]
    ) -> None:
        self._wires = wires
        self._producers = producers
        self._producer = producers.take()
        self._put_in = put_in
        self._send = send
        self._wire: CommandConnection | None = None
        self._under_way: Sent | None = None
        self._is_known = False
        """The server has the script and nobody follows: the first chunk went in in the usual way."""

    def put(self, chunk: Chunk) -> None:
        """Send *chunk*, and see to the one before. Raises what became of that one, or of this; ``unconfirmed`` of an error says how many
        records of earlier calls were not put in."""
        if not self._is_known:
            self._put_in(chunk)
            self._is_known = True
            return
        before, self._under_way = self._under_way, Sent(chunk, self._producer.number())
        try:
            if self._wire is None:
                self._wire = self._wires.take()
            self._wire.send(
                (EVALSHA, script("enqueue").sha, 1, *chunk.head, self._producer.id, self._under_way.number, 0, *chunk.arguments)
            )
            is_in = before is None or self._is_in(before.chunk)
        except StorageUnavailable:
            self._send_again(before)
            return
        except StorageError as error:
            self._stop(before, error)
            raise
        if before is not None and not is_in:
            self._put_in_anew(before.chunk)

    def end(self) -> None:
        """All that was put is in when this returns."""
        last, self._under_way = self._under_way, None
        try:
            if last is not None and not self._is_in(last.chunk):
                self._put_in_anew(last.chunk)
        except StorageUnavailable:
            if self._wire is None:
                # It was not put in; another try came too late.
                raise
            self._send_again(last)
        except StorageError as error:
            error.unconfirmed = 0 if last is None else last.chunk.size
            raise
        finally:
            if self._wire is not None:
                self._wires.give_back(self._wire)
                self._wire = None
        self._producers.give_back(self._producer)

    def _is_in(self, chunk: Chunk) -> bool:
        """Read the answer of *chunk*: False when it was not put in, and has to come again in the usual way: that tells the server its
        script, or the events of the chunk to those who follow since."""
        assert self._wire is not None
        try:
            answer: Any = checked(self._wire, self._wire.read())
        except Unknown:
            return False
        return not (answer and chunk.tell is not None)

    def _put_in_anew(self, chunk: Chunk) -> None:
        """Put in what was not, under another number: one after it may have been put in."""
        try:
            self._put_in(chunk)
        except StorageError as error:
            self._drop()
            error.unconfirmed = chunk.size
            raise

    def _send_again(self, before: Sent | None) -> None:
        """The connection is lost, and what became of the last two is not known: they are sent again, under the numbers that they had."""
        pending = [sent for sent in (before, self._under_way) if sent is not None]
        self._drop()
        for sent in pending:
            try:
                self._send(sent.chunk, self._producer.id, sent.number)
            except StorageError as error:
                error.unconfirmed = sent.chunk.size if sent is before else 0
                raise

    def _drop(self) -> None:
        self._wires.drop(self._wire)
        self._wire, self._under_way, self._is_known = None, None, False

    def _stop(self, before: Sent | None, error: StorageError) -> None:
        """The one before was refused; see what became of the one that was sent after it."""
        after, self._under_way = self._under_way, None
        error.unconfirmed = 0 if before is None else before.chunk.size
        try:
            if after is not None:
                if not self._is_in(after.chunk):
                    self._put_in(after.chunk)
                error.unconfirmed -= after.chunk.size
        except StorageError:
            # Refused alike; a lost connection leaves it unknown, as the error's kind says.
            self._is_known = False

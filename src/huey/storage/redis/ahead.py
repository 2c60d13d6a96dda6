"""Chunks of a bulk enqueue that are sent before the one before is answered: the server works on one while the next is made.

Never more than one is under way beyond the one that is being sent, so what failed can be told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from huey.exceptions import StorageError, StorageUnavailable
from huey.storage.base import Tell
from huey.storage.redis.connection import EVALSHA, Wire, checked
from huey.storage.redis.errors import Unknown
from huey.storage.redis.messages import Arg
from huey.storage.redis.pool import Wires
from huey.storage.redis.scripts import script


class Chunk(NamedTuple):
    """What one call of ``enqueue`` puts in."""

    size: int
    head: tuple[Arg, ...]
    arguments: list[Arg]
    tell: Tell | None
    single: list[Arg] | None = None
    """Its only record, if that is a simple one."""


class Ahead:
    """The chunks of one bulk call (``durable_at_end``). *put_in* enqueues one chunk in the usual way, waiting for its answer."""

    def __init__(self, wires: Wires, put_in: Callable[[Chunk], None]) -> None:
        self._wires = wires
        self._put_in = put_in
        self._wire: Wire | None = None
        self._under_way: Chunk | None = None
        self._is_known = False
        """The server has the script and nobody follows: the first chunk went in in the usual way."""

    def put(self, chunk: Chunk) -> None:
        """Send *chunk*, and see to the one before. Raises what became of that one, or of this; ``unconfirmed`` of an error says how many
        records of earlier calls were not put in."""
        if not self._is_known:
            self._put_in(chunk)
            self._is_known = True
            return
        before, self._under_way = self._under_way, chunk
        try:
            if self._wire is None:
                self._wire = self._wires.take()
            self._wire.send((EVALSHA, script("enqueue").sha, 1, *chunk.head, *chunk.arguments))
            if before is not None:
                self._settle(before)
        except StorageUnavailable as error:
            self._lose(before, error)
            raise
        except StorageError as error:
            self._stop(before, error)
            raise

    def end(self) -> None:
        """All that was put is in when this returns."""
        last, self._under_way = self._under_way, None
        try:
            if last is not None:
                self._settle(last)
        except StorageUnavailable as error:
            self._lose(last, error)
            raise
        except StorageError as error:
            error.unconfirmed = 0 if last is None else last.size
            raise
        finally:
            if self._wire is not None:
                self._wires.give_back(self._wire)
                self._wire = None

    def _settle(self, chunk: Chunk) -> None:
        assert self._wire is not None
        try:
            answer: Any = checked(self._wire, self._wire.read())
        except Unknown:
            # The first chunk had a script of its own; the usual way tells the server this one.
            self._put_in(chunk)
            return
        if answer and chunk.tell is not None:
            # Somebody follows since: it was not put in, and comes again with its events.
            self._put_in(chunk)

    def _lose(self, before: Chunk | None, error: StorageError) -> None:
        """The connection is lost; what became of the one before is not known."""
        self._wires.drop(self._wire)
        self._wire, self._under_way, self._is_known = None, None, False
        error.unconfirmed = 0 if before is None else before.size

    def _stop(self, before: Chunk | None, error: StorageError) -> None:
        """The one before was refused; see what became of the one that was sent after it."""
        after, self._under_way = self._under_way, None
        error.unconfirmed = 0 if before is None else before.size
        try:
            if after is not None:
                self._settle(after)
                error.unconfirmed -= after.size
        except StorageError:
            # Refused alike; a lost connection leaves it unknown, as the error's kind says.
            self._is_known = False

"""The events that were published while there were followers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from huey.runtime.clock import Micros
from huey.storage.base import EVENTS_KEPT, FOLLOWER, PRUNE


class Events:
    """A log of event texts by position. Positions only grow."""

    def __init__(self, last_position: int = 0) -> None:
        self.last_position = last_position
        self.kept: list[tuple[int, Micros, str]] = []
        self.followed_until: Micros = 0

    def follow(self, now: Micros) -> None:
        self.followed_until = now + FOLLOWER

    def are_followed(self, now: Micros) -> bool:
        return now < self.followed_until

    def publish(self, texts: Sequence[str], now: Micros) -> None:
        if self.are_followed(now):
            self.kept += [(position, now, text) for position, text in enumerate(texts, self.last_position + 1)]
            self.last_position += len(texts)

    def since(self, position: int) -> list[str]:
        return [text for at, _, text in self.kept if at > position]

    def prune(self, now: Micros) -> int:
        if not self.are_followed(now):
            self.followed_until = 0
        # Not always the first ones: the clock may have been set back.
        late = set(islice((event for event in self.kept if event[1] <= now - EVENTS_KEPT), PRUNE))
        self.kept = [event for event in self.kept if event not in late]
        return len(late)

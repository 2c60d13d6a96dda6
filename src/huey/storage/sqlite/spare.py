"""The second connection: that of a call which interrupts another one of its own thread.

A signal handler, a destructor or a trace function may run between any two lines of ours. It must not see what the call that it interrupts
has under way, nor wait for it; so what belongs to that one's connection is put away until the inner call has left.
"""

from __future__ import annotations

from typing import Any

from huey.runtime.files import file_id
from huey.storage.sqlite import descriptors

Aside = dict[str, Any]
"""Attributes of a ``File`` that go with one connection that writes."""

_NONE = {"_writer": None, "_canary": None, "_is_synced": True, "_is_stale": False, "_is_gone": False, "has_stage": False, "is_dirty": False}
"""Those of a call that has no connection yet."""
_ALL = (*_NONE, "_place", "_identity", "_entry", "era")


class Spare:
    """What the last inner call had, kept for the next one: to open a file costs as much as a hundred small commits."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._kept: Aside | None = None

    def set_aside(self) -> Aside:
        """What the call has that is interrupted. The inner one begins with the spare connection, or none."""
        aside = {name: getattr(self._file, name) for name in _ALL}
        kept, self._kept = self._kept, None
        if kept is not None and kept["_place"] != file_id(self._file.path):
            _let_go(kept)
            kept = None
        self._file.__dict__.update(kept or _NONE)
        if kept is None:
            self._file.__dict__.update(self._file.new_identity())
        return aside

    def take_back(self, aside: Aside) -> None:
        """Let the outer call go on with its own."""
        mine = {name: getattr(self._file, name) for name in (*_NONE, "_place", "_identity", "_entry")}
        self._file.__dict__.update(aside)
        if mine["_writer"] is not None and self._kept is None and not (mine["_is_stale"] or mine["_is_gone"]):
            self._kept = mine
        else:
            _let_go(mine)

    def close(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            _let_go(kept)


def _let_go(mine: Aside) -> None:
    writer, canary = mine["_writer"], mine["_canary"]
    is_whole = canary is None or canary.is_alive
    mine["_entry"].leave() if is_whole else mine["_entry"].abandon()
    if writer is not None:
        writer.close() if is_whole else descriptors.abandon(writer)
    if canary is not None:
        canary.let_go()

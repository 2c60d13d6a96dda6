"""What a task wishes of the others: its unique key, its limit, its id. Pure.

A record carries its terms in ``options``, a JSON object, under ``terms``. Storages read them there, in whatever language they are written:

    {"terms": {"unique": [key, "done" | "waiting" | seconds], "limit": [key, n], "once": true, "keep_id": seconds, "own": instant}}

Each part is there only when it is wished for.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

DONE, WAITING = "done", "waiting"


class Terms(NamedTuple):
    """The terms of one task."""

    unique: str | None = None
    """While this key is held, no other task with it is put in."""
    unique_for: str | float = DONE
    """How long it holds the key: until it is ``DONE`` (ended for good), while it is ``WAITING`` to start, or so many seconds."""
    limit: str | None = None
    """Tasks with this key run at most ``at_most`` at a time, over all workers."""
    at_most: int = 1
    once: bool = False
    """Lost rather than run twice when its worker dies (C3)."""
    keep_id: float | None = None
    """Seconds, from when it was put in, or is due, for which its id stays known also when it has ended. Only with ``own``."""
    own: int | None = None
    """Microseconds UTC of this enqueue, where its id may come again: the caller chose it, or enqueues a task once more. It tells the
    enqueues of one id from each other."""

    @property
    def holds_key(self) -> bool:
        """Its row holds a unique key, as long as it says."""
        return self.unique is not None and isinstance(self.unique_for, str)


NONE = Terms()
FIRST = 0
"""The enqueue of a record without ``own``, where revocations name enqueues."""


def has_terms(options: str | None) -> bool:
    """Whether a record with these options may have terms. Fast."""
    return options is not None and '"terms"' in options


def terms_of(options: str | None) -> Terms:
    """The terms in a record's options; ``NONE`` when there are none."""
    found = json.loads(options).get("terms") if options is not None and has_terms(options) else None
    if not isinstance(found, dict):
        return NONE
    unique, unique_for = found.get("unique") or (None, DONE)
    limit, at_most = found.get("limit") or (None, 1)
    return Terms(unique, unique_for, limit, at_most, bool(found.get("once")), found.get("keep_id"), found.get("own"))


def with_terms(options: str | None, terms: Terms) -> str | None:
    """*options* with *terms* instead of what they had."""
    found: dict[str, Any] = {} if options is None else json.loads(options)
    found.pop("terms", None)
    wishes: dict[str, Any] = {}
    if terms.unique is not None:
        wishes["unique"] = [terms.unique, terms.unique_for]
    if terms.limit is not None:
        wishes["limit"] = [terms.limit, terms.at_most]
    if terms.once:
        wishes["once"] = True
    if terms.keep_id is not None:
        wishes["keep_id"] = terms.keep_id
    if terms.own is not None:
        wishes["own"] = terms.own
    if wishes:
        found["terms"] = wishes
    return json.dumps(found) if found else None

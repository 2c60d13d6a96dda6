"""What a record carries in ``options``, a JSON object: the run policy of one call, and its constraints. Pure.

    {"backoff": 2.0, "timeout": 5, ..., "constraints": {"unique": [key, "done" | "waiting" | seconds], "limit": [key, n], "once": true,
     "keep_id": seconds, "own": instant}}

A member is present only if it differs from its default. Storages read ``constraints`` in the language that they are written in.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

DONE, WAITING = "done", "waiting"


class Constraints(NamedTuple):
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


NONE = Constraints()
FIRST = 0
"""The enqueue of a record without ``own``, where revocations name enqueues."""


def may_have_constraints(options: str | None) -> bool:
    """Whether a record with these options may have terms. Fast."""
    return options is not None and '"constraints"' in options


def read_constraints(options: str | None) -> Constraints:
    """The terms in a record's options; ``NONE`` when there are none."""
    found = json.loads(options).get("constraints") if options is not None and may_have_constraints(options) else None
    if not isinstance(found, dict):
        return NONE
    unique, unique_for = found.get("unique") or (None, DONE)
    limit, at_most = found.get("limit") or (None, 1)
    return Constraints(unique, unique_for, limit, at_most, bool(found.get("once")), found.get("keep_id"), found.get("own"))


def with_constraints(options: str | None, terms: Constraints) -> str | None:
    """*options* with *terms* instead of what they had."""
    found: dict[str, Any] = {} if options is None else json.loads(options)
    found.pop("constraints", None)
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
        found["constraints"] = wishes
    return json.dumps(found) if found else None


# -- the run policy -------------------------------------------------------------------------------------------------------------------

LARGEST_DELAY = 2**31 - 1
"""Seconds."""
_LARGEST_TIME = 2**53


def write_policy(
    *,
    backoff: float = 0,
    jitter: float = 0,
    cap: float | None = None,
    timeout: float | None = None,
    expires_in: int | None = None,
    wall: int | None = None,
    headers: dict[str, str] | None = None,
) -> str | None:
    """What differs from the usual, as text; None when nothing does.

    *backoff*: factor of the wait between two tries, 0: it does not grow. *jitter*: up to such a share is added to a wait. *cap*: seconds up
    to which it grows. *timeout*: seconds that a run may take, when this call has a limit of its own (0: none). *expires_in*: microseconds
    from each enqueue to its expiry. *wall*: what the consumer's clock shows when it is due, as ``huey.runtime.times.wall_time`` has it.
    *headers*: what an instrumentation sends along, in plain values.
    """
    said: dict[str, Any] = {"backoff": backoff, "jitter": jitter, "cap": cap, "timeout": timeout, "expires_in": expires_in, "wall": wall}
    said["headers"] = headers
    asked = {name: value for name, value in said.items() if value is not None and (value or name not in ("backoff", "jitter"))}
    if not backoff:
        asked.pop("cap", None)
    if not asked:
        return None

    return json.dumps(asked)


def read_policy(text: str | None) -> dict[str, Any]:
    """What stands in such a text."""
    if not text:
        return {}

    found = json.loads(text)
    return found if isinstance(found, dict) else {}


def policy_micros(text: str | None, name: str) -> int | None:
    """The time or duration that stands there under *name*; None when there is none that can be one."""
    value = read_policy(text).get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_TIME else None


def asked_once_more(text: str | None) -> str | None:
    """Such a text, after the body asked for another run after the usual wait, if the wait grows; else None: it stays as it is."""
    asked = read_policy(text)
    if not asked.get("backoff"):
        return None
    return _with(asked, _times_asked(asked) + 1)


def as_often_asked(text: str | None, other: str | None) -> str | None:
    """*text*, but that the body asked for further runs as often as *other* says; what cannot be read says nothing."""
    if other is None or '"asked"' not in other:
        return text
    try:
        times = _times_asked(read_policy(other))
    except ValueError:
        return text
    return _with(read_policy(text), times) if times else text


def never_asked(text: str | None) -> str | None:
    """*text*, but that the body has not asked for further runs."""
    return text if text is None or '"asked"' not in text else _with(read_policy(text), 0)


def _with(asked: dict[str, Any], times: int) -> str:

    asked.pop("asked", None)
    return json.dumps({**asked, "asked": times} if times else asked)


def _times_asked(asked: dict[str, Any]) -> int:
    times = asked.get("asked")
    return min(times, LARGEST_DELAY) if isinstance(times, int) and times > 0 else 0


def grown(delay: float, asked: dict[str, Any], attempt: int) -> float:
    """The delay between two tries in force after *attempt* of them failed: with a backoff it grows with each, and with each time that the
    body asked for another run, up to its cap."""
    try:
        wait = delay * (asked.get("backoff") or 1) ** (attempt + _times_asked(asked))
    except OverflowError:
        wait = float(LARGEST_DELAY)
    return float(min(wait, asked.get("cap", LARGEST_DELAY)))

"""What is rarely asked of a task: the JSON text that a record carries in ``options``, so that whoever decides about a run knows it."""

from __future__ import annotations

from typing import Any

LARGEST_DELAY = 2**31 - 1
"""Seconds."""
_LARGEST_TIME = 2**53


def rare_text(
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
    from each enqueue to its expiry. *wall*: what the consumer's clock shows when it is due, as ``huey.when.wall_time`` has it. *headers*:
    what an instrumentation sends along, in plain values.
    """
    said: dict[str, Any] = {"backoff": backoff, "jitter": jitter, "cap": cap, "timeout": timeout, "expires_in": expires_in, "wall": wall}
    said["headers"] = headers
    asked = {name: value for name, value in said.items() if value is not None and (value or name not in ("backoff", "jitter"))}
    if not backoff:
        asked.pop("cap", None)
    if not asked:
        return None
    from json import dumps

    return dumps(asked)


def rare(text: str | None) -> dict[str, Any]:
    """What stands in such a text."""
    if not text:
        return {}
    from json import loads

    found = loads(text)
    return found if isinstance(found, dict) else {}


def rare_micros(text: str | None, name: str) -> int | None:
    """The time or duration that stands there under *name*; None when there is none that can be one."""
    value = rare(text).get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_TIME else None


def asked_once_more(text: str | None) -> str | None:
    """Such a text, after the body asked for another run after the usual wait, if the wait grows; else None: it stays as it is."""
    asked = rare(text)
    if not asked.get("backoff"):
        return None
    return _with(asked, _times_asked(asked) + 1)


def as_often_asked(text: str | None, other: str | None) -> str | None:
    """*text*, but that the body asked for further runs as often as *other* says; what cannot be read says nothing."""
    if other is None or '"asked"' not in other:
        return text
    try:
        times = _times_asked(rare(other))
    except ValueError:
        return text
    return _with(rare(text), times) if times else text


def never_asked(text: str | None) -> str | None:
    """*text*, but that the body has not asked for further runs."""
    return text if text is None or '"asked"' not in text else _with(rare(text), 0)


def _with(asked: dict[str, Any], times: int) -> str:
    from json import dumps

    asked.pop("asked", None)
    return dumps({**asked, "asked": times} if times else asked)


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

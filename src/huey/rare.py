"""What is rarely asked of a task: the JSON text that a record carries in ``options``, so that whoever decides about a run knows it."""

from __future__ import annotations

from typing import Any


def rare_text(*, backoff: float = 0, jitter: float = 0, cap: float | None = None, timeout: float | None = None) -> str | None:
    """What differs from the usual, as text; None when nothing does.

    *backoff*: factor of the wait between two tries, 0: it does not grow. *jitter*: up to such a share is added to a wait. *cap*: seconds up
    to which it grows. *timeout*: seconds that a run may take, when this call has a limit of its own (0: none).
    """
    said = {"backoff": backoff, "jitter": jitter, "cap": cap, "timeout": timeout}
    asked = {name: value for name, value in said.items() if value is not None and (value or name in ("cap", "timeout"))}
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

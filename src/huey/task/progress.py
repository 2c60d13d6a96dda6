"""How far a run is, as its body reports it, and its stored form. Pure.

It is stored as a value of kind ``PROGRESS`` under the id of the task, with the token of the run, so that what an earlier run reported is
not taken for this one's.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import NamedTuple

from huey.runtime.clock import SECOND, Micros

PROGRESS = "progress"
"""The kind of the values."""
KEPT_S = 86400.0
"""Seconds for which the last report of a task that did not succeed is kept."""
LONGEST_MESSAGE = 500
"""Maximum number of characters of a message; longer ones are cut."""


class Progress(NamedTuple):
    """What a run has reported last."""

    fraction: float
    """From 0 to 1."""
    message: str | None
    at: datetime
    """When it was reported, in UTC."""


def encode(token: int, fraction: float, message: str | None, now: Micros) -> bytes:
    """Return the stored form of a report. Raise ValueError if *fraction* is not a number from 0 to 1, TypeError if *message* is no text."""
    if not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
        raise ValueError(f"progress={fraction!r}: give a number from 0 to 1; for percent, divide by 100")
    if message is not None and not isinstance(message, str):
        raise TypeError(f"message={message!r}: the message of a progress must be a string")
    return json.dumps([token, float(fraction), None if message is None else message[:LONGEST_MESSAGE], now]).encode()


def decode(data: bytes | None, token: int) -> Progress | None:
    """Return the report in *data* if the run with that *token* made it, else None, as for what another program wrote there."""
    try:
        its_token, fraction, message, at = json.loads(data or b"null")
        if its_token != token:
            return None
        return Progress(float(fraction), None if message is None else str(message), datetime.fromtimestamp(at / SECOND, UTC))
    except (TypeError, ValueError, OverflowError, OSError):
        return None

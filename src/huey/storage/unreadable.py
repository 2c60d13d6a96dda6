"""Records that cannot be read: what somebody else wrote, a newer release, or a disk that forgets.

One of them stops nobody. It is handed out like any task, as a lease without a name, and ends as FAILED with the reason ``undecodable``: a
dead letter, kept as it is.
"""

from __future__ import annotations

from typing import Any

from huey.rare import rare
from huey.task import LARGEST, Lease, is_storable
from huey.terms import terms_of

UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError)
"""What reading such a record raises."""
_LAST = 2**63


def unreadable(id: str, token: int, payload: bytes) -> Lease:
    """The lease of such a record. *payload*: what is there of it."""
    return Lease(id, token, "", payload, 0, 0, None, 0, 0.0, 0, 0, 0, None, None)


def check_outside(name: Any, priority: Any, retries: Any, retry_delay: Any, options: Any) -> None:
    """ValueError: a task whose outside is that cannot be run."""
    if not isinstance(name, str) or not is_storable(name):
        raise ValueError("its name is no text")
    if type(priority) is not int or not -LARGEST <= priority <= LARGEST or type(retries) is not int or not 0 <= retries <= LARGEST:
        raise ValueError("its priority or retries are no numbers of ours")
    if type(retry_delay) not in (int, float) or not 0 <= retry_delay <= LARGEST:
        raise ValueError("its retry_delay is no duration")
    if options is not None:
        _check_options(options)


def _check_options(options: Any) -> None:
    if not isinstance(options, str):
        raise ValueError("its options are no text")
    for asked in ("backoff", "jitter", "cap", "timeout"):
        if not isinstance(rare(options).get(asked, 0), int | float):
            raise ValueError("its options are none of ours")
    terms = terms_of(options)
    if type(terms.at_most) is not int or not isinstance(terms.limit or "", str):
        raise ValueError("its terms are none of ours")


def check_times(*times: Any) -> None:
    """ValueError: one of them is neither None nor a time."""
    for time in times:
        if time is not None and (type(time) is not int or abs(time) >= _LAST):
            raise ValueError("a time that is none")

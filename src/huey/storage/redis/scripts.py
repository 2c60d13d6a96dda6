"""The scripts: one file of ``lua/`` for each verb, after the parts it is built from."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

_PARTS = {
    "enqueue": "lanes tell insert",
    "admit": "lanes tell insert values constraints consider",
    "tick": "lanes tell insert values constraints consider",
    "turn": "stats values renew begin lanes tell insert constraints missing ends claims",
    "claim_missing": "values renew lanes insert constraints missing stats ends claims",
    "release": "lanes constraints",
    "look": "lanes constraints",
    "reclaim": "renew",
    "heartbeat": "renew",
    "mend": "renew lanes constraints missing",
    "rename": "lanes constraints",
    "put": "values",
    "take": "values",
    "await": "values",
    "cancel": "enqueues",
    "restore": "enqueues",
    "revocation": "enqueues",
    "retry": "lanes stats values constraints",
    "discard": "values",
    "drop_waiting": "lanes stats constraints",
    "publish": "tell",
    "followed": "tell",
    "prune": "stats values locks",
    "lock_take": "locks",
    "lock_find": "locks",
    "lock_renew": "locks",
    "lock_give_up": "locks",
    "locks_free": "locks",
    "rate_take": "rates",
    "rate_usage": "rates",
}
"""What a verb's script needs besides ``base``, in that order."""
_ALONE = ("enqueue_one",)
"""Scripts that need no other part."""
_FOLDER = Path(__file__).parent / "lua"


class Script(NamedTuple):
    """A script as the server knows it."""

    name: str
    text: bytes
    sha: bytes


@cache
def script(name: str) -> Script:
    """The script of a verb. The server is told it by its hash, and by its text when it does not know it (NOSCRIPT)."""
    parts = [name] if name in _ALONE else ["base", *_PARTS.get(name, "").split(), name]
    text = b"\n".join((_FOLDER / f"{part}.lua").read_bytes() for part in parts)
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())

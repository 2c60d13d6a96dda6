"""The scripts, one file of ``lua/`` for each verb. Their only key is the prefix of the queue's keys; their first argument is the time, or
empty for the server's own clock.

A line ``-- include: ...`` stands for files of ``lua/parts/``. ``$NAME`` stands for a key (keys.py), or for a figure that the other storages
share; it is filled in as a literal, so a script costs nothing at run time for being readable. So are names in capitals that a line sets to
numbers (``local STATE, TOKEN = 1, 2``): a script has room for 200 local names. Comments are removed.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from huey.storage.base import ATTEMPTS_KEPT, FOREVER, KEPT_RESULT, LEASE, PROMOTE, RATE_AHEAD, TURN_BYTES
from huey.storage.redis import keys
from huey.storage.redis.finishes import FINISH_SIZE

FOLDER = Path(__file__).parent / "lua"
FIGURES = {
    # Promises of the contract.
    "ATTEMPTS_KEPT": ATTEMPTS_KEPT,
    "FINISH_SIZE": FINISH_SIZE,
    "FOREVER": FOREVER,
    "KEPT_RESULT": KEPT_RESULT,
    "LEASE_US": LEASE,
    "PROMOTE": PROMOTE,
    "RATE_AHEAD": RATE_AHEAD,
    "TURN_BYTES": TURN_BYTES,
    # Positions in a stamped value, a ranked member, and a member of the sets of limits and of what is missing.
    "VALUE_IN_STAMPED": 17,
    "ID_IN_RANK": 35,
    "RANK_IN_MEMBER": 41,
    "ID_IN_MEMBER": 75,
    # The flag of a message that has neither eta nor expiry.
    "PLAIN": ord("-"),
}
_LITERALS = {name: f"P .. '{key}'" for name, key in keys.NAMES.items()} | {name: str(figure) for name, figure in FIGURES.items()}
_INCLUDE = re.compile(r"^-- include: (.*)\n", re.MULTILINE)
_COMMENT = re.compile(r"^ *--.*\n", re.MULTILINE)
_NAME = re.compile(r"\$([A-Z_]+)")
_NUMBERS = re.compile(r"^local ([A-Z][A-Z_]*(?:, [A-Z_]+)*) = (\d+(?:, \d+)*)\n", re.MULTILINE)


class Script(NamedTuple):
    """A script in the form that is sent to the server."""

    name: str
    text: bytes
    sha: bytes


@cache
def script(name: str) -> Script:
    """Return the script of a verb. The server is sent its hash, and its text only if it does not know the hash (NOSCRIPT)."""
    source = _INCLUDE.sub(_included, (FOLDER / f"{name}.lua").read_text("utf-8"))
    text = _NAME.sub(lambda found: _LITERALS[found[1]], _with_numbers(_COMMENT.sub("", source))).encode()
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


def _with_numbers(text: str) -> str:
    """Return *text* with the names that it sets to numbers replaced by these."""
    numbers: dict[str, str] = {}
    for names, values in _NUMBERS.findall(text):
        numbers |= zip(names.split(", "), values.split(", "), strict=True)
    # Not in a string, and not as part of another name.
    return re.sub(r"(?<!['$\w])[A-Z][A-Z_]*(?!['\w])", lambda found: numbers.get(found[0], found[0]), _NUMBERS.sub("", text))


def _included(line: re.Match[str]) -> str:
    return "".join((FOLDER / "parts" / f"{part}.lua").read_text("utf-8") for part in line[1].split())

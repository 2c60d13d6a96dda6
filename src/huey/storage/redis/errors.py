"""Translate errors of a Redis server to huey's. None shows a password: addresses come from ``source.address``, and text of a server is
shown only after ``masked``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from huey.exceptions import StorageError, StorageFull, StorageRefused, StorageUnavailable

LEAST_VERSION = (6, 2)
NEEDED = 4
"""Connections that one consumer uses at most: one waits for tasks, one for results, one for events, one is for everything else."""
LEAST = 3
"""Connections without which a consumer does not work: one waits for tasks, one for results, one is for everything else."""
_AWAY = ("LOADING", "BUSY", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOREPLICAS", "UNBLOCKED", "UNKILLABLE")
_REPEATED = re.compile(r",? with args beginning with.*", re.DOTALL)
"""What a server that does not know AUTH or HELLO says about their arguments."""
_SHORTEST = 4
"""Characters of a secret that count as a part of it."""
_LONGEST = 300
"""Characters of a secret that are searched for."""


_WAYS_OUT = {
    "NOREPLICAS": "it has fewer replicas in step than its min-replicas-to-write asks for; start them, or lower that setting",
    "READONLY": "it is a replica, which takes no writes; give the address of the primary, or promote this one",
}
"""What to add to the messages of some codes."""


class NoneLeft(StorageUnavailable):
    """Raised when the pool has no connection left. The server may be available, and an immediate retry does not help."""


class UnknownScript(StorageError):
    """Raised when the server does not know a script yet."""


def translated(text: str, where: str, secrets: Iterable[str] = ()) -> StorageError:
    """Return the error of huey for an error reply; nothing was written. It shows no part of *secrets*."""
    code, shown = text.partition(" ")[0], masked(text, secrets)
    if code == "NOSCRIPT":
        return UnknownScript(shown)
    if "OOM command not allowed" in text or code == "OOM":
        return StorageFull(
            f"{where}: the server is at its maxmemory ({shown}); nothing was written. Raise maxmemory or free some memory, then try again"
        )
    if code == "MISCONF":
        return StorageFull(
            f"{where}: the server cannot write to its disk ({shown}); nothing was written. Free some space there, then try again"
        )
    if _is_about_a_password(code, text):
        return StorageRefused(f"{where}: the server rejects the user name or password ({shown}); check username= and password=")
    if "NOPERM" in text:
        return StorageRefused(f"{where}: the user has no permission for this ({shown}); allow it scripts and all commands on keys huey:*")
    if "WRONGTYPE" in text:
        return StorageRefused(
            f"{where}: a key under this queue's prefix was not made by huey ({shown}); remove it, or use another name or db="
        )
    if "max number of clients" in text:
        return too_many_clients(where)
    if code in _AWAY:
        way_out = f"; {_WAYS_OUT[code]}" if code in _WAYS_OUT else ""
        return StorageUnavailable(f"{where}: {shown}{way_out}")
    return StorageError(f"{where}: {shown}")


def _is_about_a_password(code: str, text: str) -> bool:
    said = ("invalid password", "invalid username-password", "without any password", "unknown command 'AUTH'", "unknown command `AUTH`")
    return code in ("NOAUTH", "WRONGPASS") or any(part in text for part in said)


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """Return *text* without the arguments that it quotes and without any part of *secrets*."""
    text = _REPEATED.sub("", text)
    for secret in secrets:
        text = _without(text, secret[:_LONGEST])
    return text


def _without(text: str, secret: str) -> str:
    if len(secret) <= _SHORTEST:
        return re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text) if secret else text
    for size in range(len(secret), _SHORTEST - 1, -1):
        for start in range(len(secret) - size + 1):
            text = text.replace(secret[start : start + size], "***")
    return text


def unreachable(where: str, error: BaseException, secrets: Iterable[str] = ()) -> StorageUnavailable:
    """Return the error for a server that cannot be reached, or did not answer."""
    shown = masked(str(error), secrets)
    return StorageUnavailable(f"{where}: cannot reach the server ({type(error).__name__}: {shown}); the call can be repeated")


def reply_lost(where: str, error: BaseException) -> StorageUnavailable:
    """Return the error for a command that the server may have executed, but whose reply was lost."""
    unknown = unreachable(where, error)
    unknown.is_unknown = True
    return unknown


def too_many_clients(where: str) -> StorageUnavailable:
    """Return the error for a server that accepts no more connections."""
    return StorageUnavailable(
        f"{where}: the server has as many clients as its maxclients allows; raise maxclients or connect fewer programs "
        f"(a consumer needs up to {NEEDED} connections)"
    )


def pool_is_too_small(where: str, most: object) -> NoneLeft:
    """Return the error for a given pool that has no connection left; the server was not asked."""
    return NoneLeft(
        f"{where}: no connection of the pool became free (max_connections={most}), so nothing was sent; give the pool more connections: "
        f"a consumer needs up to {NEEDED}, and other users of the same pool their own"
    )

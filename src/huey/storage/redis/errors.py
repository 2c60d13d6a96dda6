"""What may go wrong with a Redis server, as ours. No error text carries a password: addresses are made by ``source.address``, and what a
server says is shown only after ``masked``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from huey.exceptions import StorageError, StorageFull, StorageRefused, StorageUnavailable

LEAST_VERSION = (6, 2)
NEEDED = 4
"""Connections that one consumer uses at most: one waits for tasks, one for results, one for events, one is for everything else."""
LEAST = 3
"""Connections without which a consumer stands still: one waits for tasks, one for results, one is for everything else."""
_AWAY = ("LOADING", "BUSY", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOREPLICAS", "UNBLOCKED", "UNKILLABLE")
_REPEATED = re.compile(r",? with args beginning with.*", re.DOTALL)
"""What a server that does not know AUTH or HELLO says about their arguments."""
_SHORTEST = 4
"""Characters of a secret that are taken for a part of it."""
_LONGEST = 300
"""Characters of a secret that are looked for."""


_WAYS_OUT = {
    "NOREPLICAS": "it has fewer replicas in step than its min-replicas-to-write asks for; start them, or lower that setting",
    "READONLY": "it is a replica, which takes no writes; give the address of the primary, or promote this one",
}
"""What else to say of them."""


class NoneLeft(StorageUnavailable):
    """The pool has no connection left: the server is not away, and trying again at once does not help."""


class UnknownScript(StorageError):
    """The server does not know the script yet."""


def translated(text: str, where: str, secrets: Iterable[str] = ()) -> StorageError:
    """An error reply as one of ours; nothing was written. No part of *secrets* is shown."""
    code, told = text.partition(" ")[0], masked(text, secrets)
    if code == "NOSCRIPT":
        return UnknownScript(told)
    if "OOM command not allowed" in text or code == "OOM":
        return StorageFull(
            f"{where}: the server is at its maxmemory ({told}); nothing was written. Raise maxmemory, or free some, then try again"
        )
    if code == "MISCONF":
        return StorageFull(
            f"{where}: the server cannot write to its disk ({told}); nothing was written. Free some space there, then try again"
        )
    if _is_about_a_password(code, text):
        return StorageRefused(f"{where}: the server refuses the user name or password ({told}); give the right username= and password=")
    if "NOPERM" in text:
        return StorageRefused(f"{where}: the server's user may not do that ({told}); allow it scripts and all commands on huey:*")
    if "WRONGTYPE" in text:
        return StorageRefused(
            f"{where}: a key under this queue's prefix was not made by huey ({told}); remove it, or use another name or db="
        )
    if "max number of clients" in text:
        return too_many_clients(where)
    if code in _AWAY:
        way_out = f"; {_WAYS_OUT[code]}" if code in _WAYS_OUT else ""
        return StorageUnavailable(f"{where}: {told}{way_out}")
    return StorageError(f"{where}: {told}")


def _is_about_a_password(code: str, text: str) -> bool:
    said = ("invalid password", "invalid username-password", "without any password", "unknown command 'AUTH'", "unknown command `AUTH`")
    return code in ("NOAUTH", "WRONGPASS") or any(part in text for part in said)


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """*text* of somebody else, without arguments that it repeats and without any part of *secrets*."""
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
    """The server cannot be reached, or did not answer."""
    told = masked(str(error), secrets)
    return StorageUnavailable(f"{where}: the server is away ({type(error).__name__}: {told}); the same call may be made again")


def reply_lost(where: str, error: BaseException) -> StorageUnavailable:
    """The server may have done what it was told, and the answer did not come."""
    unknown = unreachable(where, error)
    unknown.is_unknown = True
    return unknown


def too_many_clients(where: str) -> StorageUnavailable:
    """The server takes no more connections."""
    return StorageUnavailable(
        f"{where}: the server has as many clients as its maxclients allows; raise maxclients there, or let fewer programs connect "
        f"(a consumer needs up to {NEEDED} connections)"
    )


def pool_is_too_small(where: str, most: object) -> NoneLeft:
    """The pool that was given has no connection left; the server was not asked."""
    return NoneLeft(
        f"{where}: no connection of the pool became free (max_connections={most}), so nothing was sent; give the pool more connections: "
        f"a consumer needs up to {NEEDED}, and other users of the same pool their own"
    )

"""What may go wrong with a Redis server, as ours. No error text carries a password: addresses are made by ``connection.address``."""

from __future__ import annotations

from huey.exceptions import StorageError, StorageFull, StorageRefused, StorageUnavailable

LEAST_VERSION = (6, 2)
_AWAY = ("LOADING", "BUSY", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOREPLICAS", "UNBLOCKED", "UNKILLABLE")


class Unknown(StorageError):
    """The server does not know the script yet."""


def translated(text: str, where: str) -> StorageError:
    """An error reply as one of ours; nothing was written."""
    code = text.partition(" ")[0]
    if code == "NOSCRIPT":
        return Unknown(text)
    if "OOM command not allowed" in text or code == "OOM":
        return StorageFull(
            f"{where}: the server is at its maxmemory ({text}); nothing was written. Raise maxmemory, or free some, then try again"
        )
    if code == "MISCONF":
        return StorageFull(
            f"{where}: the server cannot write to its disk ({text}); nothing was written. Free some space there, then try again"
        )
    if (
        code in ("NOAUTH", "WRONGPASS")
        or "invalid password" in text
        or "invalid username-password" in text
        or "without any password" in text
    ):
        return StorageRefused(f"{where}: the server refuses the user name or password ({text}); give the right username= and password=")
    if "NOPERM" in text:
        return StorageRefused(f"{where}: the server's user may not do that ({text}); allow it scripts and all commands on huey:*")
    if "WRONGTYPE" in text:
        return StorageRefused(
            f"{where}: a key under this queue's prefix was not made by huey ({text}); remove it, or use another name or db="
        )
    if code in _AWAY or "max number of clients" in text:
        return StorageUnavailable(f"{where}: {text}")
    return StorageError(f"{where}: {text}")


def away(where: str, error: BaseException) -> StorageUnavailable:
    """The server cannot be reached, or did not answer."""
    return StorageUnavailable(f"{where}: the server is away ({type(error).__name__}: {error}); the same call may be made again")


def lost(where: str, error: BaseException) -> StorageUnavailable:
    """The server may have done what it was told, and the answer did not come."""
    unknown = away(where, error)
    unknown.is_unknown = True
    return unknown

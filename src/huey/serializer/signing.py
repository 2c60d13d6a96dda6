"""Signatures: HMAC-SHA-256, with keys derived from the user's secret."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

from huey.exceptions import ConfigurationError, DecodeError

Purpose = Literal["task", "result", "error", "data", "journal"]
"""Purposes of a message; "data": a value of the application, "journal": what Django reads about runs. A signature is valid for only one."""

Secret = str | bytes | Sequence[str | bytes]

MAC_SIZE = 32


class Declared(NamedTuple):
    """The declaration of a task when it was enqueued. It is sent inside the signature, and workers use it instead of the columns."""

    name: str
    priority: int
    expires: int | None
    """A point in time."""
    retries: int
    retry_delay: float
    options: str | None
    """Backoff, time limit, and the constraints: JSON, as in the record."""
    expires_in: int | None = None
    """Microseconds from the enqueue, if it was given that way; instead of ``expires``."""

    def packed(self) -> bytes:
        """Return the declaration as it precedes the arguments."""
        from json import dumps

        return _counted(dumps(self, separators=(",", ":")))


def unpacked(body: bytes) -> tuple[Declared, bytes]:
    """Return the declaration and the arguments after it. Raise DecodeError if it is damaged or a newer release declared more."""
    from json import loads

    end = 4 + int.from_bytes(body[:4], "big")
    try:
        return Declared(*loads(body[4:end])), body[end:]
    except (TypeError, ValueError) as error:
        raise DecodeError("the declaration of the task cannot be read: a newer huey wrote it; upgrade here") from error


class Signer:
    """A signer for one queue, with a separate key for each purpose."""

    def __init__(self, queue: str, secret: Secret) -> None:
        self._secrets = checked_secrets(secret)
        self._queue = _counted(queue)
        self._keys: dict[Purpose, list[bytes]] = {}

    def sign(self, purpose: Purpose, id: str, head: bytes, body: bytes) -> bytes:
        return mac_of(self._keys_for(purpose)[0], self._claim(purpose, id, head, body))

    def verify(self, purpose: Purpose, id: str, head: bytes, body: bytes, mac: bytes) -> bool:
        """Return True if one of the secrets signed this."""
        claim = self._claim(purpose, id, head, body)
        return any(are_equal(mac_of(key, claim), mac) for key in self._keys_for(purpose))

    def _claim(self, purpose: Purpose, id: str, head: bytes, body: bytes) -> bytes:
        return b"".join((head, self._queue, _counted(purpose), _counted(id), body))

    def _keys_for(self, purpose: Purpose) -> list[bytes]:
        if purpose not in self._keys:
            self._keys[purpose] = [derived_key(secret, b"huey", purpose.encode()) for secret in self._secrets]
        return self._keys[purpose]


def checked_secrets(secret: Any) -> list[bytes]:
    """Return the secrets as bytes, the signing one first. Raise ConfigurationError if there is none, or one is empty."""
    secrets = [secret] if isinstance(secret, str | bytes) else secret
    if not isinstance(secrets, Sequence) or not secrets or not all(isinstance(one, str | bytes) and one.strip() for one in secrets):
        raise ConfigurationError("secret=: empty, or not text; give a long random text, such as one that secrets.token_urlsafe() makes")
    return [one.encode() if isinstance(one, str) else one for one in secrets]


def derived_key(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """Derive a key of 32 bytes: HKDF with SHA-256 (RFC 5869)."""
    return mac_of(mac_of(salt, secret), info + b"\x01")


def mac_of(key: bytes, message: bytes) -> bytes:
    return _digest()(key, message, "sha256")


@cache
def _digest() -> Callable[[bytes, bytes, str], bytes]:
    from hmac import digest

    return digest


def are_equal(mac: bytes, other: bytes) -> bool:
    """Compare in constant time."""
    from hmac import compare_digest

    return compare_digest(mac, other)


def _counted(text: str) -> bytes:
    """Return *part* after its length, so that no two lists of parts give the same bytes."""
    part = text.encode("utf-8", "surrogatepass")
    return len(part).to_bytes(4, "big") + part

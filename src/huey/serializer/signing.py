"""The envelope around a payload: format version, flags and, with a secret, the signature. `huey.serializer` has the layout.

Signatures are HMAC-SHA-256, with keys derived from the user's secret.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

from huey.exceptions import ConfigurationError, DecodeError
from huey.serializer.pickles import type_name

Purpose = Literal["task", "result", "error", "data", "journal"]
"""Purposes of a message; "data": a value of the application, "journal": what Django reads about runs. A signature is valid for only one."""

Secret = str | bytes | Sequence[str | bytes]

MAC_SIZE = 32
VERSION = 1

CODEC_BITS, SIGNED, ERROR, DECLARED, UNKNOWN_BITS = 3, 16, 32, 64, 128
"""Flags, besides those of compression."""
_HEAD_SIZE = 2 + MAC_SIZE
_LONGEST_DECLARED = 16 * 1024
"""Most bytes of a task's declaration."""


class NewerFormat(DecodeError):
    """The message was written by a newer release of huey."""


class Envelope:
    """The wrapper of messages of one queue: closes and opens them. *signer*: signs each one and accepts no unsigned one; None: neither.
    *max_size*: most bytes of a payload."""

    def __init__(self, signer: Signer | None, max_size: int) -> None:
        self._signer = signer
        self._max_size = max_size
        self._longest = max_size + _HEAD_SIZE + (0 if signer is None else _LONGEST_DECLARED)

    def close(self, purpose: Purpose, id: str, flags: int, body: bytes, declared: Declared | None) -> bytes:
        """Return the message with that *body*. *declared* is sent only under a signature."""
        if self._signer is None:
            return bytes((VERSION, flags)) + body
        if declared is not None:
            flags, body = flags | DECLARED, declared.packed() + body
        head = bytes((VERSION, flags | SIGNED))
        return b"".join((head, self._signer.sign(purpose, id, head, body), body))

    def open(self, purpose: Purpose, id: str, data: bytes) -> tuple[int, Declared | None, bytes]:
        """Check the signature and the size; return the flags, the declaration, if it is a task's, and the body. Raise DecodeError if a
        check fails."""
        if not isinstance(data, bytes):
            raise DecodeError(f"{type_name(data)}, not bytes")
        if len(data) > self._longest:
            raise DecodeError(f"{len(data):,} bytes, and at most {self._max_size:,} are read here; give the same max_size= as the writer")
        if len(data) < 2 or not data[0]:
            raise DecodeError("not a huey record: it does not begin with a format version")
        if data[0] > VERSION:
            raise NewerFormat(f"format {data[0]}, and this huey reads {VERSION}: a newer huey wrote it; upgrade here")
        return data[1], *self._verified(purpose, id, data)

    def _verified(self, purpose: Purpose, id: str, data: bytes) -> tuple[Declared | None, bytes]:
        is_signed = bool(data[1] & SIGNED)
        if self._signer is None:
            if is_signed:
                raise DecodeError("it is signed, and this process has no secret=; give the writers' secret= here too")
            if data[1] & DECLARED:
                raise DecodeError(f"flags {data[1]:#04x} do not match: it is damaged")
            return None, data[2:]
        if not is_signed:
            raise DecodeError("it is not signed, and this process has a secret=; give the same secret= to all writers")
        mac, body = data[2:_HEAD_SIZE], data[_HEAD_SIZE:]
        if not self._signer.verify(purpose, id, data[:2], body, mac):
            raise DecodeError("signature does not match: was it written with another secret=, or moved from another queue or task?")
        return unpacked(body) if data[1] & DECLARED and purpose == "task" else (None, body)


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

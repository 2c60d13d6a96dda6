"""The envelope around a payload: format version, flags and, with a secret, the signature. `huey.serializer` has the layout."""

from __future__ import annotations

from huey.exceptions import DecodeError
from huey.serializer.pickles import type_name
from huey.serializer.signing import MAC_SIZE, Declared, Purpose, Signer, unpacked

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

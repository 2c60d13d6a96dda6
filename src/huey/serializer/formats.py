"""Formats: JSON, compression, and the serializers that a user may pass or derive from."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from huey.exceptions import ConfigurationError, DecodeError, EncodeError
from huey.runtime.logs import SafeLogger
from huey.serializer.budget import DEEPEST
from huey.serializer.pickles import error_text, load_any, to_pickle
from huey.serializer.signing import MAC_SIZE, are_equal, checked_secrets, derived_key, mac_of
from huey.serializer.weights import raise_over_budget

MIB = 1 << 20

PICKLE, JSON, USERS = range(3)
"""Codecs, by their number in the envelope."""

NEWEST_PICKLE = 5
"""The newest protocol of pickle; written out here, since importing the module takes time."""

GZIP, ZLIB = 4, 8
"""Compressions, by their number in the envelope."""

_WBITS = {GZIP: 31, ZLIB: 15}
"""Their names in zlib."""


class Serializer:
    """The pickle serializer, with optional compression. Subclass it and override ``_serialize`` and ``_deserialize`` to use another format.

    As ``serializer=`` it means the built-in pickle, and the rules about classes apply (see Codec). Once one of its methods is overridden,
    it is responsible for what it reads. *pickle_protocol* is accepted as in 3.x and has no effect: every Python that runs this huey reads
    the protocol that it writes. Raises ConfigurationError if that is not a protocol.
    """

    max_size = 16 * MIB
    """Most bytes that are compressed, or that decompression returns."""

    def __init__(
        self, compression: bool = False, compression_level: int = 6, use_zlib: bool = False, pickle_protocol: int = NEWEST_PICKLE
    ) -> None:
        compression_code(compression, compression_level, use_zlib)
        if isinstance(pickle_protocol, bool) or pickle_protocol not in range(-1, NEWEST_PICKLE + 1):
            raise ConfigurationError(f"pickle_protocol={pickle_protocol!r}: give 0 to {NEWEST_PICKLE}, or leave it out")
        self.compression = compression
        self.compression_level = compression_level
        self.use_zlib = use_zlib

    def serialize(self, data: Any) -> bytes:
        body = self._serialize(data)
        if not self.compression:
            return body
        if len(body) > self.max_size:
            raise EncodeError(f"has {len(body):,} bytes, at most {self.max_size:,} are compressed; set max_size of the serializer")
        return compress(body, ZLIB if self.use_zlib else GZIP, self.compression_level)

    def deserialize(self, data: bytes) -> Any:
        """Return the decoded value. With compression on, uncompressed data is read too, with a warning."""
        if not self.compression:
            return self._deserialize(data)
        code = {b"\x1f\x8b": GZIP, b"\x78\x01": ZLIB, b"\x78\x5e": ZLIB, b"\x78\x9c": ZLIB, b"\x78\xda": ZLIB}.get(data[:2])
        if code is not None:
            return self._deserialize(decompress(data, code, self.max_size))
        SafeLogger("huey").warning("compression is on, but an uncompressed message was read; it may be older than that setting")
        return self._deserialize(data)

    def _serialize(self, data: Any) -> bytes:
        return to_pickle(data)

    def _deserialize(self, data: bytes) -> Any:
        return load_any(data)


class JSONSerializer(Serializer):
    """The JSON serializer, whose output any language can read. Tuples are read back as lists, and keys that are not text as text.

    Raises EncodeError for a value that JSON cannot represent, DecodeError for bytes that are not JSON.
    """

    def _serialize(self, data: Any) -> bytes:
        return to_json(data)

    def _deserialize(self, data: bytes) -> Any:
        return from_json(data)


class SignedSerializer(Serializer):
    """A serializer that signs, for code written for huey 3. ``secret=`` does more: it binds a message to its queue, purpose and task.

    Raises DecodeError if it was written with another secret or has been changed; the data is not used for anything before that check.
    """

    def __init__(self, secret: str | bytes | None = None, salt: str | bytes = "huey", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        key = checked_secrets("" if secret is None else secret)[0]
        self._key = derived_key(key, salt.encode() if isinstance(salt, str) else salt, b"SignedSerializer")

    def serialize(self, data: Any) -> bytes:
        body = super().serialize(data)
        return mac_of(self._key, body) + body

    def deserialize(self, data: bytes) -> Any:
        if not are_equal(mac_of(self._key, data[MAC_SIZE:]), data[:MAC_SIZE]):
            raise DecodeError("signature does not match: was it written with another secret, or changed?")
        return super().deserialize(data[MAC_SIZE:])


def codec_of(serializer: Any) -> int:
    """Return the codec of *serializer*. Raise ConfigurationError if it is not a serializer."""
    if serializer is None or _is_unchanged(serializer, Serializer):
        return PICKLE
    if _is_unchanged(serializer, JSONSerializer):
        return JSON
    is_one = callable(getattr(serializer, "serialize", None)) and callable(getattr(serializer, "deserialize", None))
    if isinstance(serializer, type) or not is_one:
        raise ConfigurationError(f"serializer={serializer!r}: give an object with serialize(value) -> bytes and deserialize(bytes)")
    return USERS


def _is_unchanged(serializer: Any, kind: type) -> bool:
    """Return True if *serializer* overrides none of the methods of *kind*."""
    names = ("serialize", "deserialize", "_serialize", "_deserialize")
    return isinstance(serializer, kind) and all(getattr(type(serializer), name) is getattr(kind, name) for name in names)


# -- JSON -------------------------------------------------------------------------------------------------------------------------------


def to_json(value: Any) -> bytes:
    try:
        return _json_encoder()(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodeError(f"cannot be written as JSON ({error_text(error)}); pass text, numbers, lists and dicts with text keys") from error


def check_json(body: bytes, limit: int) -> None:
    """Raise DecodeError if reading this JSON takes more than *limit* bytes, or it is nested too deeply."""
    if len(body) <= DEEPEST or (_weight_of_json(body) <= limit and body.count(b"[") + body.count(b"{") <= DEEPEST):
        return
    # Texts may contain brackets and commas themselves.
    bare = _JSON_TEXT.sub(b"", body)
    if _weight_of_json(bare) > limit:
        raise_over_budget(f"takes more than {limit:,} bytes when it is read")
    depth = 0
    for match in _JSON_BRACKET.finditer(bare):
        depth += 1 if match[0] in b"[{" else -1
        if depth > DEEPEST:
            raise_over_budget(f"is nested more than {DEEPEST:,} deep")


_JSON_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_JSON_BRACKET = re.compile(rb"[\[\]{}]")


def _weight_of_json(body: bytes) -> int:
    opened, parted = body.count(b"[") + body.count(b"{"), body.count(b",") + body.count(b":")
    return len(body) + 128 * opened + 56 * parted


def verify_json(body: bytes, limit: int) -> None:
    """Raise EncodeError if readers would have to reject *body*."""
    try:
        check_json(body, limit)
    except DecodeError as error:
        raise EncodeError(str(error)) from None


def from_json(body: bytes) -> Any:
    from json import loads

    try:
        return loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not JSON, or damaged ({error_text(error)})") from error


@cache
def _json_encoder() -> Callable[[Any], str]:
    from json import JSONEncoder

    return JSONEncoder(separators=(",", ":")).encode


# -- compression ------------------------------------------------------------------------------------------------------------------------


def compression_code(compression: bool, level: int, use_zlib: bool) -> int:
    """Return the compression that these settings mean, or 0. Raise ConfigurationError for an invalid level."""
    if level not in range(10):
        raise ConfigurationError(f"compression_level={level!r}: give 0 (none) to 9 (smallest)")
    if not compression:
        return 0
    return ZLIB if use_zlib else GZIP


def compress(body: bytes, code: int, level: int) -> bytes:
    import zlib

    return zlib.compress(body, level, _WBITS[code])


def decompress(data: bytes, code: int, max_size: int) -> bytes:
    """Return *data* decompressed. Raise DecodeError if it is damaged, or more than *max_size* bytes; memory for more is never allocated."""
    import zlib

    if code not in _WBITS:
        raise DecodeError("its flags say that it was compressed in two ways")
    reader = zlib.decompressobj(_WBITS[code])
    try:
        body = reader.decompress(data, max_size + 1)
    except zlib.error as error:
        raise DecodeError(f"compressed data is damaged ({error})") from error
    if len(body) > max_size:
        raise DecodeError(f"more than {max_size:,} bytes when decompressed: it is malicious, or the writer has a larger max_size=")
    if not reader.eof or reader.unused_data:
        raise DecodeError("compressed data is damaged (it ends too early or too late)")
    return body

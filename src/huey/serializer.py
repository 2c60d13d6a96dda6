"""Values to bytes and back: what travels, and who may read what.

    byte 0      format version, 1
    byte 1      flags: codec (0 pickle, 1 JSON, 2 the user's), 4 gzip, 8 zlib, 16 signed, 32 an error
    32 bytes    only when signed: HMAC-SHA-256 over version, flags, queue, purpose, id and body
    the rest    the body

A pickle can name any class, and whoever may write it chooses which. So a class is loaded from one only if nobody else can have written
it: the store is trusted, the signature was verified, or the user said ``allow_pickle=True``. Everywhere else plain values travel, and a
short list of plain types (datetime, Decimal, UUID, ...); whoever sends more is told so at once, not the consumer later.

Whatever the bytes are, reading them returns a value or raises DecodeError. Signatures are verified first, then sizes, then the rest.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal

from huey.exceptions import ConfigurationError, DecodeError, EncodeError

Purpose = Literal["task", "result", "error"]
Secret = str | bytes | Sequence[str | bytes]

VERSION = 1
MIB = 1 << 20

_PICKLE, _JSON, _USERS = 0, 1, 2
_CODEC_BITS, _GZIP, _ZLIB, _SIGNED, _ERROR, _UNKNOWN_BITS = 3, 4, 8, 16, 32, 192
_BARE_PICKLE = bytes((VERSION, _PICKLE))
_MAC_SIZE = 32
_HEAD_SIZE = 2 + _MAC_SIZE

_WBITS = {0: 0, _GZIP: 31, _ZLIB: 15}
"""Compression flag to zlib's name for the format."""

_WAY_OUT = "sign the messages with secret=, or give allow_pickle=True if all who can write there may also run code here"


class NewerFormat(DecodeError):
    """A newer huey wrote this."""


class Codec:
    """Writes and reads the payloads of one queue.

    *serializer*: an object with ``serialize`` and ``deserialize``; what it reads is then the user's business. A plain ``Serializer`` or
    ``JSONSerializer`` stands for the built-in pickle or JSON, with its compression and under the rules of this class. *secret*: signs
    every message, and reads no other; of several the first signs and each may verify. *allow_pickle*: True loads any class, False none;
    None asks *is_trusted*, once (see ``reset``). A verified signature outdoes both. *max_size*: a value may have so many bytes, before
    compression; beyond *warn_size* stored bytes the log says so.
    """

    def __init__(
        self,
        queue: str,
        *,
        serializer: Any = None,
        secret: Secret | None = None,
        compression: bool = False,
        compression_level: int = 6,
        use_zlib: bool = False,
        allow_pickle: bool | None = None,
        is_trusted: Callable[[], bool] = lambda: False,
        warn_size: int = MIB,
        max_size: int = 16 * MIB,
    ) -> None:
        self._queue = queue
        self._serializer = serializer
        self._codec = _codec_of(serializer)
        if self._codec != _USERS and serializer is not None and serializer.compression:
            compression, compression_level, use_zlib = True, serializer.compression_level, serializer.use_zlib
        self._packing = _packing(compression, use_zlib)
        self._level = _checked_level(compression_level)
        self._signer = None if secret is None else _Signer(queue, secret)
        self._allow_pickle = allow_pickle
        self._is_trusted = is_trusted
        self._warn_size = warn_size
        self._max_size = max_size
        self._warned: set[tuple[str, int]] = set()
        self._write: Callable[[Any], bytes] = {_PICKLE: _to_pickle, _JSON: _to_json}.get(self._codec) or self._to_users
        self._loads_classes: bool | None = None
        self._bare_size = -1 if self._signer or self._packing or self._codec != _PICKLE else min(warn_size, max_size)
        """Up to here, a pickle is stored as it is."""

    def reset(self) -> None:
        """Forget whether the store is trusted; it is asked again."""
        self._loads_classes = None

    def encode(self, purpose: Purpose, id: str, value: Any) -> bytes:
        """*value* as bytes that only ``decode`` of the same queue, purpose and id accepts, if they are signed.

        *purpose* "task": *value* is ``(args, kwargs)``. "error": a dict of plain values, always written as JSON.
        EncodeError: it cannot be written, is too big, or the readers would have to refuse it. It names the argument and the way out.
        """
        if self._loads_classes is None:
            self._trust()
        try:
            if purpose == "error":
                return self._packed(purpose, id, _JSON | _ERROR, self._fitting(_to_json(value)))
            body = self._body(value)
            if len(body) <= self._bare_size:
                return _BARE_PICKLE + body
            return self._packed(purpose, id, self._codec, body)
        except Exception as error:  # A value's own __reduce__ may raise anything.
            raise self._not_written(purpose, id, value, error) from error

    def decode(self, purpose: Purpose, id: str, data: bytes) -> Any:
        """The value that was encoded for *purpose* and *id*; for "task" always ``(tuple, dict)``, for "error" a dict.

        NewerFormat: a newer huey wrote it. DecodeError: everything else that is wrong with *data*.
        """
        loads_classes = self._may_load()
        try:
            if loads_classes and self._signer is None and purpose != "error" and _is_bare(data, self._max_size):
                value = _load_any(data[2:])
            else:
                value = self._opened(purpose, id, data)
            return _checked_shape(purpose, value)
        except (Exception, SystemExit) as error:  # A class of the user may raise anything while it is rebuilt.
            raise _not_read(purpose, id, error) from error

    def decode_result(self, id: str, data: bytes) -> tuple[bool, Any]:
        """``(is_error, value)`` of what was stored as the result of task *id*, value or error. Raises as ``decode`` does."""
        is_error = isinstance(data, bytes) and len(data) > 1 and bool(data[1] & _ERROR)
        return is_error, self.decode("error" if is_error else "result", id, data)

    # -- writing ------------------------------------------------------------------------------------------------------------------------

    def _body(self, value: Any) -> bytes:
        body = self._write(value)
        if self._codec == _PICKLE and not self._may_load() and _may_name_a_class(body):
            _verify_plain(body)
        return self._fitting(body)

    def _fitting(self, body: bytes) -> bytes:
        if len(body) > self._max_size:
            raise EncodeError(f"has {len(body):,} bytes, at most {self._max_size:,} travel; store it elsewhere and pass its name or key")
        return body

    def _packed(self, purpose: Purpose, id: str, flags: int, body: bytes) -> bytes:
        if self._packing:
            import zlib

            packed = zlib.compress(body, self._level, _WBITS[self._packing])
            if len(packed) < len(body):
                flags, body = flags | self._packing, packed
        if len(body) > self._warn_size:
            self._warn(purpose, id, len(body))
        if self._signer is None:
            return bytes((VERSION, flags)) + body
        head = bytes((VERSION, flags | _SIGNED))
        return b"".join((head, self._signer.sign(purpose, id, head, body), body))

    def _to_users(self, value: Any) -> bytes:
        body = self._serializer.serialize(value)
        if not isinstance(body, bytes | bytearray | memoryview):
            raise EncodeError(f"came out of {self._codec_name()}.serialize() as {_kind(body)}; it must be bytes")
        return bytes(body)

    def _warn(self, purpose: Purpose, id: str, size: int) -> None:
        """Once for each purpose, and again when the size has doubled."""
        if (purpose, size.bit_length()) in self._warned:
            return
        self._warned.add((purpose, size.bit_length()))
        import logging

        text = "%s %s in queue %s has %s bytes; big payloads slow every storage down, better store it elsewhere and pass its name or key"
        logging.getLogger("huey").warning(text, purpose, id, self._queue, f"{size:,}")

    def _not_written(self, purpose: Purpose, id: str, value: Any, error: Exception) -> EncodeError:
        what = _culprit(purpose, value, self._body)
        if isinstance(error, EncodeError):
            return EncodeError(f"{purpose} {id}: {what} {error}")
        if isinstance(error, RecursionError | MemoryError):
            return EncodeError(f"{purpose} {id}: {what} is nested too deep or too big for {self._codec_name()} ({type(error).__name__})")
        return EncodeError(
            f"{purpose} {id}: {what} cannot be written by {self._codec_name()}: {_said(error)}; pass plain values, or a serializer= that can"
        )

    def _codec_name(self) -> str:
        return {_PICKLE: "pickle", _JSON: "JSON"}.get(self._codec) or type(self._serializer).__name__

    # -- reading ------------------------------------------------------------------------------------------------------------------------

    def _may_load(self) -> bool:
        return self._trust() if self._loads_classes is None else self._loads_classes

    def _trust(self) -> bool:
        """Whether a pickle may name any class. Who chose another serializer does not expect pickles, so trust in the store is no reason."""
        if self._signer is not None:
            self._loads_classes = True
        elif self._allow_pickle is not None:
            self._loads_classes = self._allow_pickle
        else:
            self._loads_classes = self._codec == _PICKLE and bool(self._is_trusted())
        return self._loads_classes

    def _opened(self, purpose: Purpose, id: str, data: bytes) -> Any:
        if not isinstance(data, bytes):
            raise DecodeError(f"{_kind(data)}, not bytes")
        if len(data) > self._max_size + _HEAD_SIZE:
            raise DecodeError(f"{len(data):,} bytes, at most {self._max_size:,} are read; who wrote it has a greater max_size")
        if len(data) < 2 or not data[0]:
            raise DecodeError("not a record of huey: no format version")
        if data[0] > VERSION:
            raise NewerFormat(f"format {data[0]}, this huey reads {VERSION}: a newer huey wrote it, upgrade here")
        flags = data[1]
        body = self._verified(purpose, id, data)
        if flags & _UNKNOWN_BITS or bool(flags & _ERROR) != (purpose == "error"):
            raise DecodeError(f"flags {flags:#04x} do not fit: something else was stored there, or the bytes are damaged")
        packing = flags & (_GZIP | _ZLIB)
        if packing:
            body = _inflated(body, packing, self._max_size)
        return self._value(flags & _CODEC_BITS, body)

    def _verified(self, purpose: Purpose, id: str, data: bytes) -> bytes:
        is_signed = bool(data[1] & _SIGNED)
        if self._signer is None:
            if is_signed:
                raise DecodeError("it is signed and this process has no secret=; give it the one of those who write")
            return data[2:]
        if not is_signed:
            raise DecodeError("it is not signed, and this process has a secret=; give the same secret= to all who write")
        mac, body = data[2:_HEAD_SIZE], data[_HEAD_SIZE:]
        if not self._signer.verify(purpose, id, data[:2], body, mac):
            raise DecodeError(
                "the signature does not match: another secret= wrote it, or it was changed or moved from another queue or task"
            )
        return body

    def _value(self, codec: int, body: bytes) -> Any:
        if codec == _JSON:
            return _from_json(body)
        if codec == _PICKLE:
            return _load_any(body) if self._may_load() else _load_plain(body)
        if codec != self._codec:
            raise DecodeError("a serializer= wrote it that this process does not have")
        return self._serializer.deserialize(body)


def _is_bare(data: bytes, max_size: int) -> bool:
    return isinstance(data, bytes) and len(data) <= max_size + 2 and data.startswith(_BARE_PICKLE)


def _checked_shape(purpose: Purpose, value: Any) -> Any:
    if purpose == "task":
        if not (isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[0], tuple | list) and isinstance(value[1], dict)):
            raise DecodeError(f"{_kind(value)}, not the arguments of a task")
        return tuple(value[0]), value[1]
    if purpose == "error" and not isinstance(value, dict):
        raise DecodeError(f"{_kind(value)}, not the description of an error")
    return value


def _culprit(purpose: Purpose, value: Any, write: Callable[[Any], bytes]) -> str:
    """Which part of *value* cannot be written alone."""
    if purpose == "task":
        args, kwargs = value
        parts = [*((f"args[{i}]", arg) for i, arg in enumerate(args)), *((f"kwargs[{name!r}]", arg) for name, arg in kwargs.items())]
        for name, part in parts:
            try:
                write(part)
            except Exception:  # As in encode(): the part that raises is the one.
                return f"{name}, {_kind(part)},"
    return f"the value, {_kind(value)}," if purpose != "task" else "its arguments"


def _not_read(purpose: Purpose, id: str, error: BaseException) -> DecodeError:
    if isinstance(error, DecodeError):
        return type(error)(f"{purpose} {id}: {error}")
    return DecodeError(f"{purpose} {id}: the bytes are damaged or not what they say: {_said(error)}")


def _kind(value: Any) -> str:
    """Its type as one would say it: "a decimal.Decimal"."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _said(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except Exception:  # The user's __str__ may raise too.
        return type(error).__name__


# -- pickle -----------------------------------------------------------------------------------------------------------------------------


def _to_pickle(value: Any) -> bytes:
    return pickle.dumps(value, 5)


def _load_any(body: bytes) -> Any:
    try:
        return pickle.loads(body)
    except (ImportError, AttributeError):
        return _NamingUnpickler(io.BytesIO(body)).load()


class _NamingUnpickler(pickle.Unpickler):
    """Says which class is missing."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError) as error:
            raise DecodeError(f"{module}.{name} is not found here ({_said(error)}); deploy the code that defines it") from error


_may_name_a_class = re.compile(rb"[\x82-\x84\x93]").search
"""Opcodes by which our own pickler writes a class; elsewhere these bytes are part of a value."""


def _verify_plain(body: bytes) -> None:
    """EncodeError: readers that load no classes would refuse this pickle of ours."""
    try:
        pickle.dumps(_PlainUnpickler(io.BytesIO(body)).load(), 5)
    except DecodeError as error:
        raise EncodeError(str(error)) from None


def _load_plain(body: bytes) -> Any:
    _check_opcodes(body)
    return _PlainUnpickler(io.BytesIO(body)).load()


class _PlainUnpickler(pickle.Unpickler):
    """Loads plain types only."""

    def find_class(self, module: str, name: str) -> Any:
        return _maker(f"{module}.{name}")


_fixed_opcodes = re.compile(
    rb"(?:[N\x88\x89)\x85-\x87t(\]ae}su\x8f-\x91\x94R\x81\x92b\x9301]++|[Kh].|M..|[Jj].{4}|[G\x95].{8}|\x80\x05)*+", re.DOTALL
).match
_COUNTED_OPCODES = {**dict.fromkeys(b"\x8cC\x8a", 1), **dict.fromkeys(b"XB\x8b", 4), **dict.fromkeys(b"\x8d\x8e\x96", 8)}


def _check_opcodes(body: bytes) -> None:
    """DecodeError: not the opcodes that our own pickler writes.

    The others can name a class without find_class (EXT) or make a few bytes take gigabytes (LONG_BINPUT, counts beyond the end).
    """
    at = 0
    while True:
        at = _fixed_opcodes(body, at).end()  # type: ignore[union-attr]
        if body[at : at + 1] == b"." and at == len(body) - 1:
            return
        width = _COUNTED_OPCODES.get(body[at]) if at < len(body) else None
        if width is None:
            raise DecodeError("not a pickle that huey writes, or damaged")
        at += 1 + width + int.from_bytes(body[at + 1 : at + 1 + width], "little")


class _Maker:
    """Stands for a plain type while a message is read: it can be called with short arguments, and nothing else.

    The type itself is not handed out: BUILD could set its attributes, and a long argument, once sent, be used a thousand times.
    """

    __slots__ = ("_make", "_path")
    _make: Callable[..., Any]
    _path: str

    def __init__(self, path: str, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "_path", path)
        object.__setattr__(self, "_make", make)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self!r} cannot be changed")

    def __call__(self, *args: Any) -> Any:
        if not all(map(_is_short, args)):
            raise DecodeError(f"holds {self._path} with more than {_SHORT:,} digits; {_WAY_OUT}")
        return self._make(*args)

    def __repr__(self) -> str:
        return f"<{self._path}>"

    def __reduce__(self) -> str:
        raise DecodeError(f"holds the class {self._path} itself; {_WAY_OUT}")


_SHORT = 4300
"""Python's own limit for the digits of an int."""


def _is_short(value: Any) -> bool:
    if isinstance(value, int):
        return value.bit_length() <= 4 * _SHORT
    return not hasattr(value, "__len__") or len(value) <= _SHORT


_PLAIN_TYPES = frozenset(
    {
        *("builtins.complex", "builtins.range", "builtins.slice", "collections.OrderedDict", "collections.deque", "decimal.Decimal"),
        *("datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta", "datetime.timezone"),
    }
)


@cache
def _maker(path: str) -> Any:
    """What stands for the class of that name in a pickle. DecodeError: it is not plain."""
    from importlib import import_module

    if path in _PLAIN_TYPES:
        module, _, name = path.partition(".")
        return _Maker(path, getattr(import_module(module), name))
    if path in _SPECIAL_TYPES:
        return _Maker(path, _SPECIAL_TYPES[path])
    if path == "uuid.UUID":
        # The class itself: its pickles need one. BUILD cannot change it, because it has a __setstate__.
        return import_module("uuid").UUID
    raise DecodeError(f"holds {path}, and only plain types travel unsigned through a store that others can write into; {_WAY_OUT}")


def _fraction(top: int | str, bottom: int = 1) -> Any:
    """Not Fraction(text): "1e999999999" would be computed."""
    from fractions import Fraction

    text, _, under = str(top).partition("/")
    return Fraction(int(text), int(under or bottom))


def _zone(key: str, from_cache: bool = True) -> Any:
    from zoneinfo import ZoneInfo

    return ZoneInfo(key)


def _attribute(owner: Any, name: str) -> Any:
    """The one attribute that is asked for: a ZoneInfo names its own maker in this way."""
    if owner is _maker("zoneinfo.ZoneInfo") and name == "_unpickle":
        return owner
    raise DecodeError(f"holds a method or attribute, {name!r}; {_WAY_OUT}")


_SPECIAL_TYPES: dict[str, Callable[..., Any]] = {
    "builtins.getattr": _attribute,
    "fractions.Fraction": _fraction,
    "zoneinfo.ZoneInfo": _zone,
}


# -- JSON and compression ---------------------------------------------------------------------------------------------------------------


@cache
def _json_encoder() -> Callable[[Any], str]:
    from json import JSONEncoder

    return JSONEncoder(separators=(",", ":")).encode


def _to_json(value: Any) -> bytes:
    try:
        return _json_encoder()(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodeError(f"cannot be written as JSON: {_said(error)}; pass text, numbers, lists and dicts, or use pickle") from error


def _from_json(body: bytes) -> Any:
    from json import loads

    try:
        return loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not JSON: {_said(error)}") from error


def _packing(compression: bool, use_zlib: bool) -> int:
    if not compression:
        return 0
    return _ZLIB if use_zlib else _GZIP


def _checked_level(level: int) -> int:
    if level not in range(10):
        raise ConfigurationError(f"compression_level={level!r}: give 0 (none) to 9 (smallest)")
    return level


def _inflated(data: bytes, packing: int, max_size: int) -> bytes:
    """Decompressed. Never makes more than *max_size* bytes and one."""
    import zlib

    if packing not in _WBITS:
        raise DecodeError("it claims two compressions")
    reader = zlib.decompressobj(_WBITS[packing])
    try:
        body = reader.decompress(data, max_size + 1)
    except zlib.error as error:
        raise DecodeError(f"damaged: {error}") from error
    if len(body) > max_size:
        raise DecodeError(f"more than {max_size:,} bytes when decompressed; who wrote it has a greater max_size, or means harm")
    if not reader.eof or reader.unused_data:
        raise DecodeError("damaged: the compressed data is cut off or too long")
    return body


# -- signatures -------------------------------------------------------------------------------------------------------------------------


class _Signer:
    """Signs what belongs to one queue. Each purpose has a key of its own, derived from the secret."""

    def __init__(self, queue: str, secret: Secret) -> None:
        self._secrets = _checked_secrets(secret)
        self._queue = _counted(queue)
        self._keys: dict[Purpose, list[bytes]] = {}

    def sign(self, purpose: Purpose, id: str, head: bytes, body: bytes) -> bytes:
        return _mac(self._keys_for(purpose)[0], self._claim(purpose, id, head, body))

    def verify(self, purpose: Purpose, id: str, head: bytes, body: bytes, mac: bytes) -> bool:
        from hmac import compare_digest

        claim = self._claim(purpose, id, head, body)
        return any(compare_digest(_mac(key, claim), mac) for key in self._keys_for(purpose))

    def _claim(self, purpose: Purpose, id: str, head: bytes, body: bytes) -> bytes:
        return b"".join((head, self._queue, _counted(purpose), _counted(id), body))

    def _keys_for(self, purpose: Purpose) -> list[bytes]:
        if purpose not in self._keys:
            self._keys[purpose] = [_derived(secret, b"huey", purpose.encode()) for secret in self._secrets]
        return self._keys[purpose]


def _checked_secrets(secret: Any) -> list[bytes]:
    secrets = [secret] if isinstance(secret, str | bytes) else list(secret)
    if not secrets or not all(isinstance(one, str | bytes) and one.strip() for one in secrets):
        raise ConfigurationError("secret=: empty, or not text; give a long random text, such as secrets.token_urlsafe() makes, or None")
    return [one.encode() if isinstance(one, str) else one for one in secrets]


def _counted(text: str) -> bytes:
    part = text.encode("utf-8", "surrogatepass")
    return len(part).to_bytes(4, "big") + part


def _mac(key: bytes, message: bytes) -> bytes:
    from hmac import digest

    return digest(key, message, "sha256")


def _derived(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """A key of 32 bytes: HKDF with SHA-256 (RFC 5869)."""
    return _mac(_mac(salt, secret), info + b"\x01")


# -- serializers a user may pass, or derive from ----------------------------------------------------------------------------------------


class Serializer:
    """Pickle, with compression if asked. Derive from it and override ``_serialize`` and ``_deserialize`` to use another format.

    An instance of this very class passed as ``serializer=`` is the built-in pickle: the rules about classes hold (see Codec). Once a
    method is overridden, what its ``_deserialize`` reads is its own business.
    """

    max_size = 16 * MIB
    """At most so many bytes are compressed, or come out when decompressed."""

    def __init__(self, compression: bool = False, compression_level: int = 6, use_zlib: bool = False) -> None:
        self.compression = compression
        self.compression_level = _checked_level(compression_level)
        self.use_zlib = use_zlib

    def serialize(self, data: Any) -> bytes:
        body = self._serialize(data)
        if not self.compression:
            return body
        if len(body) > self.max_size:
            raise EncodeError(f"has {len(body):,} bytes, at most {self.max_size:,} are compressed")
        import zlib

        return zlib.compress(body, self.compression_level, _WBITS[_packing(True, self.use_zlib)])

    def deserialize(self, data: bytes) -> Any:
        """With compression on, data without it is still read, and the log says so."""
        if not self.compression:
            return self._deserialize(data)
        if data[:2] == b"\x1f\x8b":
            return self._deserialize(_inflated(data, _GZIP, self.max_size))
        if data[:1] == b"\x78":
            return self._deserialize(_inflated(data, _ZLIB, self.max_size))
        import logging

        logging.getLogger("huey").warning("compression is on, and a message without it was read; it may be older than that setting")
        return self._deserialize(data)

    def _serialize(self, data: Any) -> bytes:
        return _to_pickle(data)

    def _deserialize(self, data: bytes) -> Any:
        return pickle.loads(data)


class JSONSerializer(Serializer):
    """JSON, so that any language can read it. Tuples come back as lists, and keys that are not text as text."""

    def _serialize(self, data: Any) -> bytes:
        return _to_json(data)

    def _deserialize(self, data: bytes) -> Any:
        return _from_json(data)


class SignedSerializer(Serializer):
    """A serializer that signs. Kept for code written for huey 3; ``secret=`` binds a message to its queue and task too.

    Data of which one bit was changed is refused with a DecodeError, before anything else looks at it.
    """

    def __init__(self, secret: str | bytes | None = None, salt: str | bytes = "huey", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        key = _checked_secrets(secret or "")[0]
        self._key = _derived(key, salt.encode() if isinstance(salt, str) else salt, b"SignedSerializer")

    def serialize(self, data: Any) -> bytes:
        body = super().serialize(data)
        return _mac(self._key, body) + body

    def deserialize(self, data: bytes) -> Any:
        from hmac import compare_digest

        if not compare_digest(_mac(self._key, data[_MAC_SIZE:]), data[:_MAC_SIZE]):
            raise DecodeError("the signature does not match: another secret wrote it, or it was changed")
        return super().deserialize(data[_MAC_SIZE:])


def _codec_of(serializer: Any) -> int:
    if serializer is None or _has_methods_of(Serializer, serializer):
        return _PICKLE
    if _has_methods_of(JSONSerializer, serializer):
        return _JSON
    is_one = callable(getattr(serializer, "serialize", None)) and callable(getattr(serializer, "deserialize", None))
    if isinstance(serializer, type) or not is_one:
        raise ConfigurationError(
            f"serializer={serializer!r}: give an object with serialize(value) -> bytes and deserialize(bytes) -> value"
        )
    return _USERS


def _has_methods_of(kind: type, serializer: Any) -> bool:
    """A subclass that overrides none of them is still the built-in codec."""
    names = ("serialize", "deserialize", "_serialize", "_deserialize")
    return isinstance(serializer, kind) and all(getattr(type(serializer), name) is getattr(kind, name) for name in names)

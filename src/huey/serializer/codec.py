"""The codec of one queue: encodes values as messages, decodes them, and enforces the rules about who reads what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from huey.exceptions import DecodeError, EncodeError
from huey.runtime.logs import SafeLogger, is_ctrl_c
from huey.serializer.budget import budget
from huey.serializer.formats import (
    GZIP,
    JSON,
    MIB,
    PICKLE,
    USERS,
    ZLIB,
    check_json,
    codec_of,
    compress,
    compression_code,
    decompress,
    from_json,
    to_json,
    verify_json,
)
from huey.serializer.pickles import error_text, from_pickle, load_any, load_plain, to_pickle, to_pickles, type_name, verify_plain
from huey.serializer.signing import CODEC_BITS, DECLARED, ERROR, UNKNOWN_BITS, VERSION, Declared, Envelope, Purpose, Secret, Signer
from huey.serializer.weights import is_harmless

_BARE_PICKLE = bytes((VERSION, PICKLE))
_ROWS = (tuple, list)
_KWARGS = (dict, type(None))


class Codec:
    """An encoder and decoder of the payloads of one queue.

    *serializer*: an object with ``serialize`` and ``deserialize``; what it reads is then the user's responsibility. A plain ``Serializer``
    or ``JSONSerializer`` means the built-in pickle or JSON, with its compression and under the rules of this class. *secret*: every message
    is signed, and unsigned ones are refused; of several, the first signs and each may verify. *allow_pickle*: True loads any class, False
    none; None calls *is_trusted*, once (see ``reset``). A verified signature overrides both. *max_size*: most bytes of a value before
    compression; above *warn_size* stored bytes a warning is logged.
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
        self._codec = codec_of(serializer)
        if serializer is not None and self._codec != USERS and serializer.compression:
            compression, compression_level, use_zlib = True, serializer.compression_level, serializer.use_zlib
        self._compression = compression_code(compression, compression_level, use_zlib)
        self._level = compression_level
        self.signs = secret is not None
        """True if messages are signed; those of tasks together with their declaration."""
        self._allow_pickle = allow_pickle
        self._is_trusted = is_trusted
        self._loads_classes: bool | None = None
        self._warn_size = warn_size
        self._max_size = max_size
        self._longest_bare = -1 if self.signs else max_size + 2
        self._envelope = Envelope(None if secret is None else Signer(queue, secret), max_size)
        self._warned: set[tuple[str, int]] = set()
        self._write = (to_pickle, to_json, self._to_users)[self._codec]
        is_wrapped = self.signs or self._compression or self._codec != PICKLE
        self._bare_size = -1 if is_wrapped else min(warn_size, max_size)
        """A pickle of at most this many bytes needs only the two bytes in front."""

    def reset(self) -> None:
        """Check again whether the store is trusted."""
        self._loads_classes = None

    def encode(self, purpose: Purpose, id: str, value: Any, declared: Declared | None = None) -> bytes:
        """Return *value* as bytes. If they are signed, only `decode` for the same queue, purpose and id accepts them. *declared* is signed
        too.

        *purpose* "task": *value* is ``(args, kwargs)``; None for no kwargs is half the work of ``{}``. "error": a dict of plain values,
        always written as JSON. Raises EncodeError if it cannot be written, is too big, or readers would have to refuse it. The error names
        the argument and a way out.
        """
        may_load = self._loads_classes or self._may_load()
        try:
            if purpose == "error":
                return self._packed(purpose, id, JSON | ERROR, self._fitting(to_json(value)))
            body = self._write(value)
            if len(body) <= self._bare_size and (may_load or is_harmless(body)):
                # Most values take this path, and every step counts here.
                return _BARE_PICKLE + body
            message = self._packed(purpose, id, self._codec, self._fitting(body), declared)
            self._check_readable(value, body, may_load, len(message))
            return message
        except BaseException as error:  # A value's own __reduce__ may raise anything.
            if is_ctrl_c(error):
                raise
            raise self._not_written(purpose, id, value, error) from error

    def encode_calls(self, ids: Sequence[str], calls: Sequence[tuple[Any, ...]], declared: Declared | None = None) -> list[bytes]:
        """Like ``encode("task", id, (arguments, None), declared)`` for each."""
        if self._bare_size > 0 and self._may_load():
            try:
                bodies = to_pickles([(args, None) for args in calls])
            except BaseException as error:  # As in encode(), which will say which one.
                if is_ctrl_c(error):
                    raise
                bodies = []
            if bodies and max(map(len, bodies)) <= self._bare_size:
                return [_BARE_PICKLE + body for body in bodies]
        return [self.encode("task", id, (args, None), declared) for id, args in zip(ids, calls, strict=True)]

    def decode(self, purpose: Purpose, id: str, data: bytes) -> Any:
        """Return the value that was encoded for *purpose* and *id*; for "task" always ``(tuple, dict)``, for "error" a dict.

        Raises NewerFormat if a newer huey wrote it, DecodeError for any other problem with *data*.
        """
        may_load = self._loads_classes or self._may_load()
        try:
            if may_load and purpose != "error" and type(data) is bytes and data[:2] == _BARE_PICKLE and len(data) <= self._longest_bare:
                # Most messages take this path, and every step counts here.
                try:
                    value = from_pickle(data[2:])
                except (ImportError, AttributeError):
                    value = load_any(data[2:])
            else:
                value = self._value(*self._opened(purpose, id, data), may_load, len(data))
            return _checked_shape(purpose, value)
        except BaseException as error:  # A user's class may raise anything while it is rebuilt.
            if is_ctrl_c(error):
                raise
            raise _not_read(purpose, id, error) from error

    def decode_plain(self, purpose: Purpose, id: str, data: bytes, most: int | None = None) -> Any:
        """Decode like ``decode``, but without running code of the application: for display. *most*: bytes that it may have when
        decompressed.

        Raises DecodeError if it has values that are not plain, or if the application's own serializer wrote it.
        """
        try:
            codec, body = self._opened(purpose, id, data, self._max_size if most is None else min(most, self._max_size))
            if codec == USERS:
                raise DecodeError("the application's own serializer= wrote it")
            return _checked_shape(purpose, self._value(codec, body, False, len(data)))
        except BaseException as error:  # Damaged bytes may raise anything.
            if is_ctrl_c(error):
                raise
            raise _not_read(purpose, id, error) from error

    def decode_result(self, id: str, data: bytes) -> tuple[bool, Any]:
        """Return ``(is_error, value)`` of what is stored for task *id*, its result or its error. Raise like `decode`."""
        is_error = isinstance(data, bytes) and len(data) > 1 and bool(data[1] & ERROR)
        return is_error, self.decode("error" if is_error else "result", id, data)

    def declared(self, id: str, data: bytes) -> Declared:
        """Return the declaration of task *id* from *data*, its signed message. Raise DecodeError if the signature does not match or covers
        only the arguments."""
        try:
            _, declared, _ = self._envelope.open("task", id, data)
            if declared is None:
                raise DecodeError("its signature covers the arguments only, and neither name nor options; enqueue it through huey")
            return declared
        except DecodeError as error:
            raise _not_read("task", id, error) from error

    def redeclare(self, id: str, data: bytes, declared: Declared) -> bytes:
        """Return the same signed arguments with another declaration of the task. Raise DecodeError if the signature does not match."""
        flags, _, body = self._envelope.open("task", id, data)
        return self._envelope.close("task", id, flags & ~DECLARED, body, declared)

    def _may_load(self) -> bool:
        """Return True if a pickle may name any class."""
        if self._loads_classes is None:
            # With another serializer, pickles are not expected, even in a trusted store.
            asks = self._allow_pickle is None and self._codec == PICKLE
            self._loads_classes = self.signs or bool(self._is_trusted() if asks else self._allow_pickle)
        return self._loads_classes

    # -- writing ------------------------------------------------------------------------------------------------------------------------

    def _check_readable(self, value: Any, body: bytes, may_load: bool, size: int) -> None:
        """Raise EncodeError if a reader would have to reject *body*, made of *value*, as a message of *size* bytes."""
        if may_load or self._codec == USERS:
            return
        if self._codec == PICKLE:
            verify_plain(value, body, budget(size), size)
        else:
            verify_json(body, budget(size))

    def _fitting(self, body: bytes) -> bytes:
        if len(body) > self._max_size:
            raise EncodeError(f"has {len(body):,} bytes, the limit is {self._max_size:,}; store it elsewhere and pass its name or key")
        return body

    def _packed(self, purpose: Purpose, id: str, flags: int, body: bytes, declared: Declared | None = None) -> bytes:
        if self._compression:
            packed = compress(body, self._compression, self._level)
            if len(packed) < len(body):
                flags, body = flags | self._compression, packed
        if len(body) > self._warn_size:
            self._warn(purpose, id, len(body))
        return self._envelope.close(purpose, id, flags, body, declared)

    def _to_users(self, value: Any) -> bytes:
        body = self._serializer.serialize(value)
        if not isinstance(body, bytes | bytearray | memoryview):
            raise EncodeError(f"came out of {self._codec_name()}.serialize() as {type_name(body)}; it must be bytes")
        return bytes(body)

    def _warn(self, purpose: Purpose, id: str, size: int) -> None:
        """Log a warning once for each purpose, and again when the size has doubled."""
        if (purpose, size.bit_length()) in self._warned:
            return
        self._warned.add((purpose, size.bit_length()))
        text = "%s %s of queue %s has %s bytes: big payloads slow the storage down; store it elsewhere and pass its name or key"
        SafeLogger("huey").warning(text, purpose, id, self._queue, f"{size:,}")

    def _not_written(self, purpose: Purpose, id: str, value: Any, error: BaseException) -> EncodeError:
        what = f"{purpose} {id}: {self._culprit(purpose, value)}"
        if isinstance(error, EncodeError):
            return EncodeError(f"{what} {error}")
        if isinstance(error, RecursionError | MemoryError):
            return EncodeError(f"{what} is nested too deeply or too big ({type(error).__name__}); store it elsewhere and pass its name")
        way_out = "pass plain values, or give a serializer= that can"
        return EncodeError(f"{what} cannot be written by {self._codec_name()} ({error_text(error)}); {way_out}")

    def _culprit(self, purpose: Purpose, value: Any) -> str:
        """Return which part of *value* cannot be written by itself."""
        if purpose != "task":
            return f"the value, {type_name(value)},"
        args, kwargs = value[0], value[1] or {}
        parts = [*((f"args[{i}]", arg) for i, arg in enumerate(args)), *((f"kwargs[{name!r}]", arg) for name, arg in kwargs.items())]
        for name, part in parts:
            try:
                body = self._fitting(self._write(part))
                self._check_readable(part, body, self._may_load(), len(body))
            except BaseException as error:  # As in encode().
                if is_ctrl_c(error):
                    raise
                return f"{name}, {type_name(part)},"
        return "all arguments together"

    def _codec_name(self) -> str:
        return ("pickle", "JSON", type(self._serializer).__name__)[self._codec]

    # -- reading ------------------------------------------------------------------------------------------------------------------------

    def _opened(self, purpose: Purpose, id: str, data: bytes, most: int | None = None) -> tuple[int, bytes]:
        """Return codec and body of a message whose signature and size are valid."""
        flags, _, body = self._envelope.open(purpose, id, data)
        if flags & UNKNOWN_BITS or bool(flags & ERROR) != (purpose == "error"):
            raise DecodeError(f"flags {flags:#04x} do not match: it was stored as something else, or is damaged")
        if flags & (GZIP | ZLIB):
            body = decompress(body, flags & (GZIP | ZLIB), self._max_size if most is None else most)
        return flags & CODEC_BITS, body

    def _value(self, codec: int, body: bytes, may_load: bool, size: int) -> Any:
        if codec == JSON:
            if not may_load:
                check_json(body, budget(size))
            return from_json(body)
        if codec == PICKLE:
            return load_any(body) if may_load else load_plain(body, budget(size), size)
        if codec != self._codec:
            raise DecodeError("it was written by a serializer= that this process does not have; give the same serializer= here")
        return self._serializer.deserialize(body)


def _checked_shape(purpose: Purpose, value: Any) -> Any:
    if purpose == "task":
        if type(value) is tuple and len(value) == 2 and type(value[0]) is tuple and value[1] is None:
            # Nearly all take this path.
            return value[0], {}
        if not (isinstance(value, _ROWS) and len(value) == 2 and isinstance(value[0], _ROWS) and isinstance(value[1], _KWARGS)):
            raise DecodeError(f"it is {type_name(value)}, but a task's arguments are a tuple and a dict")
        return tuple(value[0]), value[1] or {}
    if purpose == "error" and not isinstance(value, dict):
        raise DecodeError(f"it is {type_name(value)}, but the description of an error is a dict")
    return value


def _not_read(purpose: Purpose, id: str, error: BaseException) -> DecodeError:
    if isinstance(error, DecodeError):
        renamed = type(error)(f"{purpose} {id}: {error}")
        vars(renamed).update(vars(error))
        return renamed
    return DecodeError(f"{purpose} {id}: the bytes are damaged, or not of the format they claim ({error_text(error)})")

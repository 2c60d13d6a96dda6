"""Codecs of every kind for tests of the serializer, and what they refuse."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from huey.exceptions import DecodeError, EncodeError
from huey.serializer import Codec, Serializer

ID = "0190f0c2a1b2cafebabe000000000001"
SECRET = "a long and random text"


class Point:
    def __init__(self, x: Any) -> None:
        self.x = x

    def __eq__(self, other: Any) -> Any:
        return type(other) is Point and other.x == self.x

    __hash__ = None  # type: ignore[assignment]


class Colour(enum.Enum):
    RED = 1


class TextSerializer:
    """A user's own: text only, Latin-1."""

    def serialize(self, data: Any) -> Any:
        return data.encode("latin-1")

    def deserialize(self, data: Any) -> Any:
        return data.decode("latin-1")


def yes() -> Any:
    return True


def codec(queue: Any = "q", **options: Any) -> Any:
    return Codec(queue, **options)


def trusted(**options: Any) -> Any:
    return codec(is_trusted=yes, **options)


def forged(flags: Any, body: Any) -> Any:
    """What anyone can put into a store."""
    return bytes((1, flags)) + body


def refusal(reader: Any, data: Any, purpose: Any = "result") -> Any:
    with pytest.raises(DecodeError) as caught:
        reader.decode(purpose, ID, data)
    return str(caught.value)


def complaint(writer: Any, value: Any, purpose: Any = "result") -> Any:
    with pytest.raises(EncodeError) as caught:
        writer.encode(purpose, ID, value)
    return str(caught.value)


CODECS: dict[str, dict[str, Any]] = {
    "trusted": {"is_trusted": yes},
    "untrusted": {},
    "allowed": {"allow_pickle": True},
    "signed": {"secret": SECRET},
    "gzip": {"compression": True},
    "zlib signed": {"secret": SECRET, "compression": True, "use_zlib": True, "compression_level": 9},
    "plain Serializer": {"serializer": Serializer(compression=True, use_zlib=True)},
}

"""Messages that somebody made to run code or to fill the memory."""

from __future__ import annotations

import decimal
import fractions
import gzip
import logging
import os
import pickle
import random
import subprocess
import tracemalloc
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huey.exceptions import DecodeError, EncodeError
from huey.serializer import JSONSerializer
from tests.unit.serializing import ID, SECRET, TextSerializer, codec, complaint, forged, refusal, trusted, yes

# -- canaries ---------------------------------------------------------------------------------------------------------------------------


class Canary:
    """Unpickling it calls *func* with *args*."""

    def __init__(self, func: Any, *args: Any) -> None:
        self.call = (func, args)

    def __reduce__(self) -> Any:
        return self.call


def canaries(path: Any) -> Iterator[Any]:
    """Pickles that make the file *path*, each by another way."""
    write = f"open({path!r}, 'w')"
    name = path.encode()
    yield "os.system", pickle.dumps(Canary(os.system, f"touch {path}"), 5)
    yield "subprocess", pickle.dumps(Canary(subprocess.call, ["touch", path]), 5)
    yield "open", pickle.dumps(Canary(open, path, "w"), 5)
    yield "eval", pickle.dumps(Canary(eval, write), 5)
    yield "exec", pickle.dumps([(1, {"a": Canary(exec, write)})], 5)
    yield "import", pickle.dumps(Canary(__import__, "antigravity"), 5)
    yield "getattr", pickle.dumps(Canary(getattr, os, "system").__reduce__()[0], 5)
    yield "key of a dict", b"\x80\x05}" + b"\x8c\x08builtins\x8c\x04open\x93\x8c" + bytes([len(name)]) + name + b"\x8c\x01w\x86RNs."
    yield "protocol 0", b"cposix\nsystem\n(S'touch " + name + b"'\ntR."
    yield "INST", b"(S'touch " + name + b"'\niposix\nsystem\n."
    yield "OBJ", b"(cposix\nsystem\nS'touch " + name + b"'\no."
    yield "dotted name", b"\x80\x05\x8c\x08datetime\x8c\x10sys.modules.clear\x93)R."
    yield "dotted own name", b"\x80\x05\x8c\x04uuid\x8c\x09os.system\x93\x8c" + bytes([len(name) + 6]) + b"touch " + name + b"\x85R."
    yield "getattr of a plain type", b"\x80\x05\x8c\x08builtins\x8c\x07getattr\x93\x8c\x08datetime\x8c\x04date\x93\x8c\x05today\x86R)R."
    yield "make of a maker", b"\x80\x05\x8c\x08builtins\x8c\x07getattr\x93\x8c\x08builtins\x8c\x07getattr\x93\x8c\x04make\x86R."
    yield "persistent id", b"\x80\x05\x8c\x01xQ."
    yield "after the end", pickle.dumps(1, 5) + pickle.dumps(Canary(os.system, f"touch {path}"), 5)
    yield "behind a frame", b"\x80\x05\x95\x01\0\0\0\0\0\0\0Ncposix\nsystem\n\x8c" + bytes([len(name) + 6]) + b"touch " + name + b"\x85R."


READERS = {
    "untrusted": {},
    "refused": {"is_trusted": yes, "allow_pickle": False},
    "JSON": {"is_trusted": yes, "serializer": JSONSerializer()},
    "the user's": {"is_trusted": yes, "serializer": TextSerializer()},
    "zlib": {"compression": True, "use_zlib": True},
    "secret": {"secret": SECRET, "allow_pickle": True},
}


@pytest.mark.parametrize("options", READERS.values(), ids=READERS)
def test_no_canary_sings(options: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "sung")
    reader = codec(**options)
    for name, body in canaries(path):
        wrapped = [
            forged(0, body),
            forged(4, gzip.compress(body)),
            forged(8, zlib.compress(body)),
            forged(16, bytes(32) + body),
            forged(32, body),
            forged(1, body),
            forged(2, body),
        ]
        for data in wrapped:
            for purpose in ("task", "result", "error"):
                try:
                    value = reader.decode(purpose, ID, data)
                except DecodeError:
                    value = None
                assert value is None or data[1] == 2, name
            if data[1] != 2:
                with pytest.raises(DecodeError):
                    reader.decode_result(ID, data)
        assert not os.path.exists(path), name


def test_the_canaries_can_sing(tmp_path: Path) -> None:
    path = str(tmp_path / "sung")
    body = dict(canaries(path))["open"]
    trusted().decode("result", ID, forged(0, body)).close()
    assert os.path.exists(path)


@pytest.mark.parametrize(
    "name", ["uuid.UUID", "fractions.Fraction", "datetime.date", "decimal.Decimal", "builtins.getattr", "collections.deque"]
)
@pytest.mark.parametrize("state", [{"hex": "fake"}, (None, {"hex": "fake", "__init__": None, "make": None})], ids=["dict", "slots"])
def test_a_message_cannot_change_a_class(name: Any, state: Any) -> None:
    module, _, attribute = name.partition(".")
    built = b"\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(attribute)]) + attribute.encode() + b"\x93"
    refusal(codec(), forged(0, b"\x80\x05" + built + pickle.dumps(state, 5)[2:-1] + b"b."))
    assert uuid.UUID(int=1).hex == "0" * 31 + "1"
    assert not hasattr(fractions.Fraction, "hex")
    assert codec().decode("result", ID, codec().encode("result", ID, decimal.Decimal(3))) == 3


# -- size -------------------------------------------------------------------------------------------------------------------------------


def peak_of(act: Any) -> Any:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("flags", "wbits"), [(4, 31), (8, 15)])
def test_a_bomb_is_refused_before_it_takes_memory(flags: Any, wbits: Any) -> None:
    packer = zlib.compressobj(9, wbits=wbits)
    bomb = forged(flags, packer.compress(bytes(64 << 20)) + packer.flush())
    assert len(bomb) < 70_000

    peak = peak_of(lambda: refusal(codec(max_size=1 << 20), bomb))

    assert peak < 8 << 20
    assert "more than 1,048,576 bytes when decompressed" in refusal(codec(max_size=1 << 20), bomb)


@pytest.mark.parametrize(
    "body",
    [
        b"\x80\x05Nr\xff\xff\xff\x7f.",
        b"\x80\x05Np2147483647\n.",
        b"\x80\x05\x96\xff\xff\xff\xff\x3f\0\0\0.",
        b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\xffx.",
        b"\x80\x05X\xff\xff\xff\xff.",
        b"\x80\x05\x8b\xff\xff\xff\x7f.",
        b"\x80\x05\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
        b"\x80\x05\x8c\x08builtins\x8c\x09bytearray\x93\x8a\x05\xff\xff\xff\xff\x0f\x85R.",
        b"\x80\x05\x8c\x0bcollections\x8c\x05deque\x93\x8c\x08builtins\x8c\x05range\x93\x8a\x05\xff\xff\xff\xff\x0f\x85R\x85R.",
        b"\x80\x05\x8c\x09fractions\x8c\x08Fraction\x93\x8c\x0b1e999999999\x85R.",
    ],
)
def test_a_few_bytes_never_take_gigabytes(body: Any) -> None:
    assert peak_of(lambda: refusal(codec(), forged(0, body))) < 1 << 20


def test_a_long_argument_is_not_multiplied() -> None:
    digits = b"\x80\x05X\x40\x9c\0\0" + b"7" * 40_000 + b"\x940\x8c\x07decimal\x8c\x07Decimal\x93\x940("
    assert "4,300 digits" in refusal(codec(), forged(0, digits + b"h\x01h\0\x85R" * 10_000 + b"l."[1:]))


def test_a_value_over_the_limit_is_refused_by_writer_and_reader() -> None:
    small = trusted(max_size=1000)
    text = complaint(small, ((1, "a" * 2000), {}), "task")
    assert "args[1], a str, has 2,0" in text
    assert "the limit is 1,000" in text
    assert "store it elsewhere" in text
    assert "all arguments together" in complaint(small, (("a" * 600, "b" * 600), {}), "task")
    assert "max_size=" in refusal(small, trusted().encode("result", ID, "a" * 2000))
    assert "the limit is" in complaint(codec(max_size=1000, compression=True), "a" * 2000)
    assert "the limit is" in complaint(small, {"error": "a" * 2000}, "error")


@pytest.mark.parametrize("options", [{}, {"secret": SECRET}, {"compression": True}, {"secret": SECRET, "compression": True}])
def test_what_just_fits_can_be_read(options: Any) -> None:
    one = codec(max_size=1000, **options)
    value = random.Random(1).randbytes(1000 - len(pickle.dumps(b"", 5)) - 12)
    while True:
        try:
            data = one.encode("result", ID, value)
        except EncodeError:
            break
        assert one.decode("result", ID, data) == value
        value += b"\x85"
    assert len(value) > 950


def test_a_big_value_warns_once_for_its_size(caplog: pytest.LogCaptureFixture) -> None:
    one = trusted(warn_size=1000)
    with caplog.at_level(logging.WARNING, "huey"):
        for length in (900, 1500, 1600, 5000, 5001):
            assert one.decode("result", ID, one.encode("result", ID, "a" * length)) == "a" * length
        one.encode("task", ID, (("a" * 1500,), {}))
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    text = caplog.records[0].getMessage()
    for word in ("result", ID, "queue q", "1,5", "store it elsewhere"):
        assert word in text


def test_what_is_small_once_compressed_does_not_warn(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "huey"):
        trusted(warn_size=1000, compression=True).encode("result", ID, "a" * 5000)
    assert caplog.records == []

"""What is written is read again; what others may have written runs nothing, and gives a value or a DecodeError."""

from __future__ import annotations

import collections
import contextlib
import copyreg
import datetime as dt
import decimal
import enum
import fractions
import gzip
import hmac
import io
import json
import logging
import os
import pickle
import random
import subprocess
import sys
import threading
import tracemalloc
import types
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huey.exceptions import ConfigurationError, DecodeError, EncodeError
from huey.serializer import Codec, JSONSerializer, NewerFormat, Serializer, SignedSerializer
from huey.serializer.signing import derived_key

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

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(
        timezones=st.sampled_from([None, dt.UTC, dt.timezone(dt.timedelta(hours=-3, seconds=7), "here"), ZoneInfo("Asia/Kathmandu")])
    )
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.uuids()
    | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        | st.lists(inner, max_size=4).map(collections.deque)
        | st.frozensets(st.integers() | st.text(), max_size=1)
    ),
    max_leaves=12,
)


# -- there and back ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize(
    "value",
    [
        None,
        (1, (2, [3, (4,)])),
        {"k": (1, b"x")},
        {1: "a", (2, 3): {4, 5}, None: frozenset([6])},
        bytearray(b"\x93c"),
        "é\udc80\U0001f600" * 50,
        -(1 << 300),
        [float("inf"), 1j, Ellipsis is None],
        collections.OrderedDict(b=1, a=2),
        collections.deque([1, 2], maxlen=5),
        range(1, 10**30, 2),
        decimal.Decimal("-1.50"),
        fractions.Fraction(-1, 3),
        uuid.UUID(int=7),
        dt.datetime(2024, 7, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")),
    ],
    ids=repr,
)
def test_plain_values_come_back_as_they_were(options: Any, value: Any) -> None:
    one = codec(**options)

    args, kwargs = one.decode("task", ID, one.encode("task", ID, ((value,), {"key": value})))

    assert args == (value,)
    assert kwargs == {"key": value}
    assert type(args[0]) is type(value)
    assert one.decode_result(ID, one.encode("result", ID, value)) == (False, value)


@settings(max_examples=300, deadline=None, database=None)
@given(value=PLAIN, options=st.sampled_from(sorted(CODECS)))
def test_any_plain_value_comes_back(value: Any, options: Any) -> None:
    one = codec(**CODECS[options])
    back = one.decode("result", ID, one.encode("result", ID, value))
    assert (repr(back), type(back)) == (repr(value), type(value))


def test_what_is_shared_stays_shared_and_a_ring_stays_a_ring() -> None:
    ring = [1]
    ring.append(ring)  # type: ignore[arg-type]

    back, same = codec().decode("result", ID, codec().encode("result", ID, (ring, ring)))

    assert back is same is back[1]


@pytest.mark.parametrize("options", [CODECS["trusted"], CODECS["allowed"], CODECS["signed"]])
@pytest.mark.parametrize("value", [Point(1), Colour.RED, Point, types.SimpleNamespace(a=[Point(2)]), ValueError("x").args, os.path.join])
def test_any_picklable_value_travels_where_nobody_else_writes(options: Any, value: Any) -> None:
    one = codec(**options)
    assert one.decode("result", ID, one.encode("result", ID, value)) == value


def test_subclasses_of_plain_types_keep_their_class() -> None:
    class_ = collections.namedtuple("Pair", "a b")  # type: ignore[name-match]
    sys.modules[__name__].Pair = class_  # type: ignore[attr-defined]
    class_.__module__ = __name__

    back = trusted().decode("result", ID, trusted().encode("result", ID, class_(1, 2)))

    assert back == (1, 2)
    assert type(back) is class_
    assert "Pair" in complaint(codec(), class_(1, 2))


def test_an_error_is_always_json_and_told_apart_from_a_result() -> None:
    metadata = {"error": "ValueError('\udc80')", "traceback": "é", "retries": 0, "task_id": ID}
    for options in CODECS.values():
        one = codec(**options)
        assert one.decode_result(ID, one.encode("error", ID, metadata)) == (True, metadata)
        assert one.decode("error", ID, one.encode("error", ID, metadata)) == metadata
        refusal(one, one.encode("error", ID, metadata), "result")
        refusal(one, one.encode("error", ID, metadata), "task")
        refusal(one, one.encode("result", ID, metadata), "error")
    assert json.loads(codec().encode("error", ID, metadata)[2:]) == metadata


def test_the_short_way_is_two_bytes_and_a_pickle() -> None:
    value = ((1, "a"), {})
    assert trusted().encode("task", ID, value) == b"\x01\x00" + pickle.dumps(value, 5)


def test_calls_written_together_are_those_written_one_by_one() -> None:
    calls, ids = [(), (1,), ("text", [2, None])], ["a", "b", "c"]
    for options in CODECS.values():
        one = codec(**options)
        together = one.encode_calls(ids, calls)
        assert [one.decode("task", id, data) for id, data in zip(ids, together, strict=True)] == [(args, {}) for args in calls]
        if "secret" not in options:
            assert together == [one.encode("task", id, (args, None)) for id, args in zip(ids, calls, strict=True)]
    assert codec().encode_calls([], []) == trusted().encode_calls([], []) == []


def test_a_call_among_many_that_cannot_be_written_is_named() -> None:
    for one in (codec(), trusted()):
        with pytest.raises(EncodeError, match=r"task b: args\[1\], a function"):
            one.encode_calls(["a", "b"], [(1,), (2, lambda: 0)])
    with pytest.raises(EncodeError, match=r"task b: args\[0\].* 101 bytes|task b: .* at most 100 travel"):
        trusted(max_size=100).encode_calls(["a", "b"], [(1,), ("x" * 101,)])


def test_the_signed_envelope_keeps_its_form() -> None:
    data = codec("mail", secret="s3cret").encode("task", "1f", ((), {}))

    key = derived_key(b"s3cret", b"huey", b"task")
    head = b"\x01\x10"
    claim = head + b"\0\0\0\x04mail" + b"\0\0\0\x04task" + b"\0\0\0\x021f" + pickle.dumps(((), {}), 5)
    assert data == head + hmac.digest(key, claim, "sha256") + pickle.dumps(((), {}), 5)


def test_keys_are_derived_as_rfc_5869_says() -> None:
    key = derived_key(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)))
    assert key.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"


def test_compression_is_used_only_where_it_helps() -> None:
    one = trusted(compression=True)
    assert one.encode("result", ID, 1) == trusted().encode("result", ID, 1)
    big = one.encode("result", ID, "a" * 10_000)
    assert big[1] == 4
    assert pickle.loads(gzip.decompress(big[2:])) == "a" * 10_000
    assert trusted().decode("result", ID, big) == "a" * 10_000


def test_pickle_and_json_may_be_changed_while_messages_wait() -> None:
    as_json, as_pickle = codec(serializer=JSONSerializer()), codec()
    assert as_pickle.decode("task", ID, as_json.encode("task", ID, ((1, (2,)), {"a": 3}))) == ((1, [2]), {"a": 3})
    assert as_json.decode("task", ID, as_pickle.encode("task", ID, ((1, (2,)), {"a": 3}))) == ((1, (2,)), {"a": 3})


# -- trust ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "loads"),
    [
        ({}, False),
        ({"is_trusted": yes}, True),
        ({"allow_pickle": True}, True),
        ({"is_trusted": yes, "allow_pickle": False}, False),
        ({"secret": SECRET}, True),
        ({"secret": SECRET, "allow_pickle": False}, True),
        ({"is_trusted": yes, "serializer": Serializer()}, True),
        ({"serializer": Serializer()}, False),
        ({"serializer": type("Sub", (Serializer,), {})()}, False),
        ({"is_trusted": yes, "serializer": JSONSerializer()}, False),
        ({"is_trusted": yes, "serializer": TextSerializer()}, False),
    ],
)
def test_who_loads_classes(options: Any, loads: Any) -> None:
    one = codec(**options)
    writer = codec(secret=options["secret"]) if "secret" in options else codec(allow_pickle=True)
    data = writer.encode("result", ID, Point(1))
    if loads:
        assert one.decode("result", ID, data) == Point(1)
    else:
        text = refusal(one, data)
        for word in (ID, f"{__name__}.Point", "secret=", "allow_pickle=True"):
            assert word in text


def test_the_store_is_asked_once_and_late() -> None:
    asked = []
    one = codec(is_trusted=lambda: bool(asked.append(1)) or len(asked) > 1)
    assert asked == []

    complaint(one, Point(1))
    one.decode("result", ID, one.encode("result", ID, 1))
    assert len(asked) == 1

    one.reset()
    assert one.decode("result", ID, one.encode("result", ID, Point(1))) == Point(1)
    assert len(asked) == 2


@pytest.mark.parametrize("options", [{"secret": SECRET}, {"allow_pickle": True}, {"allow_pickle": False}])
def test_the_store_is_not_asked_when_something_else_decides(options: Any) -> None:
    one = codec(is_trusted=lambda: pytest.fail("asked"), **options)
    one.decode("result", ID, one.encode("result", ID, 1))


def test_trouble_of_the_store_is_not_called_a_damaged_message() -> None:
    def away() -> None:
        raise OSError("store is away")

    one = codec(is_trusted=away)
    with pytest.raises(OSError, match="away"):
        one.decode("task", ID, codec().encode("task", ID, ((), {})))
    with pytest.raises(OSError, match="away"):
        one.encode("task", ID, ((), {}))


@pytest.mark.parametrize("value", [Point(1), Colour.RED, collections.defaultdict(list), [{"a": (Point, 1)}], len, "".upper, int, dt.date])
def test_an_untrusted_store_refuses_a_class_at_once(value: Any) -> None:
    text = complaint(codec(), ((0, 1, value), {}), "task")
    assert f"task {ID}: args[2], a" in text
    assert "secret=" in text
    assert "allow_pickle=True" in text
    assert "JSON" in text


def test_the_refusal_names_the_class_and_the_keyword() -> None:
    text = complaint(codec(), ((1,), {"shape": [Point(1)]}), "task")
    assert f"kwargs['shape'], a list, holds {__name__}.Point" in text
    assert f"result {ID}: the value, a {__name__}.Point, holds {__name__}.Point" in complaint(codec(), Point(1))


def test_a_plain_type_itself_does_not_hide_behind_its_values() -> None:
    assert "the class datetime.date itself" in complaint(codec(), [dt.date(2024, 1, 1), dt.date])


def test_a_registered_extension_code_does_not_pass() -> None:
    copyreg.add_extension(__name__, "Point", 240)
    try:
        data = forged(0, pickle.dumps(Point(1), 5))
        assert pickle.loads(data[2:]) == Point(1)
        refusal(codec(), data)
        complaint(codec(), Point(1))
    finally:
        copyreg.remove_extension(__name__, "Point", 240)


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
    assert "at most 1,000 travel" in text
    assert "store it elsewhere" in text
    assert "all arguments together" in complaint(small, (("a" * 600, "b" * 600), {}), "task")
    assert "max_size=" in refusal(small, trusted().encode("result", ID, "a" * 2000))
    assert "at most" in complaint(codec(max_size=1000, compression=True), "a" * 2000)
    assert "at most" in complaint(small, {"error": "a" * 2000}, "error")


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


# -- what cannot be written -------------------------------------------------------------------------------------------------------------


class Stubborn:
    def __reduce__(self) -> None:  # type: ignore[override]
        raise KeyError("not me")


class Unspeakable(Exception):
    def __str__(self) -> None:  # type: ignore[override]
        raise ValueError("nor my name")


class Mute:
    def __reduce__(self) -> None:  # type: ignore[override]
        raise Unspeakable


@pytest.mark.parametrize("options", [CODECS["trusted"], CODECS["untrusted"], CODECS["signed"]])
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (lambda: 1, "a function"),
        (threading.Lock(), "a _thread.lock"),
        ((n for n in ()), "a generator"),
        ([io.StringIO, open(os.devnull)], "a list"),  # noqa: SIM115
        (Stubborn(), f"a {__name__}.Stubborn"),
        (Mute(), f"a {__name__}.Mute"),
        (sys, "a module"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_pickle_cannot_write_is_named(options: Any, value: Any, kind: Any) -> None:
    one = codec(**options)
    for text in (complaint(one, ((0, value), {}), "task"), complaint(one, ((0,), {"a": value}), "task"), complaint(one, value)):
        assert ID in text
        assert f", {kind}, " in text
        assert "pass plain values" in text
    assert "args[1], " in complaint(one, ((0, value), {"b": 1}), "task")
    assert "kwargs['a'], " in complaint(one, ((0,), {"b": 1, "a": value}), "task")


def test_a_value_nested_too_deep_is_named() -> None:
    deep = []
    for _ in range(100_000):
        deep = [deep]
    text = complaint(trusted(), ((deep,), {}), "task")
    assert "args[0], a list, is nested too deep" in text
    while deep:
        deep = deep[0]


# -- what cannot be read ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [CODECS["trusted"], CODECS["untrusted"], CODECS["signed"]])
@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\x00\x00N.", None, "text", 7, b"\x01\x00", b"\x01\x10", b"\x01\x0c", b"\x01\x40", b"\x01\x03N."]
)
@pytest.mark.parametrize("purpose", ["task", "result", "error"])
def test_what_is_no_message_is_refused(options: Any, data: Any, purpose: Any) -> None:
    assert refusal(codec(**options), data, purpose).startswith(f"{purpose} {ID}: ")
    with pytest.raises(DecodeError):
        codec(**options).decode_result(ID, data)


@pytest.mark.parametrize("options", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("version", [2, 3, 255])
def test_a_newer_format_is_told_apart(options: Any, version: Any) -> None:
    data = bytes((version,)) + codec().encode("result", ID, 1)[1:]
    with pytest.raises(NewerFormat, match=f"format {version}.*newer huey wrote it; upgrade"):
        codec(**options).decode("result", ID, data)
    assert issubclass(NewerFormat, DecodeError)


@pytest.mark.parametrize("value", [5, (), ((), {}, 1), ({}, ()), "ab", [[], []], {"a": 1, "b": 2}, None])
def test_what_is_no_call_is_refused(value: Any) -> None:
    for one in (trusted(), codec()):
        assert "not the arguments of a task" in refusal(one, one.encode("result", ID, value), "task")
    assert "not the arguments of a task" in refusal(codec(), forged(1, b"[1,2]"), "task")
    assert "not the description of an error" in refusal(codec(), forged(33, b"[]"), "error")


def test_a_class_that_is_gone_is_named() -> None:
    module = types.ModuleType("gone_by_now")
    module.Old = type("Old", (), {"__module__": "gone_by_now"})  # type: ignore[attr-defined]
    sys.modules["gone_by_now"] = module
    data = trusted().encode("result", ID, [module.Old()])

    del module.Old
    assert "holds gone_by_now.Old, which is not found here" in refusal(trusted(), data)
    del sys.modules["gone_by_now"]
    text = refusal(trusted(), data)
    assert "holds gone_by_now.Old, which is not found here" in text
    assert "deploy" in text


class Bitter:
    """Raises when it is rebuilt."""

    def __init__(self, error: Any) -> None:
        self.error = error

    def __setstate__(self, state: Any) -> None:
        raise state["error"]


@pytest.mark.parametrize(
    "error", [KeyError("x"), AttributeError("x"), ImportError("x"), SystemExit(3), MemoryError(), RecursionError(), Unspeakable()]
)
def test_whatever_a_class_raises_is_a_decode_error(error: Any) -> None:
    for one in (trusted(), codec(secret=SECRET)):
        data = one.encode("result", ID, Bitter(error))
        assert type(error).__name__ in refusal(one, data)


def test_every_cut_and_every_flipped_byte_of_a_trusted_message_is_survived() -> None:
    """In a process of its own, with little memory: a pickle that is trusted may ask for much."""
    done = subprocess.run([sys.executable, "-c", FLIPS], capture_output=True, text=True, timeout=25, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "survived"), done.stderr[-2000:]


FLIPS = """
import datetime, decimal, random, resource
from huey.exceptions import DecodeError
from huey.serializer import Codec

resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
chance = random.Random(1)
value = ((1, "text", b"bytes", 2.5, datetime.datetime(2024, 1, 1)), {"a": [{"b": (1, 2)}], "c": decimal.Decimal(1)})
for options in ({"is_trusted": lambda: True}, {"is_trusted": lambda: True, "compression": True}, {"allow_pickle": True}):
    codec = Codec("q", **options)
    data = codec.encode("task", "1", value)
    cuts = [data[:length] for length in range(len(data))]
    flips = [data[:at] + bytes([chance.randrange(256)]) + data[at + 1:] for at in range(len(data)) for _ in range(6)]
    for bad in cuts + flips:
        try:
            args, kwargs = codec.decode("task", "1", bad)
            assert type(args) is tuple and type(kwargs) is dict
        except DecodeError:
            pass
print("survived")
"""


# -- fuzz: 20,000 cases -----------------------------------------------------------------------------------------------------------------

FUZZ = settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
OPCODES = bytes(sorted({ord(op.code) for op in __import__("pickletools").opcodes}))
SAMPLES = [
    pickle.dumps(value, 5)
    for value in (
        ((1, "text", b"bytes"), {"a": [1.5, None, {1, 2}]}),
        (
            ({"when": dt.datetime(2024, 1, 1, tzinfo=dt.UTC), "much": decimal.Decimal("1.5")}, uuid.UUID(int=1)),
            {"d": collections.deque([1])},
        ),
        ((ZoneInfo("UTC"), fractions.Fraction(1, 3), frozenset([(1, 2)]), 1 << 70, bytearray(b"x")), {}),
    )
]
with contextlib.suppress(ZoneInfoNotFoundError):
    # The first name of a zone that is not on this machine makes Python import what reads the zones of the package tzdata.
    ZoneInfo.no_cache("No such zone")
watching: list[str] = []
seen: list[str] = []


def _watch(event: Any, args: Any) -> None:
    if watching and event in {"pickle.find_class", "exec", "os.system", "subprocess.Popen", "compile"}:
        seen.append(event)


sys.addaudithook(_watch)


def only_a_decode_error(reader: Any, data: Any) -> None:
    watching.append("on")
    try:
        for purpose in ("task", "result", "error"):
            try:
                reader.decode(purpose, ID, data)
            except DecodeError:
                continue
    finally:
        watching.clear()
    assert seen == []


@st.composite
def mutated(draw: Any) -> Any:
    """A real pickle, with some bytes changed, put in or taken out."""
    body = bytearray(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body) - 1))
        body[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3) | st.sampled_from([bytes([op]) for op in OPCODES]))
        if not body:
            break
    return bytes(body)


@FUZZ
@given(st.binary(max_size=80))
def test_fuzz_anything(data: Any) -> None:
    only_a_decode_error(codec(), data)
    only_a_decode_error(codec(secret=SECRET), data)


@FUZZ
@given(st.sampled_from([0, 1, 2, 4, 8, 16, 32, 33, 36]), st.binary(max_size=80))
def test_fuzz_the_body(flags: Any, body: Any) -> None:
    only_a_decode_error(codec(), forged(flags, body))


@FUZZ
@given(st.lists(st.sampled_from([bytes([op]) for op in OPCODES]) | st.binary(min_size=1, max_size=4), max_size=25))
def test_fuzz_opcodes(parts: Any) -> None:
    only_a_decode_error(codec(), forged(0, b"\x80\x05" + b"".join(parts) + b"."))


# It computes for 20 s on a machine that has nothing else to do.
@pytest.mark.timeout(120)
@FUZZ
@given(mutated(), st.sampled_from([0, 4, 8]))
def test_fuzz_a_real_message(body: Any, packing: Any) -> None:
    packed = {0: body, 4: zlib.compress(body, 1, 31), 8: zlib.compress(body, 1)}[packing]
    only_a_decode_error(codec(), forged(packing, packed))


@FUZZ
@given(st.integers(0, 10_000), st.integers(1, 255), st.integers(0, 10_000))
def test_fuzz_a_signed_message_is_always_refused(at: Any, flip: Any, cut: Any) -> None:
    one = codec(secret=SECRET, compression=True)
    data = bytearray(one.encode("result", ID, "text" * 20))
    data[at % len(data)] ^= flip
    refusal(one, bytes(data))
    refusal(one, bytes(data[: cut % len(data)]))


# -- signatures -------------------------------------------------------------------------------------------------------------------------


def test_a_signature_binds_queue_purpose_and_id() -> None:
    data = codec("mail", secret=SECRET).encode("task", ID, ((1,), {}))
    assert codec("mail", secret=SECRET).decode("task", ID, data) == ((1,), {})

    for reader, purpose, id in [
        (codec("bail", secret=SECRET), "task", ID),
        (codec("mail", secret=SECRET), "result", ID),
        (codec("mail", secret=SECRET), "task", ID[:-1] + "2"),
        (codec("mail", secret=SECRET + "!"), "task", ID),
        (codec("mai", secret=SECRET), "task", "l" + ID),
    ]:
        with pytest.raises(DecodeError, match=f"^{purpose} {id}: signature does not match.*another secret=.*another queue"):
            reader.decode(purpose, id, data)


def test_parts_cannot_be_moved_over_their_borders() -> None:
    data = codec("ab", secret=SECRET).encode("result", "c", 1)
    with pytest.raises(DecodeError, match="signature"):
        codec("a", secret=SECRET).decode("result", "bc", data)


def test_an_error_cannot_be_made_a_result_nor_the_other_way() -> None:
    one = codec(secret=SECRET, serializer=JSONSerializer())
    error, result = one.encode("error", ID, {"error": "x"}), one.encode("result", ID, {"error": "x"})
    for data in (error, result):
        swapped = bytes((1, data[1] ^ 32)) + data[2:]
        with pytest.raises(DecodeError, match="signature"):
            one.decode_result(ID, swapped)


def test_nothing_looks_at_a_message_before_its_signature_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    one = codec(secret=SECRET, compression=True)
    data = one.encode("result", ID, "a" * 1000)
    for name in ("inflated", "load_any", "load_plain", "from_json"):
        monkeypatch.setattr(f"huey.serializer.codec.{name}", lambda *_: pytest.fail("looked"))
    assert "signature" in refusal(one, data[:-1] + b"x")


def test_a_missing_secret_and_a_missing_signature_are_named() -> None:
    signed, bare = codec(secret=SECRET).encode("result", ID, 1), codec().encode("result", ID, 1)
    assert "it is signed, and this process has no secret=" in refusal(codec(), signed)
    assert "it is signed" in refusal(codec(allow_pickle=True), signed)
    assert "it is not signed, and this process has a secret=" in refusal(codec(secret=SECRET), bare)
    assert "it is not signed" in refusal(codec(secret=SECRET, is_trusted=yes, allow_pickle=True), bare)


def test_secrets_rotate() -> None:
    old, new, both = codec(secret="old"), codec(secret=b"new"), codec(secret=["new", b"old"])
    assert both.decode("result", ID, old.encode("result", ID, 1)) == 1
    assert new.decode("result", ID, both.encode("result", ID, 2)) == 2
    refusal(old, both.encode("result", ID, 3))
    assert both.decode("result", ID, codec(secret=("new",)).encode("result", ID, 4)) == 4


@pytest.mark.parametrize("secret", ["", b"", " ", [], (), [""], ["good", ""], [None], 7, ["good", 7]])
def test_an_empty_secret_is_refused(secret: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"secret=.*secrets\.token_urlsafe"):
        codec(secret=secret)


def test_messages_do_not_tell_the_secret() -> None:
    one = codec(secret=SECRET)
    texts = [
        refusal(one, codec().encode("result", ID, 1)),
        refusal(one, codec(secret="x").encode("result", ID, 1)),
        complaint(one, sys),
        repr(one),
    ]
    assert not any(SECRET in text for text in texts)


# -- serializers of the user ------------------------------------------------------------------------------------------------------------


def test_a_users_serializer_does_all_but_errors() -> None:
    one = codec(serializer=TextSerializer(), secret=SECRET)
    data = one.encode("result", ID, "text")
    assert data.endswith(b"text")
    assert one.decode_result(ID, data) == (False, "text")
    assert one.decode_result(ID, one.encode("error", ID, {"error": "x"})) == (True, {"error": "x"})


def test_trouble_of_a_users_serializer_is_named() -> None:
    one = codec(serializer=TextSerializer())
    assert "cannot be written by TextSerializer (AttributeError" in complaint(one, 7)
    assert "args[1], an int," in complaint(one, (("a", 7), {}), "task")
    assert "UnicodeDecodeError" in refusal(codec(serializer=_Broken()), codec(serializer=_Broken()).encode("result", ID, 1))
    assert "as a str; it must be bytes" in complaint(codec(serializer=_Broken()), 2)
    assert "serializer=" in refusal(codec(), one.encode("result", ID, "x"))


class _Broken:
    def serialize(self, data: Any) -> Any:
        return memoryview(b"\xff") if data == 1 else "text"

    def deserialize(self, data: Any) -> Any:
        return data.decode()


@pytest.mark.parametrize("serializer", [object(), 7, Serializer, JSONSerializer, json])
def test_what_is_no_serializer_is_refused(serializer: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"serializer=.*serialize\(value\) -> bytes"):
        codec(serializer=serializer)


@pytest.mark.parametrize("options", [{"compression_level": 10}, {"compression_level": -1}, {"compression_level": "6"}])
def test_a_compression_level_is_checked(options: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"compression_level=.*0 .none. to 9"):
        codec(**options)
    with pytest.raises(ConfigurationError, match="compression_level="):
        Serializer(**options)


def test_json_refuses_what_it_does_not_have() -> None:
    one = codec(serializer=JSONSerializer())
    text = complaint(one, ((1, {2}), {}), "task")
    assert "args[1], a set, cannot be written as JSON" in text
    assert "lists and dicts" in text
    ring = []
    ring.append(ring)
    for value in ({1}, b"x", Point(1), ring, dt.date(2024, 1, 1)):
        with pytest.raises(EncodeError):
            JSONSerializer().serialize(value)
    for data in (b"", b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(DecodeError):
            JSONSerializer().deserialize(data)


@pytest.mark.parametrize("options", [{}, {"compression": True}, {"compression": True, "use_zlib": True, "compression_level": 1}])
def test_serializers_work_alone(options: Any) -> None:
    value = {"a": [1, "b" * 100]}
    for one in (Serializer(**options), JSONSerializer(**options), SignedSerializer("s", **options)):
        assert one.deserialize(one.serialize(value)) == value
    assert (len(Serializer(**options).serialize(value)) < 100) == bool(options)


def test_a_subclass_overrides_two_methods_and_gets_the_rest() -> None:
    class Text(Serializer):
        def _serialize(self, data: Any) -> Any:
            return data.encode()

        def _deserialize(self, data: Any) -> Any:
            return data.decode()

    one = Text(compression=True)
    assert gzip.decompress(one.serialize("a" * 100)) == b"a" * 100
    both = codec(serializer=one, secret=SECRET)
    assert both.decode("result", ID, both.encode("result", ID, "a" * 100)) == "a" * 100


def test_messages_from_before_compression_are_read_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    data = Serializer().serialize([1])
    with caplog.at_level(logging.WARNING, "huey"):
        assert Serializer(compression=True).deserialize(data) == [1]
    assert "compression is on" in caplog.text
    assert Serializer(compression=True).deserialize(Serializer(compression=True, use_zlib=True).serialize([1])) == [1]


def test_a_serializer_refuses_bombs_too() -> None:
    class Small(Serializer):
        max_size = 1000

    with pytest.raises(DecodeError, match="more than 1,000 bytes"):
        Small(compression=True).deserialize(Serializer(compression=True).serialize("a" * 2000))
    with pytest.raises(EncodeError, match="at most 1,000"):
        Small(compression=True).serialize("a" * 2000)


def test_a_signed_serializer_refuses_every_changed_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    one = SignedSerializer(secret="s", compression=True)
    data = one.serialize("a" * 100)
    monkeypatch.setattr("huey.serializer.formats.inflated", lambda *_: pytest.fail("looked"))
    for at in range(len(data)):
        with pytest.raises(ValueError, match="signature does not match"):
            one.deserialize(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    for other in (SignedSerializer("t"), SignedSerializer("s", salt="other"), SignedSerializer(b"s", salt=b"x")):
        with pytest.raises(ValueError, match="signature"):
            other.deserialize(data)


@pytest.mark.parametrize("secret", [None, "", b""])
def test_a_signed_serializer_needs_a_secret(secret: Any) -> None:
    with pytest.raises(ConfigurationError, match="secret="):
        SignedSerializer(secret)
    with pytest.raises(ConfigurationError, match="secret="):
        SignedSerializer()

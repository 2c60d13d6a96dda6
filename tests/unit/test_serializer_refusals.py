"""What cannot be written or read, and 20,000 damaged messages: each is refused, none does anything else."""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import decimal
import fractions
import io
import os
import pickle
import subprocess
import sys
import threading
import types
import uuid
import zlib
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huey.exceptions import DecodeError
from huey.serializer import NewerFormat
from tests.unit.serializing import CODECS, ID, SECRET, codec, complaint, forged, refusal, trusted

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
        assert "but a task's arguments are a tuple and a dict" in refusal(one, one.encode("result", ID, value), "task")
    assert "but a task's arguments are a tuple and a dict" in refusal(codec(), forged(1, b"[1,2]"), "task")
    assert "but the description of an error is a dict" in refusal(codec(), forged(33, b"[]"), "error")


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


def test_every_cut_and_flipped_byte_of_a_message_is_survived() -> None:
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

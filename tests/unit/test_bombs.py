"""What a message takes when it is read is counted before anything of it is built: 64 MB, or 16 times the message, and nothing crashes."""

from __future__ import annotations

import collections
import contextlib
import datetime
import decimal
import fractions
import functools
import pickle
import random
import resource
import struct
import time
import uuid
import zlib
import zoneinfo
from collections.abc import Callable
from typing import Any

import pytest

from huey.exceptions import DecodeError, EncodeError
from huey.inspector import SHOWN_BYTES
from huey.serializer import Codec, JSONSerializer
from huey.serializer.budget import LEAST, budget, check_pickle, most_memory
from huey.serializer.pickles import verify_plain
from huey.serializer.weights import is_surely_small
from tests.crash.tools import KILLS
from tests.support.fuzzed import messages

START = b"\x80\x05"
PRIME = (1 << 61) - 1
BIG = 64_000_000


def named(module: bytes, name: bytes) -> bytes:
    """A class, on the stack and in the memo."""
    return b"".join(b"\x8c" + bytes([len(it)]) + it for it in (module, name)) + b"\x93\x94"


def kept(*parts: bytes) -> bytes:
    """Objects in the memo only."""
    return b"".join(part + b"\x940" for part in parts)


DEQUE = named(b"collections", b"deque") + b"0"
ORDERED = named(b"collections", b"OrderedDict") + b"0"


def got(place: int) -> bytes:
    return b"j" + struct.pack("<I", place)


def long1(number: int, size: int = 16) -> bytes:
    return b"\x8a" + bytes([size]) + number.to_bytes(size, "little", signed=True)


BOMBS: dict[str, Callable[[], bytes]] = {
    # What is made again and again of one argument.
    "a list copied into deques": lambda: DEQUE + b"]\x94(" + b"N" * 4300 + b"e0" + b"(" + b"h\x00h\x01\x85R" * 10_000 + b"t.",
    "a dict copied into ordered dicts": lambda: (
        ORDERED + b"}\x94(" + b"".join(b"M" + struct.pack("<H", n) + b"N" for n in range(4300)) + b"u0(" + b"h\x00h\x01\x85R" * 1000 + b"t."
    ),
    "long digits made into decimals": lambda: (
        named(b"decimal", b"Decimal") + b"0X\xa0\x0f\0\0" + b"7" * 4000 + b"\x940(" + b"h\x00h\x01\x85R" * 5_000 + b"t."
    ),
    # Many of what takes one byte.
    "empty sets": lambda: b"(" + b"\x8f" * 1_000_000 + b"t.",
    "empty lists": lambda: b"(" + b"]" * 1_000_000 + b"t.",
    "empty dicts": lambda: b"(" + b"}" * 1_000_000 + b"t.",
    "frozensets": lambda: b"(" + b"(\x91" * 500_000 + b"t.",
    "tuples": lambda: b"(" + b"N\x85" * 1_000_000 + b"t.",
    "bytearrays": lambda: b"(" + (b"\x96" + bytes(8)) * 1_000_000 + b"t.",
    "floats": lambda: b"](" + (b"G" + b"\x01" * 8) * 1_700_000 + b"e.",
    "marks": lambda: b"(" * 8_000_000 + b"t" * 8_000_000 + b".",
    "places in the memo": lambda: b"N" + b"\x94" * 8_000_000 + b".",
    # Repetition by the memo.
    "lists that double": lambda: b"]\x94" + b"".join(b"](" + got(n) * 2 + b"e\x94" for n in range(60)) + b".",
    "a key that doubles": lambda: b"}N\x85\x94" + b"".join(got(n) * 2 + b"\x86\x94" for n in range(60)) + b"Ns.",
    "dicts that double": lambda: b"}\x94" + b"".join(b"}(K\x00" + got(n) + b"K\x01" + got(n) + b"u\x94" for n in range(60)) + b".",
    "frozensets that double": lambda: b"(\x91\x94" + b"".join(b"(" + got(n) + got(n) + b"\x85\x91\x94" for n in range(60)) + b".",
    # Nesting.
    "nested slices": lambda: named(b"builtins", b"slice") + b"h\x00" * 400_000 + b"N" + b"\x85R" * 400_000 + b".",
    "nested lists": lambda: b"]" * 100_000 + b"a" * 99_999 + b".",
    "nested tuples": lambda: b")" + b"\x85" * 100_000 + b".",
    "nested deques": lambda: DEQUE + b"h\x00)R" * 100_000 + b"a" * 99_999 + b".",
    "deques nested from the outside": lambda: (
        DEQUE + kept(*[b"h\x00)R"] * 50_000) + b"".join(got(n) + got(n + 1) + b"a0" for n in range(1, 50_000)) + b"h\x01."
    ),
    # Keys that hash alike.
    "large integers": lambda: b"}(" + b"".join(long1(PRIME * n, 10) + b"N" for n in range(1, 30_001)) + b"u.",
    "large integers in a set": lambda: b"\x8f(" + b"".join(long1(PRIME * n, 10) for n in range(1, 30_001)) + b"\x90.",
    "large integers one by one": lambda: b"}" + b"".join(long1(PRIME * n, 10) + b"Ns" for n in range(1, 30_001)) + b".",
    "tuples of -1 and -2": lambda: (
        b"\x8f("
        + b"".join(
            b"(" + b"".join(b"J\xff\xff\xff\xff" if n >> k & 1 else b"J\xfe\xff\xff\xff" for k in range(15)) + b"t" for n in range(20_000)
        )
        + b"\x90."
    ),
    "tuples of large integers": lambda: b"(" + b"".join(long1(PRIME * n, 10) + b"\x85" for n in range(1, 30_001)) + b"\x91.",
    "decimals": lambda: (
        named(b"decimal", b"Decimal")
        + b"0\x8f("
        + b"".join(b"h\x00\x8c" + bytes([len(text)]) + text + b"\x85R" for text in (str(PRIME * n).encode() for n in range(1, 20_000)))
        + b"\x90."
    ),
    "uuids": lambda: (
        named(b"uuid", b"UUID")
        + b"0\x8f("
        + b"".join(b"h\x00)\x81}\x8c\x03int" + long1(PRIME * n) + b"sb" for n in range(1, 20_000))
        + b"\x90."
    ),
    # Counts beyond the end.
    "a long that is not there": lambda: b"\x8b" + struct.pack("<I", 2**31 - 1) + b"x.",
    "a bytearray that is not there": lambda: b"\x96" + struct.pack("<Q", 2**40) + b"x.",
    "a frame that is not there": lambda: b"\x95" + struct.pack("<Q", 2**63) + b"N.",
}
"""Each is made when its test runs: together they are 100 MB."""


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_is_built(name: str) -> None:
    bomb = BOMBS[name]()
    message = bytes([1, 8]) + zlib.compress(START + bomb, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(DecodeError):
        Codec("q").decode_plain("result", "id", message)

    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    # The machine may keep what the test itself took.
    assert grown <= BIG + len(bomb)


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"[" + b"[]," * 4_000_000 + b"[]]",
        lambda: b"[" * 100_000 + b"]" * 100_000,
        lambda: b"[" + b"1e9," * 3_000_000 + b"1]",
    ],
    ids=["many", "deep", "floats"],
)
def test_json_is_counted_too(make: Callable[[], bytes]) -> None:
    body = make()
    with pytest.raises(DecodeError):
        Codec("q").decode_plain("result", "id", bytes([1, 9]) + zlib.compress(body, 1))
    with pytest.raises(DecodeError):
        Codec("q", serializer=JSONSerializer()).decode("result", "id", bytes([1, 9]) + zlib.compress(body, 1))


def test_brackets_in_a_text_are_no_containers() -> None:
    text = '[,:{"\\' * 500_000
    one = Codec("q", serializer=JSONSerializer())
    assert one.decode("result", "id", one.encode("result", "id", text)) == text


def test_a_legal_14_mib_list_of_integers_is_read() -> None:
    numbers = list(range(2_990_000))
    one = Codec("q", warn_size=1 << 30)
    message = one.encode("result", "id", numbers)
    assert len(message) > 14 * (1 << 20)
    assert one.decode("result", "id", message) == numbers
    assert one.decode_plain("result", "id", message) == numbers


@pytest.mark.parametrize("most", [256, 1 << 16, 1 << 31, 1 << 63])
def test_integers_of_each_size_are_read_by_the_megabyte(most: int) -> None:
    body = pickle.dumps([random.Random(1).randrange(most)] + [most - 1 - n % 200 for n in range(1_000_000)], 5)
    check_pickle(body, budget(len(body)))


RECURSIVE: list[Any] = [1]
RECURSIVE.append(RECURSIVE)


@pytest.mark.parametrize(
    "value",
    [
        [{"name": "ann", "age": n} for n in range(2000)],
        {(n, m): None for n in range(50) for m in range(50)},
        {(f"a{n}", n) for n in range(3000)},
        {datetime.date.fromordinal(700_000 + n) for n in range(3000)},
        {n / 2 for n in range(3000)},
        {uuid.UUID(int=n) for n in range(900)},
        {decimal.Decimal(n) for n in range(900)},
        {2**80 + n for n in range(900)},
        frozenset([1, (2, frozenset([3]))]),
        collections.deque([1, [2]], 5),
        collections.OrderedDict(a=[1], b=collections.OrderedDict()),
        [fractions.Fraction(1, 3)] * 500,
        datetime.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
        bytearray(b"x" * 5000),
        ["y" * 5000] * 100,
        slice(1, None, 2),
        2**5000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_people_send_is_read(value: Any) -> None:
    one = Codec("q")
    assert one.decode("result", "id", one.encode("result", "id", value)) == value


def test_what_holds_itself_is_read() -> None:
    one = Codec("q")
    back = one.decode("result", "id", one.encode("result", "id", RECURSIVE))
    assert back[1] is back


def test_a_writer_is_told_at_once_what_readers_would_refuse() -> None:
    doubled: list[Any] = []
    for _ in range(40):
        doubled = [doubled, doubled]
    with pytest.raises(EncodeError, match=r"args\[0\], a list, repeats its parts too often.*sign the messages"):
        Codec("q").encode("task", "id", ((doubled,), None))


@pytest.fixture
def a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any message may take a tenth of the memory: counting is as exact, and takes a tenth of the time."""
    monkeypatch.setattr("huey.serializer.budget.LEAST", LEAST // 10)


LEGAL: dict[str, Callable[[], Any]] = {
    "rows": lambda: [{"id": n, "name": f"n{n}", "ok": True} for n in range(6_000)],
    "datetimes": lambda: [datetime.datetime(2026, 1, 1) + datetime.timedelta(n) for n in range(20_000)],
    "sets of one": lambda: [{n} for n in range(50_000)],
    "places of one text": lambda: ["x" * 10_000] * 1000,
    "places of one list": lambda: [[0] * 1000] * 1000,
    "decimals as keys": lambda: {decimal.Decimal(n): n for n in range(2_000)},
    "fractions as keys": lambda: {fractions.Fraction(n, 7): n for n in range(2_000)},
    "uuids as keys": lambda: {uuid.UUID(int=n << 64 | n * n): n for n in range(5_000)},
    "tuples as keys": lambda: {(n, n % 7): n for n in range(3_000)},
    "nothing": lambda: [None] * 450_000,
    "small lists": lambda: [[n] for n in range(6_000)],
}
"""As many objects as 64 bytes for each allow in a tenth of the memory, or nearly."""


@pytest.mark.usefixtures("a_tenth")
@pytest.mark.parametrize("name", LEGAL)
def test_64_bytes_for_each_object_are_refused_by_nobody(name: str) -> None:
    value = LEGAL[name]()
    body = pickle.dumps(value, 5)

    check_pickle(body, budget(len(body)))
    verify_plain(value, body, budget(len(body)), len(body))


@pytest.mark.usefixtures("a_tenth")
@pytest.mark.parametrize(
    "make",
    [
        lambda: [[0] * 1000] * 100_000,
        lambda: {2**62 + n: None for n in range(2000)},
        lambda: [object],
        lambda: [decimal.Decimal(1)],
        lambda: functools.reduce(lambda inner, _: [inner], range(300), []),  # type: ignore[arg-type, return-value]
        lambda: [[n] for n in range(60_000)],
        lambda: ["\U0001f600" + "x" * 64 * 1024] * 3,
    ],
    ids=["repeated", "wide keys", "class", "decimal", "deep", "many", "text"],
)
def test_the_writers_quick_look_passes_only_what_readers_take(make: Callable[[], Any]) -> None:
    value = make()
    body = pickle.dumps(value, 5)
    if is_surely_small(value, len(body), budget(len(body)), most_memory(len(body))):
        check_pickle(body, budget(len(body)))


def test_keys_that_hash_alike_are_refused_by_their_name() -> None:
    with pytest.raises(DecodeError, match="keys that have the same hash"):
        check_pickle(START + BOMBS["decimals"](), LEAST)


@pytest.mark.usefixtures("a_tenth")
def test_what_python_takes_for_compressed_is_bounded_too() -> None:
    body = pickle.dumps([{n} for n in range(50_000)], 5)
    with pytest.raises(DecodeError, match="takes more than 6,400,000 bytes"):
        check_pickle(body, budget(len(body)), 100)


def test_a_store_that_is_trusted_is_not_counted() -> None:
    value = [[None] * 1000] * 5000
    for one in (Codec("q", is_trusted=lambda: True), Codec("q", allow_pickle=True), Codec("q", secret="s")):
        assert one.decode("result", "id", one.encode("result", "id", value)) == value


def test_the_budget_grows_with_the_bytes_that_were_stored() -> None:
    assert budget(100) == LEAST == 64_000_000
    assert budget(10_000_000) == 160_000_000


def test_those_who_look_do_not_decompress_more_than_they_show() -> None:
    one = Codec("q", compression=True)
    message = one.encode("result", "id", "a" * 10_000_000)
    assert len(message) < SHOWN_BYTES
    with pytest.raises(DecodeError, match="when decompressed"):
        one.decode_plain("result", "id", message, SHOWN_BYTES)


# -- fuzzed -------------------------------------------------------------------------------------------------------------------------------


def fuzz(seed: int, count: int) -> None:
    """Each message is read or refused, in little memory."""
    reader, slowest = Codec("q"), 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for message in messages(random.Random(seed), count):
        begun = time.process_time()
        with contextlib.suppress(DecodeError):
            reader.decode_plain("result", "id", message)
        slowest = max(slowest, time.process_time() - begun)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"{count:,} messages, seed {seed}: slowest {slowest * 1000:.0f} ms, {grown // 1_000_000} MB more")
    assert grown <= BIG


def test_fuzzed_messages_are_read_or_refused() -> None:
    fuzz(1, 2000)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(KILLS // 15))
def test_many_fuzzed_messages_are_read_or_refused(seed: int) -> None:
    fuzz(seed + 100, 50_000)

"""What is written is read again; what others may have written runs nothing, and gives a value or a DecodeError."""

from __future__ import annotations

import collections
import copyreg
import datetime as dt
import decimal
import fractions
import gzip
import hmac
import json
import logging
import os
import pickle
import sys
import types
import uuid
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huey.exceptions import ConfigurationError, DecodeError, EncodeError
from huey.serializer import JSONSerializer, Serializer, SignedSerializer
from huey.serializer.signing import derived_key
from tests.unit.serializing import CODECS, ID, SECRET, Colour, Point, TextSerializer, codec, complaint, forged, refusal, trusted, yes

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
    with pytest.raises(EncodeError, match=r"task b: args\[0\].* 101 bytes|task b: .* the limit is 100"):
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
        for word in (ID, f"{Point.__module__}.Point", "secret=", "allow_pickle=True"):
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
    assert f"kwargs['shape'], a list, holds {Point.__module__}.Point" in text
    assert f"result {ID}: the value, a {Point.__module__}.Point, holds {Point.__module__}.Point" in complaint(codec(), Point(1))


def test_a_plain_type_itself_does_not_hide_behind_its_values() -> None:
    assert "the class datetime.date itself" in complaint(codec(), [dt.date(2024, 1, 1), dt.date])


def test_a_registered_extension_code_does_not_pass() -> None:
    copyreg.add_extension(Point.__module__, "Point", 240)
    try:
        data = forged(0, pickle.dumps(Point(1), 5))
        assert pickle.loads(data[2:]) == Point(1)
        refusal(codec(), data)
        complaint(codec(), Point(1))
    finally:
        copyreg.remove_extension(Point.__module__, "Point", 240)


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


def test_nothing_looks_at_a_message_before_its_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    one = codec(secret=SECRET, compression=True)
    data = one.encode("result", ID, "a" * 1000)
    for name in ("decompress", "load_any", "load_plain", "from_json"):
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


def test_messages_from_before_compression_give_a_warning(caplog: pytest.LogCaptureFixture) -> None:
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
    monkeypatch.setattr("huey.serializer.formats.decompress", lambda *_: pytest.fail("looked"))
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

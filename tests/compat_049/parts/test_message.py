"""What travels through parts: it comes back as it was, and nothing else passes for it."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huey.exceptions import DecodeError
from huey.storage.legacy.message import Message

WHOLE = Message("id", "app.add", b"\0\xff", 5, 6, 1, 0.5, "{}", 7, 8, 1, 2, 3, 9, 4, "error")


def test_a_message_comes_back_as_it_was() -> None:
    assert Message.read(WHOLE.to_bytes()) == WHOLE
    assert Message.read(WHOLE.to_bytes().decode()) == WHOLE


def test_what_has_its_default_does_not_travel() -> None:
    assert json.loads(Message("id", "app.add", b"").to_bytes()) == {"huey": 1, "id": "id", "name": "app.add", "payload": ""}


@pytest.mark.parametrize(
    "data",
    [b"", b"\x80", "x", None, 5, b"[]", b'"huey"', b"{}", b'{"huey": 2, "id": "a", "name": "b", "payload": ""}', b"[" * 100_000],
)
def test_what_is_no_message_is_told(data: Any) -> None:
    with pytest.raises(DecodeError):
        Message.read(data)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("id", value) for value in (5, None, "\0", "\ud800")],
        *[("name", value) for value in (5, None, "\0", "\ud800")],
        *[("payload", value) for value in (5, None, "?", "ä")],
        *[("due", value) for value in ("5", 5.5, True, 2**63)],
        *[("retries", value) for value in (None, -1, 2**31, True)],
        *[("retry_delay", value) for value in (None, -1, float("nan"), float("inf"))],
        *[("token", value) for value in (None, -1, "1")],
        ("reason", 5),
        ("unknown", 5),
    ],
)
def test_a_field_that_cannot_be_is_told(field: str, value: Any) -> None:
    with pytest.raises(DecodeError):
        Message.read(json.dumps({"huey": 1, "id": "a", "name": "b", "payload": "", field: value}))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5).map(json.dumps))
def test_whatever_is_read_is_a_message_or_an_error_of_ours(data: Any) -> None:
    assert Message.read_or_none(data) is None or isinstance(Message.read(data), Message)


def test_reading_a_pickle_runs_nothing() -> None:
    class Canary:
        def __reduce__(self) -> Any:
            return pytest.fail, ("a pickle was loaded",)

    with pytest.raises(DecodeError):
        Message.read(pickle.dumps(Canary()))

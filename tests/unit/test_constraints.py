"""The terms of a call: keys made of arguments, and wishes that cannot work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from huey.task.constraints import LONGEST, ConstraintSpec, parse_constraints
from huey.task.record_options import DONE, NONE, WAITING, Constraints, read_constraints, with_constraints


def add(a: Any, b: Any = 2, *rest: Any, c: Any = None) -> None:
    """A function to call."""


def key(*args: Any, unique: Any = True, **kwargs: Any) -> str | None:
    wishes = parse_constraints(unique, DONE, None, None, False)
    assert wishes is not None
    return wishes.for_call("app.add", add, args, kwargs).unique


def limit(which: Any, *args: Any, **kwargs: Any) -> str | None:
    wishes = parse_constraints(False, DONE, 3, which, False)
    assert wishes is not None
    return wishes.for_call("app.add", add, args, kwargs).concurrency_key


def test_without_wishes_there_are_no_terms() -> None:
    assert parse_constraints(False, DONE, None, None, False) is None


def test_calls_are_the_same_however_their_arguments_are_written() -> None:
    assert key(1) == key(a=1) == key(1, 2) == key(b=2, a=1) == key(1, c=None)
    assert key({"x": 1, "y": [1, (2,)]}) == key({"y": [1, (2,)], "x": 1})
    assert key({1, 2, 3}) == key({3, 2, 1})


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 2), (1, "1"), (None, 0), ([1, 2], [2, 1]), ({"a": 1}, {"b": 1}), ([], [[]]), (b"a", "61"), (date(2025, 1, 1), "2025-01-01")],
)
def test_calls_with_other_arguments_differ(one: Any, other: Any) -> None:
    assert key(one) != key(other)


class Colour(IntEnum):
    RED = 1


class Word(StrEnum):
    A = "a"


class Pair(NamedTuple):
    x: int
    y: int


VALUES: list[Any] = [
    *(
        None,
        "None",
        "null",
        "",
        True,
        "true",
        "True",
        False,
        0,
        "0",
        0.0,
        -0.0,
        1,
        "1",
        1.0,
        "1.0",
        1.5,
        10**30,
        float(10**30),
        str(10**30),
    ),
    *([], (), {}, set(), frozenset(), "[]", "{}", [[]], [()], [None], ["None"], ([],), [1, 2], (1, 2), {1, 2}, frozenset({1, 2}), "[1, 2]"),
    *({"a": 1}, [["a", 1]], [("a", 1)], {"dict": [["a", 1]]}, OrderedDict(a=1), {"a": "1"}, {1: "x"}, {"1": "x"}, {1.0: "x"}, {None: 1}),
    *({"None": 1}, {"list": []}, {"tuple": []}, {"bytes": "61"}, b"a", bytearray(b"a"), "a", "61", b"", [b"a"], {"int": hex(10**30)}),
    *(Colour.RED, Word.A, Pair(1, 2), Decimal("1"), Decimal("1.0"), Fraction(1), UUID(int=1), UUID(int=1).hex, PurePosixPath("a")),
    *(date(2025, 1, 1), datetime(2025, 1, 1), "2025-01-01", datetime(2025, 1, 1, tzinfo=UTC), timedelta(1), time(1)),
    *("a:b", 'a": 1', '["app.add", 1]', "sha256:" + "0" * 64, "x" * 300, "x" * 301, ["x" * 300]),
]


@pytest.mark.parametrize("unique", [True, "a", ["a"], lambda a: a], ids=["all", "one", "some", "function"])
def test_keys_are_typed_and_two_different_values_never_meet(unique: Any) -> None:
    found = [key(value, unique=unique) for value in VALUES]
    met = [(one, other) for n, one in enumerate(VALUES) for m, other in enumerate(VALUES) if n < m and found[n] == found[m] is not None]
    assert met == []


def test_names_and_keys_do_not_run_into_each_other() -> None:
    wishes = parse_constraints(lambda a: a, DONE, 3, lambda a: a, False)
    assert wishes is not None
    calls = [
        ("a", "b:c"),
        ("a:b", "c"),
        ("a", 'b", "c'),
        ('a", "b', "c"),
        ("a:b:c", ""),
        ('["a"', "b"),
        ("sha256", "0" * 64),
        ("a" * 250, "b"),
    ]
    terms = [wishes.for_call(name, add, (value,), {}) for name, value in calls]
    assert len({it.unique for it in terms}) == len({it.concurrency_key for it in terms}) == len(calls)


def test_a_limit_of_the_function_meets_none_of_a_key() -> None:
    assert limit(None, 1) not in [limit("a", value) for value in ("", 0, [], "app.add")]


def test_keys_are_the_same_in_every_process() -> None:
    value = {"set": {"b", "a", 3}, "pairs": {("x", 1): None, "y": [1.5]}, 7: frozenset({b"1"})}
    code = f"from tests.unit.test_constraints import key; print(key({value!r}))"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert said == {f"{key(value)}\n"}


def test_a_key_may_be_made_of_some_parameters_or_by_a_function() -> None:
    assert key("x", 1, unique="a") == key("x", 5, unique="a") == '["app.add", "x"]'
    assert key("x", 1, unique=["a", "b"]) != key("x", 5, unique=["a", "b"])
    assert key("X", unique=lambda a, b=2: a.lower()) == '["app.add", "x"]'
    assert key("X", unique=lambda a: None) is None


def test_a_long_key_is_kept_short() -> None:
    found = key("x" * 10_000, unique="a")

    assert found is not None
    assert len(found) <= LONGEST
    assert found != key("x" * 10_001, unique="a")


def test_a_limit_is_of_the_function_or_of_a_key() -> None:
    assert limit(None, 1) == limit(None, 2) == '["app.add"]'
    assert limit("a", "ann") == '["app.add", "ann"]'
    assert limit("a", None) is None


def test_a_rate_is_of_the_function_or_of_a_key() -> None:
    def of(**given: Any) -> Constraints:
        wishes = parse_constraints(**given)
        assert wishes is not None
        return wishes.for_call("app.add", add, ("ann",), {})

    assert of(rate="20/s") == Constraints(concurrency_key='["app.add"]', rate=(20, 1_000_000))
    assert of(rate="5/10m", rate_key="a") == Constraints(concurrency_key='["app.add", "ann"]', rate=(5, 600_000_000))
    assert of(rate=(2, 0.5), rate_key=lambda a: None).concurrency_key is None
    assert of(rate=(2, timedelta(days=1)), concurrency=3) == Constraints(
        concurrency_key='["app.add"]', max_running=3, rate=(2, 86_400_000_000)
    )


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        ("20", r"did you mean '20/s'\?"),
        (20, r"did you mean '20/s'\?"),
        ("20 per second", r"did you mean '20/s'\?"),
        ("5 / 10 minutes", r"did you mean '5/10m'\?"),
        ("20/H", r"did you mean '20/h'\?"),
        ("20/month", r"\(units s, m, h, d\), or \(20, seconds\), of at least 1 task$"),
        ("20/ms", r"of at least 1 task$"),
        *(
            (rate, "give a text such as '20/s'")
            for rate in ("x", "0/s", "1/0s", "2/y", (0, 1), (1, 0), (1.5, 1), (True, 1), (1,), (1, 1e-9), 2.5)
        ),
    ],
)
def test_what_is_not_a_rate_is_refused(rate: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_constraints(rate=rate)


def ring() -> list[object]:
    made: list[object] = []
    made.append(made)
    return made


def test_a_path_makes_a_key_by_a_name_all_pythons_know(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(PurePosixPath("/a"), unique="a")

    monkeypatch.setattr(PurePosixPath, "__module__", "pathlib._local")

    assert key(PurePosixPath("/a"), unique="a") == before


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: key(object()), "a value of type builtins.object cannot be used in a key"),
        (lambda: key(1, unique="z"), "the call has no argument 'z'"),
        (lambda: key(1, 2, 3, unique=True, d=4), "does not fit the function"),
        (lambda: key("\0", unique="a"), "NUL"),
        (lambda: key(ring()), "or in itself"),
    ],
)
def test_a_call_without_a_key_is_refused_with_the_reason(call: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"unique_for": WAITING}, "without unique="),
        ({"unique": True, "unique_for": 0}, "unique_for=0"),
        ({"unique": True, "unique_for": "ever"}, "unique_for='ever'"),
        ({"unique": 5}, "unique=5"),
        ({"unique": []}, r"unique=\[\]"),
        ({"key": "a"}, "without concurrency="),
        ({"concurrency": 0}, "at least 1"),
        ({"concurrency": "2"}, "concurrency='2'"),
        ({"concurrency": 1, "key": 7}, "key=7"),
        ({"rate_key": "a"}, "without rate="),
        ({"rate": "1/s", "rate_key": 7}, "rate_key=7"),
        ({"rate": "1/s", "rate_key": "a", "concurrency": 1}, "counts both by one key"),
    ],
)
def test_wishes_that_cannot_work_are_refused_with_the_way_out(given: dict[str, Any], said: str) -> None:
    usual: dict[str, Any] = {"unique": False, "unique_for": DONE, "concurrency": None, "key": None, "at_most_once": False}
    with pytest.raises(ValueError, match=said):
        parse_constraints(**(usual | given))


def test_a_time_may_be_a_timedelta() -> None:
    assert parse_constraints(True, timedelta(minutes=1), None, None, False) == ConstraintSpec(True, 60.0)


def test_constraints_come_back_beside_other_options() -> None:
    terms = Constraints("k", 5.0, "l", 3, True, 60.0, rate=(2, 1_000_000))

    text = with_constraints('{"backoff": 2}', terms)

    assert read_constraints(text) == terms
    assert with_constraints(text, NONE) == '{"backoff": 2}'
    assert with_constraints(None, NONE) is None
    assert read_constraints(None) == read_constraints("{}") == read_constraints('{"x": "\\"constraints\\""}') == NONE

"""What no storage can hold as a name, an id or a key is refused at the door, the same on all of them; what somebody stored is shown."""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from huey import Huey, SqliteHuey
from huey.exceptions import ConfigurationError
from huey.runtime.clock import FOREVER
from huey.runtime.display import arguments, dicts, time, time_or_none
from huey.runtime.files import without_password

BAD = ["\ud800", "a\0b", "x" * 10_000]


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize(
    "call",
    [
        lambda huey, text: huey.task(name=text)(lambda: 1),
        lambda huey, text: huey.task(aliases=[text])(lambda: 1),
        lambda huey, text: huey.task(queue=text)(lambda: 1),
        lambda huey, text: huey.task()(lambda: 1).schedule(id=text),
        lambda huey, text: huey.put(text, 1),
        lambda huey, text: huey.get(text),
        lambda huey, text: huey.put_if_empty(text, 1),
        lambda huey, text: huey.delete(text),
        lambda huey, text: huey.result(text),
        lambda huey, text: huey.revoke_by_id(text),
        lambda huey, text: huey.restore_by_id(text),
        lambda huey, text: huey.lock_task(text),
    ],
)
def test_a_text_that_no_storage_holds_is_refused_at_the_door(huey: Huey, call: Callable[[Huey, str], Any], text: str) -> None:
    with pytest.raises(ValueError, match="without NUL and surrogates"):
        call(huey, text)


@pytest.mark.parametrize("text", BAD)
def test_so_is_the_name_of_a_queue(make_huey: Callable[..., Huey], text: str) -> None:
    with pytest.raises(ConfigurationError, match="without NUL and surrogates"):
        make_huey(text)


@pytest.mark.parametrize("text", BAD)
def test_who_looks_for_it_finds_nothing(huey: Huey, text: str) -> None:
    huey.task()(lambda: 1)()
    inspector = huey.inspector
    inspector.cancel(text)
    found = (inspector.task(text), inspector.tasks(name=text), inspector.retry(text), inspector.discard(text), inspector.restore(text))
    assert found == (None, [], [], [], [])


class Exits:
    def __repr__(self) -> str:
        sys.exit("no")


def test_an_argument_without_a_text_is_named_by_its_type() -> None:
    assert arguments((1, 10**5000, "a"), {"b": Exits()}, 500) == "1, <int>, 'a', b=<Exits>"
    assert arguments(([10**5000], {"n": -(10**5000)}), {}, 500) == "[<int>], {'n': <int>}"


def test_arguments_stand_as_in_a_call_and_are_cut() -> None:
    plain = (1, "x", [1, (2,)], {"a": {3}}, (), set(), frozenset({4}), {})
    assert arguments(plain, {"k": None}, 500) == ", ".join([*map(repr, plain), "k=None"])
    assert arguments((deque([1]), OrderedDict(a=1)), {}, 500) == "deque([1]), OrderedDict({'a': 1})"
    assert arguments(("x" * 1000,), {}, 10) == "'xxxxxxxxx..."


def test_what_is_repeated_or_nested_without_end_is_cut() -> None:
    doubled: list[Any] = []
    for _ in range(200):
        doubled = [doubled, doubled]
    ring: list[Any] = []
    ring.append(ring)
    assert len(arguments((doubled, ring), {}, 500)) == 503
    assert "..." in arguments((ring,), {}, 500)


@pytest.mark.parametrize("moment", [2**62, 2**63, -(2**62), 2**80, -1, 0, "x", None, 1e300])
def test_each_time_can_be_shown(moment: Any) -> None:
    assert isinstance(time(moment), datetime)


def test_a_time_that_never_comes_is_none() -> None:
    assert time_or_none(FOREVER) is time_or_none(None) is None
    assert time_or_none(FOREVER - 1) == datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "found"), [("[1, {}]", [{}]), ("nonsense", []), (None, []), ('{"error": "x"}', [{"error": "x"}]), ("[" * 9000, [])]
)
def test_descriptions_that_somebody_damaged_are_left_out(text: str | None, found: list[Any]) -> None:
    assert dicts(text) == found


@pytest.mark.parametrize("value", [10**5000, [10**5000], {"n": 10**5000}], ids=["alone", "in a list", "in a dict"])
def test_the_inspector_lists_a_queue_whatever_is_in_it(huey: Huey, value: Any) -> None:
    task = huey.task()(lambda value: None)
    handles = [task(1), task(value), task(2, expires=0), task.schedule((3,), eta=datetime(9999, 12, 31))]
    assert {it.id for it in huey.inspector.tasks()} == {handle.id for handle in handles}
    assert huey.inspector.task(handles[2].id).expires is None  # type: ignore[union-attr]


@pytest.mark.parametrize("url", ["redis://:hunter2@host/0", "postgresql://ann:hunter2@host/db"])
def test_an_error_about_a_url_keeps_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="give the path of a file") as caught:
        SqliteHuey("app", filename=url)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in without_password(url)
    assert without_password(5) == "5"

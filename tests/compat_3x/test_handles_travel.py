"""What becomes of handles, wrappers and a Huey that are copied, pickled or handed to a task; and of what is made at its first use."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from huey import Huey, MemoryHuey
from huey.exceptions import EncodeError
from huey.testing.contract.tools import at_once

huey = MemoryHuey("travelling")


@huey.task()
def add(a: Any, b: Any) -> Any:
    return a + b


@pytest.mark.parametrize(
    ("thing", "way_out"),
    [
        (lambda: add(1, 2), r"keep result.id, and use huey.result\(id\)"),
        (lambda: add.map([(1, 2)]), r"\[result.id for result in group\]"),
        (lambda: huey, r"import it where it is needed"),
        (lambda: huey.lock_task("lock"), r"import it where it is needed"),
        (lambda: huey.task(name="local")(lambda a: a), r"send its name, 'local'"),
    ],
)
def test_what_cannot_be_pickled_says_what_to_do(thing: Callable[[], Any], way_out: str) -> None:
    with pytest.raises(TypeError, match=way_out):
        pickle.dumps(thing())
    with pytest.raises(EncodeError, match=way_out):
        add(thing(), 1)


def test_a_decorated_function_is_pickled_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(add)) is add


def test_a_group_and_an_inspector_say_what_they_are() -> None:
    assert repr(add.map([(1, 2), (3, 4)])) == "<ResultGroup: 2 tasks>"
    assert repr(add.map([(1, 2)])) == "<ResultGroup: 1 task>"
    assert repr(huey.inspector) == "<Inspector of queue 'travelling'>"


def test_copies_are_of_use() -> None:
    result = add(1, 2)

    assert copy.deepcopy(result).id == copy.copy(result).id == result.id
    assert [each.id for each in copy.deepcopy(add.map([(1, 2)]))]
    assert copy.deepcopy({"app": huey, "task": add}) == {"app": huey, "task": add}
    assert copy.copy(huey).name == huey.name


def test_first_immediate_calls_of_several_threads_have_values() -> None:
    for _ in range(20):
        fresh = MemoryHuey("fresh", immediate=True)
        double = fresh.task(name="double")(lambda number: 2 * number)

        values = at_once(*(lambda n=n, double=double: double(n).get() for n in range(6)))  # type: ignore[misc]

        assert values == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize(
    "first_use",
    [
        lambda fresh: fresh.on("mail"),
        lambda fresh: fresh.client.lock_keepalive,
        lambda fresh: fresh.client.inline_worker(),
        lambda fresh: _stand_in(fresh),
    ],
)
def test_what_is_made_at_first_use_is_one_for_all_threads(first_use: Callable[[Huey], Any], tmp_path: Any) -> None:
    from huey import SqliteHuey

    for n in range(5):
        fresh = SqliteHuey("fresh", filename=tmp_path / f"{n}.db")

        made = at_once(*(lambda fresh=fresh: first_use(fresh) for _ in range(6)))  # type: ignore[misc]

        assert len({id(each) for each in made}) == 1


def _stand_in(fresh: Huey) -> Any:
    fresh.immediate = True
    return fresh.storage

"""The names of 0.4.9, of 3.x and of this release that a program uses on a Huey, a handle, a task and a consumer: none gets lost, and none
is added by accident. `public_names.txt` is the list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from huey import MemoryHuey
from huey.consumer import Consumer

LIST = Path(__file__).with_name("public_names.txt")

INTERNAL = {
    *("client", "check_calls", "check_task", "options_of", "needs_extras", "with_extras", "has_keeper", "is_supervised"),
    *("is_async", "body"),
}
"""Names that the parts of huey use on each other, and no program."""


def listed() -> dict[str, list[str]]:
    """The names in the list, by class."""
    found: dict[str, list[str]] = {}
    for line in LIST.read_text().splitlines():
        if line.startswith("["):
            names = found.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            names.append(line)
    return found


def objects() -> dict[str, Any]:
    """One object of each class."""
    huey = MemoryHuey("names")
    task = huey.task(name="task")(lambda number: number)
    return {"Huey": huey, "Result": task(1), "TaskWrapper": task, "Consumer": Consumer(huey)}


@pytest.mark.parametrize("name", ["Huey", "Result", "TaskWrapper", "Consumer"])
def test_the_public_names_of_a_class_are_those_of_the_list(name: str) -> None:
    found = {each for each in dir(objects()[name]) if not each.startswith("_")} - INTERNAL

    assert sorted(found) == listed()[name]


@pytest.mark.parametrize("verb", ["enqueue", "_execute"])
def test_the_two_verbs_that_instrumentations_patch_are_there(verb: str) -> None:
    assert callable(getattr(MemoryHuey, verb))

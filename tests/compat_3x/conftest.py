"""The surface of 3.x, section by section. Each test runs on every storage that ``make_huey`` knows (tests/conftest.py)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from huey import Huey
from tests.support.helpers import leaving_no_thread


@pytest.fixture(autouse=True)
def _leaves_no_thread() -> Iterator[None]:
    with leaving_no_thread():
        yield


class Told(list[tuple[str, str]]):
    """What handlers of all signals were told: (signal, id of the task)."""

    def of(self, id: str) -> list[str]:
        """The signals about one task, in order."""
        return [signal for signal, task in list(self) if task == id]


@pytest.fixture
def told(huey: Huey) -> Told:
    told = Told()

    @huey.signal()
    def note(signal: str, task: object, *extra: object) -> None:
        told.append((signal, task.id))  # type: ignore[attr-defined]

    return told


# -- tasks of workflows -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def give(huey: Huey) -> Any:
    """Returns what it is given."""
    return huey.task(name="give")(lambda value=None: value)


@pytest.fixture
def double(huey: Huey) -> Any:
    return huey.task(name="double")(lambda value=1: value * 2)


@pytest.fixture
def total(huey: Huey) -> Any:
    """A callback that returns the list that it gets."""
    return huey.task(name="total")(lambda values: values)


@pytest.fixture
def fail(huey: Huey) -> Any:
    """Raises ValueError('no'), whatever it is given."""

    def fail(*args: Any) -> None:
        raise ValueError("no")

    return huey.task(name="fail")(fail)

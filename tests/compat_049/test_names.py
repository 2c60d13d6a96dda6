"""Names that 0.4.9 has beside its documentation."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from huey import MemoryHuey
from huey.exceptions import QueueReadException
from huey.registry import registry
from huey.utils import EmptyData, load_class, local_to_utc, wrap_exception


def test_load_class_finds_what_stands_at_a_path() -> None:
    assert load_class("huey.utils.EmptyData") is EmptyData


@pytest.mark.parametrize("path", ["huey", "", "huey.utils.Nothing", "no.such.module.Name"])
def test_load_class_says_that_there_is_none(path: str) -> None:
    with pytest.raises(ImportError):
        load_class(path)


def test_local_to_utc_turns_a_local_time_into_utc(set_zone: Callable[[str], None]) -> None:
    set_zone("EST5")

    assert local_to_utc(datetime(2026, 1, 5, 12, 0, 0, 999)) == datetime(2026, 1, 5, 17)


def test_wrap_exception_keeps_the_original_as_cause() -> None:
    def read() -> None:
        try:
            raise OSError("away")
        except OSError:
            wrap_exception(QueueReadException)

    with pytest.raises(QueueReadException, match=r"^OSError: away$") as caught:
        read()

    assert isinstance(caught.value.__cause__, OSError)


def test_the_registry_knows_functions_by_both_names() -> None:
    huey = MemoryHuey()

    @huey.task()
    def fetch_mail_for_names_test() -> None: ...

    @huey.periodic_task(lambda dt: True)
    def tick_for_names_test() -> None: ...

    assert "queuecmd_fetch_mail_for_names_test" in registry
    assert fetch_mail_for_names_test.name in registry
    assert "queuecmd_nobody" not in registry
    assert tick_for_names_test.name in [task.name for task in registry.get_periodic_tasks()]
    assert fetch_mail_for_names_test.name not in [task.name for task in registry.get_periodic_tasks()]

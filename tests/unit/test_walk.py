"""The walk of a call is counted by files of huey that it visits, in order."""

from __future__ import annotations

from datetime import datetime

from huey.cron import crontab
from tools.walk import Walk, walk

STEPS = (("a.py", "f"), ("a.py", "g"), ("b.py", "h"), ("a.py", "g"))


def test_changes_of_file_are_counted_in_order() -> None:
    found = Walk("add", STEPS)

    assert dict(found.files) == {"a.py": 3, "b.py": 1}
    assert found.changes == 2


def test_the_steps_name_a_file_where_it_changes() -> None:
    assert [" ".join(line.split()) for line in Walk("add", STEPS).story().splitlines()] == ["add", "a.py f", "g", "b.py h", "a.py g"]


def test_only_functions_of_huey_are_steps() -> None:
    matches = crontab(minute="5")

    found = walk("crontab", lambda: max(matches(day) for day in [datetime(2026, 1, 1)]))

    assert {"cron.py", "runtime/cron_fields.py"} >= set(found.files)
    assert "cron.py" in found.table()

"""The page of the promises of 0.4.9 names tests that are there, and each promise has one."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "internals" / "compat-0.4.9.md"


def in_tests() -> set[tuple[int, str]]:
    """(number, file below tests/) of each test that carries a number."""
    found: set[tuple[int, str]] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for name in re.findall(r"^\s*def (test(?:_S\d+)+)", path.read_text("utf-8"), re.MULTILINE):
            found |= {(int(number), str(path.relative_to(ROOT / "tests"))) for number in re.findall(r"\d+", name)}
    return found


def on_page() -> set[tuple[int, str]]:
    """(number, file) as the page has it."""
    rows = [line.split(" | ") for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| S")]
    return {(int(row[0][3:]), file) for row in rows for file in re.findall(r"`([\w/]+\.py)`", row[-1])}


def test_every_promise_has_a_row() -> None:
    rows = re.findall(r"^\| S(\d+) \|", PAGE.read_text("utf-8"), re.MULTILINE)

    assert [int(number) for number in rows] == list(range(1, 177))


def test_the_page_names_only_tests_that_are_there() -> None:
    assert on_page() <= in_tests()


def test_every_promise_but_that_of_old_names_has_a_test() -> None:
    assert {number for number, _ in in_tests()} >= set(range(1, 177)) - {14}

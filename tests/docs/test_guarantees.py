"""Each guarantee of the page names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "internals" / "guarantees.md").read_text("utf-8")
ROWS = [
    line for line in PAGE.partition("## Not yet")[0].splitlines() if line.startswith("| ") and not line.startswith(("| promise", "|--"))
]


def files(row: str) -> list[Path]:
    """The test files of a row; those of the contract lie in the package."""
    named = re.findall(r"`((?:tests|huey)/[\w/]+\.py)`", row.rpartition("|")[0].rpartition("|")[2])
    return [ROOT / ("src" if name.startswith("huey/") else "") / name for name in named]


def test_every_guarantee_has_a_test() -> None:
    assert [row for row in ROWS if not files(row)] == []
    assert len(ROWS) > 50


def test_the_page_names_only_files_with_tests() -> None:
    missing = {file for row in ROWS for file in files(row) if not file.is_file() or "def test_" not in file.read_text("utf-8")}
    assert sorted(file.relative_to(ROOT).as_posix() for file in missing) == []

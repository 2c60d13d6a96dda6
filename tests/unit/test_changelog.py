"""Fragments of the changelog are read, refused and moved as their README says."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tools import changelog


@pytest.fixture
def house(tmp_path: Path) -> Any:
    (tmp_path / "changelog.d").mkdir()
    (tmp_path / "changelog.d/README.md").write_text("# Fragments\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\nNewest first.\n\n## 1.0 (2025-01-01)\n\n- `api`: old.\n")
    return tmp_path


def add(house: Any, name: Any, text: Any) -> None:
    (house / "changelog.d" / name).write_text(text)


def test_a_release_takes_the_fragments_by_heading(house: Any) -> None:
    add(house, "fixed-b.md", "- `cli`: mended.\n")
    add(house, "added-b.md", "- `api`: second.\n")
    add(house, "added-a.md", "- `api`: first.\n")

    changelog.release(house, "1.1", date(2026, 2, 3))

    assert (house / "CHANGELOG.md").read_text() == (
        "# Changelog\n\nNewest first.\n\n## 1.1 (2026-02-03)\n\n### Added\n\n- `api`: first.\n- `api`: second.\n\n"
        "### Fixed\n\n- `cli`: mended.\n\n## 1.0 (2025-01-01)\n\n- `api`: old.\n"
    )
    assert [path.name for path in (house / "changelog.d").iterdir()] == ["README.md"]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [("new-a.md", "- `api`: a.", "begins with added-, changed- or fixed-"), ("added-a.md", "a.", "a bullet that names the part")],
)
def test_a_fragment_that_belongs_nowhere_is_refused(house: Any, name: Any, text: Any, reason: Any) -> None:
    add(house, name, text)
    with pytest.raises(ValueError, match=reason):
        changelog.fragments(house)


def test_the_fragments_that_are_here_are_in_order() -> None:
    assert changelog.main(["--check"]) == 0

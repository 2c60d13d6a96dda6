"""The pages about the inside name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "internals"
SOURCE = ROOT / "src" / "huey"

# Where a page names files without their folder, it says the folder first.
BELOW = {"contract.md": ("storage/sqlite", "storage/redis", "storage/legacy"), "prefetching-wait.md": ("storage/redis",)}


def named(page: Path) -> set[str]:
    """The files of the package that a page names, as `engine/engine.py` or `sql/turn.sql`."""
    return {name for name in re.findall(r"`([\w/]+\.(?:py|sql|lua))(?::[^`]*)?`", page.read_text("utf-8")) if not name.startswith("tests/")}


def test_every_file_that_a_page_names_is_there() -> None:
    wrong = []
    for page in FOLDER.glob("*.md"):
        folders = [SOURCE, SOURCE.parent, *(SOURCE / folder for folder in BELOW.get(page.name, ()))]
        if page.name != "compat-0.4.9.md":
            wrong += [f"{page.name}: {name}" for name in sorted(named(page)) if not any((folder / name).is_file() for folder in folders)]
    assert wrong == []

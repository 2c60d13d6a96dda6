"""Moves the fragments of changelog.d/ into CHANGELOG.md. `make changelog VERSION=4.0.0` at a release; `--check` only reads them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADINGS = ("Added", "Changed", "Fixed")
TOP = "\n## "


def fragments(root: Path) -> dict[str, list[Path]]:
    """The fragments by heading, in the order of their names. Raises ValueError for a file that belongs under none."""
    found: dict[str, list[Path]] = {heading: [] for heading in HEADINGS}
    for path in sorted((root / "changelog.d").glob("*.md")):
        if path.name == "README.md":
            continue
        heading = path.name.partition("-")[0].capitalize()
        if heading not in found:
            raise ValueError(f"{path.name}: the name of a fragment begins with added-, changed- or fixed-")
        if not path.read_text("utf-8").startswith("- `"):
            raise ValueError(f"{path.name}: a fragment is a bullet that names the part first, such as '- `cli`: ...'")
        found[heading].append(path)
    return found


def section(version: str, day: date, found: dict[str, list[Path]]) -> str:
    """The text of a release."""
    parts = [f"## {version} ({day:%Y-%m-%d})"]
    for heading, paths in found.items():
        if paths:
            parts.append(f"### {heading}\n\n" + "\n".join(path.read_text("utf-8").strip() for path in paths))
    return "\n\n".join(parts) + "\n"


def release(root: Path, version: str, day: date) -> None:
    """Write the section of *version* above all others, and remove its fragments."""
    found = fragments(root)
    page = root / "CHANGELOG.md"
    head, top, rest = page.read_text("utf-8").partition(TOP)
    page.write_text(f"{head}\n{section(version, day, found)}{top}{rest}", "utf-8")
    for paths in found.values():
        for path in paths:
            path.unlink()


def main(argv: Sequence[str]) -> int:
    if len(argv) != 1 or not argv[0]:
        print("usage: python -m tools.changelog VERSION | --check", file=sys.stderr)
        return 2
    try:
        if argv[0] == "--check":
            fragments(ROOT)
        else:
            release(ROOT, argv[0], date.today())
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

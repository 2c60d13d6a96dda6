"""Writes the parts of docs/ that are made from the code. `python tools/docs.py` rewrites them, `--check` only says what is out of date.

A made part stands between two comments, `<!-- made: options -->` and `<!-- /made -->`; everything else on a page is left alone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARKED = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- /made -->)", re.DOTALL)


def options() -> str:
    """The table of the consumer's options."""
    from huey.consumer.settings import OPTIONS

    rows = [
        f"| {flags(option)} | {keyword(option)} | `{environment(option)}` | {default(option)} | {cell(option.help)} |" for option in OPTIONS
    ]
    return "\n".join(["| flag | keyword | environment | default | what it does |", "|---|---|---|---|---|", *rows])


def cell(text: str) -> str:
    return text.replace("|", "/")


def flags(option: Any) -> str:
    *others, last = option.flags
    return ", ".join(f"`{flag}`" for flag in [*others, f"{last} {cell(option.value)}".strip()])


def keyword(option: Any) -> str:
    return "" if option.is_of_command else f"`{option.name}`"


def environment(option: Any) -> str:
    """The variable; for a switch, with the value that does the same."""
    return option.environment if option.read else f"{option.environment}={option.switch:d}"


def default(option: Any) -> str:
    if option.name == "localtime":
        return "as the instance"
    if option.read is None:
        return "on" if option.switch == option.default else "off"
    return f"`{option.default_text}`" if option.default_text else "none"


PARTS: dict[str, Callable[[], str]] = {"options": options}


def renewed(page: str) -> str:
    """The text of a page with its made parts as they should be."""
    return MARKED.sub(lambda found: f"{found[1]}{PARTS[found[2]]()}\n{found[3]}", page)


def main(argv: Sequence[str]) -> int:
    sys.path.insert(0, str(ROOT / "src"))
    if list(argv) not in ([], ["--check"]):
        print("usage: python tools/docs.py [--check]", file=sys.stderr)
        return 2
    stale = {path: new for path in sorted((ROOT / "docs").rglob("*.md")) if (new := renewed(old := path.read_text("utf-8"))) != old}
    for path, text in stale.items():
        if argv:
            print(f"{path.relative_to(ROOT)}: out of date; run 'python tools/docs.py'")
        else:
            path.write_text(text, "utf-8")
            print(f"{path.relative_to(ROOT)}: written")
    return 1 if argv and stale else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

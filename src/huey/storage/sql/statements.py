"""Reads the .sql files: named statements, each with a sentence that says what it is for. `$name` is replaced by the statement of that
name, and `$NAME` by a figure that the contract promises.

-- name: claim
-- Lease due tasks.
UPDATE ...
"""

from __future__ import annotations

import re
from pathlib import Path

from huey.storage import base

_NAME_LINE = "-- name:"
_INCLUDED = re.compile(r"\$([a-z]\w*)")
_FIGURE = re.compile(r"\$([A-Z_]+)")


def load(dialect: str) -> dict[str, str]:
    """Return all statements of one dialect (a package beside this one) by name. Raises ValueError when two have the same name."""
    found: dict[str, str] = {}
    for file in sorted((Path(__file__).parents[1] / dialect / "sql").glob("*.sql")):
        for block in file.read_text("utf-8").split(_NAME_LINE)[1:]:
            name, _, text = block.partition("\n")
            if name.strip() in found:
                raise ValueError(f"{file.name}: two statements are called {name.strip()!r}")
            found[name.strip()] = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--")).strip()
    with_figures = {name: _FIGURE.sub(lambda match: str(getattr(base, match[1])), text) for name, text in found.items()}
    return {name: _INCLUDED.sub(lambda match: with_figures[match[1]], text) for name, text in with_figures.items()}

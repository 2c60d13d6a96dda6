"""Reads the .sql files: named statements, each with a sentence that says what it is for.

-- name: claim
-- Lease due tasks.
UPDATE ...
"""

from __future__ import annotations

from pathlib import Path

_MARK = "-- name:"


def load(dialect: str) -> dict[str, str]:
    """All statements of one dialect (a package beside this one) by name. ValueError when a name stands twice."""
    found: dict[str, str] = {}
    for file in sorted((Path(__file__).parents[1] / dialect / "sql").glob("*.sql")):
        for block in file.read_text("utf-8").split(_MARK)[1:]:
            name, _, text = block.partition("\n")
            if name.strip() in found:
                raise ValueError(f"{file.name}: the statement {name.strip()!r} stands twice")
            found[name.strip()] = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--")).strip()
    return found

"""What every house gate needs: a found problem, the product's modules, how a file is named."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that must not stay as it is."""

    where: str
    line: int
    fact: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.where}:{self.line}: {self.fact}\n    {self.way_out}"


def modules(root: Path) -> Iterator[tuple[Path, str, ast.Module]]:
    """Every Python file of the product: path, path below src, syntax tree."""
    for path in sorted((root / "src").rglob("*.py")):
        yield path, path.relative_to(root / "src").as_posix(), ast.parse(path.read_text("utf-8"), str(path))


def named(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()

"""The gate of the tests: their files and names stay short enough to be read."""

from __future__ import annotations

import ast
from pathlib import Path

from tools.source import Problem, named

MAX_FILE_LINES = 600
MAX_NAME = 60


def tests(root: Path) -> list[Problem]:
    """No test file over 600 lines, no name of a test over 60 letters."""
    found = []
    for path in sorted((root / "tests").rglob("*.py")):
        text = path.read_text("utf-8")
        lines = len(text.splitlines())
        if lines > MAX_FILE_LINES:
            found.append(
                Problem(named(root, path), lines, f"{lines} lines, {MAX_FILE_LINES} at most", "Move one topic into a file of its own.")
            )
        for node in ast.walk(ast.parse(text, str(path))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and len(node.name) > MAX_NAME:
                fact = f"{node.name} has {len(node.name)} letters, {MAX_NAME} at most"
                found.append(Problem(named(root, path), node.lineno, fact, "Name the rule; the rest goes into the docstring."))
    return found

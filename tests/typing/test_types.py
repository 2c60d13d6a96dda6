"""What mypy --strict and pyright say of programs that use huey: the lines with ``# E`` are errors, and no others."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from huey.consumer.settings import OPTIONS

ROOT = Path(__file__).parents[2]
CASES = sorted((Path(__file__).parent / "cases").glob("*.py"))
MARK = "# E"

Lines = set[tuple[str, int]]


@pytest.fixture(scope="module")
def expected() -> Lines:
    return {(file.name, n) for file in CASES for n, line in enumerate(file.read_text().splitlines(), 1) if line.endswith(MARK)}


def checked(*command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def found_by_mypy(tmp_path: Path) -> Lines:
    config = tmp_path / "mypy.ini"
    config.write_text(f"[mypy]\nstrict = True\nmypy_path = {ROOT / 'src'}\ncache_dir = {ROOT / '.mypy_cache' / 'typing'}\n")
    with config.open("a") as file:
        file.write(
            "[mypy-django.*,django_tasks.*,asgiref.*,redis.*,hiredis.*,psycopg.*]\nfollow_imports = skip\nignore_missing_imports = True\n"
        )
        file.write("[mypy-huey.*]\nignore_errors = True\n")
    errors = [json.loads(line) for line in checked("-m", "mypy", "--config-file", str(config), "-O", "json", *map(str, CASES)).splitlines()]
    return {(Path(error["file"]).name, error["line"]) for error in errors if error["severity"] == "error"}


def found_by_pyright(tmp_path: Path) -> Lines:
    config = tmp_path / "pyrightconfig.json"
    settings = {
        "typeCheckingMode": "standard",
        "include": [str(CASES[0].parent)],
        "extraPaths": [str(ROOT / "src")],
        "pythonVersion": "3.11",
    }
    config.write_text(json.dumps(settings))
    report = json.loads(checked("-m", "basedpyright", "-p", str(config), "--outputjson", "--pythonpath", sys.executable))
    errors = [each for each in report["generalDiagnostics"] if each["severity"] == "error"]
    return {(Path(error["file"]).name, error["range"]["start"]["line"] + 1) for error in errors}


@pytest.mark.parametrize("found", [found_by_mypy, found_by_pyright])
def test_checkers_find_the_marked_lines_and_no_others(found, expected: Lines, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    lines = found(tmp_path)

    assert (sorted(expected - lines), sorted(lines - expected)) == ([], []), "missed, and reported without a mark"


def fields_of(name: str) -> set[str]:
    """The fields that a class of the types-only module declares."""
    tree = ast.parse((ROOT / "src" / "huey" / "client" / "typed.pyi").read_text())
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    return {each.target.id for each in found.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)}


def test_the_types_know_each_option_of_a_consumer() -> None:
    settings = {option.name for option in OPTIONS if not option.is_of_command}

    assert fields_of("ConsumerOptionArgs") == settings | {"utc", "initial_delay"}

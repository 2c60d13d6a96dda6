"""House gates: what no linter off the shelf looks at. `make check` runs them all; `python -m tools.gates sizes docs` runs two.

Each gate takes the root of the project and returns what it found: file, line, the fact, and the way out. None repairs anything.
"""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path

from tools.source import Problem, modules, named
from tools.tests import tests
from tools.words import codes, private, retired

ROOT = Path(__file__).resolve().parent.parent

MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 60

# Only these may ask the machine for the time or for chance; everything else is handed a clock and an rng.
CLOCK_ROOMS = ("huey/runtime/clock.py", "huey/testing/")
CLOCK_NAMES = {
    "time": {
        "time",
        "time_ns",
        "monotonic",
        "monotonic_ns",
        "perf_counter",
        "perf_counter_ns",
        "clock_gettime",
        "clock_gettime_ns",
        "sleep",
    },
    "datetime": {"datetime.now", "datetime.utcnow", "datetime.today", "date.today"},
    "uuid": {"uuid1", "uuid4"},
    "os": {"urandom"},
    "random": {"*"},
    "secrets": {"*"},
}
CLOCK_EXCEPTIONS = {
    (
        "huey/runtime/host.py",
        "os.urandom",
    ): "tells processes apart where the system does not; a test that knew it could not make two of them",
    ("huey/engine/executor.py", "time.perf_counter"): "durations of bodies: statistics only, nothing is decided by them",
}

LAZY_MODULES = ("asyncio", "sqlite3", "ssl", "multiprocessing", "inspect", "dataclasses")


# sizes


def sizes(root: Path) -> list[Problem]:
    """No file over 450 lines, no function over 60."""
    found = []
    for path in sorted(p for p in (root / "src").rglob("*") if p.suffix in {".py", ".sql", ".lua"}):
        lines = len(path.read_text("utf-8").splitlines())
        if lines > MAX_FILE_LINES:
            found.append(
                Problem(named(root, path), lines, f"{lines} lines, {MAX_FILE_LINES} at most", "Move one idea into a file of its own.")
            )
    for path, _, tree in modules(root):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    fact = f"{node.name}() has {length} lines, {MAX_FUNCTION_LINES} at most"
                    found.append(Problem(named(root, path), node.lineno, fact, "It does more than one thing: give each its name."))
    return found


# clock


def imported_names(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for: {"sleep": "time.sleep", "t": "time"}."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update({a.asname or a.name.partition(".")[0]: a.name if a.asname else a.name.partition(".")[0] for a in node.names})
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
    return names


def dotted(node: ast.AST, names: dict[str, str]) -> str | None:
    """The full name of `a.b.c` where `a` was imported, else None."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        base = dotted(node.value, names)
        return f"{base}.{node.attr}" if base else None
    return None


def is_clock(name: str) -> bool:
    module, _, rest = name.partition(".")
    listed = CLOCK_NAMES.get(module, set())
    return bool(rest) and ("*" in listed or rest in listed)


def clock(root: Path) -> list[Problem]:
    """Time and chance come from outside."""
    found = []
    for path, place, tree in modules(root):
        if place.startswith(CLOCK_ROOMS):
            continue
        names = imported_names(tree)
        for node in ast.walk(tree):
            name = dotted(node, names)
            if name and is_clock(name) and (place, name) not in CLOCK_EXCEPTIONS:
                way_out = "Take a Clock or an Rng as an argument (huey.clock); an exception needs its reason in CLOCK_EXCEPTIONS."
                found.append(Problem(named(root, path), getattr(node, "lineno", 1), f"uses {name}", way_out))
    return found


# excepts


def is_broad(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(c is None or (isinstance(c, ast.Name) and c.id in {"Exception", "BaseException"}) for c in caught)


def does_nothing(handler: ast.ExceptHandler) -> bool:
    return all(isinstance(s, ast.Pass) or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)) for s in handler.body)


def is_raised_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def is_explained(handler: ast.ExceptHandler, lines: Sequence[str]) -> bool:
    """A comment stands on the `except` line, above it or below it (up to the first statement)."""
    near = lines[max(handler.lineno - 2, 0) : handler.body[0].lineno]
    return any("#" in line for line in near)


def excepts(root: Path) -> list[Problem]:
    """Catch what you can handle; a broad except says why, and never passes."""
    found = []
    for path, _, tree in modules(root):
        lines = path.read_text("utf-8").splitlines()
        for node in ast.walk(tree):
            if not isinstance(node, ast.ExceptHandler) or not is_broad(node):
                continue
            if node.type is None:
                found.append(Problem(named(root, path), node.lineno, "bare except", "Name what you can handle."))
            elif does_nothing(node):
                found.append(Problem(named(root, path), node.lineno, "broad except that does nothing", "Name the error, or log it."))
            elif not is_raised_again(node) and not is_explained(node, lines):
                found.append(
                    Problem(named(root, path), node.lineno, "broad except without a reason", "Say in a comment why anything may come.")
                )
    return found


# sql


def statements(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, name and comment under the name, for each `-- name:` of a file. What stands before the first has the name ""."""
    lines = text.splitlines()
    heads = [i for i, line in enumerate(lines) if line.startswith("-- name:")]
    if any(line.strip() for line in lines[: heads[0] if heads else None]):
        yield 1, "", ""
    for i in heads:
        comment = []
        for line in lines[i + 1 :]:
            if not line.startswith("--"):
                break
            comment.append(line.removeprefix("--").strip())
        yield i + 1, lines[i].removeprefix("-- name:").strip(), " ".join(comment)


def is_sentence(text: str) -> bool:
    return bool(re.search(r"\w[\w)`'\"]*[.;]($|\s)", text)) and " " in text


def sql(root: Path) -> list[Problem]:
    """Every statement has a name and a sentence; all dialects have the same names."""
    found = []
    names: dict[str, set[str]] = {}
    for path in sorted((root / "src/huey/storage").glob("*/sql/*.sql")):
        for line, name, comment in statements(path.read_text("utf-8")):
            names.setdefault(path.parent.parent.name, set()).add(name)
            if not name:
                found.append(Problem(named(root, path), line, "a statement without a name", "Begin it with '-- name: <name>'."))
            elif not is_sentence(comment):
                found.append(
                    Problem(named(root, path), line, f"{name}: no sentence says what it does", "Write '-- A sentence.' under its name.")
                )
    everything = set().union(*names.values())
    for dialect, own in sorted(names.items()):
        found += [
            Problem(f"src/huey/storage/{dialect}/sql", 1, f"has no statement {name!r}, another dialect has", "Write it, or drop it there.")
            for name in sorted(everything - own)
        ]
    return found


# lua


def lua(root: Path) -> list[Problem]:
    """Each script opens with what it does, the KEYS and ARGV it uses, and what it Returns; a part of scripts with what it does."""
    found = []
    for path in sorted((root / "src").rglob("*.lua")):
        lines = path.read_text("utf-8").splitlines()
        header = "\n".join(takewhile(lambda line: line.startswith("--"), lines))
        code = "\n".join(line for line in lines if not line.lstrip().startswith("--"))
        uses = {"Returns": r"^return\b", "KEYS": r"\bKEYS\b", "ARGV": r"\bARGV\b"}
        needed = ["-- ", *(word for word, use in uses.items() if path.parent.name != "parts" and re.search(use, code, re.MULTILINE))]
        missing = [word for word in needed if word not in header]
        if missing:
            found.append(
                Problem(named(root, path), 1, f"the header does not tell {', '.join(missing)}", "Begin the file with '-- ' lines for all.")
            )
    return found


# imports


def imports(root: Path) -> list[Problem]:
    """`import huey` loads nothing that costs."""
    code = f"import sys; sys.path.insert(0, {str(root / 'src')!r}); import huey; print(*sorted(set(sys.modules) & set({LAZY_MODULES!r})))"
    child = subprocess.run([sys.executable, "-S", "-I", "-c", code], capture_output=True, text=True, check=False)
    if child.returncode:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        return [Problem("src/huey/__init__.py", 1, f"import huey fails without installed packages: {last}", "Import it where it is used.")]
    way_out = "See who does with 'python -X importtime -c \"import huey\"', and import it inside the function that needs it."
    return [Problem("src/huey/__init__.py", 1, f"import huey loads {name}", way_out) for name in child.stdout.split()]


# docs


def public_names(root: Path) -> Iterator[tuple[str, str]]:
    """What a reader may look up: (kind, name)."""
    sys.path.insert(0, str(root / "src"))
    try:
        for module, table in (("consumer/settings", "OPTIONS"), ("task/events", "EVENTS")):
            if (root / f"src/huey/{module}.py").exists():
                for entry in getattr(importlib.import_module(f"huey.{module.replace('/', '.')}"), table, ()):
                    yield module, str(getattr(entry, "name", entry))
        if (root / "src/huey/signals.py").exists():
            for name, value in vars(importlib.import_module("huey.signals")).items():
                if name.startswith("SIGNAL_"):
                    yield "signals", str(value)
        if (root / "src/huey/exceptions.py").exists():
            for name, value in vars(importlib.import_module("huey.exceptions")).items():
                if isinstance(value, type) and issubclass(value, BaseException) and not name.startswith("_"):
                    yield "exceptions", name
    finally:
        sys.path.remove(str(root / "src"))


def docs(root: Path) -> list[Problem]:
    """Every option, event, signal and exception is named in docs/; links between its pages lead somewhere."""
    pages = {path: path.read_text("utf-8") for path in sorted((root / "docs").rglob("*.md"))}
    text = "\n".join(pages.values())
    found = [
        Problem(f"src/huey/{kind}.py", 1, f"{name!r} stands nowhere in docs/", "Describe it there in a sentence.")
        for kind, name in public_names(root)
        if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)
    ]
    for path, page in pages.items():
        for number, line in enumerate(page.splitlines(), 1):
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", line):
                if ":" not in target and not (path.parent / target).exists():
                    found.append(Problem(named(root, path), number, f"the link to {target} leads nowhere", "Correct or remove it."))
    return found


# made


def made(root: Path) -> list[Problem]:
    """What docs/ has from the code is what the code says."""
    tool = root / "tools/docs.py"
    if not tool.exists():
        return []
    child = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False)
    if child.returncode and not child.stdout:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        return [Problem(named(root, tool), 1, f"it fails: {last}", "Run it alone to see why.")]
    way_out = "Run 'python tools/docs.py', which writes it again; 'make fix' does it too."
    return [Problem(line.partition(":")[0], 1, "a made part is out of date", way_out) for line in child.stdout.splitlines()]


# examples


def examples(root: Path) -> list[Problem]:
    """Every example is run by a test."""
    text = "\n".join(path.read_text("utf-8") for path in (root / "tests").rglob("*.py"))
    runs_all = re.search(r"examples.{0,40}glob\(", text, re.DOTALL)
    return [
        Problem(named(root, path), 1, "no test names this example", "Run it in a test: an example that nobody runs goes wrong.")
        for path in sorted((root / "examples").rglob("*.py"))
        if not runs_all and not re.search(rf"\b{re.escape(path.stem)}\b", text)
    ]


GATES: dict[str, Callable[[Path], list[Problem]]] = {
    gate.__name__: gate for gate in (sizes, tests, clock, excepts, sql, lua, imports, docs, made, examples, retired, private, codes)
}


def main(argv: Sequence[str]) -> int:
    unknown = [name for name in argv if name not in GATES]
    if unknown:
        print(f"no gate {', '.join(unknown)}; there are {', '.join(GATES)}", file=sys.stderr)
        return 2
    failed = 0
    for name in argv or GATES:
        problems = GATES[name](ROOT)
        failed += bool(problems)
        print(f"{'FAILED' if problems else 'ok    '} {name}: {GATES[name].__doc__}")
        for problem in problems:
            print(f"  {problem}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

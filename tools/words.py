"""Gates for words and walls: retired names, private attributes used from outside, codes that a reader cannot look up.

Each is switched on folder by folder in `tools/clean.txt`; a folder that stands there for a gate stays clean of what that gate finds.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.source import Problem, modules, named

RETIRED = "tools/retired.txt"
CLEAN = "tools/clean.txt"

PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*|[a-z0-9]+")
IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
QUOTED = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"")

# A letter and a number, as the rows of a specification are called.
CODE = re.compile(r"(?<![\w.%{/\\-])[SCGIPTDN]\d{1,3}(?!\w|\.\d)|\bRELIABILITY\b|\bsection \d+ of 3\.x\b")

# Underscored names that are public all the same: of named tuples, ctypes, Django, and the gates of huey 3.x that instrumentations patch.
PUBLIC_UNDERSCORES = {"_replace", "_asdict", "_fields", "_field_defaults", "_make", "_meta", "_state", "_exit", "_execute"} | {
    "_option_string_actions",  # argparse
    "_exit_function",  # multiprocessing, concurrent.futures and weakref, whose exit handlers a forked worker forgets
    "_python_exit",
    "_finalizer_registry",
    "_return_value",  # django.tasks
}


# which folders


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of the lines of a list, without comments and blank lines."""
    if path.exists():
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            text = line.partition("#")[0].strip()
            if text:
                yield number, text


def is_below(place: str, folder: str) -> bool:
    """Is the file *place* in *folder*? A folder that ends in `/.` means the files directly in it."""
    if folder.endswith("/."):
        return place.rpartition("/")[0] == folder[:-2]
    return place == folder or place.startswith(f"{folder}/")


def clean_files(root: Path, gate: str) -> list[Path]:
    """The files in which *gate* is switched on."""
    folders = [line.partition(":")[0].strip() for _, line in lines_of(root / CLEAN) if gate in line.partition(":")[2].split()]
    files = sorted(path for path in (root / "src").rglob("*") if path.suffix in {".py", ".sql", ".lua"})
    return [path for path in files if any(is_below(path.relative_to(root / "src").as_posix(), folder) for folder in folders)]


# retired


def parts(name: str) -> tuple[str, ...]:
    """The words of an identifier: `_letIn_all` is let, in, all."""
    return tuple(part.lower() for part in PART.findall(name))


@dataclass(frozen=True, slots=True)
class Retired:
    """The list of retired words: `let_in` as parts of any name, `=Page` as a whole name, `+post_execute` for what may stay."""

    words: frozenset[tuple[str, ...]]
    names: frozenset[str]
    kept: frozenset[str]

    def word_in(self, name: str, owner: str = "") -> str | None:
        """The retired word in the identifier *name*, an attribute of *owner* if that is given; None if there is none."""
        if name in self.kept or f"{owner}.{name}" in self.kept or name.startswith("test_"):  # the name of a test is a sentence
            return None
        if name in self.names:
            return name
        own = parts(name)
        for start in range(len(own)):
            for length in (1, 2, 3):
                if own[start : start + length] in self.words:
                    return "_".join(own[start : start + length])
        return None


def read_retired(root: Path) -> Retired:
    entries = [text for _, text in lines_of(root / RETIRED)]
    return Retired(
        frozenset(parts(text) for text in entries if text[0] not in "=+"),
        frozenset(text[1:].strip() for text in entries if text[0] == "="),
        frozenset(text[1:].strip() for text in entries if text[0] == "+"),
    )


def python_names(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, name and owner (`a` of `a.name`) of each identifier of a Python file."""
    before = ("", "")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string, before[0] if before[1] == "." else ""
        if token.type in (tokenize.NAME, tokenize.OP):
            before = (before[1], token.string)


def query_names(text: str) -> Iterator[tuple[int, str, str]]:
    """The same of SQL and Lua: without comments and quoted text, but with the name of a statement."""
    for number, line in enumerate(text.splitlines(), 1):
        code = line.removeprefix("-- name:") if line.startswith("-- name:") else QUOTED.sub("''", line).partition("--")[0]
        for found in IDENTIFIER.finditer(code):
            yield number, found[0], ""


def retired(root: Path) -> list[Problem]:
    """No name in Python, SQL or Lua is made of a retired word."""
    words = read_retired(root)
    found = []
    for path in clean_files(root, "retired"):
        seen = set()
        for line, name, owner in (python_names if path.suffix == ".py" else query_names)(path.read_text("utf-8")):
            word = words.word_in(name, owner)
            if word and name not in seen:
                seen.add(name)
                fact = f"{name!r} is made of the retired word {word!r}"
                found.append(Problem(named(root, path), line, fact, f"Take a word of docs/glossary.md; the list is {RETIRED}."))
    return found


# private


@dataclass(frozen=True, slots=True)
class Class:
    """A class of the product: the underscored names that it makes, and the names of its bases."""

    makes: frozenset[str]
    bases: tuple[str, ...]


def made_by(tree: ast.AST) -> set[str]:
    """The underscored names that a class or a module makes: functions, assigned names and attributes, slots, fields of records."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            names.add(node.value)
    return {name for name in names if name.startswith("_")} - only_declared(tree)


def only_declared(tree: ast.AST) -> set[str]:
    """Names that a plain class declares (`_batch: Any`) and nothing here makes: they are another class's."""
    bare = {node.target for node in ast.walk(tree) if isinstance(node, ast.AnnAssign) and node.value is None}
    declared: set[str] = set()
    made: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and not is_record(node):
            targets = [item.target for item in node.body if isinstance(item, ast.AnnAssign)]
            declared |= {target.id for target in targets if isinstance(target, ast.Name) and target in bare}
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            made.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in bare:
            made.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            made.add(node.value)
    return declared - made


def last_names(nodes: list[ast.expr]) -> tuple[str, ...]:
    """`Generic` of `typing.Generic[T]`."""
    names = []
    for node in nodes:
        node = node.value if isinstance(node, ast.Subscript) else node
        names.append(node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else "")
    return tuple(names)


def is_record(node: ast.ClassDef) -> bool:
    """A dataclass, a named tuple or a protocol: its declarations are its fields."""
    decorators = {name.id for d in node.decorator_list for name in ast.walk(d) if isinstance(name, ast.Name)}
    return bool({*last_names(node.bases)} & {"NamedTuple", "TypedDict", "Protocol", "Structure"} or "dataclass" in decorators)


def classes_of(root: Path) -> dict[str, Class]:
    """Every class of the product by its name."""
    table: dict[str, Class] = {}
    for _, _, tree in modules(root):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                makes, bases = table.get(node.name, Class(frozenset(), ())).makes, last_names(node.bases)
                table[node.name] = Class(makes | made_by(node), bases)
    return table


def inherited(name: str, table: dict[str, Class]) -> frozenset[str]:
    """What a class and all that it inherits from make."""
    own = table.get(name)
    return own.makes.union(*(inherited(base, table) for base in own.bases if base != name)) if own else frozenset()


def foreign_roots(tree: ast.Module) -> set[str]:
    """Names that were imported from elsewhere than huey; what they keep private is their own affair."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {(a.asname or a.name).partition(".")[0] for a in node.names if a.name.partition(".")[0] != "huey"}
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").partition(".")[0] != "huey":
            names |= {a.asname or a.name for a in node.names}
    return names


def root_of(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def is_own(node: ast.Attribute) -> bool:
    """Is it an attribute of `self`, `cls` or `super()` itself?"""
    value = node.value.func if isinstance(node.value, ast.Call) else node.value
    return isinstance(value, ast.Name) and value.id in {"self", "cls", "super"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_" and name not in PUBLIC_UNDERSCORES


def private_uses(tree: ast.Module, table: dict[str, Class]) -> Iterator[tuple[int, str]]:
    """Line and name of each underscored name that this module uses and neither it nor a base of its classes makes."""
    own, foreign = made_by(tree), foreign_roots(tree)
    heirs = {
        attribute: inherited(node.name, table)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for attribute in ast.walk(node)
        if isinstance(attribute, ast.Attribute) and is_own(attribute)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").partition(".")[0] == "huey"):
            yield from ((node.lineno, a.name) for a in node.names if is_private(a.name))
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            known = own | heirs.get(node, frozenset())
            if node.attr not in known and root_of(node) not in foreign:
                yield node.lineno, node.attr


def private(root: Path) -> list[Problem]:
    """No attribute with a leading underscore is used from another module; a class may use what its bases make."""
    found = []
    table = classes_of(root)
    for path in (path for path in clean_files(root, "private") if path.suffix == ".py"):
        seen = set()
        for line, name in private_uses(ast.parse(path.read_text("utf-8"), str(path)), table):
            if name not in seen:
                seen.add(name)
                way_out = "Give it a public name where it is made, or ask its owner for what you need."
                found.append(Problem(named(root, path), line, f"uses {name}, which neither this module nor a base class makes", way_out))
    return found


# codes


def codes(root: Path) -> list[Problem]:
    """No docstring, help text, log line or message has a code that a reader cannot look up."""
    found = []
    for path in (path for path in clean_files(root, "codes") if path.suffix == ".py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for hit in CODE.finditer(node.value):
                    line = node.lineno + node.value[: hit.start()].count("\n")
                    found.append(Problem(named(root, path), line, f"a text says {hit[0]}", "Say in words what it stands for."))
    return sorted(found, key=lambda problem: (problem.where, problem.line))

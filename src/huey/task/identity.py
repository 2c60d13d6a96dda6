"""Decides whether two functions that are declared under one name are the same function, and by which name a module is imported.

Functions are the same if they are one object, or were made by the same code with the same values. A module that is executed again (a
reload, or one file under two names) makes its functions again, and these replace the earlier ones.

Python calls a module that is run as a program ``__main__``, whatever its file is. A task is named after its module, so ``python app.py``
and ``huey_consumer app.huey`` must agree on a name: the one by which a consumer imports that file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import PurePath
from types import BuiltinMethodType, CellType, FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

from huey.runtime.functions import innermost

_INTERACTIVE = ("__main__", "__console__")
_VALUES = (bool, bytes, complex, float, frozenset, int, str, tuple, type(None))
"""Classes whose equal objects count as the same value."""
_specs: WeakKeyDictionary[FunctionType, object] = WeakKeyDictionary()
"""The spec of each function's module when it was declared. A reload makes a new spec."""


def note(func: Any) -> None:
    """Record which execution of its module made *func* and the functions inside it."""
    for each in _functions_in(func):
        _specs.setdefault(each, each.__globals__.get("__spec__"))


def is_same(one: Any, other: Any) -> bool:
    """Return whether *other*, declared now, is *one*, declared before, or the same function made again."""
    return _is_same(one, other, set())


def is_made_again(one: Any, other: Any) -> bool:
    """Return whether their module was executed again between the two declarations."""
    return any(_is_made_again(*pair) for pair in zip(_functions_in(one), _functions_in(other), strict=False))


def is_typed_again(one: Any, other: Any) -> bool:
    """Return whether *other* was entered after *one* in the same session, at a prompt or by running a notebook cell again."""
    inner, outer = innermost(one), innermost(other)
    if not isinstance(inner, FunctionType) or not isinstance(outer, FunctionType):
        return False
    if inner.__globals__ is not outer.__globals__ or not _is_interactive(inner, outer):
        return False
    return [each.__qualname__ for each in _functions_in(one)] == [each.__qualname__ for each in _functions_in(other)]


def _is_interactive(one: FunctionType, other: FunctionType) -> bool:
    names = other.__globals__
    if names.get("__name__") not in _INTERACTIVE:
        return False
    # Each cell of a notebook and each line of a prompt is compiled by itself; a program is one file.
    file = names.get("__file__")
    is_typed = isinstance(file, str) and PurePath(file).name != PurePath(other.__code__.co_filename).name
    return hasattr(sys, "ps1") or is_typed or one.__code__.co_filename != other.__code__.co_filename


def _functions_in(func: Any) -> Iterator[FunctionType]:
    """Yield *func* and the functions that its closures refer to, each once."""
    seen: set[int] = set()
    waiting = [func]
    while waiting and len(seen) < 1_000:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, partial):
            waiting.append(each.func)
        elif isinstance(each, MethodType):
            waiting.append(each.__func__)
        elif isinstance(each, FunctionType):
            yield each
            waiting += [vars(each).get("__wrapped__"), *map(_content, each.__closure__ or ())]


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        # The variable has no value yet.
        return None


def _is_same(one: Any, other: Any, asked: set[tuple[int, int]]) -> bool:
    if one is other or (id(one), id(other)) in asked:
        return True
    asked.add((id(one), id(other)))
    if type(one) is not type(other):
        return _is_made_again(innermost(one), innermost(other))
    if isinstance(one, partial):
        return _are_same([(one.func, other.func), (one.args, other.args), (one.keywords, other.keywords)], asked)
    if isinstance(one, MethodType):
        return one.__self__ is other.__self__ and _is_same(one.__func__, other.__func__, asked)
    if isinstance(one, BuiltinMethodType):
        return one.__self__ is other.__self__ and one.__name__ == other.__name__
    if isinstance(one, FunctionType):
        return _is_made_again(innermost(one), innermost(other)) or _is_one_code(one, other, asked)
    if isinstance(one, list | tuple | dict) and len(one) == len(other):
        pairs = zip(one.items() if isinstance(one, dict) else one, other.items() if isinstance(one, dict) else other, strict=True)
        return _are_same(pairs, asked)
    if isinstance(one, _VALUES):
        return bool(one == other)
    return type(one).__module__.startswith("huey.") and _is_same(_state(one), _state(other), asked)


def _are_same(pairs: Iterable[tuple[Any, Any]], asked: set[tuple[int, int]]) -> bool:
    return all(_is_same(one, other, asked) for one, other in pairs)


def _state(thing: Any) -> dict[str, Any]:
    """Return the attributes of an object of huey, such as a lock or a schedule."""
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    return {**getattr(thing, "__dict__", {}), **{name: getattr(thing, name, None) for name in slots}}


def _is_one_code(one: FunctionType, other: FunctionType, asked: set[tuple[int, int]]) -> bool:
    """Return whether both were made by the same lines, executed twice with the same values."""
    if one.__code__ is not other.__code__ or one.__globals__ is not other.__globals__:
        return False
    kept = [(one.__defaults__, other.__defaults__), (one.__kwdefaults__, other.__kwdefaults__)]
    cells = zip(map(_content, one.__closure__ or ()), map(_content, other.__closure__ or ()), strict=True)
    return _are_same([*kept, *cells], asked)


def _is_made_again(one: Any, other: Any) -> bool:
    """Return whether both stand at the same position of a file that was executed again in between."""
    if not isinstance(one, FunctionType) or not isinstance(other, FunctionType) or one is other:
        return False
    if (one.__qualname__, one.__code__.co_filename) != (other.__qualname__, other.__code__.co_filename):
        return False
    is_one_text = one.__code__ == other.__code__ and one.__code__ is not other.__code__
    if not os.path.exists(one.__code__.co_filename):
        # Source that was executed without a file, such as templates: many share one name.
        return is_one_text and one.__globals__ is other.__globals__
    if one.__globals__ is not other.__globals__:
        return True
    return is_one_text or _specs.get(one, other.__globals__.get("__spec__")) is not other.__globals__.get("__spec__")


MAIN = "__main__"
_RUN_AS = (MAIN, "__mp_main__")
"""Names of a module that is run; the second one in a process that ``multiprocessing`` spawned."""
_SOURCES = (".py", ".pyw", ".pyc")


def module_of(func: Any) -> str | None:
    """Return the module of *func*, by the name under which other processes import it; ``__main__`` if there is no such name, as in a
    notebook; None if the object has no module."""
    module = getattr(func, "__module__", None)
    if module not in _RUN_AS:
        return module if isinstance(module, str) else None
    namespace = getattr(func, "__globals__", None)
    if namespace is None or namespace.get("__name__") not in _RUN_AS:
        # For example the result of a decorator, or a class: it has that module, but not its globals.
        namespace = vars(sys.modules[module]) if module in sys.modules else {}
    elif not _is_of_file(func, namespace):
        return MAIN
    return name_of_program(namespace) or MAIN


def name_of_program(namespace: Mapping[str, Any]) -> str | None:
    """Return the name by which the program with these globals is imported; None if there is none.

    ``python -m`` gives it. A file is named by its stem, as it is imported from its own folder; where that is a package (it has an
    ``__init__.py``), with the names of the packages, up to the current folder.
    """
    name = getattr(namespace.get("__spec__"), "name", None)
    if isinstance(name, str) and name not in _RUN_AS:
        return name
    file = namespace.get("__file__")
    if not isinstance(file, str):
        return None
    path = PurePath(os.path.abspath(file))
    packages = _packages(path.parent)
    names = [*packages, path.stem]
    is_name = path.suffix in _SOURCES and all(part.isidentifier() for part in names) and (packages or path.stem != MAIN)
    return ".".join(names) if is_name else None


def _packages(folder: PurePath) -> list[str]:
    """Return the packages that *folder* is in, including itself, outermost first."""
    try:
        here = os.getcwd()
    except OSError:
        # The current folder has been removed.
        here = ""
    found: list[str] = []
    while str(folder) != here and folder.name and os.path.exists(folder / "__init__.py"):
        found.insert(0, folder.name)
        folder = folder.parent
    return found


def _is_of_file(func: Any, namespace: Mapping[str, Any]) -> bool:
    """Return True if *func* is defined in the file of that program, rather than entered at a prompt afterwards (``python -i``)."""
    file, code = namespace.get("__file__"), getattr(func, "__code__", None)
    return not isinstance(file, str) or code is None or PurePath(file).stem == PurePath(code.co_filename).stem


def is_of_script(name: str) -> bool:
    """Return True if a task of that name was declared where no other process can import it."""
    return name.startswith(f"{MAIN}.")

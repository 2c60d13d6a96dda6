"""The importable name of a module that is run as a program.

Python calls it ``__main__``, whatever its file is. A task is named after its module, so ``python app.py`` and ``huey_consumer app.huey``
must agree on a name: the one by which a consumer imports that file."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

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

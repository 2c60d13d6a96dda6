"""Finder of the Huey instance that the path on the command line names."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from importlib import import_module
from types import ModuleType
from typing import Any

import huey
from huey.api import Huey
from huey.cli.errors import UsageError
from huey.registry import instances
from huey.runtime.display import counted
from huey.runtime.logs import SafeLogger

log = SafeLogger("huey.consumer")


def split_path(path: str) -> tuple[str, str]:
    """Return module and name, separated by a dot or a colon. Raise UsageError if *path* is not an import path."""
    module, _, name = path.rpartition(":" if ":" in path else ".")
    if not module or not all(part.isidentifier() for part in (*module.split("."), name)):
        raise UsageError(f"Error importing {path}: {_hint(path)}")
    return module, name


def find_huey(path: str) -> Huey:
    """Import and return the instance that *path* names, from the current directory if it is there.

    Raises UsageError if there is no such module or name, if it is not a Huey instance, or if it has no tasks. If the module itself raises,
    its traceback is printed first.
    """
    module, name = split_path(path)
    sys.path.insert(0, os.getcwd())
    found = _attribute(path, _module(path, module), name)
    if not isinstance(found, Huey):
        raise UsageError(f"{path} is a {type(found).__name__}, not a Huey instance; give the path of the instance whose decorators you use")
    if not len(found.registry) and not any(_is_one_queue(found, other) for other in instances()):
        raise UsageError(f"{path} has no tasks: {_why_none(found, module)}")
    return found


def adopt_siblings(huey: Huey, path: str) -> None:
    """Let *huey* run the tasks of other instances of its queue, as when a factory that makes the instance is called twice."""
    for other in instances():
        if not _is_one_queue(huey, other):
            continue
        log.warning(
            "%s is not the only instance of its queue: %s is another one, with %s. They run here as well, but its hooks and signal "
            "handlers do not. Create the instance in one module and import it everywhere",
            *(path, _import_path_of(other), counted(len(other.registry), "task")),
        )
        huey.registry.adopt(other.registry)


def _is_one_queue(one: Huey, other: Huey) -> bool:
    """Return True if they are different instances of the same queue."""
    storages = one.storage, other.storage
    return (
        one is not other
        and one.name == other.name
        and all(it.features.is_shared for it in storages)
        and repr(storages[0]) == repr(storages[1])
    )


def _why_none(huey: Huey, module: str) -> str:
    others = [f"{_import_path_of(other)} ({other.storage!r}) has {len(other.registry)}" for other in instances() if other is not huey]
    if not others:
        return f"module {module} must import the modules that define them"
    return f"they are declared with another instance, of another queue: {'; '.join(others)}. Give the path of that instance"


def _import_path_of(huey: Huey) -> str:
    """Return the import path of an instance, or its repr if it has none."""
    paths = [
        f"{name}.{key}"
        for name, module in sorted(sys.modules.items())
        for key, value in sorted(getattr(module, "__dict__", {}).items())
        if value is huey
    ]
    own = next(iter(huey.registry)).func.__module__
    return next((path for path in paths if path.startswith(f"{own}.")), paths[0] if paths else repr(huey))


_NOT_THE_USERS = ("<frozen importlib", os.path.dirname(importlib.__file__) + os.sep, os.path.dirname(huey.__file__) + os.sep)
"""Prefixes of the file names of traceback frames that do not help a user."""


def _hint(path: str) -> str:
    """Return a hint at what the user may have meant."""
    meant = path.removeprefix("./").removesuffix(".py").replace("/", ".").replace(":", ".").strip(".")
    if meant == path or not all(part.isidentifier() for part in meant.split(".")):
        return "expected module and instance, such as main.huey"
    is_module = path.endswith(".py") or "." not in meant or os.path.isfile(f"{meant.replace('.', '/')}.py")
    return f"expected module and instance separated by dots, such as {f'{meant}.huey' if is_module and ':' not in path else meant}"


def _module(path: str, name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"Error importing {path}: no module {error.name} in {os.getcwd()} or on PYTHONPATH") from error
        raise broken(path, error) from error
    except SystemExit as error:
        raise UsageError(
            f"Error importing {path}: the module exited (code {error.code!r}); put code that is to run only as a script under "
            "if __name__ == '__main__':"
        ) from error
    except Exception as error:  # The user's module: any exception is shown to its author.
        raise broken(path, error) from error


def broken(path: str, error: Exception) -> UsageError:
    """Print the traceback of a module that raised while it was imported, and return the error to raise."""
    trace = traceback.TracebackException.from_exception(error)
    # Start at the user's own code: the frames that imported it do not help.
    trace.stack[:] = [frame for frame in trace.stack if not frame.filename.startswith(_NOT_THE_USERS)]
    print("".join(trace.format()), end="", file=sys.stderr)
    return UsageError(f"Error importing {path}: {type(error).__name__}: {error}")


def _attribute(path: str, module: ModuleType, name: str) -> Any:
    try:
        return getattr(module, name)
    except AttributeError as error:
        there = sorted(key for key, value in vars(module).items() if isinstance(value, Huey))
        help = f"its Huey instances: {', '.join(there)}" if there else "it has no Huey instance"
        raise UsageError(f"Error importing {path}: module {module.__name__} has no {name!r}; {help}") from error

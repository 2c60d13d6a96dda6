"""From the path on the command line to the Huey instance."""

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
from huey.runtime.logs import SafeLogger

log = SafeLogger("huey.consumer")


def split_path(path: str) -> tuple[str, str]:
    """Module and name, with a dot or a colon in between. Mistake: it is no import path."""
    module, _, name = path.rpartition(":" if ":" in path else ".")
    if not module or not all(part.isidentifier() for part in (*module.split("."), name)):
        raise UsageError(f"Error importing {path}: {_hint(path)}")
    return module, name


def find_huey(path: str) -> Huey:
    """Import the instance that *path* names; the current folder can be imported from. Mistake: no such module or name, not a Huey, no
    tasks. When the module itself breaks, its traceback is printed first."""
    module, name = split_path(path)
    sys.path.insert(0, os.getcwd())
    found = _attribute(path, _module(path, module), name)
    if not isinstance(found, Huey):
        raise UsageError(f"{path} is a {type(found).__name__}, not a Huey instance; name the instance that your tasks are decorated with")
    if not len(found.registry) and not any(_is_one_queue(found, other) for other in instances()):
        raise UsageError(f"{path} has no tasks: {_why_none(found, module)}")
    return found


def adopt_siblings(huey: Huey, path: str) -> None:
    """Let *huey* run what is declared with other instances of its queue, as when a factory that makes the instance is called twice."""
    for other in instances():
        if not _is_one_queue(huey, other):
            continue
        log.warning(
            "%s is not the only instance of its queue: %s is another instance, with %d tasks, which run here as well; its hooks and signal "
            "handlers do not. Make the instance in one module and import it everywhere",
            *(path, _place_of(other), len(other.registry)),
        )
        huey.registry.adopt(other.registry)


def _is_one_queue(one: Huey, other: Huey) -> bool:
    """They are two instances, of one queue."""
    storages = one.storage, other.storage
    return one is not other and one.name == other.name and all(it.is_shared for it in storages) and repr(storages[0]) == repr(storages[1])


def _why_none(huey: Huey, module: str) -> str:
    others = [f"{_place_of(other)} ({other.storage!r}) has {len(other.registry)}" for other in instances() if other is not huey]
    if not others:
        return f"the module {module} has to import the modules that define them"
    return f"they are declared with another instance, of another queue: {'; '.join(others)}. Give the path of the one that is meant"


def _place_of(huey: Huey) -> str:
    """Where an instance can be imported from."""
    places = [
        f"{name}.{key}"
        for name, module in sorted(sys.modules.items())
        for key, value in sorted(getattr(module, "__dict__", {}).items())
        if value is huey
    ]
    own = next(iter(huey.registry)).func.__module__
    return next((place for place in places if place.startswith(f"{own}.")), places[0] if places else repr(huey))


_NOT_THE_USERS = ("<frozen importlib", os.path.dirname(importlib.__file__) + os.sep, os.path.dirname(huey.__file__) + os.sep)
"""Beginnings of the files of frames that tell a user nothing."""


def _hint(path: str) -> str:
    """What the user may have meant."""
    meant = path.removeprefix("./").removesuffix(".py").replace("/", ".").replace(":", ".").strip(".")
    if meant == path or not all(part.isidentifier() for part in meant.split(".")):
        return "give module and instance, such as main.huey"
    is_module = path.endswith(".py") or "." not in meant or os.path.isfile(f"{meant.replace('.', '/')}.py")
    return f"give module and instance with dots, such as {f'{meant}.huey' if is_module and ':' not in path else meant}"


def _module(path: str, name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"Error importing {path}: there is no module {error.name} in {os.getcwd()} or on PYTHONPATH") from error
        raise broken(path, error) from error
    except SystemExit as error:
        raise UsageError(
            f"Error importing {path}: the module ended the program (exit code {error.code!r}); guard what it does as a script with "
            "if __name__ == '__main__':"
        ) from error
    except Exception as error:  # The user's module: whatever it raises is shown to its author.
        raise broken(path, error) from error


def broken(path: str, error: Exception) -> UsageError:
    """What is wrong with a module that breaks while it is imported; its traceback is printed."""
    told = traceback.TracebackException.from_exception(error)
    # From the user's own code on: how it came to be imported is our business.
    told.stack[:] = [frame for frame in told.stack if not frame.filename.startswith(_NOT_THE_USERS)]
    print("".join(told.format()), end="", file=sys.stderr)
    return UsageError(f"Error importing {path}: {type(error).__name__}: {error}")


def _attribute(path: str, module: ModuleType, name: str) -> Any:
    try:
        return getattr(module, name)
    except AttributeError as error:
        there = sorted(key for key, value in vars(module).items() if isinstance(value, Huey))
        help = f"its Huey instances: {', '.join(there)}" if there else "it has no Huey instance"
        raise UsageError(f"Error importing {path}: the module {module.__name__} has no {name!r}; {help}") from error

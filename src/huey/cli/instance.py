"""From the path on the command line to the Huey instance."""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module
from types import ModuleType
from typing import Any

from huey.api import Huey
from huey.cli.mistakes import Mistake


def split_path(path: str) -> tuple[str, str]:
    """Module and name. Mistake: it is no import path."""
    module, _, name = path.rpartition(".")
    if not module or not all(part.isidentifier() for part in path.split(".")):
        raise Mistake(f"Error importing {path}: {_hint(path)}")
    return module, name


def find_huey(path: str) -> Huey:
    """Import the instance that *path* names; the current folder can be imported from. Mistake: no such module or name, not a Huey, no
    tasks. When the module itself breaks, its traceback is printed first."""
    module, name = split_path(path)
    sys.path.insert(0, os.getcwd())
    found = _attribute(path, _module(path, module), name)
    if not isinstance(found, Huey):
        raise Mistake(f"{path} is a {type(found).__name__}, not a Huey instance; name the instance that your tasks are decorated with")
    if not len(found.registry):
        raise Mistake(f"{path} has no tasks: the module {module} has to import the modules that define them")
    return found


def _hint(path: str) -> str:
    """What the user may have meant."""
    meant = path.removeprefix("./").removesuffix(".py").replace("/", ".").replace(":", ".").strip(".")
    if meant == path or not all(part.isidentifier() for part in meant.split(".")):
        return "give module and instance, such as main.huey"
    return f"give module and instance with dots, such as {meant if ':' in path else meant + '.huey'}"


def _module(path: str, name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise Mistake(f"Error importing {path}: there is no module {error.name} in {os.getcwd()} or on PYTHONPATH") from error
        raise broken(path, error) from error
    except SystemExit as error:
        raise Mistake(
            f"Error importing {path}: the module ended the program (exit code {error.code!r}); guard what it does as a script with "
            "if __name__ == '__main__':"
        ) from error
    except Exception as error:  # The user's module: whatever it raises is shown to its author.
        raise broken(path, error) from error


def broken(path: str, error: Exception) -> Mistake:
    """What is wrong with a module that breaks while it is imported; its traceback is printed."""
    traceback.print_exception(error)
    return Mistake(f"Error importing {path}: {type(error).__name__}: {error}")


def _attribute(path: str, module: ModuleType, name: str) -> Any:
    try:
        return getattr(module, name)
    except AttributeError as error:
        there = sorted(key for key, value in vars(module).items() if isinstance(value, Huey))
        help = f"its Huey instances: {', '.join(there)}" if there else "it has no Huey instance"
        raise Mistake(f"Error importing {path}: the module {module.__name__} has no {name!r}; {help}") from error

"""The consumer command: ``huey_consumer path.to.huey [options]``.

Exit codes: 0 stopped as asked; 1 nothing to run (path, import, no tasks, storage), or the consumer failed; 2 a wrong option.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

from huey.api import Huey
from huey.consumer.supervisor import Supervisor
from huey.exceptions import ConfigurationError, StorageError
from huey.options import OPTIONS, Option

LOG_BYTES = 1_000_000
LOG_BACKUPS = 3
LOG_FORMAT = "[%(asctime)s] %(levelname)s:%(name)s:%(threadName)s:%(message)s"

log = logging.getLogger("huey.consumer")


class Mistake(Exception):
    """Something the user can put right; its text says what and how."""

    code = 1


class WrongOption(Mistake):
    """A value that an option cannot have."""

    code = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = make_parser()
    given = vars(parser.parse_args(arguments))
    path = given.pop("path")
    try:
        settings = {**from_environment(os.environ), **given}
        if path is None:
            raise Mistake(
                "the import path of your Huey instance is missing.\nExample: huey_consumer main.huey  (module main, instance huey)"
            )
        huey = find_huey(path)
        set_up_logging(settings)
        return consume(huey, settings)
    except Mistake as mistake:
        print(f"huey_consumer: {mistake}", file=sys.stderr)
        return mistake.code


def consume(huey: Huey, settings: dict[str, Any]) -> int:
    """Run a consumer until it is stopped."""
    options = {name: value for name, value in settings.items() if name not in ("logfile", "verbose", "quiet")}
    try:
        return Supervisor(huey, **options).run()
    except (ConfigurationError, StorageError) as error:
        raise Mistake(str(error)) from error


# -- settings ---------------------------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where help is."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"huey_consumer: {message}\nAll options: huey_consumer --help\n")


def make_parser() -> argparse.ArgumentParser:
    """The command line, made from ``options.OPTIONS``. Absent flags leave no trace."""
    parser = _Parser(prog="huey_consumer", description="Run the tasks of a Huey instance.", argument_default=argparse.SUPPRESS)
    parser.add_argument("path", nargs="?", default=None, help="import path of the instance, such as main.huey")
    for option in OPTIONS:
        text = f"{option.help} [{option.environment}]" + ("" if option.default in (None, False, True) else f" (default {option.default})")
        if option.read is None:
            parser.add_argument(*option.flags, dest=option.name, action="store_const", const=option.switch, help=text)
        else:
            parser.add_argument(*option.flags, dest=option.name, type=_reader(option), metavar=option.name.upper(), help=text)
    return parser


def _reader(option: Option) -> Any:
    def read(text: str) -> Any:
        try:
            return option.read(text) if option.read else text
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} does not fit: {error}") from error

    return read


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Settings that the environment gives: HUEY_WORKERS=4. Mistake: a value that cannot be read."""
    found: dict[str, Any] = {}
    for option in OPTIONS:
        text = environment.get(option.environment, "")
        if not text or option.name in found:
            continue
        try:
            found[option.name] = option.read(text) if option.read else _switch(text)
        except ValueError as error:
            raise WrongOption(f"{option.environment}={text!r}: {error}") from error
    return found


def _switch(text: str) -> bool:
    if text.lower() not in ("1", "0", "true", "false", "yes", "no", "on", "off"):
        raise ValueError("give 1 or 0")
    return text.lower() in ("1", "true", "yes", "on")


# -- the instance -----------------------------------------------------------------------------------------------------------------------


def find_huey(path: str) -> Huey:
    """Import the instance that *path* names. Mistake: no such module or name, not a Huey, no tasks."""
    module, _, name = path.rpartition(".")
    if not module:
        raise Mistake(f"Error importing {path}: give module and instance, such as main.huey")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = getattr(import_module(module), name)
    except Exception as error:  # The user's module: whatever it raises is shown to its author.
        traceback.print_exc()
        raise Mistake(f"Error importing {path}: {type(error).__name__}: {error}") from error
    if not isinstance(found, Huey):
        raise Mistake(f"{path} is a {type(found).__name__}, not a Huey instance; name the instance that your tasks are decorated with")
    if not len(found.registry):
        raise Mistake(f"{path} has no tasks: the module {module} has to import the modules that define them")
    return found


# -- the log ----------------------------------------------------------------------------------------------------------------------------


def set_up_logging(settings: Mapping[str, Any]) -> None:
    """Log to stderr, and to the file if one is named (S93-S97). Handlers that the application attached to "huey" stay. Mistake: the file
    cannot be written."""
    level = logging.DEBUG if settings.get("verbose") else logging.ERROR if settings.get("quiet") else logging.INFO
    logger = logging.getLogger("huey")
    logger.setLevel(level)
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if settings.get("logfile"):
        handlers.append(_file_handler(settings["logfile"]))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
        logger.addHandler(handler)


def _file_handler(path: str) -> logging.Handler:
    from logging.handlers import RotatingFileHandler

    try:
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        return RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_BACKUPS, encoding="utf-8")
    except OSError as error:
        raise Mistake(f"--logfile {path}: {error.strerror}; give a file that this user may write") from error


if __name__ == "__main__":
    sys.exit(main())

"""The parser of the command line and the environment, driven by the table of ``options``.

A flag overrides the environment, which overrides the default. Of two flags for one setting (``-p -n``) the later one wins.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from huey.cli.errors import OptionError
from huey.constants import __version__
from huey.consumer.settings import OPTIONS, Option, switch
from huey.runtime.suggestions import did_you_mean

PROGRAM = "huey_consumer"

EPILOG = """Each option can also be set by the environment variable in brackets; a flag takes precedence.

Examples:
  huey_consumer main.huey                        one task at a time
  huey_consumer main.huey -w 8                   eight at a time, in threads: for tasks that mostly wait
  huey_consumer main.huey -w 4 -k process        four processes: for CPU-bound tasks
  huey_consumer main.huey -w 1000 -k async       a thousand at a time in one event loop: for async def tasks
  huey_consumer main.huey -n -l huey.log         no periodic tasks; log to a file
  huey_consumer main.huey --reload               for development: restart when the code changes

Exit codes: 0 stopped as asked; 1 nothing to run, or the consumer failed; 2 an invalid option.
If the storage cannot be reached at startup, the consumer waits for it.
"""

_NUMBER = re.compile(r"\d+\.?\d*|\.\d+")


def given_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings given by flags and environment, and nothing else, with ``path``. Raise OptionError if a value is not valid, or if
    both -v and -q are given. A flag that cannot be parsed ends the process with code 2."""
    flags = vars(make_parser().parse_args(with_old_forms(arguments)))
    found = from_environment(environment)
    for source, names in ((flags, "--verbose and --quiet"), (found, "HUEY_VERBOSE and HUEY_QUIET")):
        if source.get("verbose") and source.get("quiet"):
            raise OptionError(f"{names} contradict each other; use one of them")
    if "verbose" in flags or "quiet" in flags:
        found = {name: value for name, value in found.items() if name not in ("verbose", "quiet")}
    return {**found, **flags}


def with_old_forms(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with ``-S 1.0`` (0.4.9) as ``--scheduler-interval=1.0``; ``-S`` before anything else stays, as ``--simple``
    (3.x).

    No import path looks like a number, so the two cannot be confused.
    """
    new: list[str] = []
    for argument in arguments:
        if new and new[-1] == "-S" and _NUMBER.fullmatch(argument):
            new[-1] = f"--scheduler-interval={argument}"
        elif argument.startswith("-S") and _NUMBER.fullmatch(argument[2:]):
            new.append(f"--scheduler-interval={argument[2:]}")
        else:
            new.append(argument)
    return new


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and a pointer to the help."""

    def error(self, message: str) -> NoReturn:
        unknown = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        if unknown is not None:
            message += did_you_mean(unknown[1], self._option_string_actions)
        self.exit(2, f"{PROGRAM}: {message}\nAll options: {PROGRAM} --help\n")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line. Its result has no entries for absent flags."""
    parser = _Parser(
        prog=PROGRAM,
        usage="%(prog)s [options] module.instance",
        description="Run the tasks of a Huey instance.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("path", nargs="?", default=None, metavar="module.instance", help="import path of the instance, such as main.huey")
    parser.add_argument("--version", action="version", version=f"huey {__version__}")
    add_options(parser)
    return parser


def add_options(parser: argparse.ArgumentParser, flags: Mapping[str, tuple[str, ...]] | None = None) -> None:
    """Add all options to a parser, in their groups. *flags*: other flags for some options, by the name of the option."""
    groups = {name: parser.add_argument_group(name) for name in dict.fromkeys(option.group for option in OPTIONS)}
    for option in OPTIONS:
        group, text = groups[option.group], _help(option)
        given: dict[str, Any] = {"dest": option.name, "default": argparse.SUPPRESS, "help": text}
        if option.read is None:
            given |= {"action": "store_const", "const": option.switch}
        else:
            given |= {"type": _reader(option), "metavar": option.value}
        group.add_argument(*(flags or {}).get(option.name, option.flags), **given)


def _help(option: Option) -> str:
    default = f" (default {option.default_text})" if option.default_text else ""
    return f"{option.help}{default} [{option.environment}]".replace("%", "%%")


def _reader(option: Option) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return option.read(text) if option.read else text
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not valid: {error}") from error

    return read


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings from environment variables such as HUEY_WORKERS=4; empty ones are ignored. Raise OptionError if a value is not
    valid."""
    found: dict[str, Any] = {}
    for option in OPTIONS:
        text = environment.get(option.environment, "")
        if not text:
            continue
        try:
            found[option.name] = option.read(text) if option.read else switch(text)
        except ValueError as error:
            raise OptionError(f"{option.environment}={text!r} is not valid: {error}") from error
    return found

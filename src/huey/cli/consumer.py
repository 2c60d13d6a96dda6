"""The consumer command: ``huey_consumer path.to.huey [options]``.

Exit codes: 0 stopped as asked; 1 nothing to run (path, import, no tasks, an unusable storage), or the consumer failed; 2 an invalid option.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from huey.api import Huey
from huey.cli.errors import OptionError, UsageError
from huey.cli.instance import adopt_siblings, find_huey, split_path
from huey.cli.logs import set_up_logging
from huey.cli.parser import PROGRAM, given_settings
from huey.consumer.command import REAL
from huey.consumer.settings import OF_COMMAND, allocate_workers, validate_settings
from huey.consumer.supervisor import Supervisor
from huey.exceptions import ConfigurationError, StorageError
from huey.runtime.log_queue import drain, turn_on
from huey.runtime.logs import LAST_LINES, drop_broken_streams, escaped_lines, write_by_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    code = _main(arguments)
    drop_broken_streams()
    return code


def _main(arguments: Sequence[str] | None) -> int:
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        given = given_settings(arguments, os.environ)
        path = given.pop("path")
        if path is None:
            raise UsageError(
                "missing argument: the import path of your Huey instance.\nExample: huey_consumer main.huey  (module main, instance huey)"
            )
        if not REAL:
            raise UsageError("the current directory no longer exists; change to one that does, such as that of your application")
        settings = consumer_settings(given)
        if given.get("reload"):
            # Imported only when needed: a consumer in production stays small.
            from huey.cli.reload import is_watched, watch_over

            if not is_watched():
                return watch_over(split_path(path)[0], arguments)
        huey = find_huey(path)
        set_up_logging(given)
        return consume(huey, path, settings)
    except UsageError as error:
        with suppress(OSError, ValueError):
            print(escaped_lines(f"{PROGRAM}: {error}"), file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        # Only before the consumer has installed its signal handlers: nothing runs yet.
        return 128 + signal.SIGINT


def consumer_settings(given: dict[str, Any]) -> dict[str, Any]:
    """Return all settings of the consumer. Raise OptionError if two of them contradict each other."""
    try:
        return validate_settings({name: value for name, value in given.items() if name not in OF_COMMAND})
    except ConfigurationError as error:
        raise OptionError(str(error)) from error


def consume(huey: Huey, path: str, settings: dict[str, Any]) -> int:
    """Run until stopped and return the exit code. Raise UsageError if the consumer cannot start."""
    try:
        allocate_workers(settings, huey.name)
    except ConfigurationError as error:
        raise OptionError(str(error)) from error
    adopt_siblings(huey, path)
    turn_on()
    write_by_line()
    try:
        code = Supervisor(huey, **settings).run()
    except (ConfigurationError, StorageError) as error:
        drain(LAST_LINES)
        raise UsageError(str(error)) from error
    if not drain(LAST_LINES):
        # A log handler is stuck. At exit logging waits for its handlers, and so would this process, for ever.
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())

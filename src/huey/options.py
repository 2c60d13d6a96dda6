"""Every setting of the consumer command, once: flag, environment name, type, default, help.

The command line, the documentation and ``Consumer(...)`` are made from this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from huey.exceptions import ConfigurationError


class Option(NamedTuple):
    """One setting."""

    name: str
    """Keyword of ``Consumer`` and destination of the flag."""
    flags: tuple[str, ...]
    read: Callable[[str], Any] | None
    """Text to value; None: a switch."""
    default: Any
    help: str
    switch: Any = True
    """What a switch sets."""

    @property
    def environment(self) -> str:
        """The environment variable that sets it when the flag is absent."""
        return "HUEY_" + self.name.upper()


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("give a whole number from 1 up")
    return number


def _kind(text: str) -> str:
    if text not in ("thread", "process"):
        raise ValueError("give thread or process")
    return text


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < 10**9:
        raise ValueError("give a number of seconds above 0")
    return number


def _grace(text: str) -> float:
    number = float(text)
    if not 0 <= number < 10**9:
        raise ValueError("give a number of seconds from 0 up")
    return number


def _factor(text: str) -> float:
    number = float(text)
    if not 1 <= number < 10**6:
        raise ValueError("give a number of 1 or more")
    return number


OPTIONS: tuple[Option, ...] = (
    Option("workers", ("-w", "--workers", "-t", "--threads"), _whole, 1, "number of tasks that run at the same time"),
    Option("worker_type", ("-k", "--worker-type"), _kind, "thread", "thread: one process with so many threads; process: so many processes"),
    Option("max_tasks", ("-M", "--max-tasks"), _whole, None, "a worker process is replaced by a new one after so many tasks"),
    Option("max_memory", ("--max-memory",), _whole, None, "MiB; a worker process that uses more is replaced by a new one between tasks"),
    Option("logfile", ("-l", "--logfile"), str, None, "write the log to this file too; it is turned over at 1 MB, 3 old ones are kept"),
    Option("verbose", ("-v", "--verbose"), None, False, "log DEBUG messages"),
    Option("quiet", ("-q", "--quiet"), None, False, "log errors only"),
    Option("periodic", ("-p", "--periodic"), None, True, "run periodic tasks (the default); any number of consumers may do so"),
    Option("periodic", ("-n", "--no-periodic"), None, True, "do not run periodic tasks from here", False),
    Option("delay", ("-d", "--delay"), _seconds, 0.1, "seconds between two looks at a queue that has to be polled"),
    Option("max_delay", ("-m", "--max-delay"), _seconds, 10.0, "longest wait between two looks, seconds"),
    Option("backoff", ("-b", "--backoff"), _factor, 1.15, "factor by which that wait grows while nothing comes"),
    Option("localtime", ("-u", "--utc"), None, False, "crontabs and naive times are UTC (the default)", False),
    Option("localtime", ("--localtime",), None, False, "crontabs and naive times are local time"),
    Option("scheduler_interval", ("-S", "--scheduler-interval"), _seconds, 1.0, "kept from 0.4.9: scheduled tasks start when due anyway"),
    Option("periodic_task_interval", ("-P", "--periodic-task-interval"), _seconds, 60.0, "seconds between two looks at the crontabs"),
    Option("shutdown_timeout", ("--shutdown-timeout",), _grace, 30.0, "seconds that running tasks get to end at a stop; 0: no limit"),
)


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings: *given*, and the defaults of the others. ConfigurationError: one that does not exist or cannot work.

    ``utc=`` is the opposite of ``localtime=``, ``initial_delay=`` the 0.4.9 name of ``delay=``.
    """
    given = dict(given)
    if "utc" in given:
        given["localtime"] = not given.pop("utc")
    if "initial_delay" in given:
        given["delay"] = given.pop("initial_delay")
    settings = {option.name: option.default for option in OPTIONS}
    for name in given:
        if name not in settings:
            raise ConfigurationError(f"{name}={given[name]!r}: a consumer has no such option; there are {', '.join(sorted(settings))}")
    for option in OPTIONS:
        value = given.get(option.name)
        if option.read is not None and value is not None:
            try:
                option.read(str(value))
            except ValueError as error:
                raise ConfigurationError(f"{option.name}={value!r}: {error}") from error
    return {**settings, **given}

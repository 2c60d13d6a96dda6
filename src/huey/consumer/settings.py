"""The settings of a consumer, each declared once: flag, environment variable, type, default, help.

The command line, its help, the documentation and ``Consumer(...)`` are built from this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from huey.exceptions import ConfigurationError
from huey.runtime.suggestions import did_you_mean

WORKERS, TIME, STOPPING, LOG, DEVELOPMENT = "Workers", "Periodic tasks and time", "Stopping", "Log", "Development"
POLLING = "Only for queues that must be polled (queue classes of 0.4.9)"
IGNORED = "Accepted for compatibility with 0.4.9 and 3.x, without effect"

Read = Callable[[str], Any]
"""A function that parses a string. It raises ValueError for an invalid string; the message says what is valid."""


class Option(NamedTuple):
    """One setting, or one of the two switches of a setting."""

    name: str
    """Keyword of ``Consumer`` and destination of the flag."""
    flags: tuple[str, ...]
    read: Read | None
    """None: a switch."""
    default: Any
    help: str
    switch: bool = True
    """What a switch sets."""
    group: str = ""

    @property
    def value(self) -> str:
        """Placeholder of the value in help and documentation; empty for switches."""
        return "" if self.read is None else _PLACEHOLDERS[self.read]

    @property
    def is_of_command(self) -> bool:
        """True if it is an option of the command only: ``Consumer`` does not take it."""
        return self.group in (LOG, DEVELOPMENT)

    @property
    def environment(self) -> str:
        """The environment variable that applies when the flag is absent."""
        return "HUEY_" + self.name.upper()

    @property
    def default_text(self) -> str:
        """The default as a user would write it; empty for none and for switches."""
        if self.read is None or self.default in (None, ()):
            return ""
        return ",".join(self.default) if isinstance(self.default, tuple) else f"{self.default}".removesuffix(".0")


# -- text to value ----------------------------------------------------------------------------------------------------------------------


def _number(make: Callable[[str], Any], fits: Callable[[Any], bool], wanted: str) -> Read:
    def read(text: str) -> Any:
        try:
            number = make(text)
        except ValueError:
            raise ValueError(wanted) from None
        if not fits(number):
            raise ValueError(wanted)
        return number

    return read


_threads = _number(int, lambda n: 1 <= n <= 10_000, "expected a whole number from 1 to 10000")
_count = _number(int, lambda n: 1 <= n <= 10**9, "expected a whole number, at least 1")
_mebibytes = _number(int, lambda n: 1 <= n <= 10**9, "expected a whole number, at least 1")
_seconds = _number(float, lambda n: 0 < n < 10**9, "expected a number of seconds greater than 0")
_grace = _number(float, lambda n: 0 <= n < 10**9, "expected a number of seconds, at least 0")
_factor = _number(float, lambda n: 1 <= n < 10**6, "expected a number, at least 1")
_part_of_a_minute = _number(
    float,
    lambda n: 0.001 <= n <= 60 and abs(60 / n - round(60 / n)) < 1e-9,
    "expected a number of seconds that divides 60, such as 1, 5 or 30",
)


def _kind(text: str) -> str:
    kind = text.strip().lower()
    if kind in ("thread", "process", "async"):
        return kind
    if kind in ("greenlet", "gevent"):
        raise ValueError(
            "greenlets are not supported; use thread (many of them for tasks that mostly wait), async (for async def), or process (for "
            "CPU-bound tasks)"
        )
    raise ValueError("expected thread, process or async")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ValueError("expected names separated by commas, such as a,b")
    return names


def _signals(text: str) -> tuple[str, ...]:
    names = {name.upper().removeprefix("SIG") for name in _names(text)}
    if not names <= {"TERM", "INT"}:
        raise ValueError("expected TERM, INT or TERM,INT")
    return tuple(name for name in ("TERM", "INT") if name in names)


def _queues(text: str) -> tuple[tuple[str, int], ...]:
    """Parse names, each followed by a colon and a weight unless that is 1: ``mail,video:3``."""
    found: dict[str, int] = {}
    for part in _names(text):
        name, _, weight = part.rpartition(":") if ":" in part else (part, "", "1")
        if not name or not (weight.isascii() and weight.isdigit()) or int(weight) < 1:
            raise ValueError("expected queue names, each optionally with a weight of at least 1, such as mail,video:3")
        if name in found:
            raise ValueError(f"{name!r} is given twice")
        found[name] = int(weight)
    return tuple(found.items())


def switch(text: str) -> bool:
    """Parse a switch in an environment variable."""
    if text.lower() not in ("1", "0", "true", "false", "yes", "no", "on", "off"):
        raise ValueError("expected 1 or 0")
    return text.lower() in ("1", "true", "yes", "on")


_PLACEHOLDERS: dict[Read, str] = {
    **dict.fromkeys((_threads, _count), "N"),
    **dict.fromkeys((_names, _queues), "NAMES"),
    **dict.fromkeys((_seconds, _grace, _part_of_a_minute), "SECONDS"),
} | {_mebibytes: "MIB", _factor: "FACTOR", _kind: "TYPE", _signals: "SIGNALS", str: "FILE"}


# -- the table --------------------------------------------------------------------------------------------------------------------------

_TABLE: dict[str, tuple[Option, ...]] = {
    WORKERS: (
        Option("workers", ("-w", "--workers", "--threads"), _threads, 1, "number of tasks to run at the same time"),
        Option(
            "worker_type",
            ("-k", "--worker-type"),
            _kind,
            "thread",
            "thread: one process with N threads; process: N processes with one thread each, for CPU-bound tasks; async: one process with "
            "an event loop for N async def tasks at a time",
        ),
        Option(
            "max_tasks", ("-M", "--max-tasks"), _count, None, "restart a worker process after this many tasks; cannot be combined with -C"
        ),
        Option(
            "max_memory",
            ("--max-memory",),
            _mebibytes,
            None,
            "restart a worker process, after its current tasks, when it uses more than this much memory; cannot be combined with -C",
        ),
        Option("check_worker_health", ("-C", "--disable-health-check"), None, True, "do not replace workers that die", switch=False),
        Option(
            "watchdog",
            ("--watchdog",),
            _grace,
            30.0,
            "replace a worker whose own threads (not its tasks) have stalled for this long; 0: never",
        ),
        Option(
            "queues",
            ("--queues",),
            _queues,
            (),
            "queues to process, with weights by which the workers are shared out, such as mail,video:3; default: the queue of the instance",
        ),
        Option("flush_locks", ("-f", "--flush-locks"), None, False, "free the locks of this queue at startup"),
        Option("extra_locks", ("-L", "--extra-locks"), _names, (), "free locks of these names as well, such as a,b; implies --flush-locks"),
    ),
    TIME: (
        Option("periodic", ("-p", "--periodic"), None, True, "run periodic tasks (the default); several consumers may do so"),
        Option("periodic", ("-n", "--no-periodic"), None, True, "do not run periodic tasks", switch=False),
        Option(
            "localtime",
            ("-u", "--utc"),
            None,
            None,
            "crontabs and naive times are UTC (the default, unless the instance has utc=False)",
            switch=False,
        ),
        Option("localtime", ("--localtime",), None, None, "crontabs and naive times are local time"),
        Option(
            "periodic_task_interval",
            ("-P", "--periodic-task-interval"),
            _seconds,
            60.0,
            "longest time between two checks for due periodic tasks",
        ),
    ),
    STOPPING: (
        Option(
            "shutdown_timeout",
            ("-t", "--shutdown-timeout"),
            _grace,
            30.0,
            "how long running tasks may take to finish at shutdown; 0: no limit",
        ),
        Option(
            "graceful_signal",
            ("-g", "--graceful-signal"),
            _signals,
            ("TERM", "INT"),
            "signals that let running tasks finish; the other one requeues them at once. INT: as in 3.x",
        ),
    ),
    LOG: (
        Option(
            "logfile",
            ("-l", "--logfile"),
            str,
            None,
            "write the log to this file instead of the console; it is rotated at 1 MB and 3 old files are kept",
        ),
        Option("verbose", ("-v", "--verbose"), None, False, "log DEBUG messages"),
        Option("quiet", ("-q", "--quiet"), None, False, "log only errors"),
        Option(
            "simple", ("-S", "--simple"), None, False, "short log lines: H:M:S message (followed by a number, -S means -s, as in 0.4.9)"
        ),
    ),
    DEVELOPMENT: (Option("reload", ("--reload",), None, False, "restart the workers when a .py file of the application changes"),),
    IGNORED: (
        Option("health_check_interval", ("-c", "--health-check-interval"), _seconds, 10.0, "dead workers are noticed and replaced at once"),
    ),
    POLLING: (
        Option(
            "scheduler_interval",
            ("-s", "--scheduler-interval"),
            _part_of_a_minute,
            1.0,
            "interval at which to poll the schedule; must divide 60",
        ),
        Option("delay", ("-d", "--delay"), _seconds, 0.1, "interval at which to poll the queue"),
        Option("max_delay", ("-m", "--max-delay"), _seconds, 10.0, "longest such interval"),
        Option("backoff", ("-b", "--backoff"), _factor, 1.15, "factor by which the interval grows while the queue is empty"),
    ),
}
OPTIONS = tuple(option._replace(group=group) for group, options in _TABLE.items() for option in options)
_BY_NAME = {option.name: option for option in OPTIONS}

OF_COMMAND = frozenset(option.name for option in OPTIONS if option.is_of_command)
"""Options of the command that a consumer inside a program does not take."""


# -- keywords ---------------------------------------------------------------------------------------------------------------------------


def validate_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of a consumer: those *given*, parsed, and the defaults of the others. Validating them again changes nothing.

    ``utc=`` is the opposite of ``localtime=``, ``initial_delay=`` is ``delay=`` in 0.4.9 and 3.x, and ``shutdown_timeout=None`` means 0: no
    limit. Raise ConfigurationError if a setting does not exist, is not valid, or contradicts another.
    """
    given = dict(given)
    if "utc" in given:
        utc = given.pop("utc")
        given["localtime"] = None if utc is None else not utc
    if "initial_delay" in given:
        given["delay"] = given.pop("initial_delay")
    settings = {option.name: option.default for option in OPTIONS if not option.is_of_command}
    if given.get("shutdown_timeout", 0) is None:
        given["shutdown_timeout"] = 0
    for name, value in given.items():
        if name not in settings:
            raise ConfigurationError(f"{name}={value!r}: {_unknown_option_hint(name, sorted(settings))}")
        settings[name] = _read_value(_BY_NAME[name], value)
    return _check_conflicts(settings)


def allocate_workers(settings: Mapping[str, Any], name: str) -> dict[str, int]:
    """Return how many workers each queue gets, by weight and at least one each.

    Without ``queues`` all work for *name*, the queue of the instance. Raise ConfigurationError if there are fewer workers than queues.
    """
    queues, workers = dict(settings["queues"]) or {name: 1}, settings["workers"]
    if workers < len(queues):
        raise ConfigurationError(
            f"workers={workers} for {len(queues)} queues ({_text(settings['queues'])}): each needs at least one; "
            f"use --workers {len(queues)} or more"
        )
    given = dict.fromkeys(queues, 1)
    for _ in range(workers - len(queues)):
        # The next worker goes to the queue that is furthest from its share.
        neediest = max(queues, key=lambda queue: queues[queue] / (given[queue] + 1))
        given[neediest] += 1
    return given


def uses_local_time(settings: Mapping[str, Any], huey: Any) -> bool:
    """Return whether the consumer uses local time: as its settings say, else as the instance does."""
    return not huey.utc if settings["localtime"] is None else bool(settings["localtime"])


def process_only_reason(settings: Mapping[str, Any]) -> str | None:
    """Return why a consumer with these settings needs worker processes and cannot run in threads of its program, or None if it can."""
    if len(settings["queues"]) > 1:
        first = settings["queues"][0][0]
        return (
            f"queues={_text(settings['queues'])!r}: start() takes tasks from one queue, in threads of this process; create a consumer for "
            f"each, such as huey.on({first!r}).create_consumer(), or call run(), which starts worker processes like the command "
            "huey_consumer"
        )
    for name, usual in (("worker_type", "thread"), ("max_tasks", None), ("max_memory", None)):
        if settings[name] != usual:
            return (
                f"{name}={settings[name]!r}: start() runs tasks in threads of this process, which cannot be replaced; leave it out, or "
                "call run(), which starts worker processes like the command huey_consumer"
            )
    return None


def _unknown_option_hint(name: str, known: list[str]) -> str:
    if name in _BY_NAME:
        return f"only the command line has this option ({_BY_NAME[name].flags[-1]}), a consumer inside a program does not"
    return "a consumer has no such option" + (did_you_mean(name, known) or f"; its options are {', '.join(known)}")


def _read_value(option: Option, value: Any) -> Any:
    if option.default in (None, ()) and (value is None or value == option.default):
        return option.default
    try:
        if option.read is None:
            return value if isinstance(value, bool) else switch(str(value))
        return option.read(_text(value))
    except ValueError as error:
        raise ConfigurationError(f"{option.name}={value!r}: {error}") from error


def _text(value: Any) -> str:
    """Return the value as a command line has it: lists with commas, weights with a colon."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}:{weight}" for name, weight in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(":".join(map(str, part)) if isinstance(part, tuple) else str(part) for part in value)
    return str(value)


def _check_conflicts(settings: dict[str, Any]) -> dict[str, Any]:
    """Return *settings*. Raise ConfigurationError if two of them contradict each other."""
    for name in ("max_tasks", "max_memory"):
        if settings[name] is not None and not settings["check_worker_health"]:
            raise ConfigurationError(
                f"{name}={settings[name]} with check_worker_health=False (--disable-health-check): a worker that stops would not be "
                "replaced; leave out one of the two"
            )
    settings["flush_locks"] = settings["flush_locks"] or bool(settings["extra_locks"])
    return settings

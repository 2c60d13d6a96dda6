"""Every setting of the consumer command, once: flag, environment name, type, default, help.

The command line, its help, the documentation and ``Consumer(...)`` are made from this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from huey.exceptions import ConfigurationError
from huey.runtime.suggestions import did_you_mean

WORKERS, TIME, STOPPING, LOG = "Workers", "Periodic tasks and time", "Stopping", "Log"
POLLING = "Only for queues that have to be polled, made of parts of 0.4.9"
IGNORED = "Accepted, as 0.4.9 and 3.x have them, but without effect"

Read = Callable[[str], Any]
"""Text to value. ValueError: the text does not fit; it says what would."""


class Option(NamedTuple):
    """One setting, or one of the two switches of a setting."""

    name: str
    """Keyword of ``Consumer`` and destination of the flag."""
    flags: tuple[str, ...]
    read: Read | None
    """None: a switch."""
    default: Any
    help: str
    group: str
    value: str = ""
    """What stands for the value in help and documentation."""
    switch: Any = True
    """What a switch sets."""
    is_of_command: bool = False
    """It tells the command what to do, not the consumer: ``Consumer`` does not take it."""

    @property
    def environment(self) -> str:
        """The environment variable that sets it when the flag is absent."""
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


_threads = _number(int, lambda n: 1 <= n <= 10_000, "give a whole number from 1 to 10000")
_count = _number(int, lambda n: 1 <= n <= 10**9, "give a whole number from 1 up")
_seconds = _number(float, lambda n: 0 < n < 10**9, "give a number of seconds above 0")
_grace = _number(float, lambda n: 0 <= n < 10**9, "give a number of seconds from 0 up")
_factor = _number(float, lambda n: 1 <= n < 10**6, "give a number of 1 or more")
_part_of_a_minute = _number(
    float, lambda n: 0.001 <= n <= 60 and abs(60 / n - round(60 / n)) < 1e-9, "give seconds that divide a minute, such as 1, 5 or 30"
)


def _kind(text: str) -> str:
    kind = text.strip().lower()
    if kind in ("thread", "process"):
        return kind
    if kind in ("greenlet", "gevent"):
        raise ValueError("there are no greenlets; there are thread (for tasks that wait: take many) and process (for tasks that compute)")
    raise ValueError("there are thread and process")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ValueError("give names with commas between, such as a,b")
    return names


def _signals(text: str) -> tuple[str, ...]:
    names = {name.upper().removeprefix("SIG") for name in _names(text)}
    if not names <= {"TERM", "INT"}:
        raise ValueError("give TERM, INT or TERM,INT")
    return tuple(name for name in ("TERM", "INT") if name in names)


def _queues(text: str) -> tuple[tuple[str, int], ...]:
    """Names, each with a weight after a colon if it is not 1: ``mail,video:3``."""
    found: dict[str, int] = {}
    for part in _names(text):
        name, _, weight = part.rpartition(":") if ":" in part else (part, "", "1")
        if not name or not (weight.isascii() and weight.isdigit()) or int(weight) < 1:
            raise ValueError("give names of queues, each with a weight of 1 or more if you like, such as mail,video:3")
        if name in found:
            raise ValueError(f"{name!r} stands there twice")
        found[name] = int(weight)
    return tuple(found.items())


def switch(text: str) -> bool:
    """A switch as the environment gives it."""
    if text.lower() not in ("1", "0", "true", "false", "yes", "no", "on", "off"):
        raise ValueError("give 1 or 0")
    return text.lower() in ("1", "true", "yes", "on")


# -- the table --------------------------------------------------------------------------------------------------------------------------

OPTIONS: tuple[Option, ...] = (
    Option("workers", ("-w", "--workers", "--threads"), _threads, 1, "number of tasks that run at the same time", WORKERS, value="N"),
    Option(
        "worker_type",
        ("-k", "--worker-type"),
        _kind,
        "thread",
        "thread: one process with that many threads; process: that many processes of one, for tasks that compute",
        WORKERS,
        value="TYPE",
    ),
    Option(
        "max_tasks",
        ("-M", "--max-tasks"),
        _count,
        None,
        "restart a worker process after this many tasks; not with -C",
        WORKERS,
        value="N",
    ),
    Option(
        "max_memory",
        ("--max-memory",),
        _count,
        None,
        "restart a worker process, between two tasks, once it holds more than this many MiB; not with -C",
        WORKERS,
        value="MIB",
    ),
    Option(
        "health_check_interval",
        ("-c", "--health-check-interval"),
        _seconds,
        10.0,
        "a worker that died is noticed, and replaced, at once",
        IGNORED,
        value="SECONDS",
    ),
    Option("check_worker_health", ("-C", "--disable-health-check"), None, True, "do not replace a worker that died", WORKERS, switch=False),
    Option(
        "watchdog",
        ("--watchdog",),
        _grace,
        30.0,
        "replace a worker that stands still, its tasks apart, after this time; 0: never",
        WORKERS,
        value="SECONDS",
    ),
    Option(
        "queues",
        ("--queues",),
        _queues,
        (),
        "queues to take tasks from, with weights by which the workers are shared out: mail,video:3; default: that of the instance",
        WORKERS,
        value="NAMES",
    ),
    Option("flush_locks", ("-f", "--flush-locks"), None, False, "at the start, free the locks of this queue", WORKERS),
    Option(
        "extra_locks",
        ("-L", "--extra-locks"),
        _names,
        (),
        "free locks of these names too: a,b; implies --flush-locks",
        WORKERS,
        value="NAMES",
    ),
    Option("periodic", ("-p", "--periodic"), None, True, "run periodic tasks (the default); any number of consumers may do so", TIME),
    Option("periodic", ("-n", "--no-periodic"), None, True, "do not run periodic tasks from here", TIME, switch=False),
    Option(
        "localtime",
        ("-u", "--utc"),
        None,
        None,
        "its clock, for crontabs and naive times, shows UTC (the default, unless the instance has utc=False)",
        TIME,
        switch=False,
    ),
    Option("localtime", ("--localtime",), None, None, "its clock, for crontabs and naive times, shows local time", TIME),
    Option(
        "periodic_task_interval",
        ("-P", "--periodic-task-interval"),
        _seconds,
        60.0,
        "longest time between two looks at the crontabs",
        TIME,
        value="SECONDS",
    ),
    Option(
        "scheduler_interval",
        ("-s", "--scheduler-interval"),
        _part_of_a_minute,
        1.0,
        "time between two looks at a schedule that has to be polled; has to divide 60",
        POLLING,
        value="SECONDS",
    ),
    Option(
        "shutdown_timeout",
        ("-t", "--shutdown-timeout"),
        _grace,
        30.0,
        "time that running tasks get to end at a stop; 0: no limit",
        STOPPING,
        value="SECONDS",
    ),
    Option(
        "graceful_signal",
        ("-g", "--graceful-signal"),
        _signals,
        ("TERM", "INT"),
        "the signals that let running tasks end; the other one puts them back at once. INT: as in 3.x",
        STOPPING,
        value="SIGNALS",
    ),
    Option(
        "logfile",
        ("-l", "--logfile"),
        str,
        None,
        "write the log to this file instead of the console; it is rotated at 1 MB, 3 old ones are kept",
        LOG,
        value="FILE",
        is_of_command=True,
    ),
    Option("verbose", ("-v", "--verbose"), None, False, "log DEBUG messages", LOG, is_of_command=True),
    Option("quiet", ("-q", "--quiet"), None, False, "log errors only", LOG, is_of_command=True),
    Option(
        "simple",
        ("-S", "--simple"),
        None,
        False,
        "short log lines: H:M:S message (before a number, -S means -s, as in 0.4.9)",
        LOG,
        is_of_command=True,
    ),
    Option("delay", ("-d", "--delay"), _seconds, 0.1, "time between two looks at a queue that has to be polled", POLLING, value="SECONDS"),
    Option("max_delay", ("-m", "--max-delay"), _seconds, 10.0, "longest time between two such looks", POLLING, value="SECONDS"),
    Option("backoff", ("-b", "--backoff"), _factor, 1.15, "factor by which that time grows while nothing comes", POLLING, value="FACTOR"),
    Option(
        "reload",
        ("--reload",),
        None,
        False,
        "restart the workers when a .py file of the application changes",
        "Development",
        is_of_command=True,
    ),
)

_BY_NAME = {option.name: option for option in OPTIONS}

OF_COMMAND = frozenset(option.name for option in OPTIONS if option.is_of_command)
"""Options of the command that a consumer inside a program does not have."""


# -- keywords ---------------------------------------------------------------------------------------------------------------------------


def validate_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a consumer: *given*, read, and the defaults of the others. Checked settings may be checked again.

    ``utc=`` is the opposite of ``localtime=``, ``initial_delay=`` the name of ``delay=`` in 0.4.9 and 3.x, and ``shutdown_timeout=None``
    that of 0: no limit. ConfigurationError: a setting
    that does not exist, cannot work, or contradicts another.
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
    """How the workers are shared out to the queues to take from (default: that of the instance, *name*): by weight, at least one each.

    ConfigurationError: fewer workers than queues.
    """
    queues, workers = dict(settings["queues"]) or {name: 1}, settings["workers"]
    if workers < len(queues):
        raise ConfigurationError(
            f"workers={workers} for {len(queues)} queues ({_text(settings['queues'])}): each needs one at least; "
            f"give --workers {len(queues)} or more"
        )
    given = dict.fromkeys(queues, 1)
    for _ in range(workers - len(queues)):
        # To the one that is furthest from its share.
        neediest = max(queues, key=lambda queue: queues[queue] / (given[queue] + 1))
        given[neediest] += 1
    return given


def uses_local_time(settings: Mapping[str, Any], huey: Any) -> bool:
    """Whether the consumer's clock shows local time: as its settings say, else as the instance does."""
    return not huey.utc if settings["localtime"] is None else bool(settings["localtime"])


def process_only_reason(settings: Mapping[str, Any]) -> str | None:
    """Why no consumer that lives in threads of its program can do what is asked: only worker processes can. None: it can."""
    if len(settings["queues"]) > 1:
        first = settings["queues"][0][0]
        return (
            f"queues={_text(settings['queues'])!r}: start() takes tasks from one queue, in threads of this process; make a consumer for "
            f"each, such as huey.on({first!r}).create_consumer(), or call run(), which starts worker processes as the command "
            "huey_consumer does"
        )
    for name, usual in (("worker_type", "thread"), ("max_tasks", None), ("max_memory", None)):
        if settings[name] != usual:
            return (
                f"{name}={settings[name]!r}: start() runs tasks in threads of this process, which nobody can replace; leave it out, or "
                "call run(), which starts worker processes as the command huey_consumer does"
            )
    return None


def _unknown_option_hint(name: str, known: list[str]) -> str:
    if name in _BY_NAME:
        return f"that is for the command line ({_BY_NAME[name].flags[-1]}), not for a consumer inside a program"
    return "a consumer has no such option" + (did_you_mean(name, known) or f"; there are {', '.join(known)}")


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
    """The value as it stands on a command line: lists with commas, weights with a colon."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}:{weight}" for name, weight in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(":".join(map(str, part)) if isinstance(part, tuple) else str(part) for part in value)
    return str(value)


def _check_conflicts(settings: dict[str, Any]) -> dict[str, Any]:
    """ConfigurationError: two settings that do not go together."""
    for name in ("max_tasks", "max_memory"):
        if settings[name] is not None and not settings["check_worker_health"]:
            raise ConfigurationError(
                f"{name}={settings[name]} with check_worker_health=False (--disable-health-check): a worker that ended would not be "
                "replaced; leave out one of the two"
            )
    settings["flush_locks"] = settings["flush_locks"] or bool(settings["extra_locks"])
    return settings

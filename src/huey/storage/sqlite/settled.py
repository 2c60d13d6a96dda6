"""Options of huey 3.x for a queue in SQLite: how they are translated, and why some values are rejected."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from huey.exceptions import ConfigurationError
from huey.runtime.logs import SafeLogger

log = SafeLogger("huey")

_SETTLED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "journal_mode": (
        lambda mode: mode is None or str(mode).lower() == "wal",
        "only 'wal' lets workers and producers run in parallel and keeps what was written when a process is killed; leave it out",
    ),
    "strict_fifo": (lambda on: isinstance(on, bool | int), "give True or False; tasks of one priority run in their order in any case"),
    "isolation_level": (
        lambda level: level is None,
        "each step is one statement in autocommit, or other processes would wait for this one",
    ),
    "check_same_thread": (lambda on: not on, "the threads of a process share connections under locks; leave it out"),
}
"""Options of 3.x with a fixed value: which values are accepted as no-ops, and why others are rejected."""

_HARMLESS = frozenset(
    {
        "analysis_limit", "auto_vacuum", "automatic_index", "cache_size", "cache_spill", "cell_size_check", "checkpoint_fullfsync",
        "foreign_keys", "fullfsync", "journal_size_limit", "mmap_size", "page_size", "secure_delete", "threads",
    }
)  # fmt: skip
"""Pragmas that are passed on to SQLite."""
_OWN = {
    "journal_mode": (("wal",), _SETTLED["journal_mode"][1]),
    "locking_mode": (("normal",), "with any other mode no second process could use the file"),
    "temp_store": (("0", "2", "default", "memory"), "temporary tables are kept in memory, or each step would write a file"),
    "wal_autocheckpoint": (None, "workers checkpoint the log themselves, between turns"),
    "encoding": (("utf-8", "utf8"), "strings are stored in UTF-8"),
    "read_uncommitted": (None, "it has no effect unless connections share a cache"),
}
"""Pragmas with a fixed value: the values that are accepted as no-ops (None: any), and why others are rejected."""
_WORD = re.compile(r"[A-Za-z0-9_.+-]+")
_SYNCHRONOUS = {"1": "normal", "2": "full", "3": "extra"}


def settled(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return *options* as `SqliteStorage` takes them. Raise ConfigurationError for one that is unknown or would weaken a guarantee."""
    left = {name: value for name, value in options.items() if name not in _SETTLED}
    for name, (is_so, why) in _SETTLED.items():
        if name in options and not is_so(options[name]):
            raise ConfigurationError(f"{name}={options[name]!r}: {why}")
    if not left.pop("create_tables", True):
        log.info("create_tables=False is ignored: huey creates missing tables, and checks them at each start")
    location = left.pop("location", None)
    if location is not None:
        if left.setdefault("filename", location) not in (location, None):
            raise ConfigurationError(f"filename={left['filename']!r} and location={location!r}: they are the same option; give only one")
        left["filename"] = location
    if left.get("filename", "") is None:
        del left["filename"]
    given = left.pop("pragmas", None)
    for name, value in _pairs(given):
        _apply(name, value, left)
    return left


def _pairs(pragmas: Any) -> list[tuple[str, str]]:
    """Return names and values in lower case."""
    if not pragmas:
        return []
    items: Iterable[Any] = pragmas.items() if isinstance(pragmas, Mapping) else pragmas
    try:
        return [(str(name).lower(), _text(value)) for name, value in items]
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"pragmas={pragmas!r}: give a dict, or pairs, of names and values, such as {{'cache_size': -8000}}"
        ) from None


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value).lower()


def _apply(name: str, value: str, options: dict[str, Any]) -> None:
    shown = f"pragma {name}={value}"
    if name == "synchronous":
        options["fsync"] = _fsync(shown, value, options.get("fsync"))
    elif name == "busy_timeout":
        options.setdefault("timeout", _milliseconds(shown, value) / 1000)
    elif name in _OWN:
        fits, why = _OWN[name]
        if fits is not None and value not in fits:
            raise ConfigurationError(f"{shown}: {why}")
        log.info("%s: %s", shown, why)
    elif name not in _HARMLESS:
        known = ", ".join(sorted(_HARMLESS | {"busy_timeout", "synchronous"}))
        raise ConfigurationError(f"{shown}: huey does not support this pragma, since it might weaken a guarantee; supported are {known}")
    elif not _WORD.fullmatch(value):
        raise ConfigurationError(f"{shown}: give a number or a word")
    else:
        options["pragmas"] = (*options.get("pragmas", ()), (name, value))


def _fsync(shown: str, value: str, fsync: bool | None) -> bool:
    word = _SYNCHRONOUS.get(value, value)
    if word not in _SYNCHRONOUS.values():
        raise ConfigurationError(
            f"{shown}: with it a power failure may destroy the file and every task in it; fsync=False is as fast, and loses only the "
            "last tasks"
        )
    wanted = word != "normal"
    if fsync is not None and bool(fsync) != wanted:
        raise ConfigurationError(f"{shown} and fsync={fsync!r} contradict each other; give only one of them")
    return wanted


def _milliseconds(shown: str, value: str) -> int:
    if not value.isdecimal() or value == "0":
        raise ConfigurationError(f"{shown}: give milliseconds above 0, or timeout= in seconds")
    return int(value)

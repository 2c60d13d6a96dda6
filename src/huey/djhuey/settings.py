"""From ``settings.HUEY`` to the instance and the options of its consumer.

The setting is a dict in the form of 0.4.9 (it has ``backend``), a dict in the form of 3.x (any other), or an instance. Nothing is built
before the instance is needed, so importing ``huey.djhuey`` costs nothing.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from huey.api import Huey
from huey.consumer.settings import OF_COMMAND, validate_settings
from huey.djhuey.outbox import Outbox
from huey.exceptions import ConfigurationError
from huey.presets import MemoryHuey, SqliteHuey
from huey.runtime.files import without_password

REDIS = "huey.RedisHuey"
SHIPPED = {"huey.backends.redis_backend": REDIS, "huey.backends.sqlite_backend": "huey.SqliteHuey"}
"""Modules that the 0.4.9 form names, and their replacements."""
OLD_FORM = ("backend", "name", "connection", "always_eager", "consumer_options")
TO_SQLITE = "To keep tasks in a SQLite file instead, write in your settings: HUEY = {'huey_class': 'huey.SqliteHuey'}"
_RENAMED = {"initial_delay": "delay", "simple_log": "simple"}


class WrongSetting(ImproperlyConfigured, ConfigurationError):
    """``settings.HUEY`` is not valid."""


class ResolvedSettings(NamedTuple):
    """The instance and the consumer's options that the setting describes."""

    huey: Huey
    consumer: dict[str, Any]
    """Parsed options of the consumer by their names in ``huey.consumer.settings``, and ``level``, the log level, if one is set."""
    is_default_redis: bool = False
    """Whether Redis is only the default, so that an error should mention the alternative."""


# A class that the settings name may itself import tasks.
_lock = threading.RLock()
_resolved: ResolvedSettings | None = None


def current() -> ResolvedSettings:
    """Return the instance and options of this project, made at the first call. Raise WrongSetting if the setting is not valid."""
    global _resolved
    if _resolved is None:
        with _lock:
            if _resolved is None:
                _resolved = resolved(getattr(settings, "HUEY", None))
    return _resolved


def _forget(*, setting: str, **_: object) -> None:
    global _resolved
    if setting in ("HUEY", "DATABASES", "DEBUG", "SECRET_KEY"):
        _resolved = None


setting_changed.connect(_forget)


def resolved(setting: Any) -> ResolvedSettings:
    """Resolve one value of the setting; None means that it is not set. Raise WrongSetting if it is not valid."""
    if setting is None:
        setting = {}
    if isinstance(setting, Huey):
        result = ResolvedSettings(setting, {})
        on_commit = None
    elif isinstance(setting, Mapping):
        given = dict(setting)
        on_commit = _alias(given.pop("enqueue_on_commit", False))
        result = _of_0_4_9(given) if "backend" in given else _of_3_x(given)
    else:
        raise WrongSetting(
            f"HUEY={without_password(setting)}: expected a dict, such as {{'huey_class': 'huey.SqliteHuey'}}, or a Huey instance"
        )
    if result.huey.outbox is None:
        result.huey.outbox = Outbox(result.huey, on_commit, TO_SQLITE if result.is_default_redis else "")
    return result


def _alias(value: Any) -> str | None:
    """Return the alias of the database whose transactions an enqueue waits for, or None."""
    if isinstance(value, bool):
        return "default" if value else None
    if isinstance(value, str) and value in settings.DATABASES:
        return value
    raise WrongSetting(f"HUEY['enqueue_on_commit']={value!r}: expected True, False, or the alias of one of your DATABASES")


def _of_0_4_9(given: dict[str, Any]) -> ResolvedSettings:
    unknown = sorted(given.keys() - set(OLD_FORM))
    if unknown:
        raise WrongSetting(
            f"HUEY[{unknown[0]!r}]: unknown key; next to 'backend' these are allowed: {', '.join(OLD_FORM[1:])}. For other keys replace "
            "'backend' by 'huey_class'"
        )
    backend, name = given["backend"], given.get("name") or default_name()
    connection = _dict(given, "connection")
    consumer = consumer_options(_dict(given, "consumer_options"), "consumer_options")
    eager: dict[str, Any] = {"always_eager": bool(given.get("always_eager", False))}
    if backend in SHIPPED:
        return ResolvedSettings(make_instance(SHIPPED[backend], name, {**connection, **eager}), consumer)
    parts = ("queue", "result_store", "schedule", "events")
    classes = dict(zip(parts, _components(backend), strict=True))
    made: dict[str, Any] = {part: cls(name, **connection) for part, cls in classes.items() if cls is not None}
    return ResolvedSettings(construct(lambda: Huey(**made, **_signed(eager)), f"HUEY['backend']={backend!r}"), consumer)


def _components(backend: Any) -> tuple[Any, ...]:
    """Return the four classes of a user's backend module."""
    try:
        components = tuple(import_module(backend).Components)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise WrongSetting(
            f"HUEY['backend']={backend!r} ({error}): expected {' or '.join(SHIPPED)}, or a module of yours with Components, a tuple of "
            "four classes: queue, result store, schedule, events"
        ) from error
    if len(components) != 4 or components[0] is None:
        raise WrongSetting(
            f"HUEY['backend']={backend!r}: its Components are {components!r}; expected four classes, the first of which is a queue"
        )
    return components


def _of_3_x(given: dict[str, Any]) -> ResolvedSettings:
    if "consumer_options" in given:
        raise WrongSetting("HUEY['consumer_options'] requires 'backend', which is missing: add 'backend', or write 'consumer' instead")
    asked = given.pop("huey_class", None)
    name = given.pop("name", None) or default_name()
    consumer = consumer_options(_dict(given, "consumer"), "consumer")
    connection = _dict(given, "connection")
    given.pop("consumer", None)
    given.pop("connection", None)
    if given.get("immediate") is None:
        given["immediate"] = bool(settings.DEBUG) and not given.get("always_eager")
    huey = make_instance(REDIS if asked is None else asked, name, {**connection, **given})
    return ResolvedSettings(huey, consumer, is_default_redis=asked is None)


def default_name() -> str:
    """Return the default name of the queue: that of the default database; of a file, its name and that of its folder, shop-db.sqlite3."""
    database = str(settings.DATABASES.get("default", {}).get("NAME") or ":memory:")
    if database == ":memory:":
        return "huey"
    path = Path(database)
    return "-".join(part for part in (path.parent.name, path.name) if part)


def _dict(given: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = given.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise WrongSetting(f"HUEY[{key!r}]={without_password(value)}: expected a dict")
    return dict(value or {})


def make_instance(cls: Any, name: str, options: dict[str, Any]) -> Huey:
    what = f"HUEY with {cls if isinstance(cls, str) else getattr(cls, '__name__', cls)}"
    way_out = f". {TO_SQLITE}" if cls == REDIS else ""
    if isinstance(cls, str):
        try:
            cls = import_string(cls)
        except ImportError as error:
            raise WrongSetting(f"{what}: {error}; expected the import path of a class, such as 'huey.SqliteHuey'{way_out}") from error
    if not (isinstance(cls, type) and issubclass(cls, Huey)):
        raise WrongSetting(f"{what}: {cls!r} is not a subclass of Huey; expected the import path of a class, such as 'huey.SqliteHuey'")
    if issubclass(cls, SqliteHuey | MemoryHuey):
        # It determines how Redis is read; nothing here would wait otherwise.
        options.pop("blocking", None)
    if issubclass(cls, SqliteHuey) and "filename" not in options and "location" not in options:
        # Beside ``manage.py``, wherever web server and consumer are started.
        options["filename"] = Path(getattr(settings, "BASE_DIR", None) or Path.cwd()) / "huey.db"
    return construct(lambda: cls(name, **_signed(options)), what, way_out)


def _signed(options: dict[str, Any]) -> dict[str, Any]:
    return options if "secret" in options or os.environ.get("HUEY_SECRET") else {**options, "secret": secrets()}


def construct(make: Any, what: str, way_out: str = "") -> Huey:
    try:
        huey: Huey = make()
    except (ConfigurationError, TypeError, ValueError) as error:
        raise WrongSetting(f"{what}: {error}{way_out}") from error
    return huey


def secrets() -> list[str] | None:
    """Return the keys that sign messages: Django's secret key; its fallbacks verify. A process without a key, such as ``collectstatic``
    while an image is built, signs nothing."""
    try:
        return [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    except ImproperlyConfigured:
        return None


def consumer_options(given: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return options of the consumer, given under their names in 0.4.9 or 3.x, by the names of ``huey.consumer.settings``. Raise
    WrongSetting for an unknown option or a wrong value."""
    options = {_RENAMED.get(name, name): value for name, value in given.items()}
    if "utc" in options:
        utc = options.pop("utc")
        options["localtime"] = None if utc is None else not utc
    level = options.pop("loglevel", None)
    of_command = {name: options.pop(name) for name in OF_COMMAND & options.keys()}
    try:
        values = validate_settings(options)
    except ConfigurationError as error:
        raise WrongSetting(f"HUEY[{key!r}]: {error}") from error
    read = {name: values[name] for name in options}
    if level is not None:
        read["level"] = _level(level, key)
    return {**read, **{name: value for name, value in of_command.items() if value}}


def _level(level: Any, key: str) -> int:
    number = logging.getLevelNamesMapping().get(level.upper()) if isinstance(level, str) else level
    if isinstance(number, bool) or not isinstance(number, int):
        raise WrongSetting(f"HUEY[{key!r}]['loglevel']={level!r}: expected a level of the logging module, such as 'INFO'")
    return number

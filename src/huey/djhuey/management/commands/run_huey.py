"""``manage.py run_huey``: the consumer of this project.

A flag overrides the environment (HUEY_WORKERS=4), which overrides ``settings.HUEY`` and the defaults. Exit codes as for ``huey_consumer``.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections
from django.utils.module_loading import module_has_submodule

from huey.api import Huey
from huey.cli.consumer import consume, consumer_settings
from huey.cli.errors import UsageError
from huey.cli.instance import broken
from huey.cli.logs import handlers_of, set_up_logging
from huey.cli.parser import add_options, from_environment, with_old_forms
from huey.cli.reload import Watcher, is_watched
from huey.consumer.command import own_command
from huey.consumer.settings import OPTIONS
from huey.djhuey.database import runs_in_caller
from huey.djhuey.settings import TO_SQLITE, ResolvedSettings, WrongSetting, current
from huey.exceptions import StorageUnavailable

log = logging.getLogger("huey.djhuey")
FLAGS = {"verbose": ("-V", "--huey-verbose", "--verbose"), "max_delay": ("-m", "--max-delay", "--max_delay")}
"""Django uses -v itself; 0.4.9 wrote --max_delay here."""


FRAMEWORKS = ("django.tasks", "django_tasks")
"""Loggers of the two tasks frameworks."""


class Command(BaseCommand):
    help = "Runs the tasks of this project: the consumer of the Huey instance in settings.HUEY."

    def add_arguments(self, parser: CommandParser) -> None:
        add_options(parser, FLAGS)
        parser.add_argument("-A", "--disable-autoload", action="store_true", help="do not import the tasks.py of each installed app")

    def run_from_argv(self, argv: list[str]) -> None:
        super().run_from_argv([*argv[:2], *with_old_forms(argv[2:])])

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            code = run({it.name: options[it.name] for it in OPTIONS if it.name in options}, autoload=not options["disable_autoload"])
        except UsageError as error:
            raise CommandError(str(error), returncode=error.code) from error
        if code:
            sys.exit(code)


def run(flags: dict[str, Any], *, autoload: bool = True) -> int:
    """Run until stopped, and return the exit code. Raise UsageError if it cannot start."""
    resolved = instance()
    given = {**resolved.consumer, **from_environment(os.environ), **flags}
    if given.get("verbose") and given.get("quiet"):
        raise UsageError("verbose and quiet contradict each other; use one of them")
    level = given.pop("level", None)
    consumer = consumer_settings(given)
    if given.get("reload") and not is_watched():
        return Watcher(own_command(), folders()).run()
    if autoload:
        import_tasks()
    set_up_logging(given, level)
    skip_duplicate_records()
    # A forked worker must not inherit what this process has open.
    connections.close_all()
    if resolved.is_default_redis:
        suggest_sqlite(resolved.huey)
    return consume(resolved.huey, "settings.HUEY", consumer)


def suggest_sqlite(huey: Huey) -> None:
    """Log how to use a SQLite file if the default Redis server cannot be reached; the consumer waits for the server."""
    try:
        huey.storage.open()
    except StorageUnavailable as error:
        log.error("%s. %s", error, TO_SQLITE)


def instance() -> ResolvedSettings:
    """Return the project's instance. Raise UsageError without one, or if its tasks run in the caller."""
    try:
        resolved = current()
    except WrongSetting as error:
        raise UsageError(str(error)) from error
    if runs_in_caller(resolved.huey):
        how = "always_eager" if resolved.huey.always_eager else "immediate"
        why = " (it is, unless you set it, while DEBUG is True)" if how == "immediate" else ""
        raise UsageError(
            f"HUEY[{how!r}] is True{why}: tasks run where they are called and never reach a consumer; "
            f"write {how!r}: False into HUEY in your settings"
        )
    return resolved


def import_tasks() -> None:
    """Import ``tasks.py`` of every installed app that has one. Raise UsageError, after printing the traceback, if one fails."""
    for app in apps.get_app_configs():
        name = f"{app.name}.tasks"
        try:
            if module_has_submodule(app.module, "tasks"):
                import_module(name)
        except Exception as error:  # The user's module: any exception is shown to its author.
            raise broken(name, error) from error


def skip_duplicate_records() -> None:
    """Keep records of ``django.tasks`` about the same tasks out of huey's log handlers. Other handlers, such as mail, still get them."""
    ours = list(handlers_of(logging.getLogger("huey.consumer")))
    streams = [handler.stream for handler in ours if isinstance(handler, logging.StreamHandler)]
    for name in FRAMEWORKS:
        handlers = list(handlers_of(logging.getLogger(name)))
        for handler in handlers or filter(None, [logging.lastResort]):
            if handler in ours or getattr(handler, "stream", None) in streams:
                handler.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    is_theirs = record.name in FRAMEWORKS and record.levelno >= logging.INFO
    return not (is_theirs and logging.getLogger("huey.consumer").isEnabledFor(record.levelno))


def folders() -> list[str]:
    """Return the folders of the project's own code: the current folder, BASE_DIR, and installed apps outside of packages."""
    resolved = {os.getcwd(), *(str(app.path) for app in apps.get_app_configs())}
    if getattr(settings, "BASE_DIR", None):
        resolved.add(str(settings.BASE_DIR))
    own = sorted({os.path.realpath(folder) for folder in resolved if "-packages" not in folder})
    return [folder for folder in own if not any(folder.startswith(other + os.sep) for other in own)]

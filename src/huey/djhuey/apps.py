"""The application ``huey.djhuey``, and what ``manage.py check`` says about its settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.db.models.signals import post_migrate

if TYPE_CHECKING:
    from huey.djhuey.settings import ResolvedSettings


class HueyConfig(AppConfig):
    name = "huey.djhuey"
    verbose_name = "Huey"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        post_migrate.connect(prepare, sender=self)


def prepare(using: str, **_: Any) -> None:
    """Create the tables of a queue in a database's file after ``manage.py migrate``, in test runners too."""
    from huey.djhuey.outbox import Outbox
    from huey.djhuey.settings import WrongSetting, current

    # manage.py check reports the problem.
    with suppress(WrongSetting):
        outbox = current().huey.outbox
        if isinstance(outbox, Outbox):
            outbox.prepare(using)


@checks.register("huey")
def check_settings(app_configs: Any = None, **_: Any) -> list[Any]:
    """Check the settings. huey.E001: the instance cannot be made. huey.W001: web server and consumer may use different files. huey.W002:
    nothing runs in the background."""
    from huey.djhuey.settings import WrongSetting, current

    try:
        resolved = current()
    except WrongSetting as error:
        return [checks.Error(str(error), id="huey.E001")]
    return [*_relative_file(), *_no_background(resolved)]


def _relative_file() -> list[Any]:
    given = getattr(settings, "HUEY", None)
    if not isinstance(given, Mapping):
        return []
    connection = given.get("connection") or {}
    for key, value in (*given.items(), *connection.items()):
        if key in ("filename", "location") and not os.path.isabs(str(value)):
            return [
                checks.Warning(
                    f"HUEY[{key!r}] is {str(value)!r}, a path relative to the directory in which a process is started: the web server and "
                    "the consumer may use different files.",
                    hint=f"Write BASE_DIR / {str(value)!r}.",
                    id="huey.W001",
                )
            ]
    return []


def _no_background(resolved: ResolvedSettings) -> list[Any]:
    if settings.DEBUG or not resolved.huey.immediate:
        return []
    return [
        checks.Warning(
            "HUEY['immediate'] is True and DEBUG is False: tasks run inside the requests that call them.",
            hint="Remove 'immediate', or set it to False.",
            id="huey.W002",
        )
    ]

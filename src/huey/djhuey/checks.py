"""System checks: what ``manage.py check`` says about the settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core import checks

from huey.djhuey.settings import ResolvedSettings, WrongSetting, current


@checks.register("huey")
def check_settings(app_configs: Any = None, **_: Any) -> list[Any]:
    """Check the settings. huey.E001: the instance cannot be made. huey.W001: web server and consumer may use different files. huey.W002:
    nothing runs in the background."""
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

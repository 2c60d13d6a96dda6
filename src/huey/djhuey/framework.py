"""The tasks framework of this project: ``django.tasks`` of Django 6, or the backport ``django_tasks``. Both have the same names."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

BACKPORT = "django_tasks"


def root() -> str:
    """Return the package: the backport if it is an installed app, else Django's own, else the backport if it can be imported. Raise
    ImproperlyConfigured without either."""
    if any(entry.partition(".")[0] == BACKPORT for entry in settings.INSTALLED_APPS):
        return BACKPORT
    for name in ("django.tasks", BACKPORT):
        if find_spec(name) is not None:
            return name
    raise ImproperlyConfigured("this Django has no django.tasks (6.0 and newer have it): pip install django-tasks")


_ROOT = root()
_base: Any = import_module(f"{_ROOT}.base")
_exceptions: Any = import_module(f"{_ROOT}.exceptions")

tasks: Any = import_module(_ROOT)
signals: Any = import_module(f"{_ROOT}.signals")
BaseTaskBackend: Any = import_module(f"{_ROOT}.backends.base").BaseTaskBackend
Task: Any = _base.Task
TaskContext: Any = _base.TaskContext
TaskError: Any = _base.TaskError
TaskResult: Any = _base.TaskResult
TaskResultStatus: Any = _base.TaskResultStatus
TaskResultDoesNotExist: Any = _exceptions.TaskResultDoesNotExist
normalize_json: Callable[[Any], Any] = _base.normalize_json
InvalidTask: Any = getattr(_exceptions, "InvalidTask", None) or _exceptions.InvalidTaskError

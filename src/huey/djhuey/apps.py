"""The application ``huey.djhuey``."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class HueyConfig(AppConfig):
    name = "huey.djhuey"
    verbose_name = "Huey"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from huey.djhuey import checks  # noqa: F401 -- registers itself

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

"""``manage.py create_huey_tables``: make the tables of the queue, or bring them to this release's form."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from huey.djhuey.settings import current
from huey.exceptions import ConfigurationError, StorageError


class Command(BaseCommand):
    help = "Makes the tables of the queue in settings.HUEY; does nothing to those that are there. The consumer does the same by itself."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            storage = current().huey.storage
            version = storage.open()
        except (ConfigurationError, StorageError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{storage!r} is of version {version}")

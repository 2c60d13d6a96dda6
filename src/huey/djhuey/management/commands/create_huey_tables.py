"""``manage.py create_huey_tables``: create the tables of the queue."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from huey.djhuey.settings import current
from huey.exceptions import ConfigurationError, StorageError


class Command(BaseCommand):
    help = "Creates the tables of the queue in settings.HUEY if they do not exist. The consumer does the same when it starts."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            storage = current().huey.storage
            version = storage.open()
        except (ConfigurationError, StorageError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{storage!r} has schema version {version}")

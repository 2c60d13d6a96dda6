"""The application ``huey.djhuey`` (S140)."""

from __future__ import annotations

from django.apps import AppConfig


class HueyConfig(AppConfig):
    name = "huey.djhuey"
    verbose_name = "Huey"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from huey.djhuey import checks  # noqa: F401 -- registers itself

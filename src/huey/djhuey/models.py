"""A model without a table, for Django's admin and its permissions."""

from __future__ import annotations

from django.apps import apps
from django.db import models


class Queue(models.Model):
    """The queue of ``settings.HUEY``. ``view_queue`` permits viewing its tasks, ``change_queue`` changing them."""

    class Meta:
        managed = False
        # One of the two applications is installed, or both.
        app_label = "djhuey" if apps.is_installed("huey.djhuey") else "huey_contrib_djhuey"
        default_permissions = ("view", "change")
        verbose_name = "queue"
        verbose_name_plural = "queue"

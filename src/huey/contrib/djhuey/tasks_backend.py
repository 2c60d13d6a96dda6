"""The path of 3.x for the backend of ``django.tasks``."""

from __future__ import annotations

from huey.djhuey.tasks_backend import HueyBackend as HueyBackend

"""The 3.x path of the backend for ``django.tasks``."""

from __future__ import annotations

from huey.djhuey.tasks_backend import HueyBackend as HueyBackend

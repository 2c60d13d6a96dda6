"""The 3.x path of the backend for ``django.tasks``."""

from huey.djhuey.tasks_backend import HueyBackend as HueyBackend

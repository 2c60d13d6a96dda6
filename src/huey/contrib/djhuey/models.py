"""The model of ``huey.djhuey``."""

from __future__ import annotations

from huey.djhuey.models import Queue as Queue

"""The admin page of ``huey.djhuey``."""

from __future__ import annotations

from huey.djhuey.admin import QueueAdmin as QueueAdmin

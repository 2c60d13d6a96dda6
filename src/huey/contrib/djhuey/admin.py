"""The admin page of ``huey.djhuey``."""

from huey.djhuey.admin import QueueAdmin as QueueAdmin

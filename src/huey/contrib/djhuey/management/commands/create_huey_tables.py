"""The command of ``huey.djhuey``."""

from __future__ import annotations

from huey.djhuey.management.commands.create_huey_tables import Command as Command

"""The command of ``huey.djhuey``."""

from __future__ import annotations

from huey.djhuey.management.commands.run_huey import Command as Command

"""``ConsumerConfig``, for programs of 3.x that start a consumer themselves."""

from __future__ import annotations

import logging
from typing import Any

from huey.cli.logs import set_up_logging
from huey.consumer.settings import OF_COMMAND, validate_settings


class ConsumerConfig:
    """Settings of a consumer, as keyword arguments: those of ``Consumer``, and ``logfile``, ``verbose``, ``quiet``, ``simple`` of the
    command."""

    def __init__(self, **settings: Any) -> None:
        self._given = settings

    def validate(self) -> None:
        """Check the settings. Raise ValueError (a ConfigurationError) if one does not exist, is not valid, or contradicts another."""
        _ = self.values

    @property
    def values(self) -> dict[str, Any]:
        """All settings of the consumer, for ``huey.create_consumer(**config.values)``. Raises ValueError like ``validate``."""
        return validate_settings({name: value for name, value in self._given.items() if name not in OF_COMMAND})

    def setup_logger(self, logger: logging.Logger | None = None) -> logging.Logger:
        """Log like the command, to stderr or the log file: add a handler to the logger ``huey`` and return that logger.

        *logger* is accepted as in 3.x but ignored: all records go to huey's own logger.
        """
        set_up_logging(self._given)
        return logging.getLogger("huey")

"""``ConsumerConfig``, for programs of 3.x that start a consumer by themselves."""

from __future__ import annotations

import logging
from typing import Any

from huey.cli.logs import set_up_logging
from huey.consumer.settings import OF_COMMAND, validate_settings


class ConsumerConfig:
    """Settings of a consumer, as keywords: those of ``Consumer``, and ``logfile``, ``verbose``, ``quiet``, ``simple`` of the command."""

    def __init__(self, **settings: Any) -> None:
        self._given = settings

    def validate(self) -> None:
        """ValueError (a ConfigurationError): a setting that does not exist, cannot work, or contradicts another."""
        _ = self.values

    @property
    def values(self) -> dict[str, Any]:
        """All settings of the consumer, for ``huey.create_consumer(**config.values)``. ValueError as in ``validate``."""
        return validate_settings({name: value for name, value in self._given.items() if name not in OF_COMMAND})

    def setup_logger(self, logger: logging.Logger | None = None) -> logging.Logger:
        """Log as the command does, to stderr and the log file: handlers are added to the logger ``huey``, which is returned. *logger* is
        taken from 3.x: what it has gets nothing, huey's own logger has all."""
        set_up_logging(self._given)
        return logging.getLogger("huey")

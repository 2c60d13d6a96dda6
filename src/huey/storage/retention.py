"""How long results are kept (``result_ttl=``), and how many succeeded tasks, or for how long (``keep_finished=``)."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, NamedTuple

from huey.exceptions import ConfigurationError
from huey.runtime.clock import Micros

MOST: Micros = 2**62
"""More tasks, or microseconds, than any retention."""


class Retention(NamedTuple):
    """A retention rule: succeeded tasks stay while they are among the newest ``most`` and younger than ``age``."""

    most: int
    age: Micros

    @property
    def is_on(self) -> bool:
        return self.most > 0 and self.age > 0

    @classmethod
    def of(cls, keep_finished: Any) -> Retention:
        """Make a rule from a number of tasks to keep, or a timedelta. Raise ConfigurationError for anything else."""
        if isinstance(keep_finished, timedelta) and keep_finished >= timedelta(0):
            return cls(MOST, min(MOST, keep_finished // timedelta(microseconds=1)))
        if isinstance(keep_finished, int) and not isinstance(keep_finished, bool) and 0 <= keep_finished <= MOST:
            return cls(keep_finished, MOST)
        raise ConfigurationError(
            f"keep_finished={keep_finished!r}: give the number of succeeded tasks to keep, or a timedelta such as timedelta(days=1)"
        )


def parse_result_ttl(result_ttl: Any) -> float | None:
    """Return *result_ttl* in seconds, or None for no limit. Raise ConfigurationError for anything else."""
    is_number = isinstance(result_ttl, int | float) and not isinstance(result_ttl, bool)
    if result_ttl is not None and not (is_number and 0 <= result_ttl < math.inf):
        raise ConfigurationError(f"result_ttl={result_ttl!r}: give how many seconds unread results are kept, or None for no limit")
    return None if result_ttl is None else float(result_ttl)

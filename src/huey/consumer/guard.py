"""The top of our loops: whatever a part raises is told once, and the loop goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from huey.runtime.logs import SafeLogger

log = SafeLogger("huey.consumer")


class Guard:
    """Calls parts of a loop. One that raises is logged with one line, until it goes well again."""

    def __init__(self) -> None:
        self._failing: set[str] = set()

    def call(self, part: str, act: Callable[..., Any], *args: Any) -> bool:
        """Call *act*; False: it raised."""
        try:
            act(*args)
        except BaseException:  # The top of a loop: whatever it was, what the loop is for goes on.
            self.failed(part)
            return False
        self.went_well(part)
        return True

    def failed(self, part: str) -> None:
        """To be called where the error was caught."""
        if part not in self._failing:
            self._failing.add(part)
            log.error("%s failed; it goes on trying", part, exc_info=True)

    def went_well(self, part: str) -> None:
        if part in self._failing:
            self._failing.discard(part)
            log.info("%s works again", part)

"""Rate limits by name, for tasks and for any other code of the application."""

from __future__ import annotations

from huey.client.locks import Limit, LimitHost
from huey.exceptions import RateLimitExceeded
from huey.task.bounds import parse_number


class RateLimit(Limit):
    """At most *limit* uses in each window of *per* seconds, over all processes, by the storage's clock. Windows begin at multiples of
    *per*.

    A task that uses a full window ends with RateLimitExceeded. *retry* True: it runs again after its ``retry_delay``, or without one in the
    next window, and no try is counted. False: that counts as a try, and if none is left the task fails.
    """

    def __init__(self, huey: LimitHost, name: str, limit: int, per: float, retry: bool = True) -> None:
        super().__init__(huey, name)
        self.limit = parse_number("limit", limit, low=1, whole=True)
        self.per = float(parse_number("per", per))
        if self.per < 0.001:
            raise ValueError(f"per={per!r}: give the length of a window in seconds, at least 0.001")
        self.retry = retry

    def acquire(self) -> bool:
        """Count one use and return True. RateLimitExceeded: the window is full."""
        delay = self.huey.storage.hit_rate_limit(self.name, self.limit, self.per)
        if delay > 0:
            raise RateLimitExceeded(self.name, delay, self.retry)
        return True

    def current_usage(self) -> int:
        """Return the number of uses in the present window, including the refused ones."""
        return self.huey.storage.rate(self.name, self.per)

    def reset(self) -> None:
        """Start the present window over, with no uses."""
        self.huey.storage.rate(self.name, self.per, reset=True)

    def __repr__(self) -> str:
        return f"<RateLimit {self.name!r}: {self.limit} in {self.per:g} s>"

"""The part of the contract that concerns more than one task: constraints, locks, rate limits.

A **unique key** is held by the row of a task (or, if requested for a time, until that time is over). A **limit** is counted in rows: at
most that many tasks of its key are ready or running; the others are BLOCKED, where claims do not look. Each end makes the best of them
ready, in the same step. A **lock** belongs to a run, ``(task id, token)``, and ends with it whatever happens, or to a process, and ends
with its lease.

A storage without ``Features.supports_constraints`` has none of these methods; tasks with constraints are refused when they are enqueued.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from huey.exceptions import ConfigurationError
from huey.runtime.clock import SECOND, Micros

HOLDER = 15 * SECOND
"""How long a process keeps its locks without a heartbeat."""


class Holder(NamedTuple):
    """The holder of a lock: a run of a task, or a process."""

    id: str
    """Id of the task, or of the process (random)."""
    token: int = 0
    """Token of the run; 0: a process."""


class Held(NamedTuple):
    """A lock that is held."""

    name: str
    token: int
    """Grows each time any lock is taken: an outside resource that remembers the highest token can refuse an older holder."""
    holder: Holder


def unsupported(storage: object) -> ConfigurationError:
    """Return the error for a constraint, lock or rate limit that *storage* does not support."""
    return ConfigurationError(
        f"{type(storage).__name__}: unique=, concurrency=, rate=, at_most_once=, locks and rate limits need a storage that supports them; "
        "SqliteHuey, RedisHuey and MemoryHuey do"
    )


class Sharing:
    """The methods for locks and rate limits. One instance serves one queue."""

    # -- locks --------------------------------------------------------------------------------------------------------------------------

    def acquire_lock(self, name: str, holder: Holder, ttl: float | None = None) -> int | None:
        """Take a lock and return its token, or None while it is held, even by the same holder.

        A task's lock is held while that run is leased; the end of the run, however it ends, and a takeover release it. A run that is no
        longer leased cannot take one. A process's lock is held for ``HOLDER`` from now, or from its last ``renew_locks``. *ttl*: the lock
        ends at most this many seconds from now, by the lease clock, even if it is renewed.
        """
        raise unsupported(self)

    def renew_locks(self, holder: Holder) -> int:
        """Extend the locks of a process to ``HOLDER`` from now; return how many it still holds."""
        raise unsupported(self)

    def release_lock(self, name: str, token: int) -> bool:
        """Release a lock that was taken with that token; return False if it was no longer held."""
        raise unsupported(self)

    def locks(self, names: Sequence[str] | None = None) -> list[Held]:
        """Return the locks that are held, of *names* or of the whole queue, in no particular order."""
        raise unsupported(self)

    # -- rates --------------------------------------------------------------------------------------------------------------------------
    # Windows of `per` seconds by the storage's clock, aligned to multiples of it.

    def hit_rate_limit(self, name: str, limit: int, per: float, now: Micros | None = None) -> float:
        """Count one use in the current window, in one step. Returns 0.0 if it is among the first *limit*; otherwise the use is refused but
        still counted, and the seconds until the next window are returned. After the clock was set back, the later window applies until the
        clock reaches it again."""
        raise unsupported(self)

    def rate(self, name: str, per: float, now: Micros | None = None, reset: bool = False) -> int:
        """Return the number of uses in the current window, including refused ones. *reset*: also clear them, in the same step."""
        raise unsupported(self)

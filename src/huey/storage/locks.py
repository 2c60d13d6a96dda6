"""The part of the contract that is about more than one task: terms of tasks, locks, rates.

A **unique key** is held by the row of a task (or, when it is wished for a time, by the clock); never by nobody. A **limit** is counted in
rows: at most that many tasks of its key are ready or running, the others are BLOCKED, where no claim looks. Each end lets the best of them
be ready, in the same step. A **lock** belongs to a run, ``(task id, token)``, and so ends with it whatever happens, or to a process, and
ends with its lease.

A storage without ``Features.supports_constraints`` has none of these verbs, and tasks with constraints are refused where they are enqueued.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from huey.exceptions import ConfigurationError
from huey.runtime.clock import SECOND, Micros

HOLDER = 15 * SECOND
"""How long a process keeps its locks without a sign of life."""


class Holder(NamedTuple):
    """Who holds a lock: a run of a task, or a process."""

    id: str
    """Id of the task, or of the process (random)."""
    token: int = 0
    """Token of the run; 0: a process."""


class Held(NamedTuple):
    """A lock that is held."""

    name: str
    token: int
    """Grows with each time any lock is taken: a resource outside that remembers the highest one can refuse an older holder."""
    holder: Holder


def unsupported(storage: object) -> ConfigurationError:
    """Return the error for a constraint, lock or rate limit that *storage* does not support."""
    return ConfigurationError(
        f"{type(storage).__name__}: unique=, concurrency=, at_most_once=, locks and rate limits need a storage that keeps them; "
        "SqliteHuey, RedisHuey and MemoryHuey do"
    )


class Sharing:
    """The verbs. One instance serves one queue."""

    # -- locks --------------------------------------------------------------------------------------------------------------------------

    def acquire_lock(self, name: str, holder: Holder, ttl: float | None = None) -> int | None:
        """Take a lock: its token; None while it is held, by the same holder too.

        A task's lock is held while that run of it is leased: its end, in whatever way, and a takeover free it. A run that is not leased
        any more gets none. A process's lock is held for ``HOLDER`` from now, or from its last ``renew_locks``. *ttl*: nobody holds it
        longer than so many seconds from now, by the clock that leases run by, whatever is renewed.
        """
        raise unsupported(self)

    def renew_locks(self, holder: Holder) -> int:
        """Keep the locks of a process for ``HOLDER`` from now. How many it still holds."""
        raise unsupported(self)

    def release_lock(self, name: str, token: int) -> bool:
        """Free a lock that was taken with that token. False: it was not held any more."""
        raise unsupported(self)

    def locks(self, names: Sequence[str] | None = None) -> list[Held]:
        """Return the locks that are held, of *names* or of the whole queue, in no order."""
        raise unsupported(self)

    # -- rates --------------------------------------------------------------------------------------------------------------------------
    # Windows of `per` seconds by the storage's clock, aligned to multiples of it.

    def hit_rate_limit(self, name: str, limit: int, per: float, now: Micros | None = None) -> float:
        """Count one use in the current window, in one step. Returns 0.0 if it is among the first *limit*; otherwise the use is refused,
        which counts too, and the seconds until the next window are returned. While a clock that was set back catches up, the later window
        counts."""
        raise unsupported(self)

    def rate(self, name: str, per: float, now: Micros | None = None, reset: bool = False) -> int:
        """Return the number of uses in the current window, refused ones included. *reset*: forget them, in the same step."""
        raise unsupported(self)

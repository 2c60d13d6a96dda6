"""What a ledger knows of one task."""

from __future__ import annotations

from huey.runtime.clock import Micros
from huey.storage.rows import Missing, Revocation
from huey.task.record import Record
from huey.task.record_options import read_constraints

Holder = tuple[str, int]
"""Worker and token."""


class Entry:
    """What the ledger knows of one task."""

    def __init__(self, record: Record, now: Micros) -> None:
        self.record = record = record.resolved(now)
        self.due = record.eta if record.eta is not None and record.eta > now else None
        self.ready_at = now
        self.terms = read_constraints(record.options)
        """``own``: which enqueue of its id it is; None: the id comes once."""
        self.key = self.terms.concurrency_key
        self.spent: Micros | None = None
        """In which window of its rate it was claimed."""
        self.waits = False
        """Whether it waits for other tasks."""
        self.token = 0
        self.holder: Holder | None = None
        self.lost: set[Holder] = set()
        """Leases that others took over."""
        self.started: set[Holder] = set()
        """Leases whose body was started."""
        self.live: list[Holder] = []
        """Bodies that run."""
        self.failures = 0
        """Runs that failed, as the storage was told."""
        self.mark: Revocation | None = None
        self.is_suspect = False
        self.missing: Missing | None = None
        """What it waits for that no worker could run so far."""
        self.state: str | None = None
        self.reason: str | None = None
        self.value: bytes | None = None

    def is_revoked(self, now: Micros) -> bool:
        return self.mark is not None and self.mark.holds(now)

    def is_expired(self, now: Micros) -> bool:
        return self.record.expires is not None and self.record.expires <= now

    @property
    def is_plain(self) -> bool:
        """What it waits for may be all that keeps it from running."""
        return self.mark is None and self.record.expires is None and not self.is_suspect and self.key is None

    @property
    def is_ready(self) -> bool:
        """It may be claimed, unless its limit blocks it."""
        return self.state is None and self.holder is None and self.due is None and not self.waits

    @property
    def rank(self) -> tuple[tuple[bool, int], Micros, str]:
        """The simulated workers take suspects, and those come first."""
        return (not self.is_suspect, -self.record.priority), self.ready_at, self.record.id

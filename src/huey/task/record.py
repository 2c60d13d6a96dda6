"""What storages keep of a task, and what a worker holds of it while it runs.

A `Record` has an outside that anyone can read and a payload that only the serializer opens. A `Lease` is a record that one worker holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final, overload

from huey.runtime.clock import Micros
from huey.task.bounds import LARGEST
from huey.task.record_options import backoff_delay, may_have_constraints, policy_micros, read_constraints, read_policy


class Record(NamedTuple):
    """A task as it is put into a storage. Times are microseconds UTC."""

    id: str
    name: str
    """Identity of the function, ``module.function`` or the given ``name=``."""
    payload: bytes
    """Arguments, as the serializer wrote them."""
    priority: int = 0
    """Higher runs first."""
    eta: Micros | None = None
    """Not before this time; None: now."""
    expires: Micros | None = None
    """Not after this time; None: always."""
    retries: int = 0
    """Further runs allowed after a failure."""
    retry_delay: float = 0.0
    """Seconds between a failure and the next run."""
    options: str | None = None
    """JSON object of what is rarely set, or None."""
    delay: Micros | None = None
    """Due so long after it is put in, by the storage's clock. ``eta`` is then only what this host expects."""
    expires_in: Micros | None = None
    """Expires so long after it is put in, or after its eta if that is ahead, by the storage's clock. ``expires`` is then only what this
    host expects."""

    def resolved(self, now: Micros) -> Record:
        """With its times as instants, for a storage whose clock says *now*."""
        if self.delay is None and self.expires_in is None:
            return self
        eta = self.eta if self.delay is None else now + self.delay
        expires = self.expires if self.expires_in is None else max(now, eta or 0) + self.expires_in
        return self._replace(eta=eta, expires=expires)


@final
class RecordBatch(Sequence[Record]):
    """Records of many calls of one function, which differ in id and payload only. A storage that looks for it need not make them."""

    __slots__ = ("ids", "template", "payloads")

    def __init__(self, template: Record, ids: list[str], payloads: list[bytes]) -> None:
        self.template = template
        self.ids = ids
        self.payloads = payloads

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> RecordBatch: ...

    def __getitem__(self, index: int | slice) -> Record | RecordBatch:
        if isinstance(index, slice):
            return RecordBatch(self.template, self.ids[index], self.payloads[index])
        return Record(self.ids[index], self.template.name, self.payloads[index], *self.template[3:])


class Lease(NamedTuple):
    """A task that one worker holds. Every write about it names ``id`` and ``token``; the token only grows (C4)."""

    id: str
    token: int
    """Grows with each claim of this id, over all its enqueues: the fencing token ``task.token`` (C6)."""
    name: str
    payload: bytes
    priority: int
    ready_at: Micros
    """When the task became ready: its place in the order."""
    expires: Micros | None
    retries: int
    retry_delay: float
    attempt: int
    """Failed tries so far."""
    solo_crashes: int
    """0: no suspicion. 1: its worker died while it ran. Each death while it ran alone adds one (C11)."""
    deaths: int
    """Times its worker died while holding it, whoever was to blame."""
    unknown_until: Micros | None
    """Until when it waits for a worker that can run it, on the storage's clock; None: it was not put back for that."""
    options: str | None
    created: Micros = 0
    """When it was put in."""

    @property
    def retries_left(self) -> int:
        return max(0, self.retries - self.attempt)

    @property
    def is_suspect(self) -> bool:
        """It may have killed its worker, so it runs alone."""
        return self.solo_crashes > 0

    @property
    def is_at_most_once(self) -> bool:
        """It is lost rather than run twice (C3)."""
        return may_have_constraints(self.options) and read_constraints(self.options).at_most_once

    @property
    def retry_wait(self) -> float:
        """Seconds from a failure of this run to the next one: the delay, growing with each failed try if it has a backoff, up to its cap,
        and then up to a share of jitter more. Chance is drawn from id and attempt, so that deciding stays pure."""
        if self.options is None or not self.retry_delay:
            return self.retry_delay
        asked = read_policy(self.options)
        wait = backoff_delay(self.retry_delay, asked, self.attempt)
        if jitter := asked.get("jitter"):
            from zlib import crc32

            wait *= 1 + jitter * crc32(f"{self.id}:{self.attempt}".encode()) / 2**32
        return float(min(wait, LARGEST))

    @property
    def expires_in(self) -> Micros | None:
        """How long after its next enqueue it expires, where its expiry was given so and still holds."""
        return None if self.options is None or self.expires is None else policy_micros(self.options, "expires_in")

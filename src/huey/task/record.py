"""The form in which storages keep a task, and in which a worker holds it while it runs.

A `Record` has fields that any program can read and a payload that only the serializer reads. A `Lease` is a record that one worker holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final, overload

from huey.runtime.clock import Micros
from huey.task.bounds import LARGEST
from huey.task.record_options import backoff_delay, may_have_constraints, policy_micros, read_constraints, read_policy


class Record(NamedTuple):
    """A task as it is enqueued. Times are microseconds UTC."""

    id: str
    name: str
    """Identity of the function, ``module.function`` or the given ``name=``."""
    payload: bytes
    """The arguments, as the serializer wrote them."""
    priority: int = 0
    """Higher runs first."""
    eta: Micros | None = None
    """When the task is due; None: now."""
    expires: Micros | None = None
    """When the task expires; None: never."""
    retries: int = 0
    """Further runs allowed after a failure."""
    retry_delay: float = 0.0
    """Seconds between a failure and the next run."""
    options: str | None = None
    """The run policy and constraints as a JSON object, see record_options.py; None: the defaults."""
    delay: Micros | None = None
    """How long after its enqueue it is due, by the storage's clock. ``eta`` is then only this host's estimate."""
    expires_in: Micros | None = None
    """How long after its enqueue, or its eta if that is later, it expires, by the storage's clock. ``expires`` is then only this host's
    estimate."""

    def resolved(self, now: Micros) -> Record:
        """Return the record with its durations turned into times, for a storage whose clock says *now*."""
        if self.delay is None and self.expires_in is None:
            return self
        eta = self.eta if self.delay is None else now + self.delay
        expires = self.expires if self.expires_in is None else max(now, eta or 0) + self.expires_in
        return self._replace(eta=eta, expires=expires)


@final
class RecordBatch(Sequence[Record]):
    """The records of many calls of one function, differing only in id and payload. A storage that knows this class need not build them."""

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
    """A task that one worker holds. Every write for it names ``id`` and ``token``; the token only grows."""

    id: str
    token: int
    """The fencing token ``task.token``, which grows with each claim of this id, across all its enqueues."""
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
    """0: not a suspect. 1: its worker crashed while it ran. Each crash while it runs alone adds one."""
    deaths: int
    """How often its worker died while holding it, for whatever reason."""
    unknown_until: Micros | None
    """When it stops waiting for a worker that can run it, on the storage's clock; None: it was not requeued for that reason."""
    options: str | None
    created: Micros = 0
    """When it was enqueued."""

    @property
    def retries_left(self) -> int:
        return max(0, self.retries - self.attempt)

    @property
    def is_suspect(self) -> bool:
        """True if it may have crashed its worker, so that it runs alone."""
        return self.solo_crashes > 0

    @property
    def is_at_most_once(self) -> bool:
        """True if it fails rather than runs twice when its worker dies."""
        return may_have_constraints(self.options) and read_constraints(self.options).at_most_once

    @property
    def parents(self) -> int:
        """Number of tasks that it waited for, whose values ``Storage.parent_ends`` returns."""
        found = read_policy(self.options).get("parents") if self.options is not None and '"parents"' in self.options else None
        return found if isinstance(found, int) else 0

    @property
    def has_children(self) -> bool:
        """True if tasks wait for its end, which get its ``Finish.output``."""
        return self.options is not None and '"children"' in self.options and bool(read_policy(self.options).get("children"))

    @property
    def retry_wait(self) -> float:
        """Seconds from a failure of this run to the next run: the delay, which with a backoff grows up to its cap with each failed try,
        plus a share of jitter. The jitter is derived from id and attempt, so that `decide` stays pure."""
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
        """How long after its next enqueue it expires; None if its expiry was not given as a duration, or no longer holds."""
        return None if self.options is None or self.expires is None else policy_micros(self.options, "expires_in")

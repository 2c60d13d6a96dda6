"""The part of the contract about who takes tasks."""

from __future__ import annotations

from typing import NamedTuple

from huey.runtime.clock import Micros


class Worker(NamedTuple):
    """One process that runs tasks. The id is new at every start, never a host name."""

    id: str
    host: str
    pid: int
    boot: str
    """Boot id and process namespace: equal, as ``host`` is, for processes that see each other's pid."""
    born: int
    """Start time of the process as the kernel counts it: tells a reused pid."""
    kind: str = "solo"
    """``solo``: a consumer inside some program. ``thread``, ``process``: of a supervisor, which sends suspects elsewhere.
    ``quarantine``: of a supervisor, for suspects only."""
    keeper: str = ""
    """``pid:born`` of the supervisor that watches it and beats for it; it deals with this worker's death as long as it lives itself."""

    @property
    def takes_suspects(self) -> bool:
        return self.kind in ("solo", "quarantine")

    @property
    def takes_others(self) -> bool:
        return self.kind != "quarantine"


class WorkerRow(NamedTuple):
    """A worker as the storage knows it."""

    worker: Worker
    until: Micros
    """End of its lease, on the storage's lease clock: equal values mean that no beat came in between."""
    is_expired: bool
    """By the storage's clock, for people who look. Who takes over goes by its own: see ``consumer/janitor.py``."""
    holds: int
    """Number of tasks it holds."""
    is_gone: bool = False
    """Its process cannot live: the only machine that uses this store was started anew since."""

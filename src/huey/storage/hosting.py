"""The part of the contract that a consumer asks before it starts: how workers come to a storage, and what it cannot promise them."""

from __future__ import annotations

from huey.masking import Masked


class Hosting(Masked):
    """The usual answers."""

    @property
    def survives_fork(self) -> bool:
        """A forked child may use it. False: worker processes are started by exec, and make their own."""
        return True

    def pace(self, delay: float, max_delay: float, backoff: float, scheduler_interval: float = 1.0) -> None:
        """How often to look, for a storage that has to be polled (``-d -m -b``). Others need no telling."""

    def caveats(self, processes: int, periodic: bool) -> list[str]:
        """What a consumer of so many worker processes tells at its start: promises that cannot be kept here. ConfigurationError: it cannot
        work so."""
        return []

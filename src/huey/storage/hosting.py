"""The part of the contract that a consumer asks before it starts: how workers come to a storage, and what it cannot promise them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from huey.runtime.masking import Masked

if TYPE_CHECKING:
    from typing import Self


class Hosting(Masked):
    """The usual answers."""

    sees_all = True
    """``get`` knows each task that has not ended, whoever runs it: one that it does not know has ended, or was never put in."""
    keeps_errors = True
    """A task that will be tried again can be looked at, with the error of its last try."""
    keeps_results = False
    """What is read as a result, or as user data, stays: ``pop`` of these reads only."""

    @classmethod
    def from_options(cls, name: str, **options: Any) -> Self:
        """Make one for the queue *name* of the options of ``Huey``, where those that huey 3.x had are taken too. TypeError: an option is
        not known. ConfigurationError: one cannot work."""
        make: Any = cls
        return make(name, **options)  # type: ignore[no-any-return]

    @property
    def survives_fork(self) -> bool:
        """A forked child may use it. False: worker processes are started by exec, and make their own."""
        return True

    def pace(self, delay: float, max_delay: float, backoff: float, scheduler_interval: float = 1.0) -> None:
        """How often to look, for a storage that has to be polled (``-d -m -b``). Others need no telling."""

    def startup_warnings(self, processes: int, periodic: bool) -> list[str]:
        """What a consumer of so many worker processes tells at its start: promises that cannot be kept here. ConfigurationError: it cannot
        work so."""
        return []

"""What a storage may decide about finishes before it asks anybody."""

from __future__ import annotations

from collections.abc import Sequence

from huey.task.lifecycle import Finish


def newest(finishes: Sequence[Finish]) -> tuple[Sequence[Finish], list[str]]:
    """*finishes* with one for each task, that of its newest lease; and the ids of the others, whose leases cannot hold any more."""
    latest: dict[str, Finish] = {}
    for finish in finishes:
        lease = finish.lease
        if lease.id not in latest or lease.token > latest[lease.id].lease.token:
            latest[lease.id] = finish
    if len(latest) == len(finishes):
        return finishes, []
    kept = set(map(id, latest.values()))
    return list(latest.values()), [finish.lease.id for finish in finishes if id(finish) not in kept]

"""Where the tasks of a queue in Redis stand: whoever holds a task holds it in exactly one place."""

from __future__ import annotations

from collections import defaultdict
from typing import Any


def places(client: Any, prefix: str) -> dict[bytes, list[str]]:
    """For each id that has a message: the places in which it stands."""
    found: dict[bytes, list[str]] = defaultdict(list)

    def note(place: str, ids: list[bytes], cut: int = 0) -> None:
        for id in ids:
            found[id[cut:]].append(place)

    for key in client.scan_iter(f"{prefix}q:*"):
        note(key.decode()[len(prefix) :], client.lrange(key, 0, -1))
    for key in client.scan_iter(f"{prefix}h:*"):
        note(key.decode()[len(prefix) :], client.hkeys(key))
    for name, cut in (("z", 34), ("u", 34), ("lw", 74), ("s", 0), ("wa", 0), ("e:failed", 0), ("e:cancelled", 0), ("e:succeeded", 0)):
        note(name, client.zrange(prefix + name, 0, -1), cut)
    return {id: sorted(found.get(id, [])) for id in client.hkeys(prefix + "m")}


def misplaced(client: Any, prefix: str) -> dict[bytes, list[str]]:
    """Those that stand in no place, or in several; none is right."""
    return {id: where for id, where in places(client, prefix).items() if len(where) != 1}

"""What a consumer does with locks when it starts: it frees them, if it is told to."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from huey.storage.base import Storage

log = logging.getLogger("huey.consumer")


def free_locks(storage: Storage, settings: Mapping[str, Any]) -> None:
    """With ``flush_locks``, free all locks of this queue, whoever holds them; ``extra_locks`` are among them. Seldom needed: a lock ends
    with its holder."""
    if settings["flush_locks"]:
        freed = storage.flush_locks()
        log.info("locks freed: %s", ", ".join(sorted(freed)) or "none was held")

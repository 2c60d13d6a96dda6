"""``Huey`` with a storage of its own: one class per storage, named as users of 0.4.9 and 3.x know them."""

from __future__ import annotations

import os
from typing import Any

from huey.api import Huey
from huey.exceptions import ConfigurationError
from huey.storage import open_default, open_memory


class SqliteHuey(Huey):
    """A queue in a SQLite file. *filename* and *location* are the same option (C3), default ``huey.db`` (C33); others as ``SqliteStorage``:
    ``fsync``, ``cache_mb``, ``timeout``, ``file_mode``, ``result_ttl``."""

    storage_factory = staticmethod(open_default)

    def __init__(
        self,
        name: str = "huey",
        *,
        filename: str | os.PathLike[str] | None = None,
        location: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        if filename is not None and location is not None and filename != location:
            raise ConfigurationError(f"filename={filename!r} and location={location!r}: they are the same option; give one")
        path = filename if filename is not None else location
        super().__init__(name, **options if path is None else {**options, "filename": path})


class MemoryHuey(Huey):
    """A queue in the memory of this process: for tests and for programs that are their own consumer."""

    storage_factory = staticmethod(open_memory)

"""The storage of a queue in a folder, with the options of huey 3.x."""

from __future__ import annotations

import os
from typing import Any, Self

from huey.exceptions import ConfigurationError
from huey.storage.sqlite.storage import SqliteStorage


class FileStorage(SqliteStorage):
    """A `SqliteStorage` in the file `huey.db` of a folder."""

    @classmethod
    def from_options(
        cls, name: str, path: str | os.PathLike[str] = ".", levels: int = 2, use_thread_lock: bool = False, **options: Any
    ) -> Self:
        if isinstance(levels, bool) or levels not in range(5):
            raise ConfigurationError(f"levels={levels!r}: give 0 to 4, as in 3.x, or leave it out: it has no effect here")
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"path={path!r}: cannot create this folder ({error.strerror}); give one that this user can write to"
            ) from error
        return super().from_options(name, filename=os.path.join(path, "huey.db"), **options)

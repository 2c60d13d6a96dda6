"""Tasks in the memory of one process: for tests, for immediate mode, and as the specification that runs."""

from huey.storage.memory.storage import MemoryStorage

__all__ = ["MemoryStorage"]

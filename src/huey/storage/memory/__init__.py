"""A storage in the memory of one process: for tests, for immediate mode, and as the reference implementation of the contract."""

from huey.storage.memory.storage import MemoryStorage

__all__ = ["MemoryStorage"]

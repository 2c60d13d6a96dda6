"""Tasks in the four components of a 0.4.9 queue."""

from huey.storage.legacy.storage import LegacyStorage

__all__ = ["LegacyStorage"]

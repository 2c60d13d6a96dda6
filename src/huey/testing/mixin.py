"""``HueyTestMixin``: ``memory(huey)`` for classes of unittest and Django."""

from __future__ import annotations

import unittest
from typing import TYPE_CHECKING, Any

from huey.testing import memory
from huey.testing.memory_queue import MemoryQueue

_Base: Any = unittest.TestCase if TYPE_CHECKING else object


class HueyTestMixin(_Base):  # type: ignore[misc]
    """Put it before ``TestCase``, and set ``huey`` to your instance: each test has its tasks in memory, as ``self.queue``.

    class OrderTests(HueyTestMixin, TestCase):
        huey = huey
    """

    huey: Any = None
    """The instance; a class that does not set it makes ``setUp`` raise TypeError."""
    queue: MemoryQueue

    def setUp(self) -> None:
        if self.huey is None:
            name = type(self).__name__
            raise TypeError(f"{name} does not say which Huey it tests: write `huey = ...` in the class, such as `from app import huey`")
        super().setUp()
        self.queue = self.enterContext(memory(self.huey))

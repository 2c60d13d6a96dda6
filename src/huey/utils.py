"""Names that applications of huey 0.4.9 import from here. Closed: nothing new is added."""

from __future__ import annotations


class EmptyData:
    """Stands for "nothing is stored there", which is not the same as a stored None (S11). Compared by identity."""

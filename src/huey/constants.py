"""Names that applications of huey 3.x import from here, and the version."""

from huey.utils import EmptyData

__version__ = "4.0.0a1"

__all__ = ["EmptyData", "__version__"]

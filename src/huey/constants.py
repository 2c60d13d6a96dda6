"""Names that applications of huey 3.x import from here, and the version."""

from huey.utils import EmptyData

__version__ = "4.0.0a1"

WORKER_THREAD, WORKER_PROCESS, WORKER_GREENLET = "thread", "process", "greenlet"
WORKER_TYPES = (WORKER_THREAD, WORKER_PROCESS, WORKER_GREENLET)
"""Values of ``worker_type=`` in 3.x. A consumer logs that it has no greenlets."""

__all__ = ["WORKER_GREENLET", "WORKER_PROCESS", "WORKER_THREAD", "WORKER_TYPES", "EmptyData", "__version__"]

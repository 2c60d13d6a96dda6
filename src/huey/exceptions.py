"""Everything huey raises.

Exception
  HueyException                    the base of all but TaskException
    QueueException                 0.4.9: storage or registry trouble
      StorageError                 the storage could not do it; nothing was written
        StorageUnavailable         away or busy: trying again may help
        StorageFull                no room for more
        StorageRefused             wrong file, wrong version, wrong rights: trying again does not help
      UnknownTask                  no function is registered under that name
      QueueWriteException ...      0.4.9's names for a failure of one queue part
      ResultTimeout                no result within the time (DataStoreTimeout is the same class)
    TaskTimeout                    raised inside a task that passed its time limit
    ConfigurationError             a setting that cannot work; also a RuntimeError and a ValueError
    EncodeError                    a value that cannot be stored; also a TypeError and a ValueError
    DecodeError                    bytes that cannot be read; also a ValueError
TaskException                      raised by Result.get() of a task that failed
"""

from __future__ import annotations

from typing import Any


class HueyException(Exception):
    """Base class of huey's errors."""


class QueueException(HueyException):
    """Something is wrong with a queue, a store or the registry (S9)."""


class StorageError(QueueException):
    """The storage could not do what was asked. Nothing was written."""

    unconfirmed = 0
    """Records of earlier calls inside one ``durable_at_end`` that were not put in either."""


class StorageUnavailable(StorageError):
    """The storage is away, locked or busy. The same call may succeed later."""

    is_unknown = False
    """The call was sent and its answer was lost: it may have been done."""


class StorageFull(StorageError):
    """The storage has no room left. Nothing was written."""


class StorageRefused(StorageError):
    """The storage is not ours to use: foreign, corrupt, read-only, or of a newer release."""


class UnknownTask(QueueException):
    """No function is registered under the name that a message carries (S138)."""


class QueueWriteException(QueueException):
    """A queue part could not write."""


class QueueReadException(QueueException):
    """A queue part could not read."""


class QueueRemoveException(QueueException):
    """A queue part could not remove a message."""


class DataStoreGetException(QueueException):
    """A result store could not be read."""


class DataStorePutException(QueueException):
    """A result store could not be written."""


class ScheduleAddException(QueueException):
    """A schedule could not be added to."""


class ScheduleReadException(QueueException):
    """A schedule could not be read."""


class ResultTimeout(QueueException):
    """No result arrived within the time given."""


DataStoreTimeout = ResultTimeout


class TaskTimeout(HueyException):
    """Raised inside the body of a task that ran longer than its ``timeout=``."""

    def __init__(self, message: str = "the task passed its time limit") -> None:
        super().__init__(message)


class ConfigurationError(HueyException, RuntimeError, ValueError):
    """A setting that cannot work."""


class EncodeError(HueyException, TypeError, ValueError):
    """A value that cannot be stored."""


class DecodeError(HueyException, ValueError):
    """Bytes that cannot be read back."""


class TaskException(Exception):
    """Raised by ``Result.get()`` when the task failed.

    ``metadata`` has ``error`` (the repr of what was raised), ``traceback`` (text), ``retries`` (left) and ``task_id``.
    """

    def __init__(self, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(metadata)
        self.metadata = metadata or {}

    def __str__(self) -> str:
        return str(self.metadata.get("error", "the task failed"))

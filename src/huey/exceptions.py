"""Everything huey raises.

Exception
  HueyException                    the base of all but TaskException
    QueueException                 0.4.9: storage or registry trouble
      StorageError                 the storage could not do it; nothing was written
        StorageUnavailable         away or busy: trying again may help
          QueueWriteException ...  a queue part of 0.4.9 failed; its own error is the cause
        StorageFull                no room for more
        StorageRefused             wrong file, wrong version, wrong rights: trying again does not help
      UnknownTask                  no function is registered under that name
      ResultTimeout                no result within the time (DataStoreTimeout is the same class)
      HopelessWait                 a task waits for one that cannot run before it ends
    TaskTimeout                    raised inside a task that passed its time limit
    TaskLockedException            the lock is held by somebody else
    RateLimitExceeded              so many uses are not allowed in one window
    ConfigurationError             a setting that cannot work; also a RuntimeError and a ValueError
    EncodeError                    a value that cannot be stored; also a TypeError and a ValueError
    DecodeError                    bytes that cannot be read; also a ValueError
TaskException                      raised by Result.get() of a task that failed
RetryTask                          raise it in a task: run me again
CancelExecution                    raise it in a task or a pre_execute hook: this run is not wanted
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

LONGEST_DELAY = 100 * 366 * 86400.0
"""Seconds."""


class HueyException(Exception):
    """Base class of huey's errors."""


class QueueException(HueyException):
    """Something is wrong with a queue, a store or the registry."""


class StorageError(QueueException):
    """The storage could not do what was asked. Nothing was written."""

    unconfirmed = 0
    """Number of records of earlier calls inside one ``bulk_enqueue`` that were not enqueued either."""


class StorageUnavailable(StorageError):
    """The storage cannot be reached, is locked or busy. The same call may succeed later."""

    is_unknown = False
    """The call was sent and its answer was lost: it may have been done."""


class CallInsideCall(StorageUnavailable):
    """The call interrupted another one of the same thread, as a signal handler or a destructor may, and cannot be made inside that."""


class StorageFull(StorageError):
    """The storage has no room left. Nothing was written."""


class StorageRefused(StorageError):
    """The storage cannot be used: it is another user's, damaged, read-only, or of a newer release."""


class UnknownTask(QueueException):
    """No function is registered under the name that a message carries."""


class QueueWriteException(StorageUnavailable):
    """A queue component could not write."""


class QueueReadException(StorageUnavailable):
    """A queue component could not read."""


class QueueRemoveException(StorageUnavailable):
    """A queue component could not remove a message."""


class DataStoreGetException(StorageUnavailable):
    """A result store could not be read."""


class DataStorePutException(StorageUnavailable):
    """A result store could not be written."""


class ScheduleAddException(StorageUnavailable):
    """A schedule could not be added to."""


class ScheduleReadException(StorageUnavailable):
    """A schedule could not be read."""


class ResultTimeout(QueueException):
    """No result arrived within the time given."""


DataStoreTimeout = ResultTimeout


class HopelessWait(QueueException):
    """A task waits for another one, and the only worker that could run it waits inside tasks with all its runners."""


class TaskTimeout(HueyException):
    """Raised inside the body of a task that ran longer than its ``timeout=``."""

    def __init__(self, message: str = "the task passed its time limit") -> None:
        super().__init__(message)


class TaskLockedException(HueyException):
    """The lock is held by somebody else."""


class RateLimitExceeded(HueyException):
    """The rate limit *key* allows no further use for *delay* seconds; less than 0 counts as 0. *retry*: a task runs again then, and no try
    is counted. ValueError: a delay that is no number, or longer than a hundred years."""

    def __init__(self, key: str, delay: float, retry: bool = True) -> None:
        if isinstance(delay, bool) or not isinstance(delay, int | float) or not delay <= LONGEST_DELAY:
            raise ValueError(f"RateLimitExceeded: delay={delay!r}: give a number of seconds, up to a hundred years")
        delay = max(0, delay)
        super().__init__(key, delay, retry)
        self.key = key
        self.delay = delay
        self.retry = retry

    def __str__(self) -> str:
        return f"the rate limit {self.key!r} allows no further use for {self.delay:g} s"


class ConfigurationError(HueyException, RuntimeError, ValueError):
    """A setting that cannot work."""


class EncodeError(HueyException, TypeError, ValueError):
    """A value that cannot be stored."""


class DecodeError(HueyException, ValueError):
    """Bytes that cannot be read back."""


ERROR_TYPE = "_type"
"""Beside what ``TaskException.metadata`` shows, in the description of an error: the name of its class."""


class TaskException(Exception):
    """Raised by ``Result.get()`` when the task failed.

    ``metadata`` has ``error`` (the repr of what was raised), ``traceback`` (text), ``retries`` (left) and ``task_id``. The traceback is
    also a note, so that it is shown below this one. ``error_type``: the name of the class of what was raised, with its module unless
    that is builtins, such as ``ValueError`` or ``app.errors.Refused``; "" if it is not known.
    """

    def __init__(self, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(metadata)
        self.metadata = metadata or {}
        self.error_type = ""
        if isinstance(metadata, dict):
            self.metadata = {name: value for name, value in metadata.items() if name != ERROR_TYPE}
            self.error_type = str(metadata.get(ERROR_TYPE, ""))
            if text := metadata.get("traceback"):
                self.add_note(f"In the worker:\n{text}")

    def __str__(self) -> str:
        return str(self.metadata.get("error", "the task failed"))


class RetryTask(Exception):
    """Raised by a task that wants to run again: always, whatever retries it has, and without using one up.

    *eta* (a datetime; naive: local time) or *delay* (seconds or a timedelta) say when; without them the usual wait between two tries holds.
    """

    def __init__(self, msg: str | None = None, eta: datetime | None = None, delay: float | timedelta | None = None) -> None:
        super().__init__(*(() if msg is None else (msg,)))
        if eta is not None and delay is not None:
            raise ValueError("RetryTask: both eta and delay are given: say one of them")
        self.eta = eta
        self.delay = delay


class CancelExecution(Exception):
    """Raised by a task, or a ``pre_execute`` hook, that wants this run to end without a failure.

    *retry*: None tries again if retries are left; True does in any case, at least once; False does not. From a hook nothing is tried again.
    """

    def __init__(self, msg: str | None = None, retry: bool | None = None) -> None:
        super().__init__(*(() if msg is None else (msg,)))
        self.retry = retry


ASKED_TO_STOP = (TaskTimeout, CancelExecution)
"""What is raised inside a thread to end the task that it runs: at any step, also while its arguments are read or its result is written."""

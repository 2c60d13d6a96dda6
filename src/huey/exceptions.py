"""The exceptions of huey.

Exception
  HueyException                    the base of all but TaskException
    QueueException                 0.4.9: a problem with the storage or the registry
      StorageError                 the storage failed; nothing was written
        StorageUnavailable         unreachable or busy: trying again may help
          QueueWriteException ...  a component of 0.4.9 failed; its own error is the cause
        StorageFull                no space left
        StorageRefused             wrong file, version or permissions: trying again does not help
      UnknownTask                  no function is registered under that name
      ResultTimeout                no result within the time (DataStoreTimeout is the same class)
      HopelessWait                 a task waits for another one that cannot run until it has ended
    TaskTimeout                    raised inside a task that passed its time limit
    TaskLockedException            the lock is held elsewhere
    RateLimitExceeded              the rate limit allows no further use in this window
    ConfigurationError             a setting that cannot work; also a RuntimeError and a ValueError
    EncodeError                    a value that cannot be stored; also a TypeError and a ValueError
    DecodeError                    bytes that cannot be read; also a ValueError
TaskException                      raised by Result.get() of a task that failed
RetryTask                          raise it in a task to run it again
CancelExecution                    raise it in a task or a pre_execute hook to cancel this run
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

LONGEST_DELAY = 100 * 366 * 86400.0
"""Seconds."""


class HueyException(Exception):
    """Base class of huey's errors."""


class QueueException(HueyException):
    """A problem with a queue, a store or the registry."""


class StorageError(QueueException):
    """The storage failed to carry out a call. Nothing was written."""

    unconfirmed = 0
    """Number of records of earlier calls inside one ``bulk_enqueue`` that were not enqueued either."""


class StorageUnavailable(StorageError):
    """The storage cannot be reached, is locked or busy. The same call may succeed later."""

    is_unknown = False
    """True if the call was sent and its reply was lost, so that it may have taken effect."""


class CallInsideCall(StorageUnavailable):
    """The call interrupted another call of the same thread, as in a signal handler or a destructor, and cannot run inside it."""


class StorageFull(StorageError):
    """The storage has no space left. Nothing was written."""


class StorageRefused(StorageError):
    """The storage cannot be used: it is another user's, damaged, read-only, or of a newer release."""


class UnknownTask(QueueException):
    """No function is registered under the task name in a message."""


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
    """A message could not be added to a schedule."""


class ScheduleReadException(StorageUnavailable):
    """A schedule could not be read."""


class ResultTimeout(QueueException):
    """No result arrived within the timeout."""


DataStoreTimeout = ResultTimeout


class HopelessWait(QueueException):
    """A task waits for another one, and all runners of the only worker that could run it are waiting inside tasks."""


class TaskTimeout(HueyException):
    """Raised inside the body of a task that ran longer than its ``timeout=``."""

    def __init__(self, message: str = "the task passed its time limit") -> None:
        super().__init__(message)


class TaskLockedException(HueyException):
    """The lock is held elsewhere."""


class RateLimitExceeded(HueyException):
    """The rate limit *key* allows no further use for *delay* seconds; less than 0 counts as 0. *retry*: the task runs again after that,
    without using a retry. Raises ValueError if *delay* is not a number, or longer than a hundred years."""

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
"""Key of the name of the error's class in the description of an error; ``TaskException.metadata`` does not show it."""


class TaskException(Exception):
    """Raised by ``Result.get()`` when the task failed.

    ``metadata`` has ``error`` (the repr of the task's exception), ``traceback`` (text), ``retries`` (left) and ``task_id``. The traceback
    is also a note, so that it is shown below that of this exception. ``error_type``: the name of that exception's class, with its module
    unless that is builtins, such as ``ValueError`` or ``app.errors.Refused``; "" if it is not known."""

    def __init__(self, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(metadata)
        self.metadata = metadata or {}
        self.error_type = ""
        if isinstance(metadata, dict):
            self.metadata = {name: value for name, value in metadata.items() if name != ERROR_TYPE}
            self.error_type = str(metadata.get(ERROR_TYPE, ""))
            if text := metadata.get("traceback"):
                self.add_note(f"In the worker:\n{text}")

    def __reduce__(self) -> Any:
        return type(self), self.args

    def __str__(self) -> str:
        return str(self.metadata.get("error", "the task failed"))


class RetryTask(Exception):
    """Raise it in a task to run the task again: always, whatever retries it has, and without using one up.

    *eta* (a datetime; naive: local time) or *delay* (seconds or a timedelta) say when; without them, after the usual retry delay.
    """

    def __init__(self, msg: str | None = None, eta: datetime | None = None, delay: float | timedelta | None = None) -> None:
        super().__init__(*(() if msg is None else (msg,)))
        if eta is not None and delay is not None:
            raise ValueError("RetryTask: both eta and delay are given; use only one of them")
        self.eta = eta
        self.delay = delay


class CancelExecution(Exception):
    """Raise it in a task or a ``pre_execute`` hook to end this run without a failure.

    *retry*: None runs the task again if retries are left; True does so in any case, at least once; False does not. After a hook, the task
    does not run again.
    """

    def __init__(self, msg: str | None = None, retry: bool | None = None) -> None:
        super().__init__(*(() if msg is None else (msg,)))
        self.retry = retry


ASKED_TO_STOP = (TaskTimeout, CancelExecution)
"""Exceptions that other threads raise in the thread of a task to end it."""

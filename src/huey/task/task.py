"""The task as its caller sees it: one call of one function."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, cast

from huey.exceptions import TaskTimeout
from huey.runtime.clock import FOREVER, SECOND, Micros
from huey.runtime.times import Expires, resolve_expiry, shown_time, to_micros, wall_datetime
from huey.task import links as linking
from huey.task.bounds import LARGEST, LONGEST_ID, is_storable, parse_limit, parse_number
from huey.task.record import Record
from huey.task.record_options import write_policy

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import TypeVar

    R = TypeVar("R", default=Any, covariant=True)
    """What the function returns; a bare ``Task`` is a ``Task[Any]``."""
else:
    from typing import TypeVar

    R = TypeVar("R")

HEADERS = "sentry_headers"
"""The keyword that an instrumentation of ``enqueue`` adds to a task's kwargs, and that of ``_execute`` removes. It is not an argument: it
is stored separately, so that no body and no unique key ever sees it."""


class Task(Generic[R]):
    """One call of one function. Every decorated function has a subclass of its own, named ``queuecmd_<function>``.

    Do not change a task: it describes a call that may already be stored. Equal tasks have the same id, eta and type.
    """

    __slots__ = (
        "__dict__", "_report", "_time_left", "args", "attempt", "delay", "due", "enqueued_as", "expires", "expires_at", "expires_in", "id",
        "kwargs", "may_come_again", "priority", "retries", "retry_backoff", "retry_delay", "timeout", "token", "wall",
    )  # fmt: skip

    name: str = ""
    """Identity of the function; set by the subclass, like the defaults below."""
    queue: str | None = None
    """The queue of the store to which it goes, if not that of its Huey."""
    default_retries = 0
    default_retry_delay = 0.0
    default_priority = 0
    default_retry_backoff = 0.0
    default_retry_jitter = 0.0
    default_max_retry_delay: float | None = None
    default_timeout: float | None = None
    default_keep: Micros | None = None
    has_constraints = False
    """Whether its function has constraints, such as ``unique=``."""
    headers: Any = None
    """The headers that an instrumentation added to the call; see ``HEADERS``."""
    passage: Any = None
    """The state of a run that goes through a replaced ``Huey._execute``; else None."""
    default_policy: str | None = None
    """The run policy of calls that do not override it, as JSON."""
    links: linking.Links | None = None
    """What is to happen after it; None: nothing."""

    @staticmethod
    def new_id() -> str:
        """Return a new id for a call without one. Subclasses use the generator of their Huey."""
        return ""

    default_expires: Expires | None = None
    """As given to the decorator; below, as `resolve_expiry` reads it."""
    default_expires_at: Micros | None = None
    default_expires_in: Micros | None = None
    shows_local_time = False
    """Whether its times are shown in local time, because its Huey has ``utc=False``."""

    def __init__(
        self,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        id: str | None = None,
        eta: datetime | None = None,
        retries: int | None = None,
        retry_delay: float | None = None,
        priority: int | None = None,
        expires: Expires | None = None,
        retry_backoff: float | None = None,
        timeout: float | None = None,
        on_complete: Any = None,
        on_error: Any = None,
        attempt: int = 0,
        token: int = 0,
        due: Micros | None = None,
        delay: Micros | None = None,
        wall: Micros | None = None,
    ) -> None:
        """*eta*: an aware datetime is exact, a naive one is local time. *expires*: seconds or a timedelta after its enqueue, or after its
        eta if that is later; or a datetime. The rest is as in ``TaskWrapper.schedule``."""
        self.args = args if type(args) is tuple else tuple(args)
        self.kwargs = kwargs or {}
        self.may_come_again = bool(id)
        """Whether its id may be enqueued more than once: the caller chose it, or this task was enqueued before."""
        self.enqueued_as: Micros | None = None
        """The time of this enqueue, microseconds UTC, if its id may be enqueued again; else None."""
        self.id = _checked_id(id) if id else self.new_id()
        self.due = due if eta is None else to_micros(eta, True)
        """When it is due, in microseconds UTC; None: at once."""
        self.delay = delay
        """How long after its enqueue it is due, in microseconds; ``due`` is then this host's estimate."""
        self.wall = wall
        """The time on the consumer's clock when it is due, if its eta is a wall time; ``due`` is then the earliest that this can be."""
        self.retries = self.default_retries if retries is None else parse_number("retries", retries, whole=True)
        """Further runs still allowed."""
        self.retry_delay = self.default_retry_delay if retry_delay is None else parse_number("retry_delay", retry_delay)
        self.priority = self.default_priority if priority is None else parse_number("priority", priority, low=-LARGEST, whole=True)
        if expires is None:
            self.expires, self.expires_at, self.expires_in = self.default_expires, self.default_expires_at, self.default_expires_in
        else:
            self.expires = expires
            """The expiry as it was given."""
            self.expires_at, self.expires_in = resolve_expiry(expires)
        self.retry_backoff = self.default_retry_backoff if retry_backoff is None else parse_number("retry_backoff", retry_backoff)
        """Factor by which the wait grows with each failed try; 0: it does not grow."""
        self.timeout = self.default_timeout if timeout is None else parse_limit(timeout)
        """Maximum seconds of a run; None: no limit."""
        self._time_left: Callable[[], float] | None = None
        self._report: Callable[[float, str | None], None] | None = None
        self.attempt = attempt
        self.token = token
        """The fencing token, which grows with each claim of its id, so that writes of this run elsewhere can be told from those of a later
        run. It is new in each run, so it is not an idempotency key: that is ``key``. 0 before it runs."""
        if on_complete is not None:
            self.then(on_complete)
        if on_error is not None:
            self.error(on_error)

    # -- what follows it -----------------------------------------------------------------------------------------------------------------

    def then(self, task: Any, /, *args: Any, **kwargs: Any) -> Pipeline:
        """Let *task* run when the last task of this pipeline has succeeded, and return this task, the first of the pipeline.

        *task*: a decorated function, which is called with *args* and *kwargs* (options of the call included); or a task, to whose
        arguments they are added. What the task before it returned is added behind its arguments: the items of a tuple one by one, those
        of a dict as keywords, nothing for None, anything else as one argument. ValueError: it is in the pipeline already. TypeError: no
        task.
        """
        linking.append(self, linking.as_task(task, args, kwargs, "a stage of a pipeline"))
        return cast("Pipeline", self)

    def error(self, task: Any, /, *args: Any, **kwargs: Any) -> Self:
        """Let *task* run each time this task (not its whole pipeline) has failed, with the exception behind its arguments, and return this
        task. *task*, *args*, *kwargs*: as for ``then``. A second handler is one of the first handler's failures."""
        linking.add_handler(self, linking.as_task(task, args, kwargs, "a handler"))
        return self

    @property
    def on_complete(self) -> Task | None:
        """The next task of its pipeline."""
        return None if self.links is None else self.links.stage

    @property
    def on_error(self) -> Task | None:
        """The handler of its failure."""
        return None if self.links is None else self.links.handler

    def extend(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Add *args* behind its arguments, and those of *kwargs* that it does not have."""
        self.args, self.kwargs = self.args + args, {**kwargs, **self.kwargs}

    @property
    def task_id(self) -> str:
        """The id, by its 0.4.9 name."""
        return self.id

    @property
    def key(self) -> str:
        """The idempotency key: the same in every retry and each run after a crash, new with each new enqueue. It is the id, plus the time
        of the enqueue if the id may be enqueued again. Pass it to the systems that the task changes, so that each change happens once."""
        return self.id if self.enqueued_as is None else f"{self.id}:{self.enqueued_as}"

    @property
    def data(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as ``(args, kwargs)``."""
        return self.args, self.kwargs

    @property
    def execute_time(self) -> float | None:
        """When it is due, seconds since 1970 UTC, or None for at once."""
        return None if self.due is None else self.due / SECOND

    @property
    def eta(self) -> datetime | None:
        """When it is due, None for at once: a naive datetime in UTC, or in local time if its Huey has ``utc=False``. A wall time stays as
        it is until a consumer has read it. Exact: ``due``."""
        if self.wall is not None:
            return wall_datetime(self.wall)
        return None if self.due is None else shown_time(self.due, self.shows_local_time)

    @eta.setter
    def eta(self, when: datetime | None) -> None:
        self.due = None if when is None else to_micros(when, self.shows_local_time)
        self.delay = self.wall = None

    @property
    def expires_resolved(self) -> datetime | None:
        """When it expires, as a datetime like ``eta``; None for never, or if that counts from an enqueue still to come. Exact:
        ``expires_at``."""
        when = self.expires_at
        return None if when is None or when >= FOREVER else shown_time(when, self.shows_local_time)

    def resolve_expires(self, now: Micros) -> None:
        """Turn an expiry that counts from the enqueue, which happens at *now*, into this host's estimate of the time."""
        if self.expires_in is not None:
            self.expires_at = None if self.wall is not None else max(now, self.due or 0) + self.expires_in

    # -- its time limit, while it runs ---------------------------------------------------------------------------------------------------

    def begins(self, time_left: Callable[[], float]) -> None:
        """Record that its body starts; *time_left* returns the seconds until its limit."""
        self._time_left = time_left

    @property
    def time_remaining(self) -> float:
        """Seconds until its ``timeout``; infinite if it has none or is not running."""
        return float("inf") if self._time_left is None else self._time_left()

    @property
    def is_timed_out(self) -> bool:
        """True if it has run longer than its time limit."""
        return self.time_remaining <= 0

    def check_timeout(self) -> None:
        """Raise TaskTimeout if it has run longer than its time limit. For bodies that check for themselves, between two steps."""
        if self.is_timed_out:
            raise TaskTimeout(f"the task passed its time limit of {self.timeout:g} s")

    # -- its progress, while it runs -----------------------------------------------------------------------------------------------------

    def reports_to(self, report: Callable[[float, str | None], None]) -> None:
        """Record that its body starts; *report* takes its progress."""
        self._report = report

    def progress(self, fraction: float, message: str | None = None) -> None:
        """Report how far this run is, for ``Result.progress``: a number from 0 to 1 and, if given, what it is doing (up to 500 characters).
        Costs nothing but a dict entry: the worker stores the last report with its next turn, which comes within about a second.

        For the task that the function is given (``context=True``). Raise ValueError for a number outside 0 to 1, TypeError if the message
        is no string, RuntimeError if this task is not running in this process.
        """
        if self._report is None:
            raise RuntimeError(f"task {self.id} does not run here: call progress() on the task that its function is given (context=True)")
        self._report(fraction, message)

    # -- as it is stored -----------------------------------------------------------------------------------------------------------------

    def record(self, payload: bytes) -> Record:
        """Return the task as a storage keeps it; *payload*: its arguments as the serializer wrote them."""
        is_default = self.retry_backoff == self.default_retry_backoff and self.timeout == self.default_timeout and self.headers is None
        is_default = is_default and self.expires_in == self.default_expires_in and self.wall is None
        options = self.default_policy if is_default else self._policy()
        # With a wall time, the consumer that reads it sets the expiry.
        expires_in = self.expires_in if self.wall is None else None
        outside = (self.priority, self.due, self.expires_at, self.retries, self.retry_delay, options, self.delay, expires_in)
        return Record(self.id, self.name, payload, *outside)

    def _policy(self) -> str | None:
        own = None if self.timeout == self.default_timeout else self.timeout or 0
        retries: dict[str, Any] = {"backoff": self.retry_backoff, "jitter": self.default_retry_jitter, "cap": self.default_max_retry_delay}
        times: dict[str, Any] = {"expires_in": self.expires_in, "wall": self.wall, "keep": self.default_keep}
        return write_policy(**retries, **times, timeout=own, headers=self.headers)

    if TYPE_CHECKING:

        def execute(self) -> Any:
            """Run its function here. Subclasses implement it."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Task):
            return NotImplemented
        return (self.id, self.due, type(self)) == (other.id, other.due, type(other))

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Task: {self.name} {self.id}>"


if TYPE_CHECKING:

    class Pipeline(Task):
        """A task that others follow, for type checkers: its enqueue returns a ``ResultGroup``."""


class PeriodicTask(Task):
    """Base class of the tasks of periodic functions."""

    __slots__ = ()

    def validate_datetime(self, timestamp: datetime) -> bool:
        """Return whether it is due in the minute of *timestamp*. Subclasses check the schedule of their function."""
        raise NotImplementedError


def plain_headers(given: Any) -> dict[str, str] | None:
    """Return the headers of an instrumentation that can be stored: those whose values are strings."""
    return {str(name): value for name, value in given.items() if isinstance(value, str)} if isinstance(given, dict) else None


def _checked_id(id: str) -> str:
    if not isinstance(id, str) or len(id) > LONGEST_ID or not is_storable(id):
        raise ValueError(f"id={id!r}: give a string of up to {LONGEST_ID} characters, without NUL and surrogates")
    return id

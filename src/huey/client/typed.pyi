"""What type checkers see of decorated functions and flows: the types of arguments, values and handles. Nothing of this runs.

The classes are those of ``huey.task``, which stand below the handles and cannot name them. A call without
options is checked exactly. One with options of the call (``delay=``, ``priority=``, ...) gives the right handle, but only the options are
checked: a signature cannot have the parameters of another function and a few more.
"""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, overload

from huey.client.flows import FlowResult
from huey.client.result import Result
from huey.client.result_groups import ResultGroup
from huey.runtime.times import Expires
from huey.task import flow, periodic, wrapper
from huey.task.options import CallOptionArgs, TaskOptionArgs
from huey.task.task import Task

P = ParamSpec("P")
R = TypeVar("R")

class TaskWrapper(wrapper.TaskWrapper[P, R]):
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]: ...
    @overload
    def __call__(self, *args: Any, delay: float | timedelta, **kwargs: Any) -> Result[R]: ...
    @overload
    def __call__(self, *args: Any, eta: datetime, **kwargs: Any) -> Result[R]: ...
    @overload
    def __call__(self, *args: Any, priority: int, **kwargs: Any) -> Result[R]: ...
    @overload
    def __call__(self, *args: Any, id: str, **kwargs: Any) -> Result[R]: ...
    @overload
    def __call__(self, *args: Any, expires: Expires, **kwargs: Any) -> Result[R]: ...
    @overload
    def __call__(self, *args: Any, timeout: float, **kwargs: Any) -> Result[R]: ...
    @overload
    def __call__(self, *args: Any, retries: int, **kwargs: Any) -> Result[R]: ...
    @overload
    def __call__(self, *args: Any, retry_delay: float, **kwargs: Any) -> Result[R]: ...
    @overload
    def __call__(self, *args: Any, retry_backoff: float, **kwargs: Any) -> Result[R]: ...
    @overload
    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]: ...
    @overload
    async def aenqueue(self, *args: Any, delay: float | timedelta, **kwargs: Any) -> Result[R]: ...
    @overload
    async def aenqueue(self, *args: Any, eta: datetime, **kwargs: Any) -> Result[R]: ...
    @overload
    async def aenqueue(self, *args: Any, priority: int, **kwargs: Any) -> Result[R]: ...
    @overload
    async def aenqueue(self, *args: Any, id: str, **kwargs: Any) -> Result[R]: ...
    @overload
    async def aenqueue(self, *args: Any, expires: Expires, **kwargs: Any) -> Result[R]: ...
    @overload
    async def aenqueue(self, *args: Any, timeout: float, **kwargs: Any) -> Result[R]: ...
    @overload
    async def aenqueue(self, *args: Any, retries: int, **kwargs: Any) -> Result[R]: ...
    @overload
    async def aenqueue(self, *args: Any, retry_delay: float, **kwargs: Any) -> Result[R]: ...
    @overload
    async def aenqueue(self, *args: Any, retry_backoff: float, **kwargs: Any) -> Result[R]: ...
    @overload
    def s(self) -> Task[R]: ...
    @overload
    def s(self, *args: P.args, **kwargs: P.kwargs) -> Task[R]: ...
    @overload
    def s(self, *args: Any, delay: float | timedelta, **kwargs: Any) -> Task[R]: ...
    @overload
    def s(self, *args: Any, eta: datetime, **kwargs: Any) -> Task[R]: ...
    @overload
    def s(self, *args: Any, priority: int, **kwargs: Any) -> Task[R]: ...
    @overload
    def s(self, *args: Any, id: str, **kwargs: Any) -> Task[R]: ...
    @overload
    def s(self, *args: Any, expires: Expires, **kwargs: Any) -> Task[R]: ...
    @overload
    def s(self, *args: Any, timeout: float, **kwargs: Any) -> Task[R]: ...
    @overload
    def s(self, *args: Any, retries: int, **kwargs: Any) -> Task[R]: ...
    @overload
    def s(self, *args: Any, retry_delay: float, **kwargs: Any) -> Task[R]: ...
    @overload
    def s(self, *args: Any, retry_backoff: float, **kwargs: Any) -> Task[R]: ...
    def map(self, calls: Iterable[Any]) -> ResultGroup[R]: ...
    def schedule(
        self,
        args: Any = None,
        kwargs: dict[str, Any] | None = None,
        eta: datetime | None = None,
        delay: float | timedelta | None = None,
        convert_utc: bool = True,
        *,
        id: str | None = None,
        task_id: str | None = None,
        priority: int | None = None,
        retries: int | None = None,
        retry_delay: float | None = None,
        retry_backoff: float | None = None,
        expires: Expires | None = None,
        timeout: float | None = None,
    ) -> Result[R]: ...

class ConsumerOptionArgs(TypedDict, total=False):
    """The options of a consumer; ``huey.consumer.settings`` describes them."""

    workers: int
    worker_type: Literal["thread", "process", "async"]
    max_tasks: int | None
    max_memory: int | None
    check_worker_health: bool
    watchdog: float
    queues: str | Mapping[str, int] | Iterable[Any]
    flush_locks: bool
    extra_locks: str | Iterable[str]
    periodic: bool
    localtime: bool | None
    utc: bool | None
    periodic_task_interval: float
    shutdown_timeout: float | None
    graceful_signal: str | Iterable[str]
    health_check_interval: float
    scheduler_interval: float
    delay: float
    initial_delay: float
    max_delay: float
    backoff: float

class Flow(flow.Flow):
    def enqueue(self) -> FlowResult: ...

class AsyncTaskWrapper(TaskWrapper[P, R]):
    """A decorated ``async def``: *R* is what its coroutine gives."""

    def call_local(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...  # type: ignore[override]

class PeriodicWrapper(TaskWrapper[P, R], periodic.PeriodicWrapper[P, R]):
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...  # type: ignore[override]

class TaskDecorator(Protocol):
    """What ``Huey.task(...)`` returns."""

    @overload
    def __call__(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTaskWrapper[P, R]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> TaskWrapper[P, R]: ...

class LooseTaskDecorator(Protocol):
    """The same for functions that get more than callers pass."""

    @overload
    def __call__(self, func: Callable[..., Coroutine[Any, Any, R]], /) -> AsyncTaskWrapper[..., R]: ...
    @overload
    def __call__(self, func: Callable[..., R], /) -> TaskWrapper[..., R]: ...

class TaskMethod(Protocol):
    """``Huey.task`` of an instance that is found later."""

    @overload
    def __call__(
        self,
        retries: int = 0,
        retry_delay: float = 0,
        retries_as_argument: Literal[False] = False,
        include_task: Literal[False] = False,
        *,
        context: Literal[False] = False,
        **options: Unpack[CallOptionArgs],
    ) -> TaskDecorator: ...
    @overload
    def __call__(
        self,
        retries: int = 0,
        retry_delay: float = 0,
        retries_as_argument: bool = False,
        include_task: bool = False,
        **options: Unpack[TaskOptionArgs],
    ) -> LooseTaskDecorator: ...

class PeriodicTaskMethod(Protocol):
    """``Huey.periodic_task`` of an instance that is found later."""

    def __call__(
        self,
        validate_datetime: Callable[[datetime], bool] | str,
        retries: int = 0,
        retry_delay: float = 0,
        retries_as_argument: bool = False,
        include_task: bool = False,
        **options: Unpack[TaskOptionArgs],
    ) -> Callable[[Callable[P, R]], PeriodicWrapper[P, R]]: ...

"""Code of the application may raise anything, wherever huey calls it: that is logged, and life goes on."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from huey import Huey, MemoryHuey, TaskException, crontab
from huey.consumer.scheduler import Scheduler
from huey.exceptions import CancelExecution, RateLimitExceeded, RetryTask, StorageUnavailable, TaskTimeout
from huey.testing.clock import FakeClock
from tests.support.helpers import running, wait_until


class Hub(BaseException):
    """As gevent's Timeout and GreenletExit."""


class Mute(BaseException):
    """Nobody can say it."""

    def __repr__(self) -> str:
        raise Mute

    __str__ = __repr__


RAISED = [
    SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), Hub("hub"), Mute(), RecursionError(), MemoryError(),
    TaskTimeout(), StopIteration(), StorageUnavailable("away"),
]  # fmt: skip
raised = pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)


def raising(error: BaseException) -> Callable[..., Any]:
    def raise_it(*args: Any, **kwargs: Any) -> Any:
        raise error

    return raise_it


@pytest.fixture
def huey() -> Iterator[Huey]:
    huey = MemoryHuey("app")
    yield huey
    huey.close()


def still_works(huey: Huey) -> bool:
    """Two further tasks run in the one runner."""
    add = huey.task(name="add")(lambda a, b: a + b)
    return [add(n, 1).get(blocking=True, timeout=10) for n in range(2)] == [1, 2]


@raised
@pytest.mark.parametrize("kind", ["pre_execute", "post_execute", "on_startup", "on_shutdown"])
def test_a_hook_may_raise_anything(huey: Huey, kind: str, error: BaseException) -> None:
    getattr(huey, kind)()(raising(error))

    with running(huey, workers=1):
        if kind == "pre_execute" and isinstance(error, TaskTimeout):
            # That one means something there: the task is not run.
            with pytest.raises(TaskException):
                huey.task()(lambda: 1)().get(blocking=True, timeout=10)
        else:
            assert still_works(huey)


@raised
@pytest.mark.parametrize("signal", ["enqueued", "executing", "complete"])
def test_a_handler_may_raise_anything(huey: Huey, signal: str, error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt) and signal == "enqueued":
        pytest.skip("in the main thread that is Ctrl+C")
    huey.signal(signal)(raising(error))

    with running(huey, workers=1):
        assert still_works(huey)


def test_ctrl_c_in_a_handler_of_a_program_ends_the_program(huey: Huey) -> None:
    huey.signal("enqueued")(raising(KeyboardInterrupt()))

    with pytest.raises(KeyboardInterrupt):
        huey.task()(lambda: None)()


@raised
def test_what_a_handler_raised_is_logged_once(huey: Huey, error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    huey.signal("complete")(raising(error))

    with running(huey, workers=1):
        huey.task()(lambda: 1)().get(blocking=True, timeout=10)
        wait_until(lambda: "the handler" in caplog.text)

    assert caplog.text.count("the handler") == 1


@raised
@pytest.mark.parametrize("option", ["retry_on", "no_retry_on"])
def test_a_predicate_may_raise_anything(huey: Huey, option: str, error: BaseException) -> None:
    options: dict[str, Any] = {option: raising(error)}

    @huey.task(retries=1, **options)
    def fails() -> None:
        raise ValueError("the task's own")

    with running(huey, workers=1):
        with pytest.raises(TaskException, match="own"):
            fails().get(blocking=True, timeout=10)
        assert still_works(huey)


@raised
def test_a_class_that_cannot_be_asked_what_it_means_counts_as_no(huey: Huey, error: BaseException) -> None:
    class Odd(type):
        __instancecheck__ = raising(error)

    odd: Any = Odd("OddError", (Exception,), {})

    @huey.task(retries=1, retry_on=odd)
    def fails() -> None:
        raise ValueError("the task's own")

    with running(huey, workers=1), pytest.raises(TaskException, match="own"):
        fails().get(blocking=True, timeout=10)


@raised
def test_a_body_may_raise_anything(huey: Huey, error: BaseException) -> None:
    with running(huey, workers=1):
        with pytest.raises(TaskException):
            huey.task()(raising(error))().get(blocking=True, timeout=10)
        assert still_works(huey)


class Odd:
    """A value that goes wrong at one step of its way."""

    def __init__(self, error: BaseException, step: str) -> None:
        self.error, self.step = error, step

    def __reduce__(self) -> Any:
        if self.step == "write":
            raise self.error
        return _rebuild, (type(self.error),)


def _rebuild(kind: type[BaseException]) -> Any:
    raise kind


@raised
def test_a_result_that_cannot_be_written_is_a_stored_error(huey: Huey, error: BaseException) -> None:
    with running(huey, workers=1):
        with pytest.raises(TaskException, match="EncodeError"):
            huey.task()(lambda: Odd(error, "write"))().get(blocking=True, timeout=10)
        assert still_works(huey)


@raised
def test_arguments_that_cannot_be_rebuilt_are_a_stored_error(huey: Huey, error: BaseException) -> None:
    takes = huey.task()(lambda it: None)
    with running(huey, workers=1):
        with pytest.raises(TaskException, match="DecodeError"):
            takes(Odd(error, "read")).get(blocking=True, timeout=10)
        assert still_works(huey)


@raised
def test_a_serializer_may_raise_anything(error: BaseException) -> None:
    import pickle

    class Moody:
        is_bad = False

        def serialize(self, value: Any) -> bytes:
            return pickle.dumps(value)

        def deserialize(self, data: bytes) -> Any:
            if self.is_bad:
                raise error
            return pickle.loads(data)

    serializer = Moody()
    huey = MemoryHuey("moody", serializer=serializer)
    with running(huey, workers=1):
        serializer.is_bad = True
        result = huey.task()(lambda: 1)()
        with pytest.raises(TaskException, match="DecodeError"):
            result.get(blocking=True, timeout=10)
        serializer.is_bad = False
        assert still_works(huey)


@raised
def test_a_text_of_an_error_may_raise_anything(huey: Huey, error: BaseException) -> None:
    class Odd(Exception):
        __repr__ = __str__ = raising(error)  # type: ignore[assignment]

    with running(huey, workers=1):
        with pytest.raises(TaskException, match="its text raised"):
            huey.task()(raising(Odd()))().get(blocking=True, timeout=10)
        assert still_works(huey)


@raised
def test_an_error_report_of_the_application_may_raise_anything(error: BaseException) -> None:
    class Reporting(MemoryHuey):
        build_error_result = raising(error)  # type: ignore[assignment]

    huey = Reporting("app")
    with running(huey, workers=1):
        with pytest.raises(TaskException, match="own"):
            huey.task()(raising(ValueError("the task's own")))().get(blocking=True, timeout=10)
        assert still_works(huey)


@raised
@pytest.mark.parametrize("side", ["__enter__", "__exit__"])
def test_a_context_of_a_task_may_raise_anything(huey: Huey, side: str, error: BaseException) -> None:
    around: dict[str, Any] = {"__enter__": lambda it: it, "__exit__": lambda it, *error: None, side: raising(error)}
    context = type("Context", (), around)()

    with running(huey, workers=1):
        with pytest.raises(TaskException):
            huey.context_task(context)(lambda: 1)().get(blocking=True, timeout=10)
        assert still_works(huey)


@raised
def test_a_schedule_may_raise_anything_and_the_others_run(huey: Huey, error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    huey.periodic_task(raising(error), name="broken")(lambda: None)
    huey.periodic_task(crontab(), name="fine")(lambda: None)
    scheduler = Scheduler(huey.storage, huey.registry, huey.codec, huey.clock)

    scheduler.run_once()

    assert [task.name for task in huey.pending()] == ["fine"]
    assert caplog.text.count("cannot evaluate its schedule") == 1


@raised
def test_a_unique_key_of_a_periodic_task_may_raise_anything(error: BaseException) -> None:
    huey = MemoryHuey("app", clock=FakeClock())
    huey.periodic_task(crontab(), name="broken", unique=raising(error))(lambda: None)
    huey.periodic_task(crontab(), name="fine")(lambda: None)
    scheduler = Scheduler(huey.storage, huey.registry, huey.codec, huey.clock)

    scheduler.run_once()

    assert [task.name for task in huey.pending()] == ["fine"]


class Failing(logging.Handler):
    """A handler of the application."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def emit(self, record: logging.LogRecord) -> None:
        raise self.error


@raised
def test_a_log_handler_may_raise_anything(huey: Huey, error: BaseException) -> None:
    handler = Failing(error)
    logging.getLogger("huey").addHandler(handler)
    try:
        with running(huey, workers=1):
            task = huey.task()(raising(ValueError("the task's own")))
            for _ in range(3):
                with pytest.raises(TaskException, match="own"):
                    task().get(blocking=True, timeout=10)
            assert still_works(huey)
    finally:
        logging.getLogger("huey").removeHandler(handler)


# What a body asks for


@pytest.mark.parametrize(
    "asked",
    [
        lambda: RateLimitExceeded("service", float("inf")),
        lambda: RateLimitExceeded("service", float("nan")),
        lambda: RateLimitExceeded("service", 1e300),
        lambda: RateLimitExceeded("service", 1.7e15),
        lambda: RateLimitExceeded("service", "soon"),  # type: ignore[arg-type]
        lambda: RetryTask(delay=float("inf")),
        lambda: RetryTask(delay=1e300),
        lambda: RetryTask(delay="soon"),  # type: ignore[arg-type]
        lambda: RetryTask(eta=datetime.max),
        lambda: RetryTask(eta=datetime.min),
        lambda: RetryTask(eta="soon"),  # type: ignore[arg-type]
    ],
)
def test_an_impossible_time_fails_its_task_or_is_kept(huey: Huey, asked: Callable[[], Exception]) -> None:
    runs = []

    @huey.task()
    def asks() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise asked()

    with running(huey, workers=1):
        result = asks()
        wait_until(lambda: huey.storage.counts().failed or huey.storage.find("scheduled") or len(runs) == 2)
        if huey.storage.counts().failed:
            with pytest.raises(TaskException):
                result.get(blocking=True, timeout=10)
        assert still_works(huey)


def test_a_delay_that_was_changed_fails_that_task_alone(huey: Huey) -> None:
    class Late(RateLimitExceeded):
        def __init__(self) -> None:
            super().__init__("service", 1)
            self.delay = float("inf")

    with running(huey, workers=1):
        with pytest.raises(TaskException, match="delay=inf"):
            huey.task()(raising(Late()))().get(blocking=True, timeout=10)
        assert still_works(huey)


@pytest.mark.parametrize("error", [CancelExecution(), RetryTask(), RateLimitExceeded("service", 0.01)])
def test_a_task_whose_end_is_decided_wrongly_fails(huey: Huey, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huey.engine.executor.outcome_of_exception", raising(Hub("a fault of ours")))

    with running(huey, workers=1), pytest.raises(TaskException, match="fault of ours"):
        huey.task()(raising(error))().get(blocking=True, timeout=10)


def test_a_thread_that_tells_signals_is_started_again(huey: Huey) -> None:
    from huey.engine.run_hooks import HookThread

    teller, told = HookThread(), threading.Event()
    teller.close()

    teller.put(told.set)

    assert told.wait(10)
    teller.close()

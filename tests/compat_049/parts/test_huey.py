"""Sections B, C, E, I, K and S166: a Huey over parts, shipped ones and a user's, with a consumer in this process."""

from __future__ import annotations

import json
import logging
import threading
from datetime import datetime, timedelta
from typing import Any

import pytest

from huey import Huey
from huey.backends.base import BaseQueue
from huey.exceptions import (
    ConfigurationError,
    DataStorePutException,
    DataStoreTimeout,
    EncodeError,
    QueueException,
    QueueWriteException,
    StorageRefused,
    TaskException,
)
from huey.utils import EmptyData
from tests.compat_049.parts.own import DictStore, ListEmitter, ListQueue, ListSchedule
from tests.support.helpers import MOMENT, never, noting, running, wait_until

FAST = {"delay": 0.01, "max_delay": 0.05}


def add(a: int, b: int) -> int:
    return a + b


def test_S15_the_parts_by_position_and_by_keyword() -> None:
    parts = ListQueue(), DictStore(), ListSchedule(), ListEmitter()

    by_position = Huey(*parts, False, False)
    by_keyword = Huey(queue=parts[0], result_store=parts[1], schedule=parts[2], events=parts[3], store_none=True, always_eager=True)

    assert (by_position.name, by_position.store_none, by_position.always_eager) == ("own", False, False)
    assert (by_keyword.store_none, by_keyword.always_eager) == (True, True)
    assert (by_keyword.queue, by_keyword.result_store, by_keyword.schedule) == parts[:3]


@pytest.mark.parametrize(
    ("arguments", "options", "told"),
    [
        (["app", DictStore()], {}, "with components of 0.4.9"),
        ([], {"result_store": DictStore()}, "no queue="),
        ([object()], {}, "a queue needs a name"),
        ([ListQueue], {}, "give an instance"),
        ([ListQueue(), ListQueue()], {}, "it has no put, peek, get"),
        ([ListQueue()], {"schedule": object()}, "it has no add, read"),
        ([ListQueue()], {"events": ListQueue()}, "it has no emit"),
        ([ListQueue()], {"filename": "queue.db"}, "filename"),
        (["app"], {"queue": ListQueue()}, "with components of 0.4.9"),
    ],
)
def test_S15_what_is_no_part_is_refused_at_once(arguments: list[Any], options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Huey(*arguments, **options)


def test_S16_a_queue_alone_suffices() -> None:
    ran: list[str] = []
    huey = Huey(ListQueue())
    note = noting(huey, ran)

    with running(huey, **FAST):
        note("now")
        note.schedule(args=("later",), delay=0.1)
        wait_until(lambda: ran == ["now", "later"])


def test_S16_what_waits_in_memory_goes_back_at_a_stop() -> None:
    huey = Huey(ListQueue())
    note = noting(huey, [])
    note.schedule(args=("later",), delay=3600)

    with running(huey, **FAST):
        wait_until(lambda: len(huey.queue) == 0)

    assert len(huey.queue) == 1


def test_S17_none_leaves_nothing_in_the_store(huey: Huey) -> None:
    noop = huey.task()(lambda: None)
    handle, after = noop(), huey.task()(add)(1, 2)

    with running(huey, **FAST):
        assert after.get(blocking=True, timeout=10) == 3

    assert huey.result_store.peek(handle.task.task_id) is EmptyData
    assert handle.get() is None


def test_S18_with_store_none_it_is_a_result(parts: tuple[Any, Any, Any]) -> None:
    huey = Huey(*parts, store_none=True)
    handle = huey.task()(lambda: None)()

    with running(huey, **FAST):
        assert handle.get(blocking=True, timeout=5) is None


def test_S19_always_eager_queues_nothing() -> None:
    queue = ListQueue()
    eager = Huey(queue, always_eager=True).task()(add)

    assert (eager(1, 2), eager.schedule(args=(1, 3), delay=60), len(queue)) == (3, 4, 0)


def test_S20_two_names_are_two_queues() -> None:
    one, other = Huey(ListQueue("one")), Huey(ListQueue("other"))

    one.task()(add)(1, 2)

    assert (len(one), len(other), one.name, other.name) == (1, 0, "one", "other")


def test_S25_a_call_is_one_message(huey: Huey) -> None:
    ran: list[str] = []

    noting(huey, ran)("a")

    assert (len(huey.queue), len(huey), ran) == (1, 1, [])


def test_S27_without_a_store_there_are_no_results() -> None:
    huey = Huey(ListQueue())

    assert huey.task()(add)(1, 2) is None
    assert huey.task()(add).schedule(args=(1, 2), delay=60) is None


def test_S40_values_survive(huey: Huey) -> None:
    echo = huey.task()(lambda value: value)
    value = {"k": (1, b"x", datetime(2026, 1, 1), "ä\0\n")}

    with running(huey, **FAST):
        assert echo(value).get(blocking=True, timeout=10) == value


def test_a_message_is_one_line_of_ascii_whatever_it_says() -> None:
    queue = ListQueue()
    huey = Huey(queue)

    huey.task(name="ä\n:")(add)("ö\n\0", b"\xff\n")

    (data,) = queue.messages
    assert isinstance(data, bytes)
    assert data.isascii()
    assert b"\n" not in data
    assert json.loads(data)["name"] == "ä\n:"


def test_S43_S49_S50_a_result_is_fetched_once(huey: Huey) -> None:
    handle = huey.task()(add)(1, 2)

    with running(huey, **FAST):
        assert handle.get(blocking=True, timeout=10) == 3

    assert handle.get() == 3
    assert huey.result_store.peek(handle.id) is EmptyData


def test_S45_a_result_that_does_not_come_is_a_timeout(huey: Huey) -> None:
    with pytest.raises(DataStoreTimeout):
        huey.task()(add)(1, 2).get(blocking=True, timeout=0.1)


def test_S51_S52_a_revoked_task_runs_only_if_restored(huey: Huey, emitter: ListEmitter) -> None:
    ran: list[str] = []
    note = noting(huey, ran)
    revoked, restored, after = note("revoked"), note("restored"), note("after")
    revoked.revoke()
    restored.revoke()
    assert revoked.is_revoked()
    assert restored.restore()

    with running(huey, **FAST):
        after.get(blocking=True, timeout=10)
        wait_until(lambda: any(event["status"] == "revoked" for event in emitter.told))

    assert ran == ["restored", "after"]
    assert [event["id"] for event in emitter.told if event["status"] == "revoked"] == [revoked.id]


def test_S54_S58_a_function_revoked_for_once_skips_one_run(huey: Huey) -> None:
    ran: list[str] = []
    note = noting(huey, ran)
    note.revoke(revoke_once=True)
    assert note.is_revoked()

    with running(huey, **FAST):
        note("a")
        wait_until(lambda: not note.is_revoked())
        note("b").get(blocking=True, timeout=10)

    assert ran == ["b"]


def test_S59_S60_a_revocation_ends_and_replaces_the_former(huey: Huey) -> None:
    note = noting(huey, [])
    until = datetime.now() + timedelta(days=1)
    note.revoke(until)

    assert (note.is_revoked(until - timedelta(hours=1)), note.is_revoked(until)) == (True, False)
    note.revoke(revoke_until=datetime.now() - timedelta(days=2))
    assert not note.is_revoked()
    assert note.restore()
    assert not note.restore()


def test_S55_revoking_needs_a_store() -> None:
    huey = Huey(ListQueue())
    note = noting(huey, [])

    with pytest.raises(QueueException):
        huey.revoke(note.s("a"))
    assert not huey.is_revoked(note.s("a"))


def test_S82_S84_a_failed_task_is_retried_and_then_has_an_error(huey: Huey, emitter: ListEmitter) -> None:
    ran: list[int] = []

    @huey.task(retries=2, retries_as_argument=True)
    def bad(retries: int = 0) -> None:
        ran.append(retries)
        raise ValueError("nope")

    handle = bad()
    with running(huey, **FAST):
        with pytest.raises(TaskException, match="nope"):
            handle.get(blocking=True, timeout=10)
        wait_until(lambda: [event["status"] for event in emitter.told].count("error") == 3)

    assert ran == [2, 1, 0]
    told = [event["status"] for event in emitter.told if event["id"] == handle.id]
    assert told == [
        *("enqueued", "started", "error", "retrying"),
        *("enqueued", "started", "error", "retrying"),
        *("enqueued", "started", "error"),
    ]


def test_S85_S87_a_retry_waits_in_the_schedule(huey: Huey, emitter: ListEmitter) -> None:
    ran: list[datetime] = []

    @huey.task(retries=1, retry_delay=0.3)
    def second_time_lucky() -> str:
        ran.append(datetime.now())
        if len(ran) == 1:
            raise ValueError("nope")
        return "ok"

    handle = second_time_lucky()
    with running(huey, **FAST):
        assert handle.get(blocking=True, timeout=10) == "ok"

    assert ran[1] - ran[0] >= timedelta(seconds=0.3)
    told = [event["status"] for event in emitter.told if event["id"] == handle.id]
    assert told[:5] == ["enqueued", "started", "error", "retrying", "scheduled"]


def test_S109_a_queue_that_blocks_is_read_without_polling() -> None:
    class Blocking(BaseQueue):
        """Its lock is its user's business."""

        blocking = True

        def __init__(self) -> None:
            super().__init__("blocking")
            self.changed = threading.Condition()
            self.messages: list[Any] = []

        def write(self, data: Any) -> None:
            with self.changed:
                self.messages.append(data)
                self.changed.notify()

        def read(self) -> Any:
            with self.changed:
                self.changed.wait_for(lambda: self.messages, 0.5)
                return self.messages.pop(0) if self.messages else None

    huey = Huey(Blocking(), DictStore())
    note = noting(huey, [])

    with running(huey, delay=1000, max_delay=1000):
        assert [handle.get(blocking=True, timeout=5) for handle in [note(n) for n in range(20)]] == list(range(20))


def test_S109_a_redis_queue_that_blocks_is_read_at_once(port: int) -> None:
    from tests.compat_049.parts.conftest import in_redis

    huey = Huey(*in_redis(port))
    note = noting(huey, [])

    with running(huey, delay=1000, max_delay=1000):
        assert [note(n).get(blocking=True, timeout=5) for n in range(5)] == list(range(5))


def test_S110_S135_a_message_for_later_goes_through_the_schedule(huey: Huey, emitter: ListEmitter) -> None:
    ran: list[str] = []
    note = noting(huey, ran)

    with running(huey, **FAST):
        handle = note.schedule(args=("later",), delay=0.3)
        assert never(lambda: ran, MOMENT)
        assert handle.get(blocking=True, timeout=10) == "later"
        wait_until(lambda: emitter.told[-1]["status"] == "finished")

    assert [event["status"] for event in emitter.told] == ["scheduled", "enqueued", "started", "finished"]


def test_S112_S115_the_schedule_outlives_the_consumer(huey: Huey) -> None:
    ran: list[str] = []
    note = noting(huey, ran)
    note.schedule(args=("later",), delay=0.4)

    with running(huey, **FAST):
        wait_until(lambda: len(huey.queue) == 0)
    assert ran == []

    with running(huey, **FAST):
        wait_until(lambda: ran == ["later"])


def test_S69_a_periodic_task_runs_once_a_minute(huey: Huey) -> None:
    ran: list[str] = []
    huey.periodic_task(lambda dt: True, name="app.tick")(lambda: ran.append("tick"))

    with running(huey, periodic=True, periodic_task_interval=0.05, **FAST):
        wait_until(lambda: ran)
        assert never(lambda: len(ran) > 2)


def test_S67_a_periodic_task_leaves_nothing_in_a_users_store() -> None:
    ran: list[str] = []
    store = DictStore()
    huey = Huey(ListQueue(), store)
    huey.periodic_task(lambda dt: True)(lambda: ran.append("tick") or "value")

    with running(huey, periodic=True, localtime=True, **FAST):
        wait_until(lambda: ran)

    assert store.values == {}


def test_S134_a_broken_emitter_does_not_disturb_the_work(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(ListEmitter):
        def emit(self, data: str) -> None:
            raise OSError("no such channel")

    huey = Huey(ListQueue(), DictStore(), events=Broken())
    handle = huey.task()(add)(1, 2)

    with running(huey, **FAST):
        assert handle.get(blocking=True, timeout=10) == 3
    assert caplog.text.count("no such channel") == 1


def test_S136_a_consumer_runs_tasks_of_another_instance(parts: tuple[Any, Any, Any]) -> None:
    handle = Huey(*parts).task()(add)(1, 2)

    with running(Huey(*parts), **FAST):
        assert handle.get(blocking=True, timeout=10) == 3


def test_S138_an_unknown_task_is_kept(huey: Huey, caplog: pytest.LogCaptureFixture) -> None:
    wrapper = huey.task(name="elsewhere.forgotten")(add)
    wrapper(1, 2)
    wrapper.unregister()
    handle = huey.task()(add)(3, 4)

    with running(huey, **FAST):
        assert handle.get(blocking=True, timeout=10) == 7
        wait_until(lambda: "elsewhere.forgotten not found in TaskRegistry" in caplog.text)

    in_schedule = len(huey.schedule) if hasattr(huey.schedule, "__len__") else len(huey.schedule.items)
    assert in_schedule + len(huey.queue) == 1


def test_what_is_no_task_is_kept_apart(huey: Huey, caplog: pytest.LogCaptureFixture) -> None:
    """Such as messages of an older huey."""
    for data in (b"\x80\x04pickled", b"another", b"another"):
        huey.queue.write(data)
    handle = huey.task()(add)(1, 2)

    with running(huey, **FAST):
        assert handle.get(blocking=True, timeout=10) == 3

    told = [record.getMessage() for record in caplog.records if "not a huey message" in record.getMessage()]
    keys = [text.rpartition("as ")[2].strip("'") for text in told]
    assert [huey.result_store.peek(key) for key in keys] == [b"\x80\x04pickled", b"another", b"another"]
    assert len(huey.queue) == 0


# Errors of parts


class Failing:
    """A part of which a method fails as long as it is told to."""

    def __init__(self, method: str) -> None:
        self.is_broken = True
        self._method = method

    def guard(self, method: str) -> None:
        if self.is_broken and method == self._method:
            raise OSError(f"{method} is broken")


class FailingQueue(ListQueue, Failing):
    def __init__(self, method: str) -> None:
        ListQueue.__init__(self)
        Failing.__init__(self, method)

    def write(self, data: Any) -> None:
        self.guard("write")
        super().write(data)

    def read(self) -> Any:
        self.guard("read")
        return super().read()


class FailingStore(DictStore, Failing):
    def __init__(self, method: str) -> None:
        DictStore.__init__(self)
        Failing.__init__(self, method)

    def put(self, key: str, value: Any) -> None:
        self.guard("put")
        super().put(key, value)

    def peek(self, key: str) -> Any:
        self.guard("peek")
        return super().peek(key)


def test_C27_the_error_of_a_part_is_the_cause_of_ours() -> None:
    huey = Huey(FailingQueue("write"), FailingStore("put"))
    note = noting(huey, [])

    with pytest.raises(QueueWriteException, match=r"^OSError: write is broken \[in FailingQueue.write\]") as caught:
        note("a")
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(DataStorePutException, match=r"^OSError: put is broken"):
        note.revoke()


@pytest.mark.parametrize(("queue", "store"), [("read", ""), ("", "peek"), ("", "put")])
def test_C15_a_part_that_fails_is_waited_for_and_nothing_is_lost(queue: str, store: str, caplog: pytest.LogCaptureFixture) -> None:
    ran: list[str] = []
    parts = FailingQueue(queue), FailingStore(store)
    huey = Huey(*parts)
    note = noting(huey, ran)

    with caplog.at_level(logging.INFO, logger="huey"), running(huey, **FAST):
        note("a")
        wait_until(lambda: "storage unavailable" in caplog.text)
        for part in parts:
            part.is_broken = False
        wait_until(lambda: "storage is back" in caplog.text)
        wait_until(lambda: ran == ["a"])

    assert len(huey.queue) == 0
    assert len(parts[1].values) == 1


@pytest.mark.parametrize("method", ["queue.read", "schedule.read", "schedule.add", "result_store.put", "result_store.peek", "events.emit"])
@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, KeyboardInterrupt])
def test_a_part_that_raises_what_is_no_exception_ends_nothing(method: str, error: type[BaseException], monkeypatch: Any) -> None:
    parts = {"queue": ListQueue(), "result_store": DictStore(), "schedule": ListSchedule(), "events": ListEmitter()}
    huey = Huey(**parts)
    part, name = parts[method.split(".")[0]], method.split(".")[1]
    call, raised, at_work = getattr(part, name), list[str](), threading.current_thread()

    def raising(*args: Any, **kwargs: Any) -> Any:
        if not raised and threading.current_thread() is not at_work:
            raised.append(name)
            raise error("part")
        return call(*args, **kwargs)

    monkeypatch.setattr(part, name, raising)
    flaky = huey.task(retries=1, retry_delay=0.05)(lambda tries=[]: tries.append(1) or 1 // (len(tries) - 1))

    with running(huey, **FAST):
        first, later = flaky(), huey.task()(add).schedule(args=(1, 2), delay=0.05)
        assert (first.get(blocking=True, timeout=20), later.get(blocking=True, timeout=20)) == (1, 3)
    assert raised == [name]


# What parts cannot do


@pytest.mark.parametrize(
    "ask",
    [
        lambda huey: huey.inspector.stats(datetime.now()),
        lambda huey: huey.inspector.pause(),
        lambda huey: huey.inspector.retry(["a"]),
        lambda huey: huey.inspector.tasks(state="failed"),
        lambda huey: next(huey.events(timeout=0.1)),
        lambda huey: huey.task(priority=1)(add)(1, 2),
    ],
)
def test_what_parts_cannot_do_is_refused_with_the_way_out(huey: Huey, ask: Any) -> None:
    with pytest.raises(StorageRefused, match=r"SqliteHuey and RedisHuey can|listen there"):
        ask(huey)

    assert len(huey.queue) == 0


def test_a_queue_that_cannot_be_counted_says_so() -> None:
    class Uncounted(ListQueue):
        def __len__(self) -> int:
            raise NotImplementedError

    with pytest.raises(StorageRefused, match="counting messages"):
        len(Huey(Uncounted()))


def test_a_users_store_is_not_trusted_with_classes() -> None:
    huey = Huey(ListQueue(), DictStore())

    with pytest.raises(EncodeError, match="secret="):
        huey.task()(add)(Failing("read"), 1)
    assert len(huey.queue) == 0


def test_the_start_says_what_a_kill_would_cost(caplog: pytest.LogCaptureFixture) -> None:
    with running(Huey(ListQueue(), DictStore(), ListSchedule()), periodic=True):
        pass

    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.partition(":")[0] for text in warnings] == [
        "ListQueue can only read",
        "ListSchedule can only read",
        "ListQueue does not record ticks",
    ]


def test_shipped_parts_have_nothing_to_warn_of(make_shipped: Any, caplog: pytest.LogCaptureFixture) -> None:
    with running(Huey(*make_shipped()), periodic=True):
        pass

    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


def test_periodic_tasks_need_a_queue_that_notes_ticks() -> None:
    huey = Huey(ListQueue())

    with pytest.raises(ConfigurationError, match="--no-periodic"):
        huey.storage.startup_warnings(4, periodic=True)
    assert len(huey.storage.startup_warnings(4, periodic=False)) == 2


def test_unknown_tasks_are_put_back_and_told_once_for_their_name(caplog: pytest.LogCaptureFixture) -> None:
    huey = Huey(ListQueue(), DictStore(), ListSchedule())
    unknown = huey.task(name="app.told_once")(add)
    handles = [unknown(n, 1) for n in range(3)]
    del huey.registry._tasks["app.told_once"]

    with running(huey, **FAST):
        wait_until(lambda: [record for record in caplog.records if "app.told_once" in record.getMessage()])
        with pytest.raises(DataStoreTimeout, match=r"in queue 'own'.*nothing is known about it yet"):
            handles[0].get(blocking=True, timeout=0.5)

    lines = [record.getMessage() for record in caplog.records if "app.told_once" in record.getMessage() and record.levelname == "ERROR"]
    assert len(lines) == 1

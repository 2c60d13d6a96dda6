"""Storages that an application wrote for huey 3.x run here, with what they can promise."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import huey.storage
from huey import Huey, MemoryHuey, RedisHuey, SqliteHuey
from huey.constants import EmptyData
from huey.exceptions import ConfigurationError, StorageRefused, TaskException
from huey.storage import BaseStorage, MemoryStorage
from huey.storage.sqlite.storage import SqliteStorage
from tests.support.helpers import running, wait_until


class OwnStorage(BaseStorage):  # type: ignore[misc]
    """As 3.x documents it: lists and dicts, for one process."""

    def __init__(self, name: str = "huey", color: str = "blue", **options: Any) -> None:
        super().__init__(name, **options)
        self.color = color
        self.queue: list[tuple[float, bytes]] = []
        self.later: list[tuple[datetime, bytes]] = []
        self.data: dict[str, bytes] = {}
        self.results: set[str] = set()
        self.lock = threading.Lock()
        self.is_closed = False

    def own(self) -> str:
        return f"{self.name} is {self.color}"

    def close(self) -> None:
        self.is_closed = True

    def enqueue(self, data: bytes, priority: float | None = None) -> None:
        with self.lock:
            self.queue.append((priority or 0, data))
            self.queue.sort(key=lambda entry: -entry[0])

    def dequeue(self) -> bytes | None:
        with self.lock:
            return self.queue.pop(0)[1] if self.queue else None

    def queue_size(self) -> int:
        return len(self.queue)

    def flush_queue(self) -> None:
        self.queue.clear()

    def add_to_schedule(self, data: bytes, ts: datetime) -> None:
        with self.lock:
            self.later.append((ts, data))

    def read_schedule(self, ts: datetime) -> list[bytes]:
        with self.lock:
            due = sorted(entry for entry in self.later if entry[0] <= ts)
            self.later = [entry for entry in self.later if entry[0] > ts]
        return [data for _, data in due]

    def schedule_size(self) -> int:
        return len(self.later)

    def flush_schedule(self) -> None:
        self.later.clear()

    def put_data(self, key: str, value: bytes, is_result: bool = False) -> None:
        self.data[key] = value
        if is_result:
            self.results.add(key)

    def peek_data(self, key: str) -> Any:
        return self.data.get(key, EmptyData)

    def pop_data(self, key: str) -> Any:
        return self.data.pop(key, EmptyData)

    def result_items(self) -> dict[str, bytes]:
        return dict(self.data)

    def flush_results(self) -> None:
        self.data.clear()


class OfClass(Huey):
    storage_class = OwnStorage


class OfMethod(Huey):
    def get_storage(self, color: str = "white", **options: Any) -> OwnStorage:
        return OwnStorage(self.name, color=color, **options)


WAYS: list[Callable[..., Huey]] = [
    functools.partial(Huey, storage_class=OwnStorage),
    OfClass,
    OfMethod,
    functools.partial(Huey, storage_class=functools.partial(OwnStorage)),
]


@pytest.fixture(params=WAYS, ids=["keyword", "class attribute", "get_storage", "function"])
def own(request: pytest.FixtureRequest) -> Iterator[Huey]:
    huey: Huey = request.param("app", color="green")
    yield huey
    huey.close()


def test_tasks_run_and_have_results(own: Huey) -> None:
    add = own.task(name="add")(lambda a, b: a + b)
    fail = own.task(name="fail", retries=1)(lambda: 1 // 0)

    with running(own, workers=2):
        assert add(1, 2).get(blocking=True, timeout=10) == 3
        with pytest.raises(TaskException, match="ZeroDivisionError"):
            fail().get(blocking=True, timeout=10)
        assert add.map([(1, 1), (2, 2)]).get(blocking=True, timeout=10) == [2, 4]


def test_the_applications_own_attributes_are_on_the_storage(own: Huey) -> None:
    storage: Any = own.storage

    assert (storage.own(), storage.color, storage.name) == ("app is green", "green", "app")
    with pytest.raises(AttributeError, match="nothing"):
        storage.nothing  # noqa: B018
    own.close()
    assert storage.is_closed


def test_tasks_for_later_wait_in_its_schedule(own: Huey) -> None:
    add = own.task(name="add")(lambda a: a)
    with running(own):
        later = add.schedule(args=(1,), delay=3600)
        soon = add.schedule(args=(2,), delay=0.2)
        assert soon.get(blocking=True, timeout=10) == 2
        wait_until(lambda: own.scheduled_count() == 1)
        assert later.get() is None
        assert (len(own), own.storage.schedule_size()) == (0, 1)


def test_higher_priority_comes_first_if_it_takes_priorities(own: Huey) -> None:
    ran: list[int] = []
    task = own.task(name="note")(ran.append)
    for n, priority in enumerate((0, 9, -9, 5)):
        task(n, priority=priority)
    while (step := own.dequeue()) is not None:
        own.execute(step)

    assert ran == [1, 3, 0, 2]


def test_a_retry_keeps_its_priority(own: Huey) -> None:
    seen: list[int] = []

    @own.task(name="twice", retries=1, context=True)
    def twice(task: Any = None) -> None:
        seen.append(task.priority)
        raise ValueError

    twice(priority=7)
    while (step := own.dequeue()) is not None:
        own.execute(step)

    assert seen == [7, 7]


def test_one_that_takes_none_refuses_them() -> None:
    class Plain(OwnStorage):
        priority = False

    huey = Huey("app", storage_class=Plain)

    with pytest.raises(StorageRefused, match="priorities: Plain cannot do that"):
        huey.task(name="f")(lambda: 1)(priority=3)


def test_revoked_tasks_do_not_run(own: Huey) -> None:
    ran: list[int] = []
    task = own.task(name="note")(ran.append)
    handle = task(1)
    handle.revoke()
    task(2)
    with running(own):
        wait_until(lambda: ran == [2])


def test_user_data_has_its_own_time(own: Huey) -> None:
    own.put("k", {"a": 1})

    assert (own.get("k", peek=True), own.get("k"), own.get("k")) == ({"a": 1}, {"a": 1}, None)
    assert (own.put_if_empty("l", 1, ttl=60), own.put_if_empty("l", 2), own.get("l")) == (True, False, 1)


def test_a_consumer_says_what_it_cannot_promise(own: Huey, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "huey.consumer")
    with running(own, periodic=True):
        pass

    assert "OwnStorage was written for huey 3.x: a task is lost if its worker is killed while it runs" in caplog.text
    assert "OwnStorage does not record ticks" in caplog.text
    assert "_Queue" not in caplog.text
    assert "Acknowledging" not in caplog.text


def test_what_it_cannot_do_is_refused_where_it_is_asked_for(own: Huey) -> None:
    with pytest.raises(ConfigurationError, match="locks and rate limits need a storage that supports them"):
        own.lock_task("l").acquire()
    with pytest.raises(ConfigurationError, match="unique="):
        own.task(name="u", unique=True)(lambda: 1)()


def test_classes_of_ours_take_the_options_of_3x(tmp_path: Path) -> None:
    sqlite = Huey("app", storage_class=SqliteStorage, filename=tmp_path / "q.db", journal_mode="wal", strict_fifo=True)
    server = Huey("app", storage_class=huey.storage.PriorityRedisExpireStorage, port=1, read_timeout=2, blocking=False, clean_name=False)

    assert isinstance(sqlite.storage, SqliteStorage)
    assert isinstance(Huey("app", storage_class=MemoryStorage).storage, MemoryStorage)
    assert server.storage.result_ttl == 86400.0  # type: ignore[attr-defined]
    assert isinstance(SqliteHuey("app", storage_class=MemoryStorage).storage, MemoryStorage)
    assert isinstance(MemoryHuey("app", storage=MemoryStorage("app")).storage, MemoryStorage)


@pytest.mark.parametrize("clean_name", [True, False])
def test_a_name_is_kept_as_it_is_whatever_clean_name_says(clean_name: bool) -> None:
    assert RedisHuey("app-v1", port=1, clean_name=clean_name).storage.name == "app-v1"


@pytest.mark.parametrize("thing", [object, 5, lambda name: "no storage"])
def test_what_is_no_storage_is_refused(thing: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"is not a storage, it has no .*enqueue|docstring lists the options"):
        Huey("app", storage_class=thing)


def test_an_option_that_it_does_not_know_is_refused() -> None:
    class Strict(OwnStorage):
        def __init__(self, name: str) -> None:
            super().__init__(name)

    with pytest.raises(ConfigurationError, match="shape"):
        Huey("app", storage_class=Strict, shape="round")

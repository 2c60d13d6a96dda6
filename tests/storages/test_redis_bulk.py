"""Many tasks in one call to Redis, and calls whose answers are lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
import redis

from huey import RedisHuey
from huey.exceptions import StorageFull, StorageUnavailable
from huey.storage.redis import RedisStorage
from huey.storage.redis.connection import CommandConnection
from huey.storage.redis.scripts import script
from huey.task.lifecycle import Finish, State
from huey.testing.clock import FakeClock
from huey.testing.contract.again import again
from huey.testing.contract.constraints import unique
from huey.testing.contract.tools import ME, at_once, task
from tests.storages.redis_storages import Make
from tests.support.lossy_proxy import LossyProxy
from tests.support.redis_server import Server


def test_the_chunks_of_a_bulk_call_are_put_in_whole_and_in_order(make: Make) -> None:
    storage = make()

    with storage.bulk_enqueue() as place:
        for start in range(0, 5000, 1000):
            place.enqueue([task(f"{n:04}") for n in range(start, start + 1000)])

    assert [lease.id for lease in storage.turn(ME, [], 1500).leases] == [f"{n:04}" for n in range(1500)]
    assert storage.counts()[:3] == (3500, 0, 1500)


def test_a_bulk_call_whose_answers_are_lost_is_put_in_once() -> None:
    with Server() as server, LossyProxy(server.port, loss=0.1) as proxy:
        huey = RedisHuey("app", port=proxy.port)
        direct = RedisStorage("app", port=server.port)
        add = huey.task()(lambda n: n)
        for _ in range(5):
            direct.flush()
            add.map(range(10_000))

            assert direct.counts().ready == 10_000
        huey.close()
        direct.close()


def lose_answers(monkeypatch: pytest.MonkeyPatch, times: int, meanwhile: Callable[[], object] = lambda: None) -> None:
    """The first *times* answers to enqueues get lost, after *meanwhile*."""
    lost, send, read = count(), CommandConnection.send, CommandConnection.read
    waits: set[CommandConnection] = set()

    def noting(connection: CommandConnection, *commands: tuple[Any, ...]) -> None:
        shas = {script(name).sha for name in ("enqueue", "enqueue_one", "enqueue_constrained")}
        if any(len(command) > 1 and command[1] in shas for command in commands):
            waits.add(connection)
        send(connection, *commands)

    def lossy(connection: CommandConnection) -> Any:
        answer = read(connection)
        if connection in waits:
            waits.discard(connection)
            if not isinstance(answer, Exception) and next(lost) < times:
                meanwhile()
                error = StorageUnavailable("the answer was lost")
                error.is_unknown = True
                raise error
        return answer

    monkeypatch.setattr(CommandConnection, "send", noting)
    monkeypatch.setattr(CommandConnection, "read", lossy)


def run_all(storage: RedisStorage) -> list[str]:
    """Ids of what was ready, and has succeeded."""
    leases = storage.turn(ME, [], 9).leases
    storage.turn(ME, [Finish(lease, State.SUCCEEDED) for lease in leases], 0)
    return [lease.id for lease in leases]


ENQUEUES: dict[str, Callable[[RedisStorage], object]] = {
    "one": lambda storage: storage.enqueue([task("a")]),
    "some": lambda storage: storage.enqueue([task("a"), task("b", priority=2)]),
    "later": lambda storage: storage.enqueue([task("a", eta=1)]),
    "own": lambda storage: storage.enqueue([again("a")]),
    "unique": lambda storage: storage.enqueue([unique("a"), unique("b")]),
    "told": lambda storage: storage.enqueue([task("a")], lambda: ["of a"]),
}


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("how", ENQUEUES)
def test_an_enqueue_whose_answer_is_lost_is_done_once(make: Make, monkeypatch: pytest.MonkeyPatch, how: str, times: int) -> None:
    storage, other = make(), make()
    ran: list[str] = []

    def run() -> None:
        ran.extend(run_all(other))

    lose_answers(monkeypatch, times, run)
    ENQUEUES[how](storage)
    run()

    assert sorted(ran) == (["a", "b"] if how == "some" else ["a"])
    assert storage.counts()[:3] == (0, 0, 0)


def test_a_repeated_call_still_says_which_task_was_in_the_way(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = make()
    storage.enqueue([unique("a"), again("b")])
    lose_answers(monkeypatch, 1)

    assert storage.enqueue([unique("c"), again("b"), unique("d", "l"), again("e")]) == {"c": "a", "b": "b"}


def test_a_repeated_call_names_the_task_that_was_in_the_way(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, other = make(), make()
    storage.enqueue([unique("a")])

    lose_answers(monkeypatch, 1, lambda: run_all(other))
    met = storage.enqueue([unique("b")])

    assert met == {"b": "a"}
    assert storage.counts()[:3] == (0, 0, 0)


def test_a_repeated_call_says_that_its_task_was_put_in(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, other = make(), make()

    def run_and_let_another_in() -> None:
        run_all(other)
        other.enqueue([unique("b")])

    lose_answers(monkeypatch, 1, run_and_let_another_in)

    assert storage.enqueue([unique("a")]) == {}


def test_what_was_said_to_one_call_is_not_said_to_the_next(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, other = make(), make()
    storage.enqueue([unique("a")])
    storage.enqueue([unique("b")])
    run_all(other)

    lose_answers(monkeypatch, 1)

    assert storage.enqueue([unique("b")]) == {}


def test_a_late_enqueue_over_an_old_connection_is_known(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, sent = make(), list[tuple[Any, ...]]()
    send = CommandConnection.send
    monkeypatch.setattr(CommandConnection, "send", lambda connection, *commands: (sent.extend(commands), send(connection, *commands))[1])
    storage.enqueue([task("a")])
    storage.enqueue([task("b")])
    late = [command for command in sent if len(command) > 1 and command[1] == script("enqueue_one").sha]
    storage.turn(ME, [Finish(lease, State.SUCCEEDED) for lease in storage.turn(ME, [], 9).leases], 0)

    for command in late:
        storage._queue.command(*command)

    assert storage.counts()[:3] == (0, 0, 0)


def test_many_threads_lose_nothing_to_each_others_numbers(make: Make) -> None:
    storage = make()
    at_once(*(lambda n=n: [storage.enqueue([task(f"{n}-{i}")]) for i in range(50)] for n in range(4)))  # type: ignore[misc]

    assert storage.counts().ready == 200


def test_a_forked_child_numbers_for_itself(make: Make) -> None:
    storage = make()
    storage.enqueue([task("before")])
    child = os.fork()
    if not child:
        with suppress(BaseException):
            for n in range(20):
                storage.enqueue([task(f"child {n}")])
        os._exit(0)
    for n in range(20):
        storage.enqueue([task(f"parent {n}")])
    os.waitpid(child, 0)

    assert storage.counts().ready == 41


def test_producers_that_are_idle_for_a_day_are_forgotten(make: Make, server: Any) -> None:
    clock = FakeClock()
    storage = make(clock=clock)
    storage.enqueue([task("a")])
    clock.forward(86_000)
    storage.prune()
    known = server.zcard(storage._prefix + "pr")
    clock.forward(1_000)
    storage.prune()

    assert (known, server.zcard(storage._prefix + "pr")) == (1, 0)


def test_a_bulk_call_that_finds_no_room_says_how_much_was_put_in() -> None:
    with Server() as server, redis.Redis(port=server.port) as admin:
        huey = RedisHuey("app", port=server.port)
        add = huey.task()(lambda n: n)
        add(0)
        admin.config_set("maxmemory", admin.info("memory")["used_memory"] + 3_000_000)

        with pytest.raises(StorageFull) as told:
            add.map(range(100_000))
        admin.config_set("maxmemory", 0)

        assert f"({len(huey) - 1} tasks were already written)" in str(told.value)
        assert 1000 < len(huey) < 100_000
        huey.close()


def test_a_bulk_call_tells_its_events_to_who_follows_since(make: Make) -> None:
    storage = make()
    with storage.bulk_enqueue() as place:
        place.enqueue([task("a")], lambda: ["a"])
        position = storage.follow(None)[0]
        place.enqueue([task("b")], lambda: ["b"])
        place.enqueue([task("c")], lambda: ["c"])

    assert sorted(storage.follow(position)[1]) == ["b", "c"]
    assert storage.counts().ready == 3

"""What waits goes when a queue, or its schedule, is emptied; the names of huey 3.x that look and empty."""

from __future__ import annotations

from typing import Any

import pytest

from huey.runtime.clock import SECOND
from huey.storage.admin import read_message
from huey.storage.base import Storage
from huey.storage.rows import TaskIds
from huey.task.lifecycle import Finish, Raised, Returned, State
from huey.testing.clock import FakeClock
from huey.testing.contract.constraints import limited, unique, wishing
from huey.testing.contract.tools import ME, Another, claim, claim_ids, claimed, end, ids, task, write


def fill(storage: Storage, clock: FakeClock) -> None:
    """Two that are ready, two that are scheduled."""
    storage.enqueue([task("a"), task("b", retries=2, retry_delay=1.5)])
    storage.enqueue([task("later", eta=clock.now() + 90 * SECOND), task("soon", eta=clock.now() + 60 * SECOND)])


class EmptyingRules:
    def test_an_emptied_queue_keeps_its_schedule(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        fill(storage, clock)

        assert another().flush("ready") == 2
        assert storage.flush("ready") == 0
        assert (claim_ids(storage, 9), storage.queue_size(), storage.schedule_size()) == ([], 0, 2)
        clock.forward(100)
        assert claim_ids(storage, 9) == ["soon", "later"]

    def test_an_emptied_schedule_leaves_what_is_ready(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        fill(storage, clock)

        assert another().flush("scheduled") == 2
        assert storage.flush("scheduled") == 0
        clock.forward(100)
        assert claim_ids(storage, 9) == ["a", "b"]

    def test_the_names_of_3x_count_and_empty(self, storage: Storage, clock: FakeClock) -> None:
        fill(storage, clock)
        storage.put("result", "a", b"1")
        storage.put("result", "b", b"2")
        storage.put("data", "k", b"3")
        counted = storage.queue_size(), storage.schedule_size(), storage.result_store_size()
        stored = storage.result_items(), storage.peek_many(["a", "k", "none"])
        storage.flush_results()
        left = storage.result_store_size(), storage.peek_many(["a", "k"])
        storage.flush_queue()
        storage.flush_schedule()

        assert (counted, stored) == ((2, 2, 2), ({"a": b"1", "b": b"2"}, {"a": b"1", "k": b"3"}))
        assert left == (0, {"k": b"3"})
        assert (storage.queue_size(), storage.schedule_size()) == (0, 0)
        storage.enqueue([task("new")])
        storage.flush_all()
        assert (claim_ids(storage), storage.peek_many(["k"])) == ([], {})

    def test_what_waits_is_listed_as_messages(self, storage: Storage, clock: FakeClock) -> None:
        fill(storage, clock)

        ready = [read_message(data) for data in storage.enqueued_items()]
        assert [record.id for record in ready] == ["a", "b"]
        assert ready[1] == task("b", retries=2, retry_delay=1.5)
        assert [read_message(data).id for data in storage.enqueued_items(1)] == ["a"]
        assert [(it.id, it.eta) for it in map(read_message, storage.scheduled_items())] == [
            ("soon", clock.now() + 60 * SECOND),
            ("later", clock.now() + 90 * SECOND),
        ]
        assert storage.scheduled_items(0) == []

    @pytest.mark.parametrize("message", [b"(dp0", "text", bytearray(b"x")])
    def test_a_message_is_no_record(self, storage: Storage, message: Any) -> None:
        with pytest.raises(TypeError, match=r"huey\.enqueue\(task\)"):
            storage.enqueue(message)
        assert claim_ids(storage) == []


class EmptyingRunningRules:
    """For storages that hold what runs apart from what waits."""

    def test_what_runs_and_what_has_ended_stays_when_a_queue_is_emptied(self, storage: Storage, clock: FakeClock) -> None:
        failed = claimed(storage, task("failed"))
        end(storage, clock, failed, Raised({"error": "E()"}))
        lease = claimed(storage, task("runs"))
        storage.enqueue([task("waits")])
        storage.flush("ready")
        storage.flush("scheduled")

        assert sorted(ids(storage.find())) == ["failed", "runs"]
        assert end(storage, clock, lease, Returned(b"5")).stale == []
        assert storage.peek("result", "runs") == b"5"

    def test_priorities_and_suspects_go_too(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage, task("crashed"))
        write(storage, Finish(lease, State.QUEUED, solo_crashes=1, reason="crashed"))
        storage.enqueue([task("high", priority=9), task("low", priority=-9)])

        assert storage.flush("ready") == 3
        assert storage.find() == []
        assert storage.counts().ready == 0

    def test_an_id_that_was_dropped_may_come_again(self, storage: Storage) -> None:
        lease = claimed(storage, task("a"))
        storage.release(ME, [lease])
        storage.flush("ready")
        storage.enqueue([task("a", name="app.other")])

        (again,) = claim(storage)
        assert (again.name, again.attempt) == ("app.other", 0)

    def test_a_mark_of_a_dropped_task_goes_with_it(self, storage: Storage) -> None:
        storage.enqueue([task("a")])
        storage.revoke(TaskIds(["a"]))
        storage.flush("ready")
        storage.enqueue([task("a")])

        assert claim_ids(storage) == ["a"]


class EmptyingTermRules:
    """For storages that keep terms."""

    def test_what_is_dropped_gives_up_its_key_and_its_id(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([unique("a"), wishing("b", id_ttl=60.0)])
        storage.enqueue([wishing("c", unique="later", unique_for="done", eta=clock.now() + SECOND)])
        storage.flush("ready")
        storage.flush("scheduled")

        assert storage.enqueue([unique("d"), wishing("b", id_ttl=60.0), wishing("e", unique="later", unique_for="done")]) == {}
        assert sorted(claim_ids(storage, 9)) == ["b", "d", "e"]

    def test_what_waits_for_a_limit_is_dropped_and_what_runs_is_counted_on(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([limited(id) for id in "abc"])
        (lease,) = claim(storage)

        assert storage.flush("ready") == 2
        storage.enqueue([limited("d"), limited("e")])
        assert claim_ids(storage, 9) == []
        end(storage, clock, lease, Returned(None))
        assert claim_ids(storage, 9) == ["d"]

    def test_many_are_dropped(self, storage: Storage) -> None:
        for part in range(2):
            storage.enqueue([limited(f"{part}-{n:04}", 2) for n in range(600)])
            storage.enqueue([task(f"{part}+{n:04}", priority=n % 3) for n in range(600)])

        assert storage.flush("ready") == 2400
        assert storage.find(limit=5) == []

"""Putting tasks in."""

from __future__ import annotations

from huey.runtime.clock import SECOND
from huey.storage.base import Storage
from huey.storage.helpers import CHUNK
from huey.task.lifecycle import Raised, Returned, State
from huey.task.record import Record, RecordBatch
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, Another, claim, claim_ids, claimed, end, get_row, ids, task

ODD = [
    "",
    " ",
    "a",
    "A",
    "a ",
    "ä",
    "a\u0308",
    "a:b",
    "a/b",
    "a%b",
    "a_b",
    "a*",
    "{a}",
    "a'b",
    'a"b',
    "a\\b",
    "a\nb",
    "a\x01b",
    "任务",
    "\U0001f41d",
    "x" * 5000,
]
"""Names that must not meet."""


class EnqueueRules:
    def test_an_enqueued_task_is_queued_and_ready(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task()])

        row = get_row(storage)
        assert (row.state, row.due, row.worker, row.reason, row.error, row.finished) == (State.QUEUED, None, None, None, None, None)
        assert (row.ready_at, row.created) == (clock.now(), clock.now())
        assert (row.attempt, row.solo_crashes, row.deaths, row.token, row.revoked_until) == (0, 0, 0, 0, None)

    def test_another_process_sees_what_was_enqueued(self, storage: Storage, another: Another) -> None:
        storage.enqueue([task("a"), task("b")])

        assert claim_ids(another(), 2) == ["a", "b"]

    def test_many_calls_of_one_function_come_back_as_one_by_one(self, storage: Storage, clock: FakeClock) -> None:
        pattern = Record("", "app.add", b"", 3, clock.now() + SECOND, clock.now() + 2 * SECOND, 1, 0.5, '{"timeout": 5}')
        calls = RecordBatch(pattern, ["a", "b", "c"], [b"1", b"\x00\xff", b""])
        assert calls[1] == pattern._replace(id="b", payload=b"\x00\xff")
        assert list(calls) == list(calls[:]) == [calls[0], calls[1], calls[2]]

        storage.enqueue(calls)

        assert [
            Record(row.id, row.name, row.payload, row.priority, row.due, row.expires, row.retries, row.retry_delay, row.options)
            for row in storage.find()
        ] == list(calls)

    def test_calls_of_different_functions_are_put_in_together(self, storage: Storage, clock: FakeClock) -> None:
        mixed = [task("a"), task("b", "app.other", b"other"), task("c", eta=clock.now() + SECOND), task("d", eta=clock.now() - SECOND)]

        storage.enqueue(mixed)

        assert [(row.id, row.name, row.payload, row.due) for row in storage.find()] == [
            ("a", "app.add", b"payload", None),
            ("b", "app.other", b"other", None),
            ("c", "app.add", b"payload", clock.now() + SECOND),
            ("d", "app.add", b"payload", None),
        ]

    def test_what_is_durable_at_the_end_can_be_claimed_before(self, storage: Storage, another: Another) -> None:
        other = another()
        with storage.bulk_enqueue() as bulk:
            bulk.enqueue([task("a")])
            early = claim_ids(other)
            bulk.enqueue([task("b")])

        assert (early, claim_ids(other)) == (["a"], ["b"])

    def test_a_record_comes_back_as_it_was_put(self, storage: Storage, clock: FakeClock) -> None:
        record = Record("a", "app.add", bytes(range(256)), -7, None, clock.now() + SECOND, 3, 1.25, '{"timeout": 5}')

        storage.enqueue([record])

        row, lease = get_row(storage), claim(storage)[0]
        assert record == Record(
            row.id, row.name, row.payload, row.priority, row.due, row.expires, row.retries, row.retry_delay, row.options
        )
        assert record[:4] == (lease.id, lease.name, lease.payload, lease.priority)
        assert record[5:9] == (lease.expires, lease.retries, lease.retry_delay, lease.options)

    def test_an_empty_payload_is_a_payload(self, storage: Storage) -> None:
        storage.enqueue([task(payload=b"")])

        assert claim(storage)[0].payload == b""

    def test_a_task_whose_eta_is_ahead_is_scheduled(self, storage: Storage, clock: FakeClock) -> None:
        eta = clock.now() + SECOND

        storage.enqueue([task(eta=eta)])

        assert get_row(storage).state == State.QUEUED
        assert get_row(storage).due == eta
        assert claim(storage) == []

    def test_a_task_whose_eta_has_passed_is_ready_at_the_end_of_the_queue(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("waits")])
        clock.forward(1)

        storage.enqueue([task("late", eta=clock.now() - 3600 * SECOND), task("now", eta=clock.now())])

        assert (get_row(storage, "late").due, get_row(storage, "now").due) == (None, None)
        assert claim_ids(storage, 3) == ["waits", "late", "now"]

    def test_enqueue_is_idempotent_by_task_id(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task(payload=b"first")])
        before = get_row(storage)
        clock.forward(1)

        storage.enqueue([task(payload=b"second", priority=9), task("b")])

        assert get_row(storage) == before
        assert claim_ids(storage, 9) == ["a", "b"]

    def test_enqueue_leaves_a_running_task_as_it_is(self, storage: Storage) -> None:
        lease = claimed(storage)

        storage.enqueue([task(payload=b"second")])

        assert get_row(storage).state == State.RUNNING
        assert get_row(storage).token == lease.token
        assert claim(storage) == []

    def test_enqueue_leaves_an_ended_task_as_it_is(self, storage: Storage, clock: FakeClock) -> None:
        end(storage, clock, claimed(storage), Raised({"error": "E()"}))

        storage.enqueue([task()])

        assert get_row(storage).state == State.FAILED
        assert claim(storage) == []

    def test_an_id_is_free_again_once_its_task_succeeded(self, storage: Storage, clock: FakeClock) -> None:
        end(storage, clock, claimed(storage), Returned(None))

        storage.enqueue([task(payload=b"second")])

        assert claim(storage)[0].payload == b"second"

    def test_of_one_id_twice_in_a_call_the_first_wins(self, storage: Storage) -> None:
        storage.enqueue([task(payload=b"first"), task("b"), task(payload=b"second")])

        assert [(lease.id, lease.payload) for lease in claim(storage, 9)] == [("a", b"first"), ("b", b"payload")]

    def test_a_chunk_goes_in_at_once(self, storage: Storage) -> None:
        storage.enqueue([task(f"{n:04}") for n in range(CHUNK)])

        assert storage.counts().ready == CHUNK

    def test_more_than_a_chunk_is_refused_whole(self, storage: Storage) -> None:
        rejected = False

        try:
            storage.enqueue([task(f"{n:04}") for n in range(CHUNK + 1)])
        except ValueError:
            rejected = True

        assert rejected
        assert storage.counts().ready == 0

    def test_enqueueing_nothing_changes_nothing(self, storage: Storage) -> None:
        storage.enqueue([])

        assert storage.find() == []

    def test_ids_may_hold_anything_and_never_meet(self, storage: Storage) -> None:
        storage.enqueue([task(id, payload=id.encode()) for id in ODD])

        leases = claim(storage, 100)
        assert [lease.id for lease in leases] == [lease.payload.decode() for lease in leases]
        assert {lease.id for lease in leases} == set(ODD)
        storage.release(ME, leases)
        assert set(ids(storage.find("ready"))) == set(ODD)

    def test_names_may_hold_anything_and_never_meet(self, storage: Storage) -> None:
        storage.enqueue([task(f"{n:02}", name=name) for n, name in enumerate(ODD)])

        assert [lease.name for lease in claim(storage, 100)] == ODD
        assert all(ids(storage.find(name=name)) == [f"{n:02}"] for n, name in enumerate(ODD))

"""The inspector: what is seen of tasks, and what can be done to them, alike on every storage."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from huey import Huey, MemoryHuey
from huey.inspector import SHOWN_BYTES, SHOWN_CHARS, Sample, TaskInfo
from huey.serializer import JSONSerializer
from huey.storage.rows import Counts
from huey.task.lifecycle import Raised, Returned, State, decide
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, claim

MakeHuey = Callable[..., Huey]


class Point:
    """A class of the application. Whoever unpickles it runs this."""

    def __reduce__(self) -> tuple[object, ...]:
        return unpickled, ()


def unpickled() -> Point:
    raise AssertionError("the inspector ran code of the application")


@pytest.fixture
def huey(make_huey: MakeHuey, clock: FakeClock) -> Huey:
    huey = make_huey(clock=clock)
    huey.task(name="app.work")(lambda *args, **kwargs: None)
    return huey


def call(huey: Huey, *args: object, id: str = "a", retries: int = 0, **kwargs: object) -> None:
    huey.enqueue(next(iter(huey.registry)).task_class(args, kwargs, id=id, retries=retries))


def fail(huey: Huey, text: str = "no", took: float = 0.0) -> None:
    """The next task fails."""
    (lease,) = claim(huey.storage)
    finish = decide(lease, Raised({"error": text, "traceback": f"Traceback: {text}"}), huey.clock.now(), took)
    assert huey.storage.turn(ME, [finish], 0).stale == []


def succeed(huey: Huey, took: float) -> None:
    (lease,) = claim(huey.storage)
    huey.storage.turn(ME, [decide(lease, Returned(None), huey.clock.now(), took)], 0)


def seen(huey: Huey, id: str = "a") -> TaskInfo:
    info = huey.inspector.task(id)
    assert info is not None
    return info


def at(clock: FakeClock) -> datetime:
    return datetime.fromtimestamp(clock.now() / 1e6, UTC)


# -- one task -----------------------------------------------------------------------------------------------------------------------------


def test_a_failed_task_tells_all_that_is_known_of_it(huey: Huey, clock: FakeClock) -> None:
    created = at(clock)
    call(huey, 1, "x", retries=1, flag=True)
    clock.forward(1)
    fail(huey, "first")
    clock.forward(1)
    fail(huey, "last")

    task = seen(huey)

    assert (task.name, task.arguments, task.state, task.label, task.reason) == (
        "app.work",
        "1, 'x', flag=True",
        "failed",
        "failed",
        "error",
    )
    assert (task.error, task.traceback) == ("last", "Traceback: last")
    assert (task.created, task.finished, task.due, task.expires) == (created, at(clock), None, None)
    assert (task.attempt, task.retries, task.token, task.deaths, task.solo_crashes, task.worker) == (1, 1, 3, 0, 0, None)
    assert [(it.at, it.worker, it.host, it.pid, it.reason, it.error) for it in task.attempts] == [
        (created + timedelta(seconds=1), ME.id, ME.host, ME.pid, "error", "first"),
        (created + timedelta(seconds=2), ME.id, ME.host, ME.pid, "error", "last"),
    ]


def test_a_task_that_is_not_held_is_none(huey: Huey) -> None:
    assert huey.inspector.task("never") is None


def test_a_queued_task_is_ready_scheduled_or_retrying(huey: Huey, clock: FakeClock) -> None:
    call(huey, id="retrying", retries=1)
    fail(huey)
    call(huey, id="ready")
    next(iter(huey.registry)).schedule(delay=60, id="scheduled")

    assert {task.id: task.label for task in huey.inspector.tasks()} == {"retrying": "retrying", "ready": "ready", "scheduled": "scheduled"}
    assert seen(huey, "scheduled").due == at(clock) + timedelta(minutes=1)


def test_a_running_task_names_its_worker(huey: Huey) -> None:
    call(huey)
    claim(huey.storage)

    assert (seen(huey).label, seen(huey).worker) == ("running", ME.id)
    assert [(it.id, it.host, it.pid, it.kind, it.holds, it.is_expired) for it in huey.inspector.workers()] == [
        (ME.id, ME.host, ME.pid, ME.kind, 1, False)
    ]


# -- arguments ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), ""),
        ((None, 1.5, b"b"), "None, 1.5, b'b'"),
        (([1, (2,)], {"k": {3}}), "[1, (2,)], {'k': {3}}"),
        ((Decimal("1.5"), timedelta(1)), "Decimal('1.5'), datetime.timedelta(days=1)"),
        (("line\nend\x1b\udcff",), r"'line\nend\x1b\udcff'"),
    ],
)
def test_plain_arguments_are_shown_as_in_the_call(huey: Huey, args: tuple[object, ...], text: str) -> None:
    call(huey, *args)

    assert seen(huey).arguments == text


def test_arguments_of_other_classes_are_never_unpickled(huey: Huey) -> None:
    call(huey, Point())

    task = seen(huey)

    assert (task.arguments, task.size > 10) == (f"<{task.size:,} bytes>", True)


def test_long_texts_are_cut_and_big_payloads_not_read(huey: Huey) -> None:
    call(huey, "x" * 2 * SHOWN_CHARS, id="long")
    call(huey, "x" * SHOWN_BYTES, id="big")

    assert seen(huey, "long").arguments == "'" + "x" * (SHOWN_CHARS - 1) + "..."
    assert seen(huey, "big").arguments == f"<{seen(huey, 'big').size:,} bytes>"


def test_arguments_too_deep_to_show_have_a_size(huey: Huey) -> None:
    deep: list[object] = []
    for _ in range(400):
        deep = [deep]
    call(huey, deep)

    assert seen(huey).arguments.startswith(("[[[", "<"))


def test_what_is_signed_is_shown_to_who_has_the_secret(make_huey: MakeHuey) -> None:
    signed = make_huey(secret="s")
    signed.task(name="app.work")(lambda *args: None)
    call(signed, 1)

    other = Huey(signed.name, storage=signed.storage)

    assert seen(signed).arguments == "1"
    assert seen(other).arguments.endswith(" bytes>")


def test_json_is_shown_but_not_what_the_application_wrote(make_huey: MakeHuey) -> None:
    class Own:
        def serialize(self, value: object) -> bytes:
            return b"own"

        def deserialize(self, data: bytes) -> object:
            raise AssertionError("the inspector ran code of the application")

    for id, serializer in [("json", JSONSerializer()), ("own", Own())]:
        huey = make_huey(id, serializer=serializer)
        huey.task(name="app.work")(lambda *args: None)
        call(huey, 1, [2])

        assert seen(huey).arguments == ("1, [2]" if id == "json" else "<5 bytes>")


def test_damaged_arguments_have_a_size(huey: Huey) -> None:
    from huey.testing.contract.tools import task

    huey.storage.enqueue([task("a", payload=b"\x01\x00broken")])

    assert seen(huey).arguments == "<8 bytes>"


# -- many ---------------------------------------------------------------------------------------------------------------------------------


def test_tasks_are_found_by_state_and_name(huey: Huey) -> None:
    call(huey, id="failed")
    fail(huey)
    for id in ("b", "c"):
        call(huey, id=id)

    inspector = huey.inspector
    assert [task.id for task in inspector.tasks("ready")] == ["b", "c"]
    assert [task.id for task in inspector.tasks("failed", "app.work")] == ["failed"]
    assert inspector.tasks("failed", "app.other") == []
    assert len(inspector.tasks(limit=2)) == 2
    assert inspector.counts() == Counts(ready=2, failed=1)
    assert huey.name in inspector.queues()


# -- statistics ---------------------------------------------------------------------------------------------------------------------------


def test_statistics_come_by_minute_and_all_together(huey: Huey, clock: FakeClock) -> None:
    clock.set(clock.now() - clock.now() % 60_000_000)
    begin = at(clock)
    for id, took in [("a", 0.5), ("b", 0.002), ("c", 0.002), ("d", 0.002)]:
        call(huey, id=id)
        succeed(huey, took)
    clock.forward(120)
    call(huey, id="e")
    fail(huey, took=40.0)

    first, last = huey.inspector.stats(timedelta(hours=1))
    (total,) = huey.inspector.totals(begin)

    assert (first.name, first.start, first.span, first.succeeded, first.runs) == ("app.work", begin, timedelta(minutes=1), 4, 4)
    assert (last.start, last.failed, last.longest) == (begin + timedelta(minutes=2), 1, 40.0)
    assert (total.start, total.span, total.enqueued, total.runs) == (begin, timedelta(minutes=3), 5, 5)
    assert (total.took, total.mean, total.longest) == (pytest.approx(40.506), pytest.approx(8.1012), 40.0)
    assert [total.quantile(share) for share in (0.5, 0.6, 0.8, 0.99)] == [0.003, 0.003, 1.0, 40.0]


def test_statistics_can_be_of_one_name_and_of_a_time(huey: Huey, clock: FakeClock) -> None:
    call(huey)
    clock.forward(3600)

    inspector = huey.inspector
    assert inspector.stats(timedelta(minutes=50)) == inspector.totals(at(clock)) == []
    assert inspector.stats(timedelta(hours=2), "app.other") == []
    naive = (at(clock) - timedelta(hours=2)).replace(tzinfo=None)
    assert len(inspector.stats(timedelta(hours=2), "app.work")) == len(inspector.stats(naive)) == 1


def test_without_runs_there_is_no_mean_and_no_quantile() -> None:
    none = Sample("app.work", datetime.now(UTC), timedelta(minutes=1), 0, 0, 0, 0, 0, 0.0, 0.0, (0,) * 16)

    assert (none.runs, none.mean, none.quantile(0.5)) == (0, None, None)


def test_what_ran_longer_than_all_bounds_counts_as_the_longest() -> None:
    one = Sample("app.work", datetime.now(UTC), timedelta(minutes=1), 0, 1, 0, 0, 0, 20_000.0, 20_000.0, (0,) * 15 + (1,))

    assert one.quantile(0.5) == 20_000.0


# -- acts ---------------------------------------------------------------------------------------------------------------------------------


def test_a_failed_task_can_be_retried_or_discarded(huey: Huey) -> None:
    for id in ("a", "b"):
        call(huey, id=id)
        fail(huey)

    assert huey.inspector.retry("a", "never") == ["a"]
    assert huey.inspector.discard("a", "b") == ["b"]
    assert [(task.id, task.label, len(task.attempts)) for task in huey.inspector.tasks()] == [("a", "ready", 1)]


def test_a_task_can_be_cancelled_and_restored(huey: Huey) -> None:
    call(huey, id="a")
    call(huey, id="b")

    huey.inspector.cancel("a", "b")
    marked = [task.is_revoked for task in huey.inspector.tasks()]
    restored = huey.inspector.restore("b")

    assert (marked, restored) == ([True, True], ["b"])
    assert [lease.id for lease in claim(huey.storage, 9)] == ["b"]
    assert seen(huey, "a").state == State.CANCELLED


def test_a_queue_can_be_paused_and_resumed(huey: Huey) -> None:
    call(huey)

    huey.inspector.pause()
    paused = huey.inspector.is_paused(), claim(huey.storage)
    huey.inspector.resume()

    assert paused == (True, [])
    assert not huey.inspector.is_paused()
    assert len(claim(huey.storage)) == 1


def test_succeeded_tasks_are_seen_where_they_are_kept() -> None:
    huey = MemoryHuey("app", keep_finished=1)
    huey.task(name="app.work")(lambda *args: None)
    call(huey, 1)
    succeed(huey, 0.1)

    assert [(task.label, task.arguments) for task in huey.inspector.tasks("succeeded")] == [("succeeded", "1")]

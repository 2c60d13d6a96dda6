"""Verdicts of workflows, bad input, and the ways of enqueuing: queues, batches, immediate mode, signed messages, parts of 0.4.9."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from huey import SKIPPED, Error, Huey, MemoryHuey, RedisHuey, SqliteHuey, chord, group
from huey.backends.sqlite_backend import SqliteDataStore, SqliteQueue, SqliteSchedule
from huey.exceptions import ConfigurationError, EncodeError, TaskException
from tests.support.helpers import drain, for_queue, running
from tests.support.redis_server import shared_server

MakeHuey = Callable[..., Huey]


# -- ids ----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["task", "pipeline", "group", "chord"])
def test_c47_a_workflow_enqueued_again_is_the_same_work(huey: Huey, kind: str) -> None:
    ran: list[Any] = []
    note = huey.task(name="note")(lambda *args: ran.append(args))
    workflow = {
        "task": note.s(1),
        "pipeline": note.s(1).then(note),
        "group": group([note.s(1), note.s(2)]),
        "chord": chord([note.s(1)], note),
    }[kind]

    first, second = huey.enqueue(workflow), huey.enqueue(workflow)
    drain(huey)

    assert len(ran) == (1 if kind == "task" else 2)
    assert type(first) is type(second)
    assert (first.get(), second.get()) == (first.get(), first.get())


def test_c47_an_id_that_is_held_keeps_the_whole_workflow_out(huey: Huey, double: Any, total: Any) -> None:
    held = double.s(5, id="held")
    first = huey.enqueue(held)

    result = huey.enqueue(chord([double.s(1), double.s(2, id="held")], total))
    assert [task.id for task in huey.pending()] == ["held"]
    drain(huey)

    assert (first.get(), result.get(), huey.pending_count()) == (10, None, 0)


def test_c47_a_workflow_that_has_ended_is_a_new_run(huey: Huey, double: Any) -> None:
    pipeline = double.s(1, id="one").then(double, id="two")
    for _ in range(2):
        results = huey.enqueue(pipeline)
        drain(huey)
        assert results.get() == [2, 4]


def test_a_task_that_stands_twice_in_a_chord_runs_once(huey: Huey, total: Any) -> None:
    ran: list[int] = []
    member = huey.task(name="member")(lambda: ran.append(1)).s()
    result = huey.enqueue(chord([member, member], total))
    drain(huey)
    assert (ran, result.get()) == ([1], [None, None])


def test_a_unique_member_that_is_held_is_that_task(huey: Huey, double: Any, total: Any) -> None:
    ran: list[int] = []

    @huey.task(name="once", unique=True)
    def once(value: int) -> int:
        ran.append(value)
        return value

    held = once(7)
    result = huey.enqueue(chord([double.s(1), once.s(7), once.s(8)], total))
    assert list(result.results)[1].id == held.id
    drain(huey)

    assert (result.get(), sorted(ran)) == ([2, 7, 8], [7, 8])


# -- values -------------------------------------------------------------------------------------------------------------------------------


def test_c43_a_value_that_cannot_be_stored_is_a_failure(huey: Huey, total: Any) -> None:
    ran: list[Any] = []
    bad = huey.task(name="bad", retries=3)(lambda: ran.append(1) or (lambda: None))
    handle = huey.task(name="handle")(lambda error: ran.append("handled"))
    result = huey.enqueue(chord([bad.s().error(handle)], total))
    drain(huey)

    [error] = result.get()
    assert isinstance(error, Error)
    assert "EncodeError" in error.metadata["error"]
    assert ran == [1, "handled"]


def test_an_argument_that_cannot_be_stored_keeps_all_out(huey: Huey, double: Any, total: Any) -> None:
    with pytest.raises(EncodeError):
        huey.enqueue(chord([double.s(1), double.s(lambda: None)], total))
    assert huey.pending_count() == 0


def test_markers_come_through_any_storage(make_huey: MakeHuey) -> None:
    huey = make_huey(allow_pickle=False)
    seen: list[Any] = []
    see = huey.task(name="see")(lambda values: seen.append(values) or values)
    fail = huey.task(name="fail")(lambda: 1 // 0)
    result = huey.enqueue(chord([fail.s(), fail.s()], see).then(see))
    list(result.results)[1].revoke()
    drain(huey)

    assert seen[0] == seen[1]
    assert isinstance(seen[1][0], Error)
    assert seen[1][1] is SKIPPED
    assert result.pipeline_results.get() == [seen[0], seen[0]]


def test_a_handler_gets_an_exception_on_a_store_of_plain_values(make_huey: MakeHuey) -> None:
    huey = make_huey(allow_pickle=False)
    seen: list[Any] = []
    huey.enqueue(huey.task(name="fail")(lambda: 1 // 0).s().error(huey.task(name="handle")(lambda error: seen.append(error))))
    drain(huey)
    assert isinstance(seen[0], TaskException)
    assert "ZeroDivisionError" in str(seen[0])


# -- bad input ----------------------------------------------------------------------------------------------------------------------------


def test_a_ring_is_refused(huey: Huey, double: Any, total: Any) -> None:
    callback = total.s()
    around = group([double.s(1)])
    around.tasks.append(around)

    for workflow in (chord([double.s(1), callback], callback), chord([double.s(1).then(callback)], callback), around):
        with pytest.raises(ValueError, match=r"twice|ring"):
            huey.enqueue(workflow)
    assert huey.pending_count() == 0


def test_a_task_that_waits_for_two_pipelines_is_refused(huey: Huey, double: Any) -> None:
    shared = double.s(1)
    with pytest.raises(ValueError, match="stands twice"):
        huey.enqueue(group([double.s(1).then(shared), double.s(2).then(shared)]))
    assert huey.pending_count() == 0


def test_a_callback_that_cannot_take_the_list_is_refused(huey: Huey, double: Any) -> None:
    none = huey.task(name="none")(lambda: None)
    for members in ([double.s(1)], []):
        with pytest.raises(TypeError, match="takes 0 arguments"):
            huey.enqueue(chord(members, none))
    assert huey.pending_count() == 0


def elsewhere(huey: Huey, folder: Path) -> Huey:
    """Another store of the same kind, with a queue of the same name."""
    if isinstance(huey, RedisHuey):
        return RedisHuey(huey.name, port=shared_server().port, db=1)
    return SqliteHuey(huey.name, filename=folder / "other.db") if isinstance(huey, SqliteHuey) else MemoryHuey(huey.name)


def test_a_member_of_another_store_is_refused(huey: Huey, double: Any, total: Any, tmp_path: Path) -> None:
    for other in (MemoryHuey("other"), elsewhere(huey, tmp_path)):
        stranger = other.task(name="stranger")(lambda value=1: 1)
        for workflow in (chord([double.s(1), stranger.s()], total), double.s(1).then(stranger), group([stranger.s()])):
            with pytest.raises(ValueError, match=rf"is of <\w+ '{other.name}'>, which is kept in"):
                huey.enqueue(workflow)
        assert (huey.pending_count(), other.pending_count()) == (0, 0)
        other.close()


def test_a_member_of_another_instance_on_the_store_is_taken(huey: Huey, double: Any) -> None:
    later = for_queue(huey).task(name="double")(lambda value=1: value * 2)
    results = huey.enqueue(double.s(1).then(later))
    drain(huey)
    assert results.get() == [2, 4]


def test_a_callback_cannot_get_more_than_fits(huey: Huey, double: Any, total: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huey.engine.parent_values.MOST_BYTES", 1000)
    ran: list[Any] = []
    give = huey.task(name="give")(lambda value: value)
    handle = huey.task(name="handle")(lambda error: ran.append(str(error)))
    result = huey.enqueue(chord([give.s("x" * 400) for _ in range(3)], total.s(retries=3).error(handle)))
    drain(huey)

    with pytest.raises(TaskException, match="pass where large values are kept"):
        result.get()
    assert result.results.get() == ["x" * 400] * 3
    assert len(ran) == 1


def test_more_than_ten_thousand_tasks_are_refused(huey: Huey, double: Any) -> None:
    with pytest.raises(ValueError, match=r"10,?001"):
        huey.enqueue(group([double.s() for _ in range(10_001)]))
    assert huey.pending_count() == 0


def test_more_than_64_megabytes_are_refused(huey: Huey, double: Any) -> None:
    with pytest.raises(ValueError, match="64 MiB"):
        huey.enqueue(group([double.s(bytes(12_000_000)) for _ in range(6)]))
    assert huey.pending_count() == 0


@pytest.mark.parametrize("thing", [None, 5, "add", [1]])
def test_what_is_no_task_is_no_member(huey: Huey, double: Any, total: Any, thing: Any) -> None:
    for workflow in (group([thing]), chord([thing], total), group([chord([thing], total)])):
        with pytest.raises(ValueError, match=r"cannot be a member of a (group|chord)"):
            huey.enqueue(workflow)
    assert huey.pending_count() == 0


# -- ways ---------------------------------------------------------------------------------------------------------------------------------


def test_a_workflow_over_two_queues(huey: Huey, double: Any, total: Any) -> None:
    mail = huey.task(name="mail", queue="mail")(lambda value: value + 1)
    there = huey.task(name="there", queue="mail")(lambda values: sum(values))
    result = huey.enqueue(chord([double.s(1).then(mail), mail.s(5), double.s(3)], there).then(double))

    with running(huey), running(huey.on("mail")):
        assert result.pipeline_results.get(blocking=True, timeout=10) == [15, 30]


def test_an_error_in_another_queue_is_that_of_later_stages(huey: Huey, double: Any) -> None:
    fail = huey.task(name="fail", queue="mail")(lambda value: 1 // 0)
    results = huey.enqueue(double.s(1).then(fail).then(double))
    drain(huey)
    drain(huey.on("mail"))
    with pytest.raises(TaskException, match="ZeroDivision"):
        list(results)[2].get()


def test_a_workflow_in_a_batch_is_written_at_its_end(huey: Huey, double: Any, total: Any) -> None:
    with huey.batch():
        plain = double(1)
        result = huey.enqueue(chord([double.s(2)], total))
        assert huey.pending_count() == 0
    assert huey.pending_count() == 2
    drain(huey)
    assert (plain.get(), result.get()) == (2, [4])


def test_a_batch_that_raises_writes_no_workflow(huey: Huey, double: Any) -> None:
    def fail() -> None:
        with huey.batch():
            huey.enqueue(double.s(2).then(double))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert huey.pending_count() == 0


def test_an_outbox_decides_when_a_workflow_is_written(huey: Huey, double: Any) -> None:
    waiting: list[Any] = []
    huey.outbox = lambda write: waiting.append(write)
    results = huey.enqueue(double.s(2).then(double))
    assert huey.pending_count() == 0

    for write in waiting:
        write()
    drain(huey)
    assert results.get() == [4, 8]


@pytest.mark.parametrize("uses_memory", [True, False])
def test_immediate_mode_runs_all_inside_the_call(make_huey: MakeHuey, uses_memory: bool) -> None:
    huey = make_huey(immediate=True, immediate_use_memory=uses_memory)
    ran: list[Any] = []
    note = huey.task(name="note")(lambda value, *more: ran.append(value) or value)
    mail = huey.task(name="mail", queue="mail")(lambda value: value + 1)
    fail = huey.task(name="fail")(lambda value: 1 // 0)
    handle = huey.task(name="handle")(lambda error: ran.append("handled"))

    result = huey.enqueue(chord([note.s(1).then(mail).then(note), fail.s(2).error(handle)], note).then(note))

    assert sorted(map(str, ran[:3])) == ["1", "2", "handled"]
    assert ran[3][0] == ran[4][0] == 2
    assert result.get() == ran[3]
    assert huey.pending_count() == 0


def test_in_immediate_mode_what_must_wait_stays_scheduled(make_huey: MakeHuey) -> None:
    huey = make_huey(immediate=True)
    double = huey.task(name="double")(lambda value: value * 2)
    total = huey.task(name="total")(sum)
    result = huey.enqueue(chord([double.s(1), double.s(2, delay=3600)], total))
    assert (huey.scheduled_count(), result.get()) == (1, None)

    fail = huey.task(name="fail", retries=1, retry_delay=3600)(lambda: 1 // 0)
    result = huey.enqueue(chord([double.s(1), fail.s()], total))
    assert (huey.scheduled_count(), result.get(), result.callback.is_ready()) == (2, None, False)


def test_eager_calls_return_the_values(make_huey: MakeHuey) -> None:
    huey = make_huey(always_eager=True)
    double = huey.task(name="double")(lambda value: value * 2)
    pair = huey.task(name="pair")(lambda value: (value, value))
    add = huey.task(name="add")(lambda one, two: one + two)
    total = huey.task(name="total")(sum)
    fail = huey.task(name="fail")(lambda: 1 // 0)

    assert huey.enqueue(double.s(1).then(pair).then(add)) == [2, (2, 2), 4]
    assert huey.enqueue(group([double.s(1), double.s(2).then(double)])) == [2, [4, 8]]
    assert huey.enqueue(chord([double.s(1), double.s(2).then(double)], total).then(double)) == 20
    with pytest.raises(ZeroDivisionError):
        huey.enqueue(fail.s().error(total).then(double))


def test_signed_workflows_are_read_by_others(make_huey: MakeHuey) -> None:
    huey = make_huey(secret="s3cret")
    seen: list[Any] = []
    worker = for_queue(huey, secret="s3cret")
    for each in (huey, worker):
        give = each.task(name="give")(lambda value: value)
        fail = each.task(name="fail")(lambda value: 1 // 0)
        see = each.task(name="see")(lambda *args: seen.append(args) or args[-1])
    huey_give, huey_fail, huey_see = (huey.registry.find(name) for name in ("give", "fail", "see"))
    del give, fail, see
    result = huey.enqueue(chord([huey_give.s(1).then(huey_give), huey_fail.s(2).error(huey_see, "handled")], huey_see))

    with running(worker):
        [one, error] = result.get(blocking=True, timeout=10)

    assert (one, type(error)) == (1, Error)
    assert [args[0] for args in seen if len(args) == 2] == ["handled"]


def test_an_instrumented_enqueue_gets_the_workflow(make_huey: MakeHuey) -> None:
    seen: list[Any] = []

    class Watched(MemoryHuey):
        def enqueue(self, task: Any) -> Any:
            seen.append(task)
            return super().enqueue(task)

    huey = Watched("watched")
    double = huey.task(name="double")(lambda value: value * 2)
    workflow = group([double.s(1)])
    huey.enqueue(workflow)
    assert seen == [workflow]


# -- parts of 0.4.9 -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def older(tmp_path: Path) -> Huey:
    file = str(tmp_path / "parts.db")
    return Huey(SqliteQueue("app", location=file), SqliteDataStore("app", location=file), SqliteSchedule("app", location=file))


def test_parts_of_0_4_9_run_pipelines_and_handlers(older: Huey) -> None:
    seen: list[Any] = []
    pair = older.task(name="pair")(lambda: (1, 2))
    add = older.task(name="add")(lambda one, two: one + two)
    fail = older.task(name="fail")(lambda value: 1 // 0)
    handle = older.task(name="handle")(lambda *args: seen.append(args[0]) or "handled")
    one, two, three = older.enqueue(pair.s().then(add).then(fail.s().error(handle.s("x").then(handle))))

    with running(older):
        assert one.get(blocking=True, timeout=10) == (1, 2)
        assert two.get(blocking=True, timeout=10) == 3
        with pytest.raises(TaskException, match="ZeroDivision"):
            three.get(blocking=True, timeout=10)
    drain(older)
    assert seen == ["x", "handled"]


def test_parts_of_0_4_9_end_later_stages_with_the_failure(older: Huey) -> None:
    ran: list[int] = []
    give = older.task(name="give")(lambda value: ran.append(value) or value)
    fail = older.task(name="fail", retries=1)(lambda value: 1 // 0)
    one, two, three, four = older.enqueue(give.s(1).then(fail).then(give).then(give))

    with running(older):
        for handle in (four, three, two):
            with pytest.raises(TaskException, match="ZeroDivision") as caught:
                handle.get(blocking=True, timeout=10)
            assert caught.value.metadata["task_id"] == two.id
    assert (one.get(), ran, older.pending_count()) == (1, [1], 0)


def test_parts_of_0_4_9_refuse_chords_with_the_reason(older: Huey) -> None:
    give = older.task(name="give")(lambda value: value)
    with pytest.raises(ConfigurationError, match=r"queue parts of 0\.4\.9 cannot count its members"):
        older.enqueue(chord([give.s(1)], give))
    results = older.enqueue(group([give.s(1), give.s(2)]))
    drain(older)
    assert results.get() == [1, 2]


def test_a_file_is_read_by_another_instance(tmp_path: Path) -> None:
    hueys = [SqliteHuey("app", filename=tmp_path / "queue.db") for _ in range(2)]
    for huey in hueys:
        huey.task(name="double")(lambda value: value * 2)
    double = hueys[0].registry.find("double")
    results = hueys[0].enqueue(double.s(1).then(double))
    drain(hueys[1])
    assert results.get() == [2, 4]
    for huey in hueys:
        huey.close()

"""What is kept of tasks that succeeded: of those with ``keep=``, and of the members of a flow."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from huey import Huey, chord
from huey.consumer.janitor import Janitor
from huey.runtime.clock import SECOND
from huey.storage.flow_keeping import keep_members
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME
from huey.utils import Error
from tests.consumer.janitors import settle
from tests.support.helpers import drain

DAY = 86400


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def huey(make_huey: Any, clock: FakeClock) -> Huey:
    return make_huey(clock=clock, result_ttl=DAY)


@pytest.fixture
def prune(huey: Huey, clock: FakeClock) -> Any:
    """The round of a consumer's janitor, once a minute."""
    janitor = Janitor(huey.storage, ME, clock, settle)

    def prune(seconds: float) -> None:
        clock.forward(seconds)
        janitor.run_once()

    return prune


def states(result: Any) -> list[str]:
    return [member.state for member in result.status().members]


def kept(huey: Huey) -> list[str]:
    return sorted(row.name for row in huey.storage.find("kept"))


# -- keep= --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [3600, timedelta(hours=1)])
def test_a_task_can_be_kept_for_a_time(huey: Huey, prune: Any, keep: Any) -> None:
    @huey.task(keep=keep)
    def add(a: int, b: int) -> int:
        return a + b

    result = add(1, 2)
    drain(huey)
    prune(3599)

    (info,) = huey.inspector.tasks("succeeded")
    assert (info.id, info.arguments, huey.status(result.id), result.get()) == (result.id, "1, 2", "succeeded", 3)
    prune(1)
    prune(60)
    assert (huey.inspector.tasks("succeeded"), huey.status(result.id)) == ([], "unknown")


def test_a_kept_task_that_gave_nothing_has_still_succeeded(huey: Huey) -> None:
    @huey.task(keep=60)
    def nothing() -> None:
        pass

    result = nothing()
    drain(huey)

    assert (result.status, huey.status(result.id), result.get(blocking=True, timeout=0)) == ("succeeded", "succeeded", None)


def test_a_task_keeps_its_time_through_retries(huey: Huey, clock: FakeClock) -> None:
    runs: list[int] = []

    @huey.task(keep=60, retries=1, retry_backoff=2, retry_delay=1)
    def flaky() -> int:
        runs.append(1)
        if len(runs) == 1:
            raise ValueError("once")
        return 1

    result = huey.enqueue(flaky.s(timeout=30, priority=3))
    drain(huey)
    clock.forward(2)
    drain(huey)

    assert (len(runs), result.status, len(huey.storage.find("kept"))) == (2, "succeeded", 1)


def test_members_of_a_chord_are_kept_only_if_they_say_so(huey: Huey) -> None:
    @huey.task(keep=60)
    def part(number: int) -> int:
        return number

    @huey.task()
    def total(values: list[int]) -> int:
        return sum(values)

    result = huey.enqueue(chord([part.s(1), part.s(2)], total.s()))
    drain(huey)

    assert (result.get(), [name.rpartition(".")[2] for name in kept(huey)]) == (3, ["part", "part"])


@pytest.mark.parametrize("keep", [0, -1, True, "a day", timedelta(0)])
def test_a_time_that_is_none_is_refused(huey: Huey, keep: Any) -> None:
    with pytest.raises(ValueError, match=r"^keep=.*: give a number of seconds above 0, or a timedelta"):
        huey.task(keep=keep)


# -- flows --------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def late(huey: Huey) -> Any:
    """A flow of two whose second part comes days later."""

    @huey.task(name="first")
    def first() -> str:
        return "first"

    @huey.task(name="second")
    def second(value: str) -> str:
        return f"{value}, second"

    flow = huey.flow("late")
    flow.add(second.s(flow.add(first.s()), delay=3 * DAY))
    return flow.enqueue()


def test_a_member_is_kept_with_its_value_while_its_flow_is_open(huey: Huey, late: Any, prune: Any) -> None:
    drain(huey)
    began = late.status().members[0].since

    for _ in range(4):
        prune(DAY / 2)

    assert (states(late), kept(huey), late.results[0]) == (["succeeded", "queued"], ["first"], "first")
    assert late.status().members[0].since == began
    prune(DAY)
    drain(huey)
    assert (late.result(), states(late), kept(huey)) == ("first, second", ["succeeded"] * 2, ["first", "second"])


def test_after_its_end_a_flow_is_kept_as_long_as_results(huey: Huey, late: Any, prune: Any, clock: FakeClock) -> None:
    drain(huey)
    clock.forward(DAY - 60)
    prune(0)
    clock.forward(2 * DAY + 60)
    prune(0)
    drain(huey)

    prune(DAY - 1)
    before = kept(huey)
    prune(1)
    prune(60)

    assert (before, kept(huey), huey.storage.find()) == (["first", "second"], [], [])
    assert [member.since for member in late.status().members] == [None, None]


def test_a_failed_flow_keeps_what_succeeded_and_a_retry_uses_it(huey: Huey, prune: Any) -> None:
    is_broken = [True]

    @huey.task()
    def source() -> int:
        return 5

    @huey.task(name="double")
    def double(value: int) -> int:
        if is_broken:
            raise ValueError("broken")
        return 2 * value

    flow = huey.flow("double")
    flow.add(double.s(flow.add(source.s())))
    result = flow.enqueue()
    drain(huey)
    prune(DAY / 2)
    is_broken.clear()

    assert states(result) == ["succeeded", "failed"]
    result.retry()
    drain(huey)
    assert (result.result(), states(result)) == (10, ["succeeded"] * 2)


def test_a_member_that_is_kept_longer_by_itself_stays_so(huey: Huey, prune: Any) -> None:
    @huey.task(name="long", keep=5 * DAY)
    def long() -> int:
        return 1

    flow = huey.flow("long")
    flow.add(long.s())
    flow.enqueue()
    drain(huey)

    prune(4 * DAY)
    before = kept(huey)
    prune(DAY)
    prune(60)

    assert (before, kept(huey)) == (["long"], [])


def test_a_member_in_another_queue_is_kept_too(huey: Huey, prune: Any, clock: FakeClock) -> None:
    @huey.task(name="mail", queue="mail")
    def mail() -> int:
        return 1

    @huey.task(name="wait")
    def wait(value: int) -> int:
        return value

    flow = huey.flow("mail")
    flow.add(wait.s(flow.add(mail.s())))
    flow.enqueue()
    there = huey.on("mail")
    drain(there)
    clock.forward(DAY)

    keep_members(there.storage, clock.now())
    there.storage.prune()

    (row,) = there.storage.find("kept")
    assert (row.name, row.due) == ("mail", clock.now() + DAY * SECOND)


def test_a_wide_flow_is_kept_whole(huey: Huey, prune: Any, clock: FakeClock) -> None:
    @huey.task(name="part")
    def part(number: int) -> int:
        return number

    @huey.task(name="last")
    def last(values: list[int]) -> int:
        return sum(values)

    flow = huey.flow("wide")
    flow.add(last.s([flow.add(part.s(n)) for n in range(1100)], delay=2 * DAY))
    flow.enqueue()
    drain(huey)

    prune(DAY)
    prune(DAY / 2)

    assert huey.storage.counts().succeeded == 1100


@pytest.mark.parametrize("body", [None, b"[]", b"\xff"])
def test_a_flow_of_which_nothing_is_known_is_not_kept(huey: Huey, late: Any, prune: Any, body: bytes | None) -> None:
    drain(huey)
    if body is None:
        huey.storage.delete("flow", late.id)
    else:
        huey.storage.put("flow", late.id, body)

    prune(DAY)
    prune(60)

    assert kept(huey) == []


def test_an_additional_member_is_kept_as_the_others_are(huey: Huey, prune: Any) -> None:
    @huey.task(name="added")
    def added() -> int:
        return 2

    @huey.task(name="adder")
    def adder() -> int:
        huey.current_flow().add(added.s())
        return 1

    flow = huey.flow("grows")
    flow.add(adder.s())
    result = flow.enqueue()
    drain(huey)
    prune(DAY / 2)

    assert (states(result), kept(huey)) == (["succeeded"] * 2, ["added", "adder"])


def test_an_always_member_still_gets_the_error_of_a_parent(huey: Huey) -> None:
    @huey.task()
    def breaks() -> int:
        raise ValueError("broken")

    @huey.task()
    def report(value: Any) -> bool:
        return isinstance(value, Error)

    flow = huey.flow("report")
    flow.add(report.s(flow.add(breaks.s())), run_if="always")
    result = flow.enqueue()
    drain(huey)

    assert (result.result(), states(result)) == (True, ["failed", "succeeded"])

"""Flows that are cancelled or have failed, and are retried: at every moment, after each kind of failure."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from huey import CancelExecution, Huey
from huey.exceptions import TaskException
from huey.task.lifecycle import Raised, WorkerDied, decide
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME
from tests.support.helpers import drain, running, wait_until


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def huey(make_huey: Any, clock: FakeClock) -> Huey:
    return make_huey(clock=clock)


@pytest.fixture
def ran() -> Counter[str]:
    """How often each member ran."""
    return Counter()


@pytest.fixture
def broken() -> set[str]:
    """Names of members that fail."""
    return set()


@pytest.fixture
def step(huey: Huey, ran: Counter[str], broken: set[str]) -> Any:
    """Notes its name, fails if it is broken, and returns all names that it got and its own."""

    @huey.task(name="step")
    def step(name: str, *values: Any) -> str:
        ran[name] += 1
        if name in broken:
            raise ValueError(f"{name} is broken")
        return "".join(str(value) for value in values) + name

    return step


def diamond(huey: Huey, step: Any) -> Any:
    flow = huey.flow("diamond")
    top = flow.add(step.s("a"))
    flow.add(step.s("d", flow.add(step.s("b", top)), flow.add(step.s("c", top))))
    return flow


def run_one(huey: Huey) -> None:
    """Run the next task."""
    task = huey.dequeue()
    assert task is not None
    huey.execute(task)


def ends(result: Any) -> list[tuple[str, str | None]]:
    return [(member.state, member.reason) for member in result.status().members]


# -- cancel -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", range(5))
def test_a_flow_is_cancelled_at_every_moment(huey: Huey, step: Any, ran: Counter[str], before: int) -> None:
    result = diamond(huey, step).enqueue()
    for _ in range(before):
        run_one(huey)

    result.cancel()
    drain(huey)

    assert result.status().state == ("succeeded" if before == 4 else "cancelled")
    assert ran.total() == before
    assert [state for state, _ in ends(result)].count("succeeded") == before
    result.retry()
    drain(huey)
    assert result.result(timeout=0) == "abacd"
    assert ran == Counter("abcd")


def test_a_flow_is_cancelled_twice_and_in_between(huey: Huey, step: Any, ran: Counter[str]) -> None:
    result = diamond(huey, step).enqueue()

    result.cancel()
    result.cancel()
    drain(huey)
    result.retry()
    run_one(huey)
    result.cancel()
    drain(huey)
    result.cancel()

    assert ends(result) == [("succeeded", None), ("cancelled", "revoked"), ("cancelled", "revoked"), ("cancelled", "parent skipped")]
    result.retry()
    drain(huey)
    assert (result.result(timeout=0), ran) == ("abacd", Counter("abcd"))


def test_a_running_member_is_asked_to_stop(huey: Huey, step: Any, ran: Counter[str]) -> None:
    asked: list[str] = []

    @huey.task(name="long", include_task=True)
    def long(task: Any) -> str:
        ran["long"] += 1
        if ran["long"] == 1:
            wait_until(lambda: huey.is_revoked(task), "it is asked to stop")
            asked.append(task.id)
            raise CancelExecution(retry=False)
        return "long"

    flow = huey.flow("stopped")
    flow.add(step.s("after", flow.add(long.s())))
    with running(huey):
        result = flow.enqueue()
        wait_until(lambda: ran["long"] == 1, "it runs")
        result.cancel()
        wait_until(lambda: result.status().state == "cancelled", "it has ended")

        assert (asked, ran["after"]) == ([flow.tasks[0].id], 0)
        result.retry()
        assert result.result(timeout=20) == "longafter"


# -- retry --------------------------------------------------------------------------------------------------------------------------------


def test_a_retry_keeps_what_succeeded(huey: Huey, step: Any, ran: Counter[str], broken: set[str]) -> None:
    broken.add("b")
    result = diamond(huey, step).enqueue()
    drain(huey)
    assert ends(result) == [("succeeded", None), ("failed", "error"), ("succeeded", None), ("cancelled", "parent failed")]
    broken.clear()

    result.retry()
    drain(huey)

    assert (result.result(timeout=0), result.status().state) == ("abacd", "succeeded")
    assert ran == Counter("abbcd")


def test_what_fails_again_is_retried_again(huey: Huey, step: Any, ran: Counter[str], broken: set[str]) -> None:
    broken |= {"b", "c"}
    result = diamond(huey, step).enqueue()
    for name in ("b", "c"):
        drain(huey)
        with pytest.raises(TaskException, match="is broken"):
            result.result(timeout=0)
        assert result.status().state == "failed"
        broken.remove(name)
        result.retry()
    drain(huey)

    assert result.result(timeout=0) == "abacd"
    assert ran == Counter("abbcccd")


def test_a_callback_that_ran_is_not_run_again(huey: Huey, step: Any, ran: Counter[str], broken: set[str]) -> None:
    broken.add("a")
    flow = huey.flow("callbacks")
    first = flow.add(step.s("a"))
    flow.add(step.s("always"), run_if="always", after=[first])
    flow.add(step.s("handler"), run_if="failure", after=[first])
    flow.add(step.s("b"), after=[first])
    result = flow.enqueue()
    drain(huey)
    assert ran == Counter(["a", "always", "handler"])
    broken.clear()

    result.retry()
    drain(huey)

    assert ran == Counter(["a", "a", "b", "always", "handler"])
    assert result.status().state == "succeeded"


def test_a_callback_that_failed_too_waits_again(huey: Huey, step: Any, ran: Counter[str], broken: set[str]) -> None:
    broken |= {"a", "report"}
    flow = huey.flow("report")
    flow.add(step.s("report", flow.add(step.s("a"))), run_if="always")
    result = flow.enqueue()
    drain(huey)
    assert ends(result) == [("failed", "error")] * 2
    broken.clear()

    result.retry()

    assert ends(result) == [("queued", None), ("waiting", None)]
    drain(huey)
    assert result.result(timeout=0) == "areport"


def test_an_expired_member_and_what_follows_are_retried(huey: Huey, step: Any, clock: FakeClock) -> None:
    flow = huey.flow("expired")
    flow.add(step.s("c", flow.add(step.s("b", step.s("a", expires=5), expires=5))))
    result = flow.enqueue()
    clock.forward(6)
    drain(huey)
    assert ends(result) == [("cancelled", "expired"), ("cancelled", "parent skipped"), ("cancelled", "parent skipped")]

    result.retry()
    drain(huey)

    assert result.result(timeout=0) == "abc"


def test_a_revoked_member_is_retried(huey: Huey, step: Any) -> None:
    flow = huey.flow("revoked")
    first = flow.add(step.s("a"))
    flow.add(step.s("b", first))
    result = flow.enqueue()
    huey.revoke_by_id(first.id)
    drain(huey)
    assert ends(result) == [("cancelled", "revoked"), ("cancelled", "parent skipped")]

    result.retry()
    drain(huey)

    assert result.result(timeout=0) == "ab"


@pytest.mark.parametrize(("outcome", "reason"), [("unknown", "unknown task"), ("unreadable", "undecodable"), ("too late", "timeout")])
def test_a_member_is_retried_after_each_reason(huey: Huey, step: Any, ran: Counter[str], outcome: str, reason: str) -> None:
    """Written as the engine writes them."""
    flow = huey.flow(outcome)
    first = flow.add(step.s("a"))
    flow.add(step.s("c", flow.add(step.s("b", first))))
    result = flow.enqueue()
    run_one(huey)
    fail_next(huey, reason)
    assert ends(result) == [("succeeded", None), ("failed", reason), ("cancelled", "parent failed")]

    result.retry()
    drain(huey)

    assert (result.result(timeout=0), ran) == ("abc", Counter("abc"))


def fail_next(huey: Huey, reason: str) -> None:
    """Claim the next task and write that it has failed."""
    (lease,) = huey.storage.turn(ME, [], 1).leases
    failed = Raised({"error": "E()", "traceback": ""}, may_retry=False, reason=reason)
    assert huey.storage.turn(ME, [decide(lease, failed, huey.clock.now())], 0).stale == []


@pytest.mark.parametrize("reason", ["lost", "poison"])
def test_a_member_whose_worker_died_is_retried(huey: Huey, step: Any, ran: Counter[str], clock: FakeClock, reason: str) -> None:
    frail = huey.task(name="frail", at_most_once=reason == "lost")(lambda value: value + "b")
    flow = huey.flow(reason)
    flow.add(step.s("c", flow.add(frail.s(step.s("a")))))
    result = flow.enqueue()
    run_one(huey)
    for _ in range(10):
        for lease in huey.storage.turn(ME, [], 1).leases:
            huey.storage.turn(ME, [decide(lease, WorkerDied(alone=True), clock.now())], 0)
        clock.forward(60)
    assert ends(result) == [("succeeded", None), ("failed", reason), ("cancelled", "parent failed")]

    result.retry()
    drain(huey)

    assert (result.result(timeout=0), ran) == ("abc", Counter("ac"))


@pytest.mark.parametrize("how", ["cancels itself", "uses up its tries"])
def test_a_member_that_ended_by_itself_is_retried(huey: Huey, step: Any, ran: Counter[str], how: str) -> None:
    @huey.task(name="ends", retries=1)
    def ends_badly() -> str:
        ran["ends"] += 1
        if how == "cancels itself" and ran["ends"] == 1:
            raise CancelExecution(retry=False)
        if how == "uses up its tries" and ran["ends"] < 4:
            raise ValueError("not yet")
        return "ends"

    flow = huey.flow(how)
    flow.add(step.s("after", flow.add(ends_badly.s()), flow.add(step.s("other"))))
    result = flow.enqueue()
    drain(huey)
    assert (result.status().state in ("failed", "cancelled"), ran["after"]) == (True, 0)

    result.retry()
    drain(huey)

    assert result.result(timeout=0) == "endsotherafter"
    assert ran == Counter({"ends": 2 if how == "cancels itself" else 4, "other": 1, "after": 1})


# -- values -------------------------------------------------------------------------------------------------------------------------------


def test_the_value_of_a_flow_can_be_read_again(huey: Huey, step: Any) -> None:
    flow = huey.flow("read")
    flow.add(step.s("a"))
    flow.add(step.s("b"))
    result = flow.enqueue()
    drain(huey)

    values = [result.get(), result.result(timeout=0)]
    for member in result.results:
        member.reset()

    assert [*values, result.get(preserve=False)] == [["a", "b"]] * 3
    for member in result.results:
        member.reset()
    assert result.get() == [None, None]


# -- additions ----------------------------------------------------------------------------------------------------------------------------


def test_what_members_added_is_retried_too(huey: Huey, step: Any, ran: Counter[str], broken: set[str]) -> None:
    @huey.task(name="grow")
    def grow(level: int) -> None:
        ran["grow"] += 1
        flow = huey.current_flow()
        if level:
            flow.add(grow.s(level - 1))
        flow.add(step.s(f"after {level}", flow.add(step.s(f"leaf {level}"))))

    broken |= {"leaf 0", "leaf 2"}
    flow = huey.flow("growing")
    flow.add(grow.s(2))
    result = flow.enqueue()
    drain(huey)
    assert Counter(state for state, _ in ends(result)) == {"succeeded": 5, "failed": 2, "cancelled": 2}
    broken.clear()

    assert len(result.retry()) == 2
    drain(huey)

    assert [member.state for member in result.status().members] == ["succeeded"] * 9
    assert {name: ran[name] for name in ("grow", "leaf 0", "leaf 1", "leaf 2", "after 0")} == {
        "grow": 3, "leaf 0": 2, "leaf 1": 1, "leaf 2": 2, "after 0": 1,
    }  # fmt: skip


def test_a_wide_flow_is_cancelled_and_retried(huey: Huey, step: Any, ran: Counter[str], broken: set[str]) -> None:
    broken.add("a")
    total = huey.task(name="total")(len)
    flow = huey.flow("wide")
    first = flow.add(step.s("a"))
    flow.add(total.s([step.s(f"m{n}", first) for n in range(1000)]))
    result = flow.enqueue()
    drain(huey)
    drain(huey)
    assert Counter(state for state, _ in ends(result)) == {"failed": 1, "cancelled": 1001}
    result.cancel()
    broken.clear()

    result.retry()
    drain(huey)

    assert result.result(timeout=0) == 1000
    assert ran.total() == 2 + 1000

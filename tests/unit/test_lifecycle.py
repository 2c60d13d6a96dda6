"""What a run means for its task: ``decide`` as a pure function, every outcome against every state of the counters."""

from __future__ import annotations

import pytest

from huey.runtime.clock import SECOND, Micros, micros
from huey.task.lifecycle import (
    FINAL,
    MAX_CRASHES,
    MAX_DEATHS,
    STATES,
    UNKNOWN_FOR,
    Cancelled,
    Outcome,
    Raised,
    RateLimited,
    RetryRequested,
    Returned,
    Snoozed,
    State,
    Unrunnable,
    WorkerDied,
    decide,
)
from huey.task.record import Lease
from huey.task.record_options import Constraints, with_constraints

NOW: Micros = 1_750_075_200 * SECOND
PLACE: Micros = NOW - 60 * SECOND
ERROR = {"error": "ValueError()", "traceback": "..."}
RECENT, OLD = PLACE + 60 * SECOND, PLACE
"""Ends of the wait for a worker that can run it: ahead of when it became ready, and past."""

RETURNED, NOTHING = Returned(b"5"), Returned(None)
RAISED, FORBIDDEN = Raised(ERROR), Raised(ERROR, may_retry=False, reason="undecodable")
UNSTORABLE = Raised(ERROR, reason="result not storable")
SNOOZED, AT_ONCE = Snoozed(2.5, "limit"), Snoozed(0, "shutdown")
STOPPED, UNKNOWN = Cancelled("revoked"), Unrunnable(ERROR)
DIED, DIED_ALONE, GROUP_DIED = WorkerDied(), WorkerDied(alone=True), WorkerDied(is_suspect=False)
OUTCOMES: dict[str, Outcome] = {
    "returned": RETURNED,
    "returned-nothing": NOTHING,
    "raised": RAISED,
    "must-not-retry": FORBIDDEN,
    "not-storable": UNSTORABLE,
    "snoozed": SNOOZED,
    "cut-short": AT_ONCE,
    "cancelled": STOPPED,
    "unknown": UNKNOWN,
    "died": DIED,
    "died-alone": DIED_ALONE,
}
each_outcome = pytest.mark.parametrize("name", OUTCOMES)


def lease(**fields: object) -> Lease:
    plain = Lease("a", 7, "app.add", b"payload", 3, PLACE, None, 0, 0.0, 0, 0, 0, None, None)
    return plain._replace(**fields)  # type: ignore[arg-type]


Meaning = tuple[str, Micros | None, int, str | None]
"""State, due, attempt, reason."""

PLAIN: dict[str, Meaning] = {
    "returned": (State.SUCCEEDED, None, 1, None),
    "returned-nothing": (State.SUCCEEDED, None, 1, None),
    "must-not-retry": (State.FAILED, None, 1, "undecodable"),
    "snoozed": (State.QUEUED, NOW + micros(2.5), 1, "limit"),
    "cut-short": (State.QUEUED, None, 1, "shutdown"),
    "cancelled": (State.CANCELLED, None, 1, "revoked"),
    "died": (State.QUEUED, PLACE, 1, "worker died"),
    "died-alone": (State.QUEUED, PLACE, 1, "worker died"),
}
RETRIED: dict[tuple[str, float], Meaning] = {
    ("raised", 0.0): (State.QUEUED, None, 2, "error"),
    ("raised", 5.0): (State.QUEUED, NOW + 5 * SECOND, 2, "error"),
    ("not-storable", 0.0): (State.QUEUED, None, 2, "result not storable"),
    ("not-storable", 5.0): (State.QUEUED, NOW + 5 * SECOND, 2, "result not storable"),
}
GIVEN_UP: dict[str, Meaning] = {
    "raised": (State.FAILED, None, 1, "error"),
    "not-storable": (State.FAILED, None, 1, "result not storable"),
}
PARKED: dict[Micros | None, Meaning] = {
    None: (State.QUEUED, NOW + UNKNOWN_FOR, 1, "unknown task"),
    RECENT: (State.QUEUED, RECENT, 1, "unknown task"),
    OLD: (State.FAILED, None, 1, "unknown task"),
}


def expected(name: str, left: int, delay: float, parked: Micros | None) -> Meaning:
    if name == "unknown":
        return PARKED[parked]
    if name in PLAIN:
        return PLAIN[name]
    return RETRIED[name, delay] if left else GIVEN_UP[name]


@pytest.mark.parametrize("parked", [None, RECENT, OLD], ids=["never-parked", "parked", "parked-long"])
@pytest.mark.parametrize("delay", [0.0, 5.0], ids=["at-once", "delayed"])
@pytest.mark.parametrize("left", [0, 1], ids=["last-try", "a-try-left"])
@each_outcome
def test_every_outcome_has_one_meaning(name: str, left: int, delay: float, parked: Micros | None) -> None:
    held = lease(retries=1 + left, attempt=1, retry_delay=delay, unknown_until=parked)

    finish = decide(held, OUTCOMES[name], NOW)

    assert (finish.state, finish.due, finish.attempt, finish.reason) == expected(name, left, delay, parked)


@each_outcome
def test_counters_change_only_for_what_they_count(name: str) -> None:
    held = lease(retries=9, attempt=4, solo_crashes=1, deaths=2)

    finish = decide(held, OUTCOMES[name], NOW)

    assert finish.attempt == 4 + (name in ("raised", "not-storable"))
    # A run that came to its end clears the task of suspicion.
    assert finish.solo_crashes == (0 if name in ("raised", "not-storable") else 1 + (name == "died-alone"))
    assert finish.deaths == 2 + (name in ("died", "died-alone"))


@pytest.mark.parametrize(
    ("crashes", "deaths", "outcome", "state"),
    [
        (0, 0, DIED, State.QUEUED),
        (0, MAX_DEATHS - 2, DIED, State.QUEUED),
        (0, MAX_DEATHS - 1, DIED, State.FAILED),
        (0, MAX_DEATHS, DIED, State.FAILED),
        (0, 0, DIED_ALONE, State.QUEUED),
        (MAX_CRASHES - 1, 2, DIED_ALONE, State.QUEUED),
        (MAX_CRASHES, 2, DIED_ALONE, State.FAILED),
        (MAX_CRASHES, 2, DIED, State.QUEUED),
        (MAX_CRASHES, 2, GROUP_DIED, State.QUEUED),
        (0, MAX_DEATHS - 1, GROUP_DIED, State.FAILED),
        (0, MAX_DEATHS - 1, DIED_ALONE, State.FAILED),
    ],
)
def test_too_many_deaths_are_poison(crashes: int, deaths: int, outcome: WorkerDied, state: str) -> None:
    finish = decide(lease(solo_crashes=crashes, deaths=deaths, retries=5), outcome, NOW)

    assert finish.state == state
    assert (finish.reason == "poison") == (state == State.FAILED)
    assert (finish.error is not None) == (state == State.FAILED)


def test_poison_says_how_often_and_how_the_worker_died() -> None:
    watched = decide(lease(solo_crashes=MAX_CRASHES), DIED_ALONE, NOW)
    unwatched = decide(lease(deaths=MAX_DEATHS - 1), DIED, NOW)

    assert watched.error == {"error": "poison: its worker died 3 times while it ran alone", "traceback": ""}
    assert unwatched.error == {"error": "poison: its worker died 20 times", "traceback": ""}


def test_a_crash_is_not_a_try() -> None:
    last_try = lease(retries=2, attempt=2)

    finish = decide(last_try, DIED, NOW)

    assert (finish.state, finish.attempt) == (State.QUEUED, 2)


def test_a_death_puts_a_task_back_at_its_old_place() -> None:
    assert decide(lease(), DIED, NOW).due == PLACE


def test_a_task_that_ran_when_its_worker_died_is_a_suspect() -> None:
    assert [decide(lease(solo_crashes=before), DIED, NOW).solo_crashes for before in (0, 1, 2)] == [1, 1, 2]


def test_a_kill_of_the_whole_group_blames_nobody() -> None:
    assert [decide(lease(solo_crashes=before), GROUP_DIED, NOW).solo_crashes for before in (0, 2)] == [0, 2]


def test_shutdown_never_costs_a_try() -> None:
    last_try = lease(retries=2, attempt=2, solo_crashes=1, deaths=1)

    finish = decide(last_try, AT_ONCE, NOW)

    assert finish[1:6] == (State.QUEUED, None, 2, 1, 1)


def test_a_retry_queues_behind_what_waits() -> None:
    assert decide(lease(retries=1), RAISED, NOW).due is None


def test_the_delay_of_a_retry_counts_from_its_end() -> None:
    assert decide(lease(retries=1, retry_delay=0.25), RAISED, NOW).due == NOW + 250_000


def test_more_tries_than_allowed_never_give_a_further_one() -> None:
    assert lease(retries=1, attempt=3).retries_left == 0
    assert decide(lease(retries=1, attempt=3), RAISED, NOW).state == State.FAILED


def test_a_failure_that_must_not_be_retried_fails_at_once() -> None:
    finish = decide(lease(retries=5), FORBIDDEN, NOW)

    assert (finish.state, finish.reason, finish.attempt) == (State.FAILED, "undecodable", 0)


def test_an_unknown_task_waits_a_day_of_the_storages_clock() -> None:
    first = decide(lease(), UNKNOWN, NOW - 10**15)
    second = decide(lease(unknown_until=PLACE + 9), UNKNOWN, NOW + 10**15)
    third = decide(lease(unknown_until=PLACE + 9, ready_at=PLACE + 8), UNKNOWN, 0)

    assert (first.unknown_until, first.delay) == (0, UNKNOWN_FOR)
    assert (second.unknown_until, second.due, second.delay) == (third.unknown_until, third.due, third.delay) == (PLACE + 9, PLACE + 9, None)


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), -5.0, 1e300, 0.0])
@pytest.mark.parametrize("kind", ["limited", "snoozed", "asked again"])
def test_a_delay_that_is_no_duration_is_a_wait_all_the_same(kind: str, seconds: float) -> None:
    outcomes = {
        "limited": RateLimited(ERROR, seconds, True),
        "snoozed": Snoozed(seconds, "limit"),
        "asked again": RetryRequested(ERROR, delay=seconds),
    }

    finish = decide(lease(), outcomes[kind], NOW)  # type: ignore[arg-type]

    assert finish.state == State.QUEUED
    assert finish.delay is None or 0 < finish.delay < 2**52


def test_waits_are_durations_and_a_time_that_was_named_is_a_time() -> None:
    failed = decide(lease(retries=1, retry_delay=2.5), RAISED, NOW)
    named = decide(lease(), RetryRequested(ERROR, due=7), NOW)

    assert (failed.delay, failed.due_at(5), named.delay, named.due_at(5)) == (2_500_000, 2_500_005, None, 7)


def test_an_unknown_task_costs_no_try_and_fails_after_a_day() -> None:
    almost = decide(lease(retries=1, unknown_until=PLACE + 1), UNKNOWN, NOW)
    over = decide(lease(retries=1, unknown_until=PLACE), UNKNOWN, NOW)

    assert (almost.state, almost.attempt) == (State.QUEUED, 0)
    assert (over.state, over.reason, over.error) == (State.FAILED, "unknown task", ERROR)


def test_a_record_of_a_newer_release_waits_for_its_reader() -> None:
    finish = decide(lease(), Unrunnable(ERROR, "newer record"), NOW)

    assert (finish.state, finish.reason) == (State.QUEUED, "newer record")


@pytest.mark.parametrize("name", ["raised", "snoozed", "cancelled", "died"])
def test_a_task_that_somebody_knew_is_unknown_from_then_on_only(name: str) -> None:
    assert decide(lease(unknown_until=RECENT, retries=1), OUTCOMES[name], NOW).unknown_until is None


def test_a_result_is_handed_on_as_it_is() -> None:
    assert decide(lease(), RETURNED, NOW).value == b"5"
    assert decide(lease(), NOTHING, NOW).value is None


@each_outcome
def test_only_a_success_brings_a_value(name: str) -> None:
    assert (decide(lease(), OUTCOMES[name], NOW).value is not None) == (name == "returned")


@pytest.mark.parametrize("parked", [None, RECENT, OLD], ids=["never-parked", "parked", "parked-long"])
@pytest.mark.parametrize("left", [0, 1], ids=["last-try", "a-try-left"])
@each_outcome
def test_every_finish_names_its_lease_and_how_long_it_took(name: str, left: int, parked: Micros | None) -> None:
    held = lease(retries=left, unknown_until=parked)

    finish = decide(held, OUTCOMES[name], NOW, 1.5)

    assert finish.lease is held
    assert finish.duration == 1.5
    assert finish.state in STATES
    assert finish.state in (*FINAL, State.QUEUED), "a run never leaves its task running or waiting"
    assert finish.due is None or finish.state == State.QUEUED, "only a queued task has a time"
    assert (finish.reason is None) == (finish.state == State.SUCCEEDED), "whatever did not succeed says why"


def test_the_same_question_has_the_same_answer() -> None:
    for outcome in OUTCOMES.values():
        assert decide(lease(), outcome, NOW) == decide(lease(), outcome, NOW)


# at most once, and rates

ONCE = with_constraints(None, Constraints(at_most_once=True))


@pytest.mark.parametrize("name", ["died", "died-alone", "group-died", "cut-short"])
def test_an_at_most_once_task_is_lost_rather_than_run_twice(name: str) -> None:
    outcome = {**OUTCOMES, "group-died": GROUP_DIED}[name]

    finish = decide(lease(options=ONCE, retries=5), outcome, NOW)

    assert (finish.state, finish.reason, finish.attempt, finish.due) == (State.FAILED, "lost", 0, None)
    assert finish.error is not None
    assert finish.error["error"].startswith("lost: ")


@pytest.mark.parametrize("name", [name for name in OUTCOMES if name not in ("died", "died-alone", "cut-short")])
def test_every_other_end_means_for_it_what_it_always_means(name: str) -> None:
    usual, once = (decide(lease(options=options, retries=1), OUTCOMES[name], NOW) for options in (None, ONCE))

    assert once._replace(lease=usual.lease) == usual


@pytest.mark.parametrize(
    ("is_free", "left", "delay", "expected"),
    [
        (True, 0, 0.0, (State.QUEUED, NOW + 30 * SECOND, 0)),
        (True, 2, 5.0, (State.QUEUED, NOW + 5 * SECOND, 0)),
        (False, 2, 0.0, (State.QUEUED, NOW + 30 * SECOND, 1)),
        (False, 2, 5.0, (State.QUEUED, NOW + 5 * SECOND, 1)),
        (False, 0, 5.0, (State.FAILED, None, 0)),
    ],
)
def test_a_full_window_means_another_run_or_a_try(is_free: bool, left: int, delay: float, expected: Meaning) -> None:
    finish = decide(lease(retries=left, retry_delay=delay), RateLimited(ERROR, 30, is_free), NOW)

    assert (finish.state, finish.due, finish.attempt) == expected
    assert finish.reason == "rate limited"
    assert (finish.error is None) == is_free
